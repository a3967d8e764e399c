"""What a process says of its pools, and what lies between two times that it did.

Imported by whoever asks, as sight is.
"""

from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .._http.constants import HISTOGRAM_BUCKETS
from .._http.secrets import printable
from .._native.library import lib
from .sight import Histogram, Reasons

SCHEMA = 1
# What is now, and not since the beginning: it can fall.
GAUGES: FrozenSet[str] = frozenset(
    ("pending", "active", "backing_off", "connecting", "in_use", "idle", "awaiting_budget",
     "breakers_open")
)  # fmt: skip


class Part(NamedTuple):
    """What a pool, or one of its origins, has counted.

    Attributes:
        counts: the fields of Stats, but utilization.
        histograms: as Pool.histograms() has them; those in which something was counted.
    """

    counts: Dict[str, int]
    utilization: float
    histograms: Dict[str, Histogram]
    reasons: Reasons

    def count(self, *names: str) -> int:
        """Of all these fields together."""
        return sum(self.counts.get(name, 0) for name in names)

    def histogram(self, name: str) -> Histogram:
        """An empty one where nothing was counted."""
        return self.histograms.get(name) or Histogram()


class LimitSnapshot(NamedTuple):
    """A limit of a budget, in the words of the metrics. `window` is in seconds.

    Attributes:
        part: of a shared budget, what of `limit` is the process's; None: it is not shared.
        spent: since it is shared.
    """

    unit: str
    limit: float
    remaining: int
    window: float
    source: str
    part: Optional[float] = None
    spent: Optional[int] = None

    @property
    def told(self) -> bool:
        return self.source != "configured"


class ShareSnapshot(NamedTuple):
    """How a budget stands that several processes share.

    Attributes:
        leased: how many of those that are looked at spend from a lease.
        members: as the last grant said; 0: none has.
    """

    leased: int
    members: int
    lapses: int


class BudgetSnapshot(NamedTuple):
    """`stopped` is in seconds; 0: it is not. `share`: None: it is not shared."""

    name: str
    in_flight: int
    waiting: int
    stopped: float
    refusals: int
    limits: Tuple[LimitSnapshot, ...]
    share: Optional[ShareSnapshot] = None


class RequestSnapshot(NamedTuple):
    """A request that is not over: see RequestState."""

    id: int
    origin: str
    phase: str
    age: float
    attempts: int
    sent: int
    received: int


class PoolSnapshot(NamedTuple):
    """
    Attributes:
        options: its limits, by the names of llmpool_options_t; 0: none.
        requests: the oldest of those that are not over, the oldest first.
        left_out: how many others there are.
    """

    name: str
    options: Dict[str, int]
    total: Part
    origins: Dict[str, Part]
    budgets: Tuple[BudgetSnapshot, ...]
    requests: Tuple[RequestSnapshot, ...]
    left_out: int


class Snapshot(NamedTuple):
    """A process at one moment.

    Attributes:
        started: when it began to show something, on the machine's monotonic clock, in microseconds.
        at: seconds of that clock.
        pools: by their names.
    """

    pid: int
    started: int
    name: str
    version: str
    at: float
    pools: Dict[str, PoolSnapshot]


# ---- reading


def snapshot_of(document: Any) -> Snapshot:
    """What a document of a process says.

    Raises:
        ValueError: it is none, or of another schema.
    """
    try:
        schema = document["schema"]
        if schema != SCHEMA:
            raise ValueError(f"its schema is {printable(schema)}, this llmpool reads {SCHEMA}")
        return Snapshot(
            pid=int(document["pid"]),
            started=int(document.get("started_us", 0)),
            name=printable(document["name"]),
            version=printable(document["version"]),
            at=document["monotonic_us"] / 1e6,
            pools={pool.name: pool for pool in map(_pool, document["pools"])},
        )
    except (AttributeError, ArithmeticError, LookupError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"it is no document of a process's pools ({what})") from None


def _pool(found: Mapping[str, Any]) -> PoolSnapshot:
    return PoolSnapshot(
        name=printable(found["name"]),
        options={name: int(value) for name, value in found["options"].items()},
        total=part_of(found),
        origins={printable(origin["origin"]): part_of(origin) for origin in found["origins"]},
        budgets=tuple(map(_budget, found["budgets"])),
        requests=tuple(map(_request, found["requests"])),
        left_out=int(found["requests_left_out"]),
    )


def part_of(found: Mapping[str, Any]) -> Part:
    """What a document says of a pool, or of an origin."""
    stats = dict(found["stats"])
    utilization = float(stats.pop("utilization", 0.0))
    stats.pop("size", None)
    reasons = found["reasons"]
    return Part(
        counts={name: int(value) for name, value in stats.items()},
        utilization=utilization,
        histograms={name: _histogram(each) for name, each in found["histograms"].items()},
        reasons=Reasons(
            *({printable(why): int(count) for why, count in reasons.get(kind, {}).items()}
              for kind in Reasons.__annotations__)
        ),
    )  # fmt: skip


