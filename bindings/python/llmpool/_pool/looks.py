"""What nobody tells of a pool, and a look at it shows: requests that wait long for a connection,
those that had no answer in time, and those that are older than a bound.

A look is a call that copies counters. Only where something waits, or a bound is set, the requests
in flight are copied, too, and only where something went wrong its reasons.
"""

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set

from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.text import c_string
from . import leaks, lines, silences, waits
from .silences import Silences
from .waits import Reached, Waiting, Waits

if TYPE_CHECKING:
    from .pool import Pool
    from .sight import Reasons


class Looks:
    """What is known of one pool from one look to the next."""

    def __init__(self) -> None:
        self._waits = Waits()
        self._silences = Silences()
        self._went_wrong = -1

    def look(self, pool: "Pool", now: float) -> Set[int]:
        """Says what it finds; the ids of the requests in flight, where they were looked at.

        Raises:
            PoolClosed: the pool is closed.
        """
        stats = _stats(pool, None)
        waits_now = stats.pending > stats.awaiting_budget
        bound = leaks.older_than()
        rows = _rows(pool) if waits_now or bound is not None else []
        if bound is not None:
            _say_old(rows, bound)
        self._say_waits(pool, stats, rows if waits_now else [], now)
        self._say_silences(pool, stats.failed + stats.retries)
        return {row.request_id for row in rows}

    def _say_waits(self, pool: "Pool", stats: Any, rows: List[Any], now: float) -> None:
        waiting = [
            Waiting(row.request_id, row.attempts, _origin(row), row.age_us / 1e6)
            for row in rows
            if row.phase == abi.PHASE_POOL
        ]
        limits = _Limits(pool, stats, rows) if waiting else None
        for wait in self._waits.look(now, waiting, limits or _none):
            line = lines.Line(lines.WARNING, waits.text(wait), waits.fields(wait))
            lines.say(("wait", wait.origin), line, wait.new)

    def _say_silences(self, pool: "Pool", went_wrong: int) -> None:
        if went_wrong == self._went_wrong or not lines.is_enabled(lines.INFO):
            return
        self._went_wrong = went_wrong
        for silence in self._silences.look(_reasons(pool) if went_wrong else {}):
            line = lines.Line(lines.INFO, silences.text(silence), silences.fields(silence))
            lines.say(("silence", silence.origin, silence.reason), line, silence.number)


def _reasons(pool: "Pool") -> "Dict[str, Reasons]":
    with lines.importing:
        from . import sight  # noqa: F401 - which takes long, for reasons()
    found = {}
    for origin in pool.origins():
        with contextlib.suppress(KeyError):  # the pool has forgotten it meanwhile
            found[origin] = pool.reasons(origin)
    return found


def _none(_: str) -> Optional[Reached]:
    return None


class _Limits:
    """Which limit of a pool keeps an origin's requests waiting."""

    def __init__(self, pool: "Pool", stats: Any, rows: List[Any]) -> None:
        self._pool = pool
        self._stats = stats
        self._rows = rows
        options = pool._numbers()
        self._total = options.max_connections
        self._each = options.max_connections_per_origin
        self._only_http1 = options.http_versions == abi.HTTP_1_1

    def __call__(self, origin: str) -> Optional[Reached]:
        if self._each:
            try:
                of_origin = _stats(self._pool, origin)
            except KeyError:  # the pool has forgotten it meanwhile
                return None
            if _is_reached(of_origin, self._each):
                return self._of("max_connections_per_origin", self._each, of_origin, origin)
        if self._total and _is_reached(self._stats, self._total):
            return self._of("max_connections", self._total, self._stats, None)
        return None

    def _of(self, knob: str, limit: int, stats: Any, origin: Optional[str]) -> Reached:
        ages = [
            row.age_us / 1e6
            for row in self._rows
            if row.phase == abi.PHASE_RECEIVING and (origin is None or _origin(row) == origin)
        ]
        return Reached(knob, limit, stats.in_use, self._only_http1, max(ages, default=0.0))


def _is_reached(stats: Any, limit: int) -> bool:
    """By connections in use: where most are being made it is the server that is slow."""
    held = stats.in_use + stats.connecting
    return bool(held >= limit and stats.in_use >= stats.connecting)


def _say_old(rows: List[Any], bound: float) -> None:
    old: Dict[int, Any] = {row.request_id: row for row in rows if row.age_us >= bound * 1e6}
    for request, place in leaks.newly_old(old):
        row = old[request]
        origin, age = _origin(row), row.age_us / 1e6
        phase = _phase(row)
        text = f"a request to {origin} is not over after {age:.1f} s: {phase}"
        fields = {
            "origin": origin, "phase": phase, "age-ms": str(int(age * 1000)),
            "attempts": str(row.attempts),
        }  # fmt: skip
        lines.say(("old", origin), lines.Line(lines.WARNING, text, fields, (place,)))


def _phase(row: Any) -> str:
    from .sight import PHASES

    return PHASES.get(row.phase, str(row.phase))


def _origin(row: Any) -> str:
    return str(row.origin, "utf-8", "replace")


def _stats(pool: "Pool", origin: Optional[str]) -> abi.Stats:
    # Not Pool.stats(): dataclasses cost a millisecond in each process.
    raw = abi.Stats()
    raw.size = ctypes.sizeof(raw)
    name = None if origin is None else c_string("origin", origin)
    check(lib.stats(pool._handle, name, ctypes.byref(raw)))
    return raw


def _rows(pool: "Pool") -> List[Any]:
    from .sight import inflight

    rows: List[Any] = inflight(pool)
    return rows
