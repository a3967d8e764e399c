"""What happens in the pools, to logging.

The logger is "llmpool": a WARNING for each crossing of the utilization warning, where an answer
stops a budget, and where an origin's breaker opens; INFO for a budget that goes on, a breaker that
closes, connections opened and closed, and for a stream whose event timeout does not run, once for
each origin; DEBUG for requests that are tried again, or sent a second time while the first is
silent. One thread waits for the notices of all pools, on a descriptor, with Python's own poll. It
starts with the first client, if the logger is enabled for warnings by then.
"""

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional

from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.record import Lost, Reader
from .._native.waiting import poller

if TYPE_CHECKING:
    from .pool import Pool

# The levels of logging, which is imported when there is something to log.
_DEBUG, _INFO, _WARNING = 10, 20, 30
_LEVELS = {
    abi.NOTICE_UTILIZATION_HIGH: _WARNING,
    abi.NOTICE_UTILIZATION_NORMAL: _INFO,
    abi.NOTICE_CONNECTION_OPENED: _INFO,
    abi.NOTICE_CONNECTION_CLOSED: _INFO,
    abi.NOTICE_RETRY: _DEBUG,
    abi.NOTICE_UNWATCHED_STREAM: _INFO,
    abi.NOTICE_BUDGET_STOPPED: _WARNING,
    abi.NOTICE_BUDGET_RESUMED: _INFO,
    abi.NOTICE_BREAKER_OPENED: _WARNING,
    abi.NOTICE_BREAKER_CLOSED: _INFO,
    abi.NOTICE_HEDGE: _DEBUG,
}
_ALL = sum(_LEVELS)

# What a pool's _watched must be for its notices to arrive: another object after a fork.
watching = object()
_lock = threading.Lock()
_queue: Optional[int] = None


def _is_enabled(level: int) -> bool:
    if "logging" not in sys.modules:  # so nobody has set another level than the root logger's
        return level >= _WARNING
    import logging

    return logging.getLogger("llmpool").isEnabledFor(level)


def watch(pool: "Pool") -> None:
    """Has the pool's notices logged, where the logger wants any; twice does nothing."""
    if pool._watched is watching and pool._is_watched:
        return
    pool._watched = watching
    if not _is_enabled(_WARNING):
        return  # asked again by the next client
    pool._is_watched = True
    with _lock:
        queue = _queue or _start()
    # All kinds: the level of the logger may change later, and none of them is frequent.
    lib.watch(pool._handle, queue, _ALL, 0)


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
    while True:
        wait()
        try:
            records, blob, _ = reader.read()
        except Lost:  # no memory to copy them: later ones may be smaller
            continue
        for record in records:
            notice, data_end, headers_end, id_end, text_end = (
                record[i] for i in (8, 10, 11, 13, 14)
            )
            try:
                log(notice, blob[data_end:headers_end], blob[id_end:text_end])
            except Exception:  # a handler of the application's that raises
                import logging

                logging.getLogger(__name__).debug("a notice was not logged", exc_info=True)


def log(notice: int, fields: bytes, message: bytes) -> None:
    level = _LEVELS.get(notice, _INFO)
    if not _is_enabled(level):
        return
    import logging

    values: Dict[str, Any] = {}
    for line in fields.decode("utf-8", "replace").split("\r\n"):
        name, separator, value = line.partition(": ")
        if separator:
            values[name] = value
    text = message.rstrip(b"\0").decode("utf-8", "replace")
    logger = logging.getLogger("llmpool")
    if not logger.hasHandlers():  # to stderr without a format that would say whose it is
        text = f"llmpool: {text}"
    logger.log(level, "%s", text, extra={"llmpool": values})


def _forget() -> None:
    # In a forked child the thread does not run and the queue is the parent's.
    global watching, _lock, _queue
    watching = object()
    _lock = threading.Lock()
    _queue = None


os.register_at_fork(after_in_child=_forget)
