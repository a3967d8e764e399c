"""What pools tell of attempts that DONE says nothing of: when one was given up, and why.

A notice names the origin, not the request. So it is kept, with the time at which it was read, until
the requests of its time are over.
"""

import ctypes
import os
import threading
import time
from collections import OrderedDict, deque
from typing import Deque, Dict, List, NamedTuple, Optional, Set

from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.record import Lost, Reader
from .._native.waiting import poller

_WATCHED = abi.NOTICE_RETRY | abi.NOTICE_CONNECTION_OPENED
_KEPT = 1024  # retries of an origin, and connections
_ORIGINS = 1024
# Of a dial: the request had no attempt yet.
_OF_DIALS = "connect"


class Retry(NamedTuple):
    """An attempt that failed.

    Attributes:
        time: when that was read, in nanoseconds of the epoch.
        pool: the handle of the pool.
        reason: as the notice has it, "status 503".
        delay: nanoseconds until the request goes back to the queue.
    """

    time: int
    pool: int
    reason: str
    delay: int


class Notices:
    """Reads the notices of pools on a thread, or on that of whoever wants to know."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._watched: Set[int] = set()
        self._reader: Optional[Reader] = None
        self._retries: OrderedDict[str, Deque[Retry]] = OrderedDict()
        self._opened: OrderedDict[int, int] = OrderedDict()

    def watch(self, pool: int) -> None:
        """Twice does nothing."""
        if pool in self._watched:
            return
        with self._reading:
            if self._reader is None:
                self._start()
            assert self._reader is not None
            lib.watch(pool, self._reader.queue, _WATCHED, pool)
            self._watched.add(pool)

    def end(self) -> None:
        """No pool tells anything any more; the thread stays, and sleeps."""
        with self._reading:
            if self._reader is not None:
                for pool in self._watched:
                    lib.watch(pool, self._reader.queue, 0, pool)
            self._watched.clear()
            self._retries.clear()
            self._opened.clear()

    def retries(self, pool: int, origin: str, since: int) -> List[Retry]:
        """Of all requests of the pool to an origin, in their order."""
        with self._reading:
            self._take()
            found = self._retries.get(origin, ())
            return [each for each in found if each.pool == pool and each.time >= since]

    def opened(self, connection_id: int) -> Optional[int]:
        """When it was ready, in nanoseconds of the epoch; None: not known."""
        with self._reading:
            self._take()
            return self._opened.get(connection_id)

    def _start(self) -> None:
        queue = ctypes.c_void_p()
        check(lib.queue_open(None, ctypes.byref(queue)))
        fd = lib.queue_fd(queue.value)
        check(fd)
        self._reader = Reader(queue.value, 64, 64 << 10)
        threading.Thread(target=self._run, args=(fd,), name="llmpool-otel", daemon=True).start()

    def _run(self, fd: int) -> None:
        wait = poller(fd)
        while True:
            wait()
            with self._reading:
                self._take()

    def _take(self) -> None:
        """What is there; the caller has the lock."""
        more = self._reader is not None
        while more and self._reader is not None:
            try:
                records, blob, more = self._reader.read()
            except Lost:  # no memory to copy them: later ones may be smaller
                continue
            now = time.time_ns()
            for record in records:
                fields = blob[record[10] : record[11]].decode("utf-8", "replace")
                lines = (line.partition(": ") for line in fields.split("\r\n"))
                values = {name: value for name, _, value in lines}
                self._keep(now, record[0], record[8], record[17], values)

    def _keep(
        self, now: int, pool: int, notice: int, connection_id: int, values: Dict[str, str]
    ) -> None:
        if notice == abi.NOTICE_CONNECTION_OPENED:
            self._opened[connection_id] = now
            if len(self._opened) > _KEPT:
                self._opened.popitem(last=False)
            return
        reason = values.get("reason", "")
        if notice != abi.NOTICE_RETRY or reason == _OF_DIALS:
            return
        origin = values.get("origin", "")
        known = self._retries.get(origin)
        if known is None:
            known = self._retries[origin] = deque(maxlen=_KEPT)
            if len(self._retries) > _ORIGINS:
                self._retries.popitem(last=False)
        delay = values.get("delay-ms", "0")
        known.append(Retry(now, pool, reason, int(delay) * 1_000_000 if delay.isdigit() else 0))


_notices = Notices()


def notices() -> Notices:
    """Those of this process."""
    return _notices


def _forget() -> None:
    # In a forked child the thread does not run, and the queue is the parent's.
    global _notices
    _notices = Notices()


os.register_at_fork(after_in_child=_forget)
