"""What may be wrong with a pool, as data: what shows it, how it is said, what to turn.

A rule is tried with what a window has shown of a pool, or of an origin. It gives the figures that
its sentences have in braces, or None where all is well. What the window cannot tell apart from a
healthy pool (a burst, a cold start, a server that was restarted) is taken to be one.
"""

from functools import partial
from math import ceil
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from .evidence import Evidence, in_flight, used, waiting
from .terminal import duration

Figures = Dict[str, Union[int, float]]

ENOUGH = 100  # requests; of fewer nothing is said that is a share of them
SHORTEST = 5.0  # seconds; in less nothing can be called stuck
_SEVERAL = 5  # requests that are stuck
_SLOW_WAIT, _LONG_WAIT = 0.1, 1.0  # seconds for a connection
_TIMEOUTS = ("first-byte-timeout", "read-timeout", "event-timeout")


class Rule(NamedTuple):
    """
    Attributes:
        name: for programs.
        find: the figures, or None.
        what: a sentence with them.
        advice: what to do.
        knob: the setting, in a word or two.
        of_pool: it is tried with whole pools, else with each origin.
        of_few: it knows itself what fewer than ENOUGH requests can show.
    """

    name: str
    find: Callable[[Evidence], Optional[Figures]]
    what: str
    advice: str
    knob: str
    of_pool: bool = False
    of_few: bool = False


def _closing(
    seen: Evidence, *, reasons: Tuple[str, ...], share: float, turns: int
) -> Optional[Figures]:
    """Connections end that should carry the next request.

    Args:
        reasons: why, as Pool.reasons().closed has it.
        share: so many for each request are too many.
        turns: so often each connection must have been replaced: once is what a restart does.
    """
    counted = seen.change
    requests = counted.count("submitted")
    if requests < ENOUGH:
        return None
    closed = sum(counted.reasons.closed.get(reason, 0) for reason in reasons)
    opened = counted.count("opened")
    open_at_once = max(
        part.count("connecting", "in_use", "idle") for part in (seen.now, seen.before)
    )
    if closed < max(share * requests, turns * open_at_once) or opened < share * requests:
        return None
    dialling = counted.histogram("connect"), counted.histogram("tls")
    return {
        "closed": closed,
        "requests": requests,
        "opened": opened,
        "connecting_seconds": sum(each.percentile(50) for each in dialling),
    }


def _too_small(seen: Evidence) -> Optional[Figures]:
    return _full(seen, seen.limit("max_connections"))


def _too_small_for_origin(seen: Evidence) -> Optional[Figures]:
    names = ("max_connections_per_origin", "max_connections_per_host")
    return _full(seen, seen.limit(*names))


def _full(seen: Evidence, limit: int) -> Optional[Figures]:
    """All connections are at work, and requests wait for them: for the work of others, and not
    for connections that are being made or streams that stand still."""
    now = seen.now
    is_full = 0 < limit <= used(now) and 2 * now.count("in_use") >= limit
    if not is_full or not waiting(now) or not now.count("active"):
        return None
    stuck = len(seen.silent) + len(seen.unread)
    if stuck and 2 * stuck >= seen.listed:
        return None  # more of the same would be as stuck
    waits = seen.change.histogram("pool_wait")
    oldest = max((each.age for each in seen.requests if each.phase == "pool"), default=0.0)
    slow = waits.percentile(90)
    share = waits.sum / max(seen.change.histogram("total").sum, 1e-6)
    if max(slow, oldest) < _SLOW_WAIT and (share < 0.25 or slow < 0.005):
        return None
    if seen.seen < ENOUGH and not _was_full(seen, limit, oldest):
        return None
    return {
        "limit": limit,
        "in_use": now.count("in_use"),
        "waiting": waiting(now),
        "oldest_seconds": oldest,
        "wait_p50_seconds": waits.percentile(50),
        "wait_p90_seconds": slow,
        "timed_out": seen.change.reasons.failed.get("pool-timeout", 0),
        "got": waits.count,
        # Over HTTP/2 a connection carries many.
        "wanted": used(now) + ceil(waiting(now) * now.count("in_use") / now.count("active")),
    }


def _was_full(seen: Evidence, limit: int, oldest: float) -> bool:
    """Whether it is for more than a moment: of few requests the shares say nothing."""
    least = min(waiting(seen.now), waiting(seen.before))
    return used(seen.before) >= limit and least >= _SEVERAL and oldest >= _LONG_WAIT


def _leaks(seen: Evidence) -> Optional[Figures]:
    unread = seen.unread
    if len(unread) < _SEVERAL:
        return None
    return {
        "streams": len(unread),
        "in_flight": in_flight(seen.now),
        "oldest_seconds": max(each.age for each in unread),
        "in_use": seen.now.count("in_use"),
        "waiting": waiting(seen.now),
    }


def _stalls(seen: Evidence) -> Optional[Figures]:
    silent = seen.silent
    if seen.seen < ENOUGH:
        # Of few, those that wait for their first byte may all be long thoughts.
        silent = [each for each in silent if each.phase == "receiving"]
    if len(silent) < max(_SEVERAL, 0.2 * seen.listed):
        return None
    return {
        "silent": len(silent),
        "in_flight": in_flight(seen.now),
        "begun": sum(each.phase == "receiving" for each in silent),
        "oldest_seconds": max(each.age for each in silent),
        "usual_seconds": seen.usual("first_byte"),
        "waiting": waiting(seen.now),
    }


