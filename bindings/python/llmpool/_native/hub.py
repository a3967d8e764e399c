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
from typing import Any, AsyncGenerator, Dict, Generator, Optional, Set, Tuple

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
from .record import Answer, Reader, Sink, Sinks, fail

# At most one wake of the loop in this time, while several requests are in flight: an epoll wake
# costs as much as ten events. Where only tokens have come it may be later: 5,000 of them a second
# take a third less CPU than with 1 ms for everything.
_COALESCE_US = 2000
_STREAM_COALESCE_US = 5000
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
        "loop", "_queue", "_fd", "_reader", "_struct", "_sinks", "_last_key", "_sentinel",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: Optional[int] = None
        options = abi.QueueOptions()
        options.size = ctypes.sizeof(options)
        options.coalesce_us = _COALESCE_US
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
            self._sinks: Sinks = {}
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
                if self._queue is None or not self._reader.deliver(self._sinks):
                    return
        except Exception as error:  # the queue is of no use any more: nobody is to wait for it
            self.close(error)

    def submit(self, call: Call, flags: int) -> Sink:
        """Hands the request over, and begins to send its body."""
        self._last_key = key = self._last_key + 1
        sink = Sink(call.pool, key)
        self._sinks[key] = sink
        try:
            status = self._struct.submit(call, call.flags | flags, key, self._queue, sink.cell)
            if status:
                del self._sinks[key]
                error = submit_refused(status, call.request, call.redirected_by)
                if call.trace is not None:
                    call.trace.failed(error)
                raise error
            sink.trace = call.trace
            if call.upload is not None:
                sink.uploader = self.loop.create_task(_upload(self, call, sink))
        except BaseException:  # Ctrl-C may come when it is submitted
            self.abandon(sink)
            raise
        return sink

    def fail(self, sink: Sink, error: BaseException) -> None:
        """Ends a request with what went wrong here, if it is not over."""
        if self._sinks.get(sink.key) is sink:
            fail(self._sinks, sink.key, error)

    def arrival(self, sink: Sink) -> "asyncio.Future[None]":
        """Done when something arrives for the sink."""
        sink.waiter = waiter = self.loop.create_future()
        return waiter

    def abandon(self, sink: Sink) -> None:
        """Cancels a request whose end nobody awaits. May be called on any thread."""
        sinks = self._sinks
        if sinks.get(sink.key) is not sink:  # it is over, or was refused
            return
        sinks[sink.key] = None  # until its DONE comes
        sink.items = []
        if sink.done is not None or not sink.cell.value:
            sinks.pop(sink.key, None)
        elif self._queue is not None:
            lib.cancel(sink.pool, sink.cell.value)

    def close(self, error: Optional[Exception] = None) -> None:
        """On the loop's thread, while the loop is open: whoever still waits is told."""
        if self._queue is None:
            return
        self.loop.remove_reader(self._fd)
        self.end()
        for sink in list(self._sinks.values()):
            if sink is not None:
                sink.end(
                    Answer(
                        0, 0, 0, 0, b"", b"", b"", b"", 0, b"", abi.E_CLOSED,
                        b"the event loop is being closed", error,
                    )
                )  # fmt: skip
        self._sinks.clear()

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


async def run(call: Call) -> Answer:
    """The DONE of a request that is not streamed."""
    hub = current()
    sink = hub.submit(call, 0)
    try:
        while sink.done is None:
            await hub.arrival(sink)
        if not sink.done.status:
            call.settle_whole(sink.cell.value, sink.done)
        return sink.done
    except BaseException as error:
        hub.abandon(sink)
        if call.trace is not None:
            call.trace.left(error)
        raise
    finally:
        if sink.uploader is not None:
            await end_upload(sink)


async def start(
    call: Call, sse: bool, explain: bool = True, group: Optional[Set[Sink]] = None
) -> Tuple[Hub, Sink]:
    """Submits a streamed request and waits for its head; its body may be on its way still.

    Args:
        explain: of an error's body the beginning is awaited, too.
        group: has the sink from here on.
    """
    hub = current()
    sink = hub.submit(call, SSE_FLAGS if sse else STREAM_FLAGS)
    try:
        if group is not None:
            group.add(sink)
        while sink.head is None:
            if sink.done is not None:
                raise failure(sink.done, call.request)
            await hub.arrival(sink)
        if explain and sink.head.http_status >= 400:
            await wait_error(hub, sink)
        if call.trace is not None:
            call.trace.opened(sink.head, sink.done, sink.cell.value)
        return hub, sink
    except BaseException as error:
        if group is not None:
            group.discard(sink)
        hub.abandon(sink)
        if call.trace is not None:
            call.trace.left(error)
        if sink.uploader is not None:
            await end_upload(sink)
        raise


async def wait_error(hub: Hub, sink: Sink) -> None:
    """Has the body of an error there for raise_for_status() to quote, where it comes soon."""
    deadline = hub.loop.time() + ERROR_WAIT
    while sink.done is None and sink.credit < ERROR_BYTES and hub.loop.time() < deadline:
        waiter = hub.arrival(sink)
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


async def _upload(hub: Hub, call: Call, sink: Sink) -> None:
    source = async_pieces(call.upload)
    try:
        try:
            async for piece in source:
                if not await _write(hub, call, sink, piece, False):
                    return
            await _write(hub, call, sink, b"", True)
        finally:
            for generator in (source, call.upload):
                if isinstance(generator, AsyncGenerator):
                    await generator.aclose()
                elif isinstance(generator, Generator):
                    generator.close()
    except BaseException as error:  # whoever waits for the answer gets it, if anybody does
        hub.fail(sink, error)


async def _write(hub: Hub, call: Call, sink: Sink, piece: Any, last: bool) -> bool:
    while sink.done is None:
        taken = write(sink, piece, last, call)
        if taken:
            return taken > 0
        sink.room = room = hub.loop.create_future()
        await room
    return False


async def end_upload(sink: Sink) -> None:
    """Ends an upload that nobody wants any more, and waits until its generator is closed."""
    uploader = sink.uploader
    if uploader is not None and uploader is not asyncio.current_task():
        sink.uploader = None
        loop = uploader.get_loop()
        if loop is not asyncio.get_running_loop():  # a response that is closed in another one
            if not loop.is_closed():
                loop.call_soon_threadsafe(uploader.cancel)
        elif not uploader.done():
            uploader.cancel()
            await asyncio.wait((uploader,))
