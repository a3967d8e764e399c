"""What happens in the pools, to logging.

The logger is "llmpool": a WARNING where requests wait long because a limit is reached, where an
answer stops a budget, where an origin's breaker opens, and for what the leak finder finds; INFO for
what ends that, for connections that close, requests that are tried again or sent a second time, the
utilization warning, and a stream whose event timeout does not run; DEBUG for connections that open.

One thread waits for the notices of all pools, on a descriptor, with Python's own poll, and looks at
the pools once a second for what no notice tells. It starts with the first client, if the logger is
enabled for warnings by then.
"""

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, Hashable, Optional, Set, Tuple

from .._http import secrets
from .._http.exceptions import TransportError
from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.record import Lost, Reader
from .._native.waiting import poller
from . import leaks, lines
from .lines import DEBUG, INFO, WARNING, Line

if TYPE_CHECKING:
    from .looks import Looks
    from .pool import Pool

_LEVELS = {
    abi.NOTICE_UTILIZATION_HIGH: INFO,
    abi.NOTICE_UTILIZATION_NORMAL: INFO,
    abi.NOTICE_CONNECTION_OPENED: DEBUG,
    abi.NOTICE_CONNECTION_CLOSED: INFO,
    abi.NOTICE_RETRY: INFO,
    abi.NOTICE_UNWATCHED_STREAM: INFO,
    abi.NOTICE_BUDGET_STOPPED: WARNING,
    abi.NOTICE_BUDGET_RESUMED: INFO,
    abi.NOTICE_BREAKER_OPENED: WARNING,
    abi.NOTICE_BREAKER_CLOSED: INFO,
    abi.NOTICE_HEDGE: INFO,
}
_ALL = sum(_LEVELS)
# Seconds between two looks at the pools.
_LOOK = 1.0

# What a pool's _watched must be for its notices to arrive: another object after a fork.
watching = object()
_lock = threading.Lock()
_queue: Optional[int] = None
# The pools that are looked at, by their handles.
_pools: "Dict[int, weakref.ref[Pool]]" = {}


def watch(pool: "Pool") -> None:
    """Has the pool's notices logged, where the logger wants any; twice does nothing."""
    if pool._watched is watching and pool._is_watched:
        return
    pool._watched = watching
    if not lines.is_enabled(WARNING):
        return  # asked again by the next client
    pool._is_watched = True
    with _lock:
        _pools[pool._handle] = weakref.ref(pool)
        queue = _queue or _start()
    # All kinds: the level of the logger may change later, and none of them is frequent.
    lib.watch(pool._handle, queue, _ALL, pool._handle)


def _start() -> int:
    import ctypes

    global _queue
    queue = ctypes.c_void_p()
    check(lib.queue_open(None, ctypes.byref(queue)))
    assert queue.value
    try:
        fd = lib.queue_fd(queue)
        check(fd)
        reader = Reader(queue.value, 64, 64 << 10)
        threading.Thread(target=_run, args=(reader, fd), name="llmpool-log", daemon=True).start()
    except BaseException:
        lib.queue_close(queue)
        raise
    _queue = queue.value
    return _queue


def _run(reader: Reader, fd: int) -> None:
    wait = poller(fd)
    known: Dict[int, Looks] = {}
    next_look = time.monotonic()
    while True:
        due = lines.next_due()
        until = next_look if due is None else min(next_look, due)
        wait(max(0.0, until - time.monotonic()) * 1000)
        # Whatever goes wrong in one round, as in a filter of the application's: the next may do.
        with suppress(Exception):
            _read(reader)
        with suppress(Exception):
            lines.flush()
        now = time.monotonic()
        if now >= next_look:
            next_look = now + _LOOK
            with suppress(Exception):
                _look(known, now)


def _read(reader: Reader) -> None:
    try:
        records, blob, _ = reader.read()
    except Lost:  # no memory to copy them: later ones may be smaller
        return
    for record in records:
        notice, data_end, headers_end, id_end, text_end = (record[i] for i in (8, 10, 11, 13, 14))
        log(notice, blob[data_end:headers_end], blob[id_end:text_end], record[0])


def _look(known: "Dict[int, Looks]", now: float) -> None:
    """Looks at each pool that is open."""
    with lines.importing:
        from .looks import Looks

    if not lines.is_enabled(WARNING):
        leaks.forget_all()
        return
    in_flight: Set[int] = set()
    for handle, ref in list(_pools.items()):
        pool = ref()
        if pool is not None:
            try:
                in_flight |= known.setdefault(handle, Looks()).look(pool, now)
                continue
            except TransportError:  # it is closed
                pass
            except Exception:  # as MemoryError: the next look may do
                continue
        known.pop(handle, None)
        if _pools.get(handle) is ref:
            _pools.pop(handle, None)
    leaks.forget_ended(in_flight, now)


def log(notice: int, fields: bytes, message: bytes, pool: int = 0) -> None:
    """Logs a notice.

    Args:
        pool: its handle, for what has no origin of its own.
    """
    level = _LEVELS.get(notice, INFO)
    if not lines.is_enabled(level):
        return
    values: Dict[str, str] = {}
    for line in fields.decode("utf-8", "replace").split("\r\n"):
        name, separator, value = line.partition(": ")
        if separator:
            values[name] = value
    text = message.rstrip(b"\0").decode("utf-8", "replace")
    known = values.get("request-id")
    if known:  # the one thing here that a server words
        values["request-id"] = secrets.text(known)
        text = text.replace(known, values["request-id"])
    lines.say(_kind(notice, values, pool), Line(level, text, values))


def _kind(notice: int, fields: Dict[str, Any], pool: int) -> Tuple[Hashable, ...]:
    """What there is one line of."""
    return notice, fields.get("origin") or fields.get("budget") or pool


def _forget() -> None:
    # In a forked child the thread does not run and the queue is the parent's.
    global watching, _lock, _queue
    watching = object()
    _lock = threading.Lock()
    _queue = None
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
