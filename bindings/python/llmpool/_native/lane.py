"""Lanes: what one blocking call or stream needs, made once and lent from call to call.

A lane has a queue, a request struct that is patched rather than filled anew, and a buffer for what
comes back. It never blocks inside the library: it submits, waits on the queue's descriptor with
Python's own poll and then reads without waiting, so that Ctrl-C takes effect at once and gevent can
switch. While its call is the only one of the pool the library does its work in these two calls, on
this thread.
"""

import ctypes
import os
import time
import weakref
from collections import deque
from typing import Any, Deque, Dict, Generator, Iterator, NoReturn, Optional, Set

from .._http.answer import Answer
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
from .record import Lost, Reader, Waiting, answer_of
from .waiting import poll_factory, poller

# Lanes kept for reuse: a burst of more threads than this makes and drops some.
_KEPT = 64
# Records and bytes that a lane takes at once: two of the largest DATA events.
_RECORDS = 64
_BYTES = 160 << 10
# How long the DONE of a cancelled request is awaited, in seconds: it comes in microseconds.
_CANCEL_WAIT = 0.2
# Behind the last piece of an upload.
_END = object()

# The queues of the lanes that are open, each under the weak reference that closes it when its lane
# is dropped. A finaliser would not do: the collector calls those of a cycle in any order, and the
# one of a stream gives the lane back, so that it is lent again, before the lane's own closes it.
# The callbacks of weak references come before all finalisers.
_queues: Dict["weakref.ref[Lane]", int] = {}


def _dropped(
    lane: "weakref.ref[Lane]", pop: Any = _queues.pop, queue_close: Any = lib.queue_close
) -> None:
    queue = pop(lane, None)  # for one caller alone
    if queue is not None:
        queue_close(queue)


class Upload:
    """A body that is sent piece by piece while the answer may begin already (RFC 9112 9.5)."""

    __slots__ = ("_call", "_pieces", "_piece", "_is_over")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pieces: Iterator[Any] = pieces(call.upload)
        self._piece: Any = None
        self._is_over = False

    def advance(self) -> bool:
        """Hands a piece over; False where there is none left, no room or no taker."""
        if self._is_over or self._call.done is not None:
            return False
        piece, self._is_over = self._piece, True  # an exception ends it
        if piece is None:
            piece = next(self._pieces, _END)
        last = piece is _END
        taken = write(self._call, b"" if last else piece, last)
        if taken < 0:
            return False
        self._piece = None if taken else piece
        self._is_over = last and taken > 0
        return taken > 0

    def close(self) -> None:
        """Ends a generator that may stand in the middle."""
        self._is_over = True
        for source in (self._pieces, self._call.upload):
            if isinstance(source, Generator):
                source.close()


