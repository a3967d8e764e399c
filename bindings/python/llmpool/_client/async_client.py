"""The asyncio client.

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
from collections import deque
from time import monotonic
from types import TracebackType
from typing import (
    Any,
    AsyncGenerator,
    AsyncIterator,
    Deque,
    Dict,
    List,
    Mapping,
    Optional,
    Tuple,
    Type,
)

from .._http.config import UNSET, TimeoutTypes
from .._http.content import Content, FilesTypes, async_pieces
from .._http.exceptions import RequestError
from .._http.headers import HeaderTypes
from .._http.models import Response
from .._http.sse import Event
from .._http.urls import ParamTypes
from .._native import abi
from .._native.call import SSE_FLAGS, STREAM_FLAGS, Call, RequestStruct, failure, write
from .._native.failures import check, submit_refused
from .._native.library import lib
from .._native.record import Answer, Reader, Sink, Sinks, dispatch
from .._pool import monitor
from .base import BaseClient, make_response
from .stream import LINGER, BaseStream, Bytes, Converter, Events, Item, Lines, Raw, Text

# At most one wake of the loop in this time, while several requests are in flight: an epoll wake
# costs as much as ten events. Where only tokens have come it may be later: 5,000 of them a second
# take a third less CPU than with 1 ms for everything.
_COALESCE_US = 2000
_STREAM_COALESCE_US = 5000
_RECORDS = 256
_BYTES = 512 << 10
# How often one wake reads before the loop's other work has its turn.
_READS = 4
# What the tasks that one read wakes submit is handed over together, but none waits longer, in
# seconds: one by one each would wake the library's thread, which is as fast as they are.
_HOLD = 0.001


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
        "loop", "_queue", "_fd", "_reader", "_struct", "_sinks", "_last_key", "_held",
        "_hold_until", "_sentinel", "__weakref__",
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
        self._fd: int = lib.queue_fd(self._queue)
        check(self._fd)
        self._reader = Reader(self._queue, _RECORDS, _BYTES)
        self._struct = RequestStruct()
        self._sinks: Sinks = {}
        self._last_key = 0
        self._held: Deque[Tuple[Call, int, Sink]] = deque()
        self._hold_until = 0.0  # 0: a request is handed over at once
        loop.add_reader(self._fd, _Watch(self))
        # asyncio.run() and shutdown_asyncgens() close it while the loop still runs.
        self._sentinel = _sentinel(weakref.ref(self))
        with contextlib.suppress(StopIteration):
            self._sentinel.asend(None).send(None)

    @property
    def is_open(self) -> bool:
        return self._queue is not None

    def read(self) -> None:
        for _ in range(_READS):
            if self._queue is None:
                return
            records, blob, more = self._reader.read()
            dispatch(records, blob, self._sinks)
            if not more:
                break
        if not self._hold_until:
            self._hold_until = monotonic() + _HOLD
            self.loop.call_soon(self._release)  # after the tasks that were woken

    def submit(self, call: Call, flags: int) -> Sink:
        """Where it is held back, a refusal comes from arrival()."""
        self._last_key = key = self._last_key + 1
        sink = Sink(call.pool, key)
        self._sinks[key] = sink
        if self._hold_until and call.upload is None and monotonic() < self._hold_until:
            self._held.append((call, flags, sink))
            return sink
        self._hand_over_held()
        error = self._hand_over(call, flags, sink)
        if error is not None:
            raise error
        return sink

    def _release(self) -> None:
        self._hold_until = 0.0
        self._hand_over_held()

    def _hand_over_held(self) -> None:
        held = self._held
        try:
            while held:
                call, flags, sink = held[0]
                if self._sinks.get(sink.key) is None:  # abandoned
                    self._sinks.pop(sink.key, None)
                elif not sink.cell.value:  # else Ctrl-C came right after it was submitted
                    error = self._hand_over(call, flags, sink)
                    waiter = sink.waiter
                    if error is not None and waiter is not None and not waiter.done():
                        waiter.set_exception(error)
                held.popleft()
        finally:
            if held:  # Ctrl-C
                self.loop.call_soon(self._hand_over_held)

    def _hand_over(self, call: Call, flags: int, sink: Sink) -> Optional[Exception]:
        key = sink.key
        status = self._struct.submit(call, call.flags | flags, key, self._queue, sink.cell)
        if status:
            del self._sinks[key]
            return submit_refused(status, call.request)
        if self._sinks[key] is None:  # abandoned on another thread, which had no id yet
            lib.cancel(sink.pool, sink.cell.value)
        return None

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
        if sink.done is not None:
            sinks.pop(sink.key, None)
        elif self._queue is not None:
            lib.cancel(sink.pool, sink.cell.value)

    def close(self) -> None:
        """On the loop's thread, while the loop is open: whoever still waits is told."""
        if self._queue is None:
            return
        self.loop.remove_reader(self._fd)
        self.end()
        self._held.clear()
        for sink in list(self._sinks.values()):
            if sink is not None:
                sink.done = Answer(
                    0, 0, 0, 0, b"", b"", b"", b"", 0, b"", abi.E_CLOSED,
                    b"the event loop is being closed",
                )  # fmt: skip
                waiter, sink.waiter = sink.waiter, None
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
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