def _histogram(found: Mapping[str, Any]) -> Histogram:
    buckets = [0] * HISTOGRAM_BUCKETS
    for index, count in found["buckets"]:
        buckets[index] = int(count)
    return _of_state(int(found["count"]), int(found["sum_us"]), int(found["max_us"]), buckets)


def _of_state(count: int, total: int, longest: int, buckets: List[int]) -> Histogram:
    histogram = Histogram()
    histogram.__setstate__((count, total, longest, buckets))
    return histogram


def _budget(found: Mapping[str, Any]) -> BudgetSnapshot:
    return BudgetSnapshot(
        name=printable(found["name"]),
        in_flight=int(found["in_flight"]),
        waiting=int(found["waiting"]),
        stopped=found["stopped_us"] / 1e6,
        refusals=int(found["refusals"]),
        limits=tuple(map(_limit, found["limits"])),
        share=_share(found["share"]) if "share" in found else None,
    )


def _share(found: Mapping[str, Any]) -> ShareSnapshot:
    return ShareSnapshot(int(found["leased"]), int(found["members"]), int(found["lapses"]))


def _limit(found: Mapping[str, Any]) -> LimitSnapshot:
    return LimitSnapshot(
        unit=printable(found["unit"]),
        limit=int(found["limit"]),
        remaining=int(found["remaining"]),
        window=found["window_us"] / 1e6,
        source=printable(found["source"]),
        part=float(found["part"]) if "part" in found else None,
        spent=int(found["spent"]) if "spent" in found else None,
    )


def _request(found: Mapping[str, Any]) -> RequestSnapshot:
    return RequestSnapshot(
        id=int(found["id"]),
        origin=printable(found["origin"]),
        phase=printable(found["phase"]),
        age=found["age_us"] / 1e6,
        attempts=int(found["attempts"]),
        sent=int(found["sent"]),
        received=int(found["received"]),
    )


# ---- adding up, and what lies between two


def nothing() -> Part:
    """What a part has counted that has just begun."""
    return Part({}, 0.0, {}, Reasons({}, {}, {}))


def together(parts: Iterable[Part]) -> Part:
    """All that they have counted; of the utilizations the largest, as a full pool is full whatever
    room the others have."""
    counts: Dict[str, int] = {}
    histograms: Dict[str, Histogram] = {}
    reasons = Reasons({}, {}, {})
    utilization = 0.0
    for part in parts:
        _add(counts, part.counts)
        for name, histogram in part.histograms.items():
            known = histograms.get(name)
            histograms[name] = histogram if known is None else known.merge(histogram)
        for kind in Reasons.__annotations__:
            _add(getattr(reasons, kind), getattr(part.reasons, kind))
        utilization = max(utilization, part.utilization)
    return Part(counts, utilization, histograms, reasons)


def _add(to: Dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        to[name] = to.get(name, 0) + count


def change(now: Part, before: Optional[Part]) -> Part:
    """What was counted between two moments; gauges are as they are now.

    Args:
        before: None: it was not there yet.
    """
    if before is None or now.count("submitted") < before.count("submitted"):
        return now  # it has begun anew
    counts = {
        name: count if name in GAUGES else _less(count, before.counts.get(name, 0))
        for name, count in now.counts.items()
    }
    histograms = {
        name: _since(histogram, before.histogram(name))
        for name, histogram in now.histograms.items()
    }
    reasons = Reasons(
        *({why: _less(count, getattr(before.reasons, kind).get(why, 0))
           for why, count in getattr(now.reasons, kind).items()}
          for kind in Reasons.__annotations__)
    )  # fmt: skip
    return Part(counts, now.utilization, histograms, reasons)


def _less(count: int, before: int) -> int:
    # The parts of a document are of one moment; those that no process of ours wrote may not be.
    return max(0, count - before)


def _since(now: Histogram, before: Histogram) -> Histogram:
    """What was counted in between. The longest is not known but for its bucket, unless it is the
    longest of all."""
    _, total, longest, buckets = now.__getstate__()
    _, total_before, longest_before, buckets_before = before.__getstate__()
    left = [_less(count, earlier) for count, earlier in zip(buckets, buckets_before)]
    filled = [index for index, count in enumerate(left) if count]
    if not filled:
        longest = 0
    elif longest == longest_before:
        longest = min(longest, lib.histogram_end(filled[-1]) - 1)
    return _of_state(sum(left), _less(total, total_before), longest, left)
