"""Lanes: what one blocking call or stream needs, made once and lent from call to call.

A lane has a queue, a request struct that is patched rather than filled anew, and a buffer for what
comes back. It never blocks inside the library: it submits, waits on the queue's descriptor with
Python's own poll and then reads without waiting, so that Ctrl-C takes effect at once and gevent can
switch. While its call is the only one of the pool the library does its work in these two calls, on
this thread.
"""

import ctypes
import os
import select
import time
from collections import deque
from typing import Any, Deque, Optional, Tuple

from .._http.content import pieces
from .._http.models import Request
from . import abi
from .call import (
    ERROR_BYTES,
    ERROR_WAIT,
    SSE_FLAGS,
    STREAM_FLAGS,
    Call,
    RequestStruct,
    failure,
    write,
)
from .failures import check, submit_refused
from .library import lib
from .record import Answer, Reader, Sink, Sinks, answer_of, dispatch

# Lanes kept for reuse: a burst of more threads than this makes and drops some.
_KEPT = 64
# Records and bytes that a lane takes at once: two of the largest DATA events.
_RECORDS = 64
_BYTES = 160 << 10
# How long the DONE of a cancelled request is awaited, in seconds: it comes in microseconds.
_CANCEL_WAIT = 0.2


class Lane:
    __slots__ = (
        "queue", "_poll_factory", "_poller", "_struct", "_cell", "_reader", "_sinks",
    )  # fmt: skip

    def __init__(self) -> None:
        self.queue: Optional[int] = None  # __del__ may see a lane that was not finished
        options = abi.QueueOptions()
        options.size = ctypes.sizeof(options)
        options.flags = abi.QUEUE_DRIVE
        queue = ctypes.c_void_p()
        check(lib.queue_open(ctypes.byref(options), ctypes.byref(queue)))
        self.queue = queue.value
        self._struct = RequestStruct()
        # The library writes the id here before anything can be read: an exception that comes
        # between submit() and its assignment cannot lose it.
        self._cell = ctypes.c_uint64()
        self._reader = Reader(self.queue, _RECORDS, _BYTES)
        self._sinks: Sinks = {}
        self._make_poller()

    def _make_poller(self) -> None:
        # Looked up when it is needed, since gevent may have replaced it meanwhile.
        self._poll_factory: Any = select.poll
        self._poller = self._poll_factory()
        fd = lib.queue_fd(self.queue)
        check(fd)
        self._poller.register(fd, select.POLLIN)

    def close(self) -> None:
        """Cancels what the lane has in flight and drops it."""
        queue, self.queue = self.queue, None
        if queue is not None:
            lib.queue_close(queue)

    def __del__(self, queue_close: Any = lib.queue_close) -> None:
        if self.queue is not None:  # not through close(): at exit the module is empty by now
            queue_close(self.queue)

    # ---- plain calls

    def run(self, call: Call) -> Answer:
        """Submits the request and waits for its end.

        RequestEnded carries the error of a request that is over. After any other exception the
        lane may have something in flight and is not to be used again.
        """
        status = self._struct.submit(call, call.flags, 0, self.queue, self._cell)
        if status:
            self._refused(status, call.request)
        if self._poll_factory is not select.poll:
            self._make_poller()
        wait = self._poller.poll
        read = self._reader.read
        while True:
            wait()
            records, blob, _ = read()  # nothing, if the descriptor was readable for the library
            for record in records:
                answer = answer_of(record, blob)
                if answer.status:
                    raise RequestEnded(failure(answer, call.request))
                return answer

    def _refused(self, status: int, request: Request) -> None:
        error = submit_refused(status, request)
        if status in (abi.E_CLOSED, abi.E_FORKED):  # it may be the queue that is meant
            raise error
        raise RequestEnded(error)

    # ---- streams and uploads

    def start(self, call: Call, flags: int) -> Sink:
        """Submits the request and sends its body; what comes back goes to the sink."""
        sink = Sink(call.pool, 1)
        self._sinks = {1: sink}
        if self._poll_factory is not select.poll:
            self._make_poller()
        status = self._struct.submit(call, call.flags | flags, 1, self.queue, sink.cell)
        if status:
            self._refused(status, call.request)
        if call.upload is not None:
            self._upload(call, sink)
        return sink

    def _upload(self, call: Call, sink: Sink) -> None:
        for piece in pieces(call.upload):
            if not self._write(piece, False, call, sink):
                return
        self._write(b"", True, call, sink)

    def _write(self, piece: Any, last: bool, call: Call, sink: Sink) -> bool:
        while sink.done is None:
            sink.writable = False
            taken = write(sink, piece, last, call.request)
            if taken:
                return taken > 0
            while not sink.writable and sink.done is None:
                self.wait()
        return False

    def read(self) -> None:
        """Takes what is there."""
        records, blob, _ = self._reader.read()
        dispatch(records, blob, self._sinks)

    def wait(self) -> None:
        """Waits until something is there and takes it."""
        self._poller.poll()
        self.read()

    def wait_head(self, sink: Sink, request: Request) -> None:
        while sink.head is None:
            if sink.done is not None:
                raise RequestEnded(failure(sink.done, request))
            self.wait()

    def wait_done(self, sink: Sink, seconds: float) -> bool:
        """Whether the request ended in this time."""
        deadline = time.monotonic() + seconds
        while sink.done is None:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poller.poll(left * 1000):
                return False
            self.read()
            sink.items = []
        return True

    def wait_error(self, sink: Sink) -> None:
        """Has the body of an error there for raise_for_status() to quote, where it comes soon."""
        deadline = time.monotonic() + ERROR_WAIT
        while sink.done is None and sink.credit < ERROR_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poller.poll(left * 1000):
                return
            self.read()

    def end(self, sink: Sink) -> None:
        """Cancels the request, if it is not over, and gives the lane back."""
        if sink.done is None and self.queue is not None:
            try:
                lib.cancel(sink.pool, sink.cell.value)
                sink.items = []
                self.wait_done(sink, _CANCEL_WAIT)
            except BaseException:
                self.close()
                raise
        give_back(self, sink.done is not None)


