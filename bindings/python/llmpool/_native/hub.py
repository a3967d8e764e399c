"""Hubs: what the requests of an event loop wait on.

A hub per event loop has one queue, whose descriptor the loop watches, and takes many events in one
call. Nothing of a hub is reachable from outside but through its loop: the loop's handle for the
descriptor holds it, and whoever has a request in flight. So a loop that is closed takes its hub
with it, and the requests in flight are cancelled in the library.
"""

import asyncio
import contextlib
import ctypes
import os
import threading
import weakref
from typing import Any, AsyncGenerator, Dict, Generator, Optional, Set

from .._http.answer import Answer
from .._http.content import async_pieces
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
from .record import Reader, Waiting, fail

# Where only tokens have come there is at most one wake of the loop in this time: a wake costs as
# much as ten events, and 5,000 tokens a second take a third less CPU than with 1 ms. Answers are
# told at once: a loop that is busy finds many together anyway, and one that is not gains nothing
# by waiting.
_STREAM_COALESCE_US = 4000
_RECORDS = 256
_BYTES = 512 << 10
# How often one wake reads before the loop's other work has its turn.
_READS = 4


class _Watch:
    """What the loop calls when the queue has something. Only the loop's handle holds it, so that
    it goes when the loop is closed, and ends the hub."""

    __slots__ = ("_hub",)

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    def __call__(self) -> None:
        self._hub.read()

    def __del__(self) -> None:
        self._hub.end()


class Hub:
    """The queue of an event loop and the requests that wait on it."""

    __slots__ = (
        "loop", "_queue", "_fd", "_reader", "_struct", "_waiting", "_last_key", "_sentinel",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: Optional[int] = None
        options = abi.QueueOptions()
        options.size = ctypes.sizeof(options)
        options.stream_coalesce_us = _STREAM_COALESCE_US
        options.flags = abi.QUEUE_DRIVE
        queue = ctypes.c_void_p()
        check(lib.queue_open(ctypes.byref(options), ctypes.byref(queue)))
        self._queue = queue.value
        try:
            self._fd: int = lib.queue_fd(self._queue)
            check(self._fd)
            self._reader = Reader(self._queue, _RECORDS, _BYTES)
            self._struct = RequestStruct()
            self._waiting: Waiting = {}
            self._last_key = 0
            loop.add_reader(self._fd, _Watch(self))
        except BaseException:
            self.end()
            raise
        # asyncio.run() and shutdown_asyncgens() close it while the loop still runs.
        self._sentinel = _sentinel(weakref.ref(self))
        with contextlib.suppress(StopIteration):
            self._sentinel.asend(None).send(None)

    @property
    def is_open(self) -> bool:
        return self._queue is not None

    def is_here(self) -> bool:
        """Whether its loop is the one that runs on this thread."""
        return asyncio.get_running_loop() is self.loop

    def read(self) -> None:
        try:
            for _ in range(_READS):
                if self._queue is None or not self._reader.deliver(self._waiting):
                    return
        except Exception as error:  # the queue is of no use any more: nobody is to wait for it
            self.close(error)

    def submit(self, call: Call, flags: int) -> None:
        """Hands the request over, and begins to send its body."""
        self._last_key = call.key = self._last_key + 1
        self._waiting[call.key] = call
        try:
            status = self._struct.submit(call, flags, self._queue)
            if status:
                del self._waiting[call.key]
                error = submit_refused(status, call.request, call.redirected_by)
                if call.trace is not None:
                    call.trace.failed(error)
                raise error
            if call.upload is not None:
                call.uploader = self.loop.create_task(_upload(self, call))
        except BaseException:  # Ctrl-C may come when it is submitted
            self.abandon(call)
            raise

    def fail(self, call: Call, error: BaseException) -> None:
        """Ends a request with what went wrong here, if it is not over."""
        if self._waiting.get(call.key) is call:
            fail(self._waiting, call.key, error)

    def arrival(self, call: Call) -> "asyncio.Future[None]":
        """Done when something arrives for the call."""
        call.waiter = waiter = self.loop.create_future()
        return waiter

    def abandon(self, call: Call) -> None:
        """Cancels a request whose end nobody awaits. May be called on any thread."""
        waiting = self._waiting
        if waiting.get(call.key) is not call:  # it is over, or was refused
            return
        waiting[call.key] = None  # until its DONE comes
        call.items = []
        if call.done is not None or not call.id:
            waiting.pop(call.key, None)
        elif self._queue is not None:
            lib.cancel(call.pool, call.id)

    def left(self, call: Call, error: BaseException) -> None:
        """Whoever waited for the end waits no more: abandons the call."""
        self.abandon(call)
        if call.trace is not None:
            call.trace.left(error)

    def close(self, error: Optional[Exception] = None) -> None:
        """On the loop's thread, while the loop is open: whoever still waits is told."""
        if self._queue is None:
            return
        self.loop.remove_reader(self._fd)
        self.end()
        message = b"the event loop is being closed"
        for call in list(self._waiting.values()):
            if call is not None:
                call.end(Answer.of(status=abi.E_CLOSED, message=message, error=error))
        self._waiting.clear()

    def end(self, queue_close: Any = lib.queue_close) -> None:
        """Closes the queue, which cancels what is in flight."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue_close(queue)


async def _sentinel(hub: "weakref.ref[Hub]") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        found = hub()
        if found is not None:
            found.close()


_hubs: Dict[int, "weakref.ref[Hub]"] = {}
_local = threading.local()


def _forget_hubs() -> None:
    # In a forked child the queues are the parent's.
    global _local
    _hubs.clear()
    _local = threading.local()


os.register_at_fork(after_in_child=_forget_hubs)


def current() -> Hub:
    """The hub of the running loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no running event loop: llmpool works in asyncio's and uvloop's, not in trio's"
        ) from None
    last = getattr(_local, "hub", None)
    if last is not None:
        hub: Optional[Hub] = last()
        if hub is not None and hub.loop is loop and hub._queue is not None:
            return hub
    hub = None
    found = _hubs.get(id(loop))
    if found is not None:
        hub = found()
    if hub is None or hub.loop is not loop or not hub.is_open:
        hub = Hub(loop)
        for key in [key for key, value in list(_hubs.items()) if value() is None]:
            _hubs.pop(key, None)
        _hubs[id(loop)] = weakref.ref(hub)
    _local.hub = weakref.ref(hub)
    return hub


