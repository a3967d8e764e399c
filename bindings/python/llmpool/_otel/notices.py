"""What pools tell of attempts that DONE says nothing of: when one was given up, and why. It is kept
until the request is over.
"""

import ctypes
import os
import threading
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from .._http import secrets
from .._http.answer import TIMES_SIZE
from .._http.timings import Timings, timings_of
from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.record import Lost, Reader
from .._native.waiting import poller
from .target import Attributes, connection_attributes

_WATCHED = abi.NOTICE_RETRY
_KEPT = 1024  # requests with retries: those that nobody traces are never asked for


class Retry(NamedTuple):
    """An attempt that failed.

    Attributes:
        attempt: which one, from 1.
        times: of the attempt; done is when it was given up.
        reason: as the notice has it, "status 503".
        delay: seconds until the request goes back to the queue.
        request_id: the provider's id; "": it has said none.
        connection: attributes of that which carried it.
    """

    attempt: int
    times: Timings
    reason: str
    delay: float
    request_id: str
    connection: Attributes


class Notices:
    """Reads the notices of pools on a thread, or on that of whoever wants to know."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._watched: Set[int] = set()
        self._reader: Optional[Reader] = None
        # By pool and id of the request.
        self._retries: OrderedDict[Tuple[int, int], List[Retry]] = OrderedDict()

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

    def retries(self, pool: int, request: int) -> List[Retry]:
        """Of a request that is over, in their order; told once."""
        with self._reading:
            self._take()
            return self._retries.pop((pool, request), [])

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
            for record in records:
                fields = blob[record[10] : record[11]].decode("utf-8", "replace")
                lines = (line.partition(": ") for line in fields.split("\r\n"))
                values = {name: value for name, _, value in lines}
                times = timings_of(blob[record[15] - TIMES_SIZE : record[15]])
                self._keep(record[0], values, times, connection_attributes(record[17], record[2]))

    def _keep(
        self, pool: int, values: Dict[str, str], times: Timings, connection: Attributes
    ) -> None:
        attempt = int(values["attempt"])
        if not attempt:  # a dial failed, which is none
            return
        retry = Retry(
            attempt, times, values["reason"], int(values["delay-ms"]) / 1e3,
            secrets.text(values.get("request-id", "")), connection,
        )  # fmt: skip
        self._retries.setdefault((pool, int(values["request"])), []).append(retry)
        if len(self._retries) > _KEPT:
            self._retries.popitem(last=False)


_notices = Notices()


def notices() -> Notices:
    """Those of this process."""
    return _notices


def _forget() -> None:
    # In a forked child the thread does not run, and the queue is the parent's.
    global _notices
    _notices = Notices()


os.register_at_fork(after_in_child=_forget)