def _times_out(seen: Evidence) -> Optional[Figures]:
    reasons = seen.change.reasons
    ended = sum(reasons.failed.get(why, 0) for why in _TIMEOUTS)
    retried = sum(reasons.retried.get(why, 0) for why in _TIMEOUTS)
    requests = seen.seen
    share = 0.1 if requests >= ENOUGH else 0.5
    if ended + retried < max(_SEVERAL, share * requests):
        return None
    return {"timeouts": ended + retried, "failed": ended, "retried": retried, "requests": requests}


def _refused(seen: Evidence) -> Optional[Figures]:
    refused = seen.change.reasons.retried.get("status 429", 0)
    requests = seen.change.count("submitted")
    if refused < max(_SEVERAL, 0.1 * requests):
        return None
    return {"refused": refused, "requests": requests}


_REPLACED = "{opened} connections were opened for {requests} requests: {connecting} each, "
RULES: Tuple[Rule, ...] = (
    Rule(
        "stalls",
        _stalls,
        "Nothing has come for {silent} of {in_flight} requests in flight for {seconds} and longer, "
        "the oldest sent {oldest} ago; {begun} of them had begun to answer.",
        "The server stalls, or its model thinks, and no size of the pool helps. "
        "Timeout(first_byte=, event=) ends such requests sooner, Breaker stops calling while it "
        "lasts (docs/timeouts.md, docs/outages.md).",
        "Timeout(first_byte=, event=)",
        of_few=True,
    ),
    Rule(
        "stalls",
        _times_out,
        "{timeouts} of {requests} attempts brought nothing within their timeout; {failed} of the "
        "requests failed of it.",
        "The server stalls, and no size of the pool helps. Where it is only slow, "
        "Timeout(read=, first_byte=, event=) may be longer; where it is down, Breaker stops "
        "calling while it lasts (docs/timeouts.md, docs/outages.md).",
        "Timeout(read=, first_byte=, event=)",
        of_few=True,
    ),
    Rule(
        "leaks",
        _leaks,
        "{streams} of {in_flight} requests in flight are streams that nobody has read from for "
        "{seconds} and longer, the oldest begun {oldest} ago. They hold their connections, "
        "{in_use} are in use, and {waiting} requests wait for one.",
        "Read streams to their end or close them: with client.stream(...) as response. "
        "llmpool.debug(leaks=True) logs where one was made that is dropped unfinished. A larger "
        "pool would only fill later.",
        "close() of streams",
        of_few=True,
    ),
    Rule(
        "too-small",
        _too_small,
        "All {limit} connections are taken, and {waiting} requests wait for one, the oldest for "
        "{oldest}. Meanwhile {got} others got one; their median wait was {wait_p50}.",
        "Raise max_connections from {limit} to {wanted} or more, or send fewer requests at once.",
        "Limits(max_connections=)",
        of_pool=True,
        of_few=True,
    ),
    Rule(
        "too-small",
        _too_small_for_origin,
        "All {limit} connections to this origin are taken, and {waiting} requests wait for one, "
        "the oldest for {oldest}. Meanwhile {got} others got one; their median wait was "
        "{wait_p50}.",
        "Raise max_connections_per_origin from {limit} to {wanted} or more, or send fewer requests "
        "at once.",
        "Limits(max_connections_per_origin=)",
        of_few=True,
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("not-reusable",), share=0.5, turns=0),
        _REPLACED + "as {closed} answers said that their connection ends with them.",
        "It is the server's setting, or its proxy's (Connection: close, HTTP/1.0): switch its "
        "keep-alive on. If a header of the requests asks for it, leave that out.",
        "the server's keep-alive",
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("closed-by-peer", "go-away"), share=0.5, turns=3),
        _REPLACED + "as the server closed {closed}.",
        "Raise what it, or the proxy before it, allows: requests for each connection, and the time "
        "that one may be idle. Where that cannot be, Limits(keepalive_expiry=) below that time "
        "closes them first.",
        "the server's keep-alive",
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("keepalive-limit",), share=0.9, turns=3),
        _REPLACED + "as {closed} were closed that were idle beyond max_keepalive_connections.",
        "Raise max_keepalive_connections from {keepalive} to as many as are used at once.",
        "Limits(max_keepalive_connections=)",
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("expired",), share=0.5, turns=1),
        _REPLACED + "as {closed} were closed that had been idle for keepalive_expiry.",
        "Raise keepalive_expiry above the pauses between requests.",
        "Limits(keepalive_expiry=)",
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("aborted",), share=0.5, turns=1),
        _REPLACED + "as {closed} were closed with requests that were left before their end.",
        "Over HTTP/1.1 that ends the connection. Read answers to their end; speak HTTP/2 where the "
        "server does; look whether a timeout is too short.",
        "http2, Timeout()",
    ),
    Rule(
        "dials-anew",
        partial(_closing, reasons=("evicted", "retired"), share=0.5, turns=1),
        _REPLACED + "as {closed} had to make room for other origins.",
        "Raise max_connections from {limit}: there are too many origins for it.",
        "Limits(max_connections=)",
    ),
    Rule(
        "refused",
        _refused,
        "{refused} of {requests} requests were tried again as the server answered 429.",
        "A Budget holds requests back before they are refused (docs/limits.md).",
        "Budget",
    ),
)


def said(rule: Rule, figures: Figures, seen: Evidence) -> List[str]:
    """The rule's sentence and its advice, with the figures."""
    words: Dict[str, str] = {
        name: duration(value) if name.endswith("_seconds") else str(value)
        for name, value in figures.items()
    }
    words = {name.replace("_seconds", ""): word for name, word in words.items()}
    words["seconds"] = duration(seen.seconds)
    words["keepalive"] = str(seen.limit("max_keepalive_connections"))
    words.setdefault("limit", str(seen.limit("max_connections")))
    return [text.format_map(words) for text in (rule.what, rule.advice)]