async def start(
    call: Call, sse: bool, explain: bool = True, group: Optional[Set[Call]] = None
) -> Hub:
    """Submits a streamed request and waits for its head; its body may be on its way still.

    Args:
        explain: of an error's body the beginning is awaited, too.
        group: has the call from here on.
    """
    hub = current()
    call.items = []
    hub.submit(call, call.flags | (SSE_FLAGS if sse else STREAM_FLAGS))
    try:
        if group is not None:
            group.add(call)
        while call.head is None:
            if call.done is not None:
                raise failure(call.done, call.request)
            await hub.arrival(call)
        if explain and call.head.http_status >= 400:
            await wait_error(hub, call)
        if call.trace is not None:
            call.trace.opened(call.head, call.done, call.id)
        return hub
    except BaseException as error:
        if group is not None:
            group.discard(call)
        hub.left(call, error)
        if call.uploader is not None:
            await end_upload(call)
        raise


async def wait_error(hub: Hub, call: Call) -> None:
    """Has the body of an error there for raise_for_status() to quote, where it comes soon."""
    deadline = hub.loop.time() + ERROR_WAIT
    while call.done is None and call.credit < ERROR_BYTES and hub.loop.time() < deadline:
        await arrival_before(deadline, hub, call)


async def arrival_before(deadline: float, hub: Hub, call: Call) -> None:
    """Waits until something arrives, or for that time of the loop."""
    waiter = hub.arrival(call)
    timer = hub.loop.call_at(deadline, _resolve, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


# ---- uploads: each in a task of its own, so that what the source has not got yet keeps nobody from
# what the server says meanwhile (RFC 9112 9.5)


async def _upload(hub: Hub, call: Call) -> None:
    source = async_pieces(call.upload)
    try:
        try:
            async for piece in source:
                if not await _write(hub, call, piece, False):
                    return
            await _write(hub, call, b"", True)
        finally:
            for generator in (source, call.upload):
                if isinstance(generator, AsyncGenerator):
                    await generator.aclose()
                elif isinstance(generator, Generator):
                    generator.close()
    except BaseException as error:  # whoever waits for the answer gets it, if anybody does
        hub.fail(call, error)


async def _write(hub: Hub, call: Call, piece: Any, last: bool) -> bool:
    while call.done is None:
        taken = write(call, piece, last)
        if taken:
            return taken > 0
        call.room = room = hub.loop.create_future()
        await room
    return False


async def end_upload(call: Call) -> None:
    """Ends an upload that nobody wants any more, and waits until its generator is closed."""
    uploader = call.uploader
    if uploader is not None and uploader is not asyncio.current_task():
        call.uploader = None
        loop = uploader.get_loop()
        if loop is not asyncio.get_running_loop():  # a response that is closed in another one
            if not loop.is_closed():
                loop.call_soon_threadsafe(uploader.cancel)
        elif not uploader.done():
            uploader.cancel()
            await asyncio.wait((uploader,))
