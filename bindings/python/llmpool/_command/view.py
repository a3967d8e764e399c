"""What top shows of processes that it has seen several times: rates of the last seconds, and how
utilization went."""

from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from .._pool.processes import Reading, Unread
from .._pool.snapshots import BudgetSnapshot, RequestSnapshot, Snapshot
from .advice import Verdict, advise
from .evidence import Evidence, gather, in_flight, used, waiting
from .rules import SHORTEST
from .terminal import milliseconds

_RATES_OVER = 5.0  # seconds; of one second they would jump
_ADVICE_OVER = 10.0
_HISTORY = 60  # samples


class Row(NamedTuple):
    """A pool, or one of its origins. Rates are of a second, times in seconds.

    Attributes:
        p50, p99: of whole requests; None where none ended.
    """

    requests: float
    failed: float
    p50: Optional[float]
    p99: Optional[float]
    in_flight: int
    waiting: int
    dials: float
    connections: int
    used: int


class PoolView(NamedTuple):
    """
    Attributes:
        limit: max_connections; 0: none.
        history: utilization, as it was each time that it was read.
        origins: those that had most requests first.
        left_out: how many requests are not listed.
    """

    name: str
    limit: int
    utilization: float
    history: Tuple[float, ...]
    total: Row
    origins: Dict[str, Row]
    budgets: Tuple[BudgetSnapshot, ...]
    requests: Tuple[RequestSnapshot, ...]
    left_out: int


class ProcessView(NamedTuple):
    pid: int
    name: str
    version: str
    pools: Tuple[PoolView, ...]


class View(NamedTuple):
    """
    Attributes:
        seconds: that the rates are of; 0: there are none yet.
    """

    seconds: float
    processes: Tuple[ProcessView, ...]
    verdict: Verdict
    unread: Tuple[Unread, ...]


class Watch:
    """Keeps what was read for as long as it is compared with."""

    def __init__(self) -> None:
        self._readings: Deque[Tuple[float, Reading]] = deque()
        self._history: Dict[Tuple[int, str], Deque[float]] = {}

    def see(self, at: float, reading: Reading) -> View:
        """
        Args:
            at: seconds of a clock that only goes forward.
        """
        self._readings.append((at, reading))
        # One is kept that is old enough for advice, and none that is older.
        while len(self._readings) > 2 and at - self._readings[1][0] >= _ADVICE_OVER:
            self._readings.popleft()
        history = self._remember(reading)
        since, earlier = self._before(at - _RATES_OVER)
        before = {snapshot.pid: snapshot for snapshot in earlier.processes}
        return View(
            seconds=at - since,
            processes=tuple(
                _process(before.get(now.pid, now), now, history) for now in reading.processes
            ),
            verdict=self._verdict(at, reading),
            unread=reading.unread,
        )

    def _before(self, wanted: float) -> Tuple[float, Reading]:
        """The last reading that is so old, else the first."""
        old = [each for each in self._readings if each[0] <= wanted]
        return old[-1] if old else self._readings[0]

    def _verdict(self, at: float, reading: Reading) -> Verdict:
        since, earlier = self._readings[0]
        if at - since < SHORTEST:
            return advise((), ())
        return advise(earlier.processes, reading.processes)

    def _remember(self, reading: Reading) -> Dict[Tuple[int, str], Tuple[float, ...]]:
        """Of those pools that are there, and no others."""
        known, self._history = self._history, {}
        for snapshot in reading.processes:
            for name, pool in snapshot.pools.items():
                key = snapshot.pid, name
                self._history[key] = known.get(key) or deque(maxlen=_HISTORY)
                self._history[key].append(pool.total.utilization)
        return {key: tuple(values) for key, values in self._history.items()}


def _process(
    before: Snapshot, now: Snapshot, history: Dict[Tuple[int, str], Tuple[float, ...]]
) -> ProcessView:
    pools = [_pool(each, history[now.pid, name]) for name, each in gather(before, now).items()]
    return ProcessView(now.pid, now.name, now.version, tuple(pools))


def _pool(evidence: List[Evidence], history: Tuple[float, ...]) -> PoolView:
    whole, *origins = evidence
    rows = [(each.origin, _row(each)) for each in origins]
    rows.sort(key=lambda row: (-row[1].requests, -row[1].in_flight, row[0]))
    return PoolView(
        name=whole.pool.name,
        limit=whole.limit("max_connections"),
        utilization=whole.now.utilization,
        history=history,
        total=_row(whole),
        origins=dict(rows),
        budgets=whole.pool.budgets,
        requests=whole.pool.requests,
        left_out=whole.pool.left_out,
    )


def _row(seen: Evidence) -> Row:
    seconds = seen.seconds
    # Seen for the first time: what it has counted is of no known time.
    is_known = seconds > 0 and seen.pool_before is not None
    total = seen.change.histogram("total")

    def rate(name: str) -> float:
        return seen.change.count(name) / seconds if is_known else 0.0

    return Row(
        requests=rate("submitted"),
        failed=rate("failed"),
        p50=total.percentile(50) if total.count else None,
        p99=total.percentile(99) if total.count else None,
        in_flight=in_flight(seen.now),
        waiting=waiting(seen.now),
        dials=rate("opened"),
        connections=seen.now.count("connecting", "in_use", "idle"),
        used=used(seen.now),
    )


# ---- for programs


def as_dict(view: View) -> Dict[str, Any]:
    """Times in milliseconds."""
    return {
        "seconds": round(view.seconds, 3),
        "processes": [
            {**process._asdict(), "pools": [_pool_as_dict(pool) for pool in process.pools]}
            for process in view.processes
        ],
    }


def _pool_as_dict(pool: PoolView) -> Dict[str, Any]:
    return {
        "name": pool.name,
        "max_connections": pool.limit,
        "utilization": round(pool.utilization, 4),
        "utilization_history": [round(value, 4) for value in pool.history],
        **_row_as_dict(pool.total),
        "origins": [
            {"origin": origin, **_row_as_dict(row)} for origin, row in pool.origins.items()
        ],
        "budgets": [_budget_as_dict(budget) for budget in pool.budgets],
        "requests": [_request_as_dict(each) for each in pool.requests],
        "requests_left_out": pool.left_out,
    }


def _row_as_dict(row: Row) -> Dict[str, Any]:
    return {
        "requests_per_second": round(row.requests, 3),
        "failed_per_second": round(row.failed, 3),
        "p50_ms": None if row.p50 is None else milliseconds(row.p50),
        "p99_ms": None if row.p99 is None else milliseconds(row.p99),
        "in_flight": row.in_flight,
        "waiting": row.waiting,
        "dials_per_second": round(row.dials, 3),
        "connections": row.connections,
        "connections_in_use": row.used,
    }


def _budget_as_dict(budget: BudgetSnapshot) -> Dict[str, Any]:
    values = budget._asdict()
    values["stopped_ms"] = milliseconds(values.pop("stopped"))
    values["share"] = budget.share and budget.share._asdict()
    values["limits"] = [
        {**limit._asdict(), "window": milliseconds(limit.window)} for limit in budget.limits
    ]
    for limit in values["limits"]:
        limit["window_ms"] = limit.pop("window")
    return values


def _request_as_dict(request: RequestSnapshot) -> Dict[str, Any]:
    values = request._asdict()
    values["age_ms"] = milliseconds(values.pop("age"))
    return values