class Lane:
    __slots__ = (
        "queue", "_key", "_poll_factory", "_poll", "_struct", "_reader", "_waiting",
        "_upload", "__weakref__",
    )  # fmt: skip

    def __init__(self) -> None:
        options = abi.QueueOptions()
        options.size = ctypes.sizeof(options)
        options.flags = abi.QUEUE_DRIVE
        queue = ctypes.c_void_p()
        check(lib.queue_open(ctypes.byref(options), ctypes.byref(queue)))
        assert queue.value
        self.queue: int = queue.value
        self._key = weakref.ref(self, _dropped)
        _queues[self._key] = self.queue
        self._struct = RequestStruct()
        self._reader = Reader(self.queue, _RECORDS, _BYTES)
        self._waiting: Waiting = {}
        self._upload: Optional[Upload] = None
        self._make_poller()

    def _make_poller(self) -> None:
        # Asked for when it is needed, since gevent and the like may have replaced it meanwhile.
        self._poll_factory = poll_factory()
        fd = lib.queue_fd(self.queue)
        check(fd)
        self._poll = poller(fd)

    @property
    def is_open(self) -> bool:
        return self._key in _queues

    def close(self, dropped: Any = _dropped) -> None:
        """Cancels what the lane has in flight and drops it; twice, or on two threads, does
        nothing."""
        dropped(self._key)

    # ---- plain calls

    def run(self, call: Call) -> None:
        """Submits the request and waits for its end.

        RequestEnded carries the error of a request that was refused. After any other exception the
        lane may have something in flight and is not to be used again.
        """
        status = self._struct.submit(call, call.flags, self.queue)
        if status:
            self._refused(status, call)
        if self._poll_factory is not poll_factory():
            self._make_poller()
        wait = self._poll
        read = self._reader.read
        while True:
            wait()
            try:
                records, blob, _ = read()  # none, if the descriptor was readable for the library
            except Lost as lost:
                raise lost.error from None
            for record in records:
                call.done = answer_of(record, blob)
                if call.trace is not None:
                    call.trace.done(call.done, None, call.id)
                return

    def _refused(self, status: int, call: Call) -> None:
        self._waiting = {}
        error = submit_refused(status, call.request, call.redirected_by)
        if call.trace is not None:
            call.trace.failed(error)
        if status in (abi.E_CLOSED, abi.E_FORKED):  # it may be the queue that is meant
            raise error
        raise RequestEnded(error)

    # ---- streams and uploads

    def start(self, call: Call, flags: int) -> None:
        """Submits the request and sends its body; what comes back goes to the call."""
        call.key = 1
        call.items = []
        self._waiting = {1: call}
        self._upload = None if call.upload is None else Upload(call)
        if self._poll_factory is not poll_factory():
            self._make_poller()
        status = self._struct.submit(call, call.flags | flags, self.queue)
        if status:
            self._refused(status, call)

    def send(self, call: Call) -> None:
        """As run(), of a call whose body is sent piece by piece."""
        self.start(call, 0)
        try:
            while call.done is None:
                self.wait()
        finally:
            self.end_upload()
        if call.done.error is not None:  # its DONE may still come
            raise call.done.error

    def read(self) -> None:
        """Takes what is there."""
        self._reader.deliver(self._waiting)

    def wait(self) -> None:
        """Waits until something is there and takes it. While the library takes more of an upload
        the next piece of it comes first, so that the answer may begin before its end."""
        upload = self._upload
        if upload is None or not upload.advance():
            self._poll()
        self.read()

    def wait_head(self, call: Call) -> None:
        while call.head is None:
            if call.done is not None:
                _end(call.done, call.request)
            self.wait()

    def wait_done(self, call: Call, seconds: float) -> bool:
        """Whether the request ended in this time."""
        deadline = time.monotonic() + seconds
        while call.done is None:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll(left * 1000):
                return False
            self.read()
            call.items = []
        return True

    def wait_error(self, call: Call) -> None:
        """Has the body of an error there for raise_for_status() to quote, where it comes soon."""
        deadline = time.monotonic() + ERROR_WAIT
        while call.done is None and call.credit < ERROR_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll(left * 1000):
                return
            self.read()

    def end(self, call: Call) -> None:
        """Cancels the request, if it is not over, and gives the lane back."""
        try:
            self.end_upload()
            if call.done is None and self.is_open:
                lib.cancel(call.pool, call.id)
                call.items = []
                if not self.wait_done(call, _CANCEL_WAIT) and call.trace is not None:
                    call.trace.left()
        except BaseException:
            self.close()
            raise
        give_back(self, call.done is not None and call.done.error is None)

    def end_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()


class RequestEnded(Exception):
    """Carries the error of a request whose DONE was read: its lane is clean."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _end(answer: Answer, request: Request) -> NoReturn:
    """Raises what a request ended with."""
    error = failure(answer, request)
    if answer.error is not None:  # its DONE may still come
        raise error
    raise RequestEnded(error)


_free: Deque[Lane] = deque()  # open ones, all of them


def _forget_lanes() -> None:
    # In a forked child the queues are the parent's: no lane of its is open there.
    _queues.clear()
    _free.clear()


os.register_at_fork(after_in_child=_forget_lanes)


def _borrow() -> Lane:
    try:
        return _free.pop()
    except IndexError:
        return Lane()


def give_back(lane: Lane, clean: bool) -> None:
    """Keeps an open lane that has nothing in flight, drops another."""
    if clean and len(_free) < _KEPT and lane.is_open:
        _free.append(lane)
    else:
        lane.close()


def run(call: Call) -> None:
    """Has the DONE of a request that is not streamed; whatever interrupts this ends the request in
    the library too."""
    lane = _borrow()
    clean = False
    try:
        if call.upload is None:
            lane.run(call)
        else:
            lane.send(call)
        clean = True
        call.settle_whole()
    except RequestEnded as ended:
        clean = True
        raise ended.error from None
    except BaseException as error:
        if call.trace is not None:
            call.trace.left(error)
        raise
    finally:
        give_back(lane, clean)


def start(call: Call, sse: bool, explain: bool = True, group: Optional[Set[Call]] = None) -> Lane:
    """Submits a streamed request and waits for its head; the lane is lent until its end.

    Args:
        explain: of an error's body the beginning is awaited, too.
        group: has the call from here on.
    """
    lane = _borrow()
    try:
        lane.start(call, SSE_FLAGS if sse else STREAM_FLAGS)
        if group is not None:
            group.add(call)
        lane.wait_head(call)
        if explain and call.head is not None and call.head.http_status >= 400:
            lane.wait_error(call)
        if call.trace is not None and call.head is not None:
            call.trace.opened(call.head, call.done, call.id)
        return lane
    except BaseException as error:
        if group is not None:
            group.discard(call)
        if call.trace is not None:
            call.trace.left(error)
        try:
            lane.end_upload()
        finally:
            give_back(lane, isinstance(error, RequestEnded))
        if isinstance(error, RequestEnded):
            raise error.error from None
        raise
