"""Lines for the logger "llmpool": who reads them is told what happens, and not each time.

Of a kind and an origin there is at most one line in 10 s, which says how many it stands for. Where
logging is not configured Python writes warnings to stderr: there is one in a minute at most.

Lines come from any thread, from finalisers and from within handlers, so nobody ever waits for a
lock here: who finds it taken leaves his line to whoever has it.
"""

import atexit
import itertools
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Deque, Dict, Hashable, List, NamedTuple, Optional, Tuple

from .limiter import Limiter, Said

# The levels of logging, which is imported when there is something to log.
DEBUG, INFO, WARNING = 10, 20, 30
_SECONDS, _BARE_SECONDS = 10.0, 60.0
# So many places of those that a line stands for are shown.
_PLACES = 8
# So many lines wait for a handler that does not return; then the oldest are lost, and counted.
_WAITING = 1024


class Line(NamedTuple):
    """
    Attributes:
        text: a sentence.
        fields: the same for programs, in the record's dictionary "llmpool".
        places: where the application was, as a traceback shows it.
    """

    level: int
    text: str
    fields: Dict[str, str]
    places: Tuple[str, ...] = ()


def _merge(held: Line, new: Line) -> Line:
    """The latest, with the places of all."""
    more = tuple(place for place in new.places if place not in held.places)
    return new._replace(places=(held.places + more)[:_PLACES])


_LOST = Line(
    WARNING,
    "a line of this log was lost: a handler of the logger took so long that more than "
    f"{_WAITING:,} waited",
    {},
)


class _Tally:
    """Counts from any thread without a lock: next() of such a counter is one step."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self._taken = 0

    def add(self) -> None:
        next(self._count)

    def take(self) -> int:
        """What came since the last time. One thread at a time."""
        came = next(self._count) - self._taken
        self._taken += came + 1  # this look counted, too
        return came


class _State:
    """What a forked child begins anew."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: Deque[Tuple[Hashable, Line, int]] = deque()
        self.lost = _Tally()
        self.limiter: Limiter[Line] = Limiter(_SECONDS, _merge)
        self.bare: Limiter[Line] = Limiter(_BARE_SECONDS)


_state = _State()
_is_registered = False
# Held while the thread of the log imports something: the child of a fork in between would have half
# a module for good.
importing = threading.RLock()


def is_enabled(level: int) -> bool:
    if "logging" not in sys.modules:  # so nobody has set another level than the root logger's
        return level >= WARNING
    import logging

    return logging.getLogger("llmpool").isEnabledFor(level)


def say(kind: Hashable, line: Line, count: int = 1) -> None:
    """Logs a line, now or with others of its kind.

    Args:
        kind: what there is one line of: the kind and the origin.
        count: how many it stands for by itself.
    """
    if is_enabled(line.level):
        state = _state
        state.waiting.append((kind, line, count))
        if len(state.waiting) > _WAITING:
            with suppress(IndexError):  # they were just logged
                state.waiting.popleft()
                state.lost.add()
        flush()


def flush() -> None:
    """Logs what has come, and what was held back long enough."""
    state = _state
    while state.lock.acquire(blocking=False):
        try:
            now = time.monotonic()
            while state.waiting:
                try:
                    kind, line, count = state.waiting.popleft()
                except IndexError:  # it was lost just now
                    break
                _offer(state, kind, line, now, count)
            lost = state.lost.take()
            if lost:
                _offer(state, "lost", _LOST, now, lost)
            for each in state.limiter.due(now):
                _show(state, each, now)
            for each in state.bare.due(now):
                _log(each, now, "warnings ")
        finally:
            state.lock.release()
        if not state.waiting:  # else it came when the lock was still taken
            return


def next_due() -> Optional[float]:
    """When flush() has something to do again, by time.monotonic(); None: it has not."""
    times = [_state.limiter.next_due(), _state.bare.next_due()]
    return min((each for each in times if each is not None), default=None)


def _offer(state: _State, kind: Hashable, line: Line, now: float, count: int) -> None:
    said = state.limiter.offer(kind, line, now, count)
    if said is not None:
        _show(state, said, now)


def _show(state: _State, said: "Said[Line]", now: float) -> None:
    with importing:
        import logging

    global _is_registered
    if not _is_registered:  # behind logging's own, so that it runs before
        _is_registered = True
        atexit.register(_end)
    if said.item.level < WARNING or logging.getLogger("llmpool").hasHandlers():
        _log(said, now)
        return
    bare = state.bare.offer("", said.item, now, said.count, said.since)
    if bare is not None:
        _log(bare, now)


def _log(said: "Said[Line]", now: float, what: str = "") -> None:
    import logging

    line, count = said.item, said.count
    text = f"llmpool: {line.text}"
    fields = line.fields
    if count > 1:
        seconds = now - said.since
        text += (
            f" (the last of {count} {what}in {seconds:.1f} s)" if seconds else f" ({count} of them)"
        )
        fields = {**fields, "count": str(count)}
    if line.places:
        text += f"; made here:\n{_joined(line.places)}"
    try:
        logging.getLogger("llmpool").log(line.level, "%s", text, extra={"llmpool": fields})
    except Exception:  # a handler of the application's that raises
        with suppress(Exception):  # the same one
            logging.getLogger(__name__).debug("llmpool: a line was not logged", exc_info=True)


def _joined(places: Tuple[str, ...]) -> str:
    return "\nand here:\n".join(places)


def _end() -> None:
    """At exit nothing comes any more, so nothing is held back; only a warning on a bare stderr is,
    which there is one in a minute of."""
    import logging

    flush()
    state = _state
    if not state.lock.acquire(timeout=1):
        return
    try:
        now = time.monotonic()
        rest: List[Said[Line]] = state.limiter.rest(now)
        if logging.getLogger("llmpool").hasHandlers():
            for said in rest:
                _log(said, now)
    finally:
        state.lock.release()


def _forget() -> None:
    # In a forked child whoever had the lock is not there, and the parent says what it holds back.
    global _state, importing
    _state = _State()
    importing = threading.RLock()


os.register_at_fork(
    before=lambda: importing.acquire(),
    after_in_parent=lambda: importing.release(),
    after_in_child=_forget,
)
