"""The metrics of all processes of a machine as if they were one.

Names, kinds and helps are those of the library, which has them in the text of a pool; here stands
which number of a document each has, at which bounds, and in which order labels come.
"""

import re
from typing import (
    Callable,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from .._native.library import lib
from .ended import OTHER, Counted, Key, Own, Past, look
from .pool import Path, shared
from .processes import directory_of
from .sight import Histogram, Reasons, reasons_with_series
from .snapshots import (
    BudgetSnapshot,
    LimitSnapshot,
    Part,
    PoolSnapshot,
    ShareSnapshot,
    together,
)

_Each = TypeVar("_Each")
_COUNTS = {
    "requests_submitted_total": "submitted",
    "requests_succeeded_total": "succeeded",
    "requests_failed_total": "failed",
    "requests_cancelled_total": "cancelled",
    "retries_total": "retries",
    "hedges_total": "hedges",
    "hedges_won_total": "hedges_won",
    "connections_opened_total": "opened",
    "connections_closed_total": "closed",
    "connections_reused_total": "reused",
    "connect_failures_total": "connect_failures",
    "dns_lookups_total": "dns_lookups",
    "dns_cache_hits_total": "dns_cache_hits",
    "tls_handshakes_total": "tls_handshakes",
    "tls_resumptions_total": "tls_resumptions",
    "sent_bytes_total": "bytes_sent",
    "received_bytes_total": "bytes_received",
    "breaker_rejections_total": "breaker_rejections",
    "unwatched_streams_total": "unwatched_streams",
    "requests_pending": "pending",
    "requests_awaiting_budget": "awaiting_budget",
    "breakers_open": "breakers_open",
    "requests_active": "active",
    "requests_backing_off": "backing_off",
    "connections_connecting": "connecting",
    "connections_in_use": "in_use",
    "connections_idle": "idle",
}
# Each with the bounds that are shown, as powers of two of microseconds: buckets end there.
_HISTOGRAMS: Dict[str, Tuple[str, Tuple[int, ...]]] = {
    "pool_wait_seconds": ("pool_wait", (10, 14, 17, 19, 20, 22, 24, 26)),
    "budget_wait_seconds": ("budget_wait", (14, 17, 20, 22, 24, 26, 28)),
    "connect_seconds": ("connect", (12, 14, 16, 18, 20, 22)),
    "tls_seconds": ("tls", (12, 14, 16, 18, 20, 22)),
    "first_byte_seconds": ("first_byte", (14, 16, 18, 19, 20, 21, 22, 23, 24, 26)),
    "first_token_seconds": ("first_token", (14, 16, 18, 19, 20, 21, 22, 23, 24, 26)),
    "event_gap_seconds": ("event_gap", (12, 14, 15, 16, 17, 18, 20, 22, 24)),
    "request_duration_seconds": ("total", (16, 18, 20, 21, 22, 23, 24, 25, 26, 28)),
}
_REASONS = {
    "close_reasons_total": "closed",
    "failure_reasons_total": "failed",
    "retry_reasons_total": "retried",
}
_OF_BUDGETS: Dict[str, Callable[[BudgetSnapshot], Union[int, str]]] = {
    "budget_refusals_total": lambda budget: budget.refusals,
    "budget_in_flight": lambda budget: budget.in_flight,
    "budget_waiting": lambda budget: budget.waiting,
    "budget_stopped_seconds": lambda budget: f"{int(budget.stopped * 1000) / 1000:.3f}",
}
_OF_SHARES: Dict[str, Callable[[ShareSnapshot], int]] = {
    "budget_members": lambda share: share.members,
    "budget_leased": lambda share: share.leased,
    "budget_lapses_total": lambda share: share.lapses,
}
# None: there is no such number of it.
_OF_LIMITS: Dict[str, Callable[[LimitSnapshot], Optional[float]]] = {
    "budget_limit": lambda limit: limit.limit,
    "budget_remaining": lambda limit: limit.remaining,
    "budget_spent": lambda limit: limit.spent,
}


class _All(NamedTuple):
    """
    Attributes:
        utilization: the largest of a pool.
        budgets: by their names; those without series of their own are one, without limits.
    """

    utilization: float
    origins: Dict[str, Part]
    budgets: Dict[str, BudgetSnapshot]


def metrics(families: str, directory: Optional[Path]) -> str:
    """The text.

    Args:
        families: that of a pool; its lines of HELP, TYPE and UNIT are taken.
        directory: where the processes are; None: as the environment says.

    Raises:
        ValueError: neither is given, or the directory cannot be read and written.
    """
    place = directory_of(directory)
    try:
        reading, counted, past, own = look(place)
    except OSError as error:
        raise ValueError(f"directory {place!r} cannot be used: {error.strerror}") from None
    pools = [pool for snapshot in reading.processes for pool in snapshot.pools.values()]
    every = _all(pools, counted, past, own)
    apart = reasons_with_series(shared())
    lines: List[str] = []
    for name, head in _families(families):
        lines += [*head, *_samples(name, every, apart)]
    if families.endswith("# EOF\n"):
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def _families(text: str) -> Iterable[Tuple[str, List[str]]]:
    """Name of the samples without "llmpool_", and the lines of HELP, TYPE and UNIT."""
    pattern = r"^# HELP llmpool_(\w+) .*\n# TYPE llmpool_\1 (\w+)(?:\n# UNIT .*)?$"
    for match in re.finditer(pattern, text, re.MULTILINE):
        name, kind = match[1], match[2]
        is_short = kind == "counter" and not name.endswith("_total")  # so in OpenMetrics
        yield f"{name}_total" if is_short else name, match[0].split("\n")


# ---- adding up


def _all(pools: List[PoolSnapshot], counted: Counted, past: Past, own: Own) -> _All:
    parts: Dict[str, List[Part]] = {origin: [part] for origin, part in past.origins.items()}
    for (*_, origin), part in counted.origins.items():
        parts.setdefault(origin, []).append(part)
    budgets: Dict[str, List[BudgetSnapshot]] = {}
    for pool in pools:
        for budget in pool.budgets:
            share = budget.share and budget.share._replace(lapses=0)
            now = budget._replace(refusals=0, share=share)
            budgets.setdefault(budget.name, []).append(now)
    for name, refusals in _of_all(counted.refusals, past.refusals):
        budgets.setdefault(name, []).append(_over(name)._replace(refusals=refusals))
    for name, lapses in _of_all(counted.lapses, past.lapses):
        share = ShareSnapshot(leased=0, members=0, lapses=lapses)
        budgets.setdefault(name, []).append(_over(name)._replace(share=share))
    return _All(
        utilization=max((pool.total.utilization for pool in pools), default=0.0),
        origins={origin: together(found) for origin, found in _bounded(parts, own.origins).items()},
        budgets={
            name: _one_budget(name, found) for name, found in _bounded(budgets, own.budgets).items()
        },
    )


def _of_all(counted: Mapping[Key, int], past: Mapping[str, int]) -> Iterable[Tuple[str, int]]:
    """What all that are and were have counted, by the names of their budgets."""
    yield from past.items()
    for (*_, name), count in counted.items():
        yield name, count


def _over(name: str) -> BudgetSnapshot:
    """What is left of a budget that is no more, but for its counts."""
    return BudgetSnapshot(name, in_flight=0, waiting=0, stopped=0.0, refusals=0, limits=())


def _bounded(found: Mapping[str, List[_Each]], own: Collection[str]) -> Dict[str, List[_Each]]:
    """Those with series of their own, by name; the rest are one, the last."""
    shown = {name: found[name] for name in sorted(own) if name in found}
    rest = [each for name, several in found.items() if name not in own for each in several]
    return {**shown, **({OTHER: rest} if rest else {})}


def _one_budget(name: str, budgets: List[BudgetSnapshot]) -> BudgetSnapshot:
    return BudgetSnapshot(
        name=name,
        in_flight=sum(budget.in_flight for budget in budgets),
        waiting=sum(budget.waiting for budget in budgets),
        stopped=max(budget.stopped for budget in budgets),
        refusals=sum(budget.refusals for budget in budgets),
        limits=() if name == OTHER else tuple(_limits(budgets)),
        share=None if name == OTHER else _one_share([each.share for each in budgets if each.share]),
    )


def _one_share(shares: List[ShareSnapshot]) -> Optional[ShareSnapshot]:
    if not shares:
        return None
    return ShareSnapshot(
        leased=sum(share.leased for share in shares),
        members=max(share.members for share in shares),
        lapses=sum(share.lapses for share in shares),
    )


def _limits(budgets: List[BudgetSnapshot]) -> Iterable[LimitSnapshot]:
    found: Dict[Tuple[str, str, float], List[LimitSnapshot]] = {}
    for budget in budgets:
        for limit in budget.limits:
            key = limit.unit, limit.source, 0.0 if limit.told else limit.window
            found.setdefault(key, []).append(limit)
    return map(_one_limit, found.values())


def _one_limit(limits: List[LimitSnapshot]) -> LimitSnapshot:
    """Each process may spend what is configured, and its part of what is shared. What a provider
    has told else is one limit for all of them, of which the one that has heard last knows the least
    to be left."""
    spent = [limit.spent for limit in limits if limit.spent is not None]
    whole = [limit for limit in limits if limit.told and limit.part is None]
    if whole:
        amount = max(limit.limit for limit in whole)
        left = min(limit.remaining for limit in whole)
    else:
        amount = sum(limit.limit if limit.part is None else limit.part for limit in limits)
        left = sum(limit.remaining for limit in limits)
    return limits[0]._replace(
        limit=amount, remaining=left, part=None, spent=sum(spent) if spent else None
    )


# ---- writing


def _samples(name: str, every: _All, apart: Reasons) -> Iterable[str]:
    if name == "utilization_ratio":
        yield f"llmpool_{name} {every.utilization}"
    for origin, part in every.origins.items():
        label = _label("origin", origin)
        if name in _COUNTS:
            yield f"llmpool_{name}{{{label}}} {part.count(_COUNTS[name])}"
        elif name in _REASONS:
            kind = _REASONS[name]
            for reason, count in _told(getattr(part.reasons, kind), getattr(apart, kind)).items():
                yield f"llmpool_{name}{{{label},{_label('reason', reason)}}} {count}"
        elif name in _HISTOGRAMS:
            kind, powers = _HISTOGRAMS[name]
            yield from _histogram(name, label, part.histogram(kind), powers)
    for budget in every.budgets.values():
        label = _label("budget", budget.name)
        if name in _OF_BUDGETS:
            yield f"llmpool_{name}{{{label}}} {_OF_BUDGETS[name](budget)}"
        elif name in _OF_SHARES:
            if budget.share:
                yield f"llmpool_{name}{{{label}}} {_OF_SHARES[name](budget.share)}"
        elif name in _OF_LIMITS:
            for limit in budget.limits:
                value = _OF_LIMITS[name](limit)
                if value is None:
                    continue
                window = "" if limit.told else str(limit.window)
                labels = ",".join(
                    _label(name, value)
                    for name, value in (
                        ("unit", limit.unit), ("window", window), ("source", limit.source)
                    )
                )  # fmt: skip
                yield f"llmpool_{name}{{{label},{labels}}} {_number(value)}"


def _number(value: float) -> str:
    """With thousandths where there are any."""
    return f"{value:.3f}" if round(value * 1000) % 1000 else str(round(value))


def _told(reasons: Mapping[str, int], apart: Collection[str]) -> Dict[str, int]:
    """The rare ones together."""
    told = {reason: count for reason, count in reasons.items() if reason in apart}
    others = sum(count for reason, count in reasons.items() if reason not in apart)
    return {**told, **({OTHER: others} if others else {})}


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'


def _histogram(name: str, label: str, histogram: Histogram, powers: Sequence[int]) -> Iterable[str]:
    count, total, _, buckets = histogram.__getstate__()
    if not count:
        return
    below, bucket = 0, 0
    for power in powers:
        while lib.histogram_end(bucket) <= 1 << power:
            below += buckets[bucket]
            bucket += 1
        yield f'llmpool_{name}_bucket{{{label},le="{(1 << power) / 1e6:.6f}"}} {below}'
    yield f'llmpool_{name}_bucket{{{label},le="+Inf"}} {count}'
    yield f"llmpool_{name}_sum{{{label}}} {total // 1_000_000}.{total % 1_000_000:06}"
    yield f"llmpool_{name}_count{{{label}}} {count}"