class RequestEnded(Exception):
    """Carries the error of a request whose DONE was read: its lane is clean."""

    def __init__(self, error: Exception) -> None:
        self.error = error


_free: Deque[Lane] = deque()


def _forget_lanes() -> None:
    # In a forked child the queues are the parent's; closing them there does nothing.
    _free.clear()


os.register_at_fork(after_in_child=_forget_lanes)


def _borrow() -> Lane:
    try:
        return _free.pop()
    except IndexError:
        return Lane()


def give_back(lane: Lane, clean: bool) -> None:
    """Keeps a lane that has nothing in flight, drops another."""
    if clean and len(_free) < _KEPT:
        _free.append(lane)
    else:
        lane.close()


def run(call: Call) -> Answer:
    """One blocking call; whatever interrupts it ends the request in the library too."""
    lane = _borrow()
    clean = False
    try:
        if call.upload is None:
            answer = lane.run(call)
        else:
            sink = lane.start(call, 0)
            while sink.done is None:
                lane.wait()
            answer = sink.done
        clean = True
        return answer
    except RequestEnded as ended:
        clean = True
        raise ended.error from None
    finally:
        give_back(lane, clean)


def start(call: Call, sse: bool) -> Tuple[Lane, Sink]:
    """Submits a streamed request and waits for its head; the lane is lent until its end."""
    lane = _borrow()
    try:
        sink = lane.start(call, SSE_FLAGS if sse else STREAM_FLAGS)
        lane.wait_head(sink, call.request)
        if sink.head is not None and sink.head.http_status >= 400:
            lane.wait_error(sink)
        return lane, sink
    except RequestEnded as ended:
        give_back(lane, True)
        raise ended.error from None
    except BaseException:
        lane.close()
        raise
