"""What can be seen of a pool: histograms, reasons, requests in flight.

Imported by whoever asks: dataclasses cost a millisecond each time a process starts.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.text import c_string
from .pool import Pool

PHASES = {
    abi.PHASE_BUDGET: "budget",
    abi.PHASE_POOL: "pool",
    abi.PHASE_CONNECTING: "connecting",
    abi.PHASE_SENDING: "sending",
    abi.PHASE_WAITING: "waiting",
    abi.PHASE_RECEIVING: "receiving",
    abi.PHASE_BACKING_OFF: "backing-off",
    abi.PHASE_HANDING_OVER: "handing-over",
}


class Histogram:
    """How long something took, each time: counts in buckets that are at most an eighth wide.

    Those of several origins, pools or processes can be merged; it can be pickled.
    """

    __module__ = "llmpool"  # where whoever imports it finds it
    __slots__ = ("_raw",)

    def __init__(self) -> None:
        self._raw = abi.Histogram()

    @property
    def count(self) -> int:
        """How many durations there were."""
        return int(self._raw.count)

    @property
    def sum(self) -> float:
        """Of all of them, in seconds."""
        return int(self._raw.sum_us) / 1e6

    @property
    def max(self) -> float:
        """The longest, in seconds; 0 where there was none."""
        return int(self._raw.max_us) / 1e6

    def percentile(self, percent: float) -> float:
        """What so many percent of the durations, 0 to 100, are not longer than, in seconds.

        Never less than the true value, at most 12.5 % more. 0 where there were none.
        """
        found: int = lib.histogram_percentile(ctypes.byref(self._raw), percent)
        return found / 1e6

    def merge(self, other: "Histogram") -> "Histogram":
        """A histogram of what both have counted; they stay as they are."""
        if not isinstance(other, Histogram):
            raise TypeError(f"other is a llmpool.Histogram, not {type(other).__name__}")
        both = Histogram()
        for one in (self, other):
            check(lib.histogram_merge(ctypes.byref(both._raw), ctypes.byref(one._raw)))
        return both

    def __getstate__(self) -> Any:
        raw = self._raw
        return raw.count, raw.sum_us, raw.max_us, list(raw.buckets)

    def __setstate__(self, state: Any) -> None:
        self._raw = abi.Histogram()
        self._raw.count, self._raw.sum_us, self._raw.max_us, self._raw.buckets[:] = state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return bool(self.__getstate__() == other.__getstate__())

    def __repr__(self) -> str:
        return (
            f"<llmpool.Histogram: {self.count} durations, p50 {self.percentile(50):.6g} s, "
            f"p99 {self.percentile(99):.6g} s, longest {self.max:.6g} s>"
        )


@dataclass(frozen=True)
class Reasons:
    """Why, and how often; only what there was.

    Attributes:
        closed: connections that ended; their sum is Stats.closed.
        failed: requests that got no answer; their sum is Stats.failed.
        retried: attempts after the first; their sum is Stats.retries.
    """

    __module__ = "llmpool"

    closed: Dict[str, int]
    failed: Dict[str, int]
    retried: Dict[str, int]


@dataclass(frozen=True)
class RequestState:
    """A request that is not over, as it stood at one moment.

    Attributes:
        id: as the library counts it; unique in the process.
        user_data: the number that C code gave it; of this package's requests its own.
        origin: "https://api.example.com:443"
        phase: "budget" or "pool" (it waits for it), "connecting", "sending", "waiting" (all is
            sent, and nothing has come), "receiving", "backing-off" (it waits to be tried again),
            "handing-over" (all is here, and waits for whoever reads the stream).
        age: seconds since its submission.
        attempts: how often it was sent.
        bytes_sent, bytes_received: of its body and of the answer's, in the last attempt.
    """

    __module__ = "llmpool"

    id: int
    user_data: int
    origin: str
    phase: str
    age: float
    attempts: int
    bytes_sent: int
    bytes_received: int


def _all(function: Any, struct: Any, *arguments: Any) -> Any:
    """What a function of the library writes one after the other, however much it is."""
    count = ctypes.c_uint32(8)
    while True:
        capacity = count.value
        rows = (struct * capacity)()
        size = ctypes.sizeof(struct)
        check(function(*arguments, rows, size, capacity, ctypes.byref(count)))
        if count.value <= capacity:
            return rows[: count.value]
        count.value += 16  # there may be more by the next call


def _origin(origin: Optional[str]) -> Optional[bytes]:
    return None if origin is None else c_string("origin", origin)


def histograms(pool: Pool, origin: Optional[str]) -> Dict[str, Histogram]:
    found: Dict[str, Histogram] = {}
    for raw in _all(lib.histograms, abi.Histogram, pool._handle, _origin(origin)):
        histogram = found[raw.name.decode()] = Histogram()
        check(lib.histogram_merge(ctypes.byref(histogram._raw), ctypes.byref(raw)))
    return found


def reasons(pool: Pool, origin: Optional[str]) -> Reasons:
    return _reasons(pool, origin, lambda row: bool(row.count))


def reasons_with_series(pool: Pool) -> Reasons:
    """Those that the metrics tell apart, whether there were any or not."""
    return _reasons(pool, None, lambda row: bool(row.has_series))


def _reasons(pool: Pool, origin: Optional[str], is_wanted: Callable[[Any], bool]) -> Reasons:
    kinds: Dict[int, Dict[str, int]] = {
        abi.REASON_CLOSED: {},
        abi.REASON_FAILED: {},
        abi.REASON_RETRIED: {},
    }
    for row in _all(lib.reasons, abi.Reason, pool._handle, _origin(origin)):
        if is_wanted(row) and row.kind in kinds:
            kinds[row.kind][row.name.decode()] = row.count
    return Reasons(*kinds.values())


def requests(pool: Pool) -> List[RequestState]:
    return [
        RequestState(
            id=row.request_id,
            user_data=row.user_data,
            origin=row.origin.decode("utf-8", "replace"),
            phase=PHASES.get(row.phase, str(row.phase)),
            age=row.age_us / 1e6,
            attempts=row.attempts,
            bytes_sent=row.bytes_sent,
            bytes_received=row.bytes_received,
        )
        for row in inflight(pool)
    ]


def inflight(pool: Pool) -> Any:
    """The same as the library has it: llmpool_inflight_t."""
    return _all(lib.requests, abi.Inflight, pool._handle)