def _hub() -> Hub:
    """The hub of the running loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no running event loop: AsyncClient works in asyncio's and uvloop's, not in trio's"
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


async def _run(call: Call, flags: int = 0) -> Answer:
    """The DONE of a request that is not streamed."""
    hub = _hub()
    sink = hub.submit(call, flags)
    try:
        if call.upload is not None:
            await _upload(hub, call, sink)
        while sink.done is None:
            await hub.arrival(sink)
    except BaseException:
        hub.abandon(sink)
        raise
    return sink.done


async def _upload(hub: Hub, call: Call, sink: Sink) -> None:
    source = async_pieces(call.upload)
    try:
        async for piece in source:
            if not await _write(hub, call, sink, piece, False):
                return
    finally:
        await source.aclose()  # type: ignore[attr-defined]
    await _write(hub, call, sink, b"", True)


async def _write(hub: Hub, call: Call, sink: Sink, piece: Any, last: bool) -> bool:
    while sink.done is None:
        sink.writable = False
        taken = write(sink, piece, last, call.request)
        if taken:
            return taken > 0
        while not sink.writable and sink.done is None:
            await hub.arrival(sink)
    return False


async def _start(call: Call, sse: bool, place: str) -> "AsyncStreamResponse":
    hub = _hub()
    sink = hub.submit(call, SSE_FLAGS if sse else STREAM_FLAGS)
    try:
        if call.upload is not None:
            await _upload(hub, call, sink)
        while sink.head is None:
            if sink.done is not None:
                raise failure(sink.done, call.request)
            await hub.arrival(sink)
        return AsyncStreamResponse(call, hub, sink, place=place)
    except BaseException:
        hub.abandon(sink)
        raise


class AsyncStreamResponse(BaseStream):
    """An answer whose body is read as it comes: see AsyncClient.stream().

    Status and headers are there at once; attempts, timings and the like are complete after the
    end. The body can be iterated once, in the event loop that made the request.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports

    __slots__ = ("_hub",)

    def __init__(self, call: Call, hub: Hub, sink: Sink, *, place: str = "") -> None:
        super().__init__(call, sink, place)
        self._hub: Optional[Hub] = hub

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body as it was sent, before gzip and deflate are undone."""
        return self._iterate(Raw())

    def aiter_bytes(self, chunk_size: Optional[int] = None) -> AsyncIterator[bytes]:
        """The body, gzip and deflate undone; as it comes, or in chunks of chunk_size bytes."""
        return self._iterate(Bytes(self._coding(), chunk_size))

    def aiter_text(self, chunk_size: Optional[int] = None) -> AsyncIterator[str]:
        """The body as text; as it comes, or in chunks of chunk_size characters."""
        return self._iterate(Text(self._coding(), self.encoding, chunk_size))

    def aiter_lines(self) -> AsyncIterator[str]:
        """The body line by line, without the line ends, which are LF, CRLF and CR."""
        return self._iterate(Lines(self._coding(), self.encoding))

    def aiter_sse(self, stop: Optional[str] = None) -> AsyncIterator[Event]:
        """The server-sent events of the body.

        Args:
            stop: ends the iteration at the event with this data, as "[DONE]", which is not given.

        Raises, as every iteration does: TransportError and its subclasses, where the answer ends
            before it is complete.
        """
        return self._iterate(Events(self._coding(), stop))

    async def aread(self) -> bytes:
        """The whole body; afterwards content, text and json() have it.

        Raises:
            ResponseTooLarge: it is larger than max_response_bytes.
        """
        if self._content is None:
            parts: List[bytes] = []
            size = 0
            async for part in self.aiter_bytes():
                parts.append(part)
                size += len(part)
                self._collect(parts, size)
            self._content = b"".join(parts)
        return self._content

    async def aclose(self) -> None:
        """Gives the answer up where it is not at its end: the request is cancelled. Twice does
        nothing."""
        self._closed = True
        hub, self._hub = self._hub, None
        if hub is not None:
            sink = self._sink
            waiter, sink.waiter = sink.waiter, None
            if waiter is not None and not waiter.done() and not hub.loop.is_closed():
                waiter.set_result(None)  # another task reads: it gets StreamClosed
            if sink.done is None:
                hub.abandon(sink)
            elif not sink.done.status:
                self._times = sink.done.timings

    async def _iterate(self, converter: Converter[Item]) -> AsyncGenerator[Item, None]:
        self._begin()
        sink, create = self._sink, asyncio.get_running_loop().create_future
        try:
            while True:
                batch = self._take()
                if batch is None:
                    break
                if not batch:
                    sink.waiter = waiter = create()
                    await waiter
                    continue
                for item in converter.batch(batch):
                    yield item
                if converter.stopped:
                    await self._linger()
                    return
            for item in converter.end():
                yield item
        except RequestError as error:
            error.request = self.request
            raise

    async def _linger(self) -> None:
        sink = self._sink
        if sink.done is None and self._hub is not None:
            loop = self._hub.loop
            deadline = loop.time() + LINGER
            while sink.done is None and loop.time() < deadline:
                sink.items = []
                sink.waiter = waiter = loop.create_future()
                timer = loop.call_at(deadline, _resolve, waiter)
                try:
                    await waiter
                finally:
                    timer.cancel()
        if sink.done is not None:
            sink.items = []
            self._times = sink.done.timings
            self._hub = None

    def _ended(self) -> None:
        self._hub = None

    async def __aenter__(self) -> "AsyncStreamResponse":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        await self.aclose()

    def __del__(self, leaked: Any = monitor.leaked) -> None:
        hub = getattr(self, "_hub", None)
        if hub is None or self._sink.done is not None:
            return
        self._hub = None
        hub.abandon(self._sink)
        leaked(repr(self), self._place)


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class AsyncClient(BaseClient):
    """Client for asyncio, with the same arguments.

    Works on asyncio and uvloop, also through anyio on them; not on trio. One client may be used
    by several event loops in several threads, and they use the same connections.

        async with llmpool.AsyncClient(base_url="https://api.openai.com/v1") as client:
            answer = await client.post("/chat/completions", json={...})

    A task that is cancelled cancels its request: the server sees it at once.

    Args, Raises: those of Client.
    """

    __module__ = "llmpool"

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
    ) -> Response:
        """Sends a request and waits for its complete answer.

        The arguments and errors are those of Client.request(); content may also be an async
        iterator of bytes. Plain files and iterators are read on the loop's thread.
        """
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority
        )
        response = make_response(call, await _run(call))
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        if follow and 300 <= response.status_code < 400:
            history: List[Response] = []
            while response.has_redirect_location:
                call = self._redirected(response, call, history)
                response = make_response(call, await _run(call))
            response.history = history
        return response

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
        sse: bool = True,
    ) -> "AsyncStream":
        """Sends a request when its async with block begins, and gives the answer as it comes.

            async with client.stream("POST", "/chat/completions", json={...}) as r:
                r.raise_for_status()
                async for event in r.aiter_sse(stop="[DONE]"):
                    print(event.json()["choices"][0]["delta"].get("content", ""), end="")

        The arguments and errors are those of Client.stream(). Leaving the block early, and the
        cancellation of its task, cancel the request.
        """
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority
        )
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        return AsyncStream(self, call, sse, follow)

    async def _open(self, call: Call, sse: bool, follow: bool, place: str) -> AsyncStreamResponse:
        response = await _start(call, sse, place)
        history: List[Response] = []
        while follow and response.has_redirect_location:
            try:
                await response.aread()
            finally:
                await response.aclose()
            call = self._redirected(response, call, history)
            response = await _start(call, sse, place)
        response.history = history
        return response

    async def get(self, url: str, **arguments: Any) -> Response:
        """GET; the arguments are those of request()."""
        return await self.request("GET", url, **arguments)

    async def post(self, url: str, **arguments: Any) -> Response:
        """POST; the arguments are those of request()."""
        return await self.request("POST", url, **arguments)

    async def put(self, url: str, **arguments: Any) -> Response:
        """PUT; the arguments are those of request()."""
        return await self.request("PUT", url, **arguments)

    async def patch(self, url: str, **arguments: Any) -> Response:
        """PATCH; the arguments are those of request()."""
        return await self.request("PATCH", url, **arguments)

    async def delete(self, url: str, **arguments: Any) -> Response:
        """DELETE; the arguments are those of request()."""
        return await self.request("DELETE", url, **arguments)

    async def head(self, url: str, **arguments: Any) -> Response:
        """HEAD; the arguments are those of request()."""
        return await self.request("HEAD", url, **arguments)

    async def options(self, url: str, **arguments: Any) -> Response:
        """OPTIONS; the arguments are those of request()."""
        return await self.request("OPTIONS", url, **arguments)

    async def aclose(self) -> None:
        """Takes no more requests. The pool stays open, also one of one's own."""
        self._closed = True

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        self._closed = True


class AsyncStream:
    """A request that is sent when its async with block begins: see AsyncClient.stream()."""

    __slots__ = ("_client", "_call", "_sse", "_follow", "_place", "_response")

    def __init__(self, client: AsyncClient, call: Call, sse: bool, follow: bool) -> None:
        self._client = client
        self._call = call
        self._sse = sse
        self._follow = follow
        self._place = monitor.place()
        self._response: Optional[AsyncStreamResponse] = None

    async def __aenter__(self) -> AsyncStreamResponse:
        if self._response is not None:
            raise RuntimeError("a stream is entered once")
        self._response = await self._client._open(self._call, self._sse, self._follow, self._place)
        return self._response

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        if self._response is not None:
            await self._response.aclose()
