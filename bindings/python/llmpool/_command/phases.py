"""Where the time of a call went: its phases, and in words what dominates and what to change."""

from statistics import median
from typing import Dict, List, NamedTuple, Optional

import llmpool

from .terminal import duration


class Phase(NamedTuple):
    """
    Attributes:
        end: the field of Timings at which it ends; "": when the caller has the answer.
        letter: in place of a colour.
        colour: on a terminal.
        shade: in a page.
    """

    name: str
    end: str
    letter: str
    colour: str
    shade: str
    what: str


PHASES = (
    Phase("name", "resolved", "n", "grey", "#8d99ae", "the name is looked up"),
    Phase("TCP", "connected", "c", "blue", "#4c78a8", "TCP connects"),
    Phase("TLS", "secured", "t", "magenta", "#b279a2", "the TLS handshake"),
    Phase("queue", "admitted", "q", "red", "#e45756", "it waits for a connection"),
    Phase("send", "sent", "s", "cyan", "#2a9d9d", "the request is sent"),
    Phase("wait", "first_byte", ".", "yellow", "#e0a526", "until the first byte of the answer"),
    Phase("head", "first_data", "h", "bright cyan", "#e8833a", "from there to its first data"),
    Phase("stream", "done", "=", "green", "#54a24b", "the rest of the answer comes"),
    Phase("Python", "", "p", "bright blue", "#3572a5", "what Python adds"),
)
_CONNECTING = ("name", "TCP", "TLS")


class Sample(NamedTuple):
    """A call that was made. Times are in seconds.

    Attributes:
        label: "cold", "warm 1" and so on.
        phases: by the name of the phase; those that there were.
        first_byte: since the call began; None: none came.
        total: as the caller saw it.
        size: of the body, in bytes.
        events: server-sent ones; None: the answer is no stream of them.
        said: the server's message, where it is an error.
    """

    label: str
    status: int
    http_version: str
    peer: str
    reused: bool
    phases: Dict[str, float]
    first_byte: Optional[float]
    total: float
    size: int
    events: Optional[int]
    said: str


def phases_of(timings: "llmpool.Timings", total: float) -> Dict[str, float]:
    """The parts of a call, one behind the other; together they are its total, in seconds."""
    parts = {}
    before = 0.0
    for phase in PHASES:
        at = total if not phase.end else getattr(timings, phase.end)
        if at is not None:
            parts[phase.name] = max(0.0, at - before)
            before = max(before, at)
    return parts


def typical(samples: List[Sample]) -> Dict[str, float]:
    """The median of each phase, in seconds."""
    return {
        phase.name: median(sample.phases.get(phase.name, 0.0) for sample in samples)
        for phase in PHASES
        if any(phase.name in sample.phases for sample in samples)
    }


def usual_total(samples: List[Sample]) -> float:
    """The median of the whole calls, in seconds."""
    return median(sample.total for sample in samples)


def words(cold: Sample, warm: List[Sample], is_secure: bool, is_proxied: bool = False) -> List[str]:
    """What dominates, and what to change, a sentence or two each.

    Args:
        is_proxied: the connections lead to a proxy: what TCP takes says nothing of the server.
    """
    said = _of_errors(cold, warm)
    said += _of_connecting(cold)
    if warm:
        said += _of_reuse(warm)
        said += _of_warm(warm, 0.0 if is_proxied else cold.phases.get("TCP", 0.0))
    if is_secure and cold.http_version != "HTTP/2":
        said.append(
            f"The server speaks {cold.http_version}: as many calls at the same time take as many "
            "connections. With HTTP/2 one connection would carry them."
        )
    return said


def _of_errors(cold: Sample, warm: List[Sample]) -> List[str]:
    if cold.status >= 400:
        return [f"These are the times of an error: {cold.said}."]
    errors = [sample for sample in warm if sample.status >= 400]
    if not errors:
        return []
    return [f"{len(errors)} of {len(warm)} warm calls ended with an error: {errors[0].said}."]


def _of_connecting(cold: Sample) -> List[str]:
    parts = {name: cold.phases[name] for name in _CONNECTING if name in cold.phases}
    connecting = sum(parts.values())
    if connecting < 0.2 * cold.total:
        return []
    shown = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    said = [
        f"Of the cold call {_share(connecting, cold.total)} is connecting ({shown}). A call on an "
        "open connection does not pay it: keep one client for the life of the process; "
        "llmpool.warm(url) connects before the first call."
    ]
    if parts.get("name", 0.0) > max(0.05, parts.get("TCP", 0.0)):
        said.append(
            f"Looking up the name takes {duration(parts['name'])}, longer than a round trip: a "
            "resolver on this machine, or nearer, shortens it."
        )
    if parts.get("TLS", 0.0) > max(0.02, 4 * parts.get("TCP", 0.0)):
        said.append(
            f"TLS takes {duration(parts['TLS'])}, more than four round trips where one or two are "
            "needed: the server, or what stands before it, is slow to shake hands."
        )
    return said


def _of_reuse(warm: List[Sample]) -> List[str]:
    anew = sum(not sample.reused for sample in warm)
    if not anew:
        return []
    return [
        f"{anew} of {len(warm)} warm calls found no open connection: the server, or a proxy, "
        "closes it behind an answer. Look at its keep-alive settings."
    ]


def _of_warm(warm: List[Sample], round_trip: float) -> List[str]:
    parts = typical(warm)
    total = sum(parts.values())
    name, seconds = max(parts.items(), key=lambda item: item[1])
    begin = f"Of a warm call {_share(seconds, total)} "
    said = []
    if name == "wait" and round_trip > 0.005 and seconds < 1.5 * round_trip:
        said.append(
            f"{begin}is one round trip to the server. Only a server that is nearer is faster."
        )
    elif name in _WORDS:
        said.append(begin + _WORDS[name])
    if name == "stream" and warm[0].events:
        rate = warm[0].events / max(seconds, 1e-6)
        said[-1] += f" {warm[0].events} events came, {rate:.0f} a second."
    python = parts.get("Python", 0.0)
    if name != "Python" and python > max(0.001, 0.1 * total):
        said.append(f"Python adds {_share(python, total)}. {_FASTER_PYTHON}")
    return said


_FASTER_PYTHON = (
    "llmpool.use_json(), with orjson, and what does not compete for the interpreter, make it less."
)
# Of what dominates a warm call, behind "Of a warm call 3.2 ms (98 %) ".
_WORDS = {
    "queue": "is waiting for a connection: max_connections, or the server's limit on streams, is "
    "too low.",
    "send": "is sending the request: send less, or over a faster link.",
    "wait": "is the server's, before the first byte of its answer. The pool cannot shorten it: a "
    "shorter prompt, the provider's prompt cache, a smaller model or a nearer region can; "
    '"stream": true shows the first words before the last are made.',
    "head": "lies between the head of the answer and its first data: the model reads the prompt, "
    "or thinks. A shorter prompt, the provider's prompt cache or a smaller model shortens it.",
    "stream": "is the answer coming in after its first data. Fewer tokens (max_tokens) or a faster "
    "model shorten it.",
    "Python": f"is what Python adds: the server leaves it little to wait for. {_FASTER_PYTHON}",
    "name": "is looking up the name, and should not be.",
    "TCP": "is connecting anew.",
    "TLS": "is connecting anew.",
}


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f"{duration(part)} ({percent:.0f} %)"
