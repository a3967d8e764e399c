"""The metrics of all processes of a machine as if they were one.

Names, kinds and helps are those of the library, which has them in the text of a pool; here stands
which number of a document each has, and in which order labels come.
"""

import re
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from .._native.library import lib
from .ended import Counted, Past, look
from .pool import Path
from .processes import directory_of
from .sight import Histogram
from .snapshots import BudgetSnapshot, LimitSnapshot, Part, PoolSnapshot, together

_Each = TypeVar("_Each")
_ORIGINS, _BUDGETS = 200, 64  # that are shown each by itself; the rest are "other"
_OTHER = "other"
# The bounds of the library, as powers of two of microseconds: buckets end there.
_POWERS = (10, 12, 14, *range(16, 27), 28)
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
_HISTOGRAMS = {
    "pool_wait_seconds": "pool_wait",
    "budget_wait_seconds": "budget_wait",
    "connect_seconds": "connect",
    "tls_seconds": "tls",
    "first_byte_seconds": "first_byte",
    "first_token_seconds": "first_token",
    "event_gap_seconds": "event_gap",
    "request_duration_seconds": "total",
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
_OF_LIMITS: Dict[str, Callable[[LimitSnapshot], int]] = {
    "budget_limit": lambda limit: limit.limit,
    "budget_remaining": lambda limit: limit.remaining,
}


class _All(NamedTuple):
    """
    Attributes:
        utilization: the largest of a pool.
        budgets: by their names; those beyond _BUDGETS are one, without limits.
    """

    utilization: float
    origins: Dict[str, Part]
    budgets: Dict[str, BudgetSnapshot]


def metrics(families: str, directory: Optional[Path]) -> str:
    """The text.

    Args:
        families: that of a pool; its HELP and TYPE lines are taken.
        directory: where the processes are; None: as the environment says.

    Raises:
        ValueError: neither is given, or the directory cannot be read and written.
    """
    place = directory_of(directory)
    try:
        reading, counted, past = look(place)
    except OSError as error:
        raise ValueError(f"directory {place!r} cannot be used: {error.strerror}") from None
    pools = [pool for snapshot in reading.processes for pool in snapshot.pools.values()]
    every = _all(pools, counted, past)
    lines: List[str] = []
    for name, head in _families(families):
        lines += [*head, *_samples(name, every)]
    return "".join(f"{line}\n" for line in lines)


def _families(text: str) -> Iterable[Tuple[str, List[str]]]:
    """Name without "llmpool_", and the lines of HELP and TYPE."""
    pattern = r"^# HELP llmpool_(\w+) .*\n# TYPE llmpool_\1 .*$"
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield match[1], match[0].split("\n")


# ---- adding up


def _all(pools: List[PoolSnapshot], counted: Counted, past: Past) -> _All:
    parts: Dict[str, List[Part]] = {origin: [part] for origin, part in past.origins.items()}
    for (_, _, origin), part in counted.origins.items():
        parts.setdefault(origin, []).append(part)
    budgets: Dict[str, List[BudgetSnapshot]] = {}
    for pool in pools:
        for budget in pool.budgets:
            budgets.setdefault(budget.name, []).append(budget._replace(refusals=0))
    for name, refusals in _refusals(counted, past):
        over = BudgetSnapshot(
            name, in_flight=0, waiting=0, stopped=0.0, refusals=refusals, limits=()
        )
        budgets.setdefault(name, []).append(over)
    shown = _bounded(parts, _ORIGINS)
    return _All(
        utilization=max((pool.total.utilization for pool in pools), default=0.0),
        origins={origin: together(found) for origin, found in shown.items()},
        budgets={
            name: _one_budget(name, found) for name, found in _bounded(budgets, _BUDGETS).items()
        },
    )


def _refusals(counted: Counted, past: Past) -> Iterable[Tuple[str, int]]:
    yield from past.refusals.items()
    for (_, _, name), count in counted.refusals.items():
        yield name, count


def _bounded(found: Mapping[str, List[_Each]], most: int) -> Dict[str, List[_Each]]:
    """The first of them by name; what is beyond is one, the last."""
    names = sorted(name for name in found if name != _OTHER)
    shown = {name: list(found[name]) for name in names[:most]}
    rest = [each for name in (*names[most:], _OTHER) for each in found.get(name, ())]
    return {**shown, **({_OTHER: rest} if rest else {})}


def _one_budget(name: str, budgets: List[BudgetSnapshot]) -> BudgetSnapshot:
    return BudgetSnapshot(
        name=name,
        in_flight=sum(budget.in_flight for budget in budgets),
        waiting=sum(budget.waiting for budget in budgets),
        stopped=max(budget.stopped for budget in budgets),
        refusals=sum(budget.refusals for budget in budgets),
        limits=() if name == _OTHER else tuple(_limits(budgets)),
    )


def _limits(budgets: List[BudgetSnapshot]) -> Iterable[LimitSnapshot]:
    """Each process may spend what is configured. What a provider has told is one limit for all of
    them, of which the one that has heard last knows the least to be left."""
    found: Dict[Tuple[str, str, float], List[LimitSnapshot]] = {}
    for budget in budgets:
        for limit in budget.limits:
            key = limit.unit, limit.source, 0.0 if limit.told else limit.window
            found.setdefault(key, []).append(limit)
    for limits in found.values():
        if limits[0].told:
            amount = max(limit.limit for limit in limits)
            left = min(limit.remaining for limit in limits)
        else:
            amount = sum(limit.limit for limit in limits)
            left = sum(limit.remaining for limit in limits)
        yield limits[0]._replace(limit=amount, remaining=left)


# ---- writing


def _samples(name: str, every: _All) -> Iterable[str]:
    if name == "utilization_ratio":
        yield f"llmpool_{name} {every.utilization}"
    for origin, part in every.origins.items():
        label = _label("origin", origin)
        if name in _COUNTS:
            yield f"llmpool_{name}{{{label}}} {part.count(_COUNTS[name])}"
        elif name in _REASONS:
            for reason, count in getattr(part.reasons, _REASONS[name]).items():
                yield f"llmpool_{name}{{{label},{_label('reason', reason)}}} {count}"
        elif name in _HISTOGRAMS:
            yield from _histogram(name, label, part.histogram(_HISTOGRAMS[name]))
    for budget in every.budgets.values():
        label = _label("budget", budget.name)
        if name in _OF_BUDGETS:
            yield f"llmpool_{name}{{{label}}} {_OF_BUDGETS[name](budget)}"
        elif name in _OF_LIMITS:
            for limit in budget.limits:
                window = "" if limit.told else str(limit.window)
                labels = f'unit="{limit.unit}",window="{window}",source="{limit.source}"'
                yield f"llmpool_{name}{{{label},{labels}}} {_OF_LIMITS[name](limit)}"


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def _histogram(name: str, label: str, histogram: Histogram) -> Iterable[str]:
    count, total, _, buckets = histogram.__getstate__()
    if not count:
        return
    below, bucket = 0, 0
    for power in _POWERS:
        while lib.histogram_end(bucket) <= 1 << power:
            below += buckets[bucket]
            bucket += 1
        yield f'llmpool_{name}_bucket{{{label},le="{(1 << power) / 1e6:.6f}"}} {below}'
    yield f'llmpool_{name}_bucket{{{label},le="+Inf"}} {count}'
    yield f"llmpool_{name}_sum{{{label}}} {total // 1_000_000}.{total % 1_000_000:06}"
    yield f"llmpool_{name}_count{{{label}}} {count}"
