"""Responses of the asyncio client whose body is read as it comes."""

import contextlib
import sys
from types import TracebackType
from typing import Any, AsyncGenerator, AsyncIterator, List, Optional, Type

from .._http.exceptions import RequestError
from .._http.sse import Event
from .._native.call import Call
from .._native.hub import Hub, arrival_before, end_upload, wait_error
from .._pool import leaks
from .converters import Bytes, Converter, Events, Item, Lines, Raw, Text
from .hub_incoming import HubIncoming
from .stream import LINGER, BaseStream


class AsyncStreamResponse(HubIncoming, BaseStream):
    """An answer whose body is read as it comes: see AsyncClient.stream().

    Status and headers are there at once; attempts, timings and the like are complete after the
    end. The body can be iterated once, in the event loop that made the request: in another there is
    a RuntimeError. It may be closed in any.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports

    __slots__ = ("_hub",)

    def __init__(self, call: Call, hub: Hub, *, place: str = "") -> None:
        super().__init__(call, place)
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
            before it is complete. Where it is no event stream, which is a 200 of this type:
            HTTPStatusError: its status is not 2xx.
            NotEventStream: it is something else; the message says what.
        """
        if self._is_event_stream:
            return self._iterate(Events(self._coding(), stop))
        return self._no_events()

    async def _no_events(self) -> AsyncIterator[Event]:
        self._check_begin()
        if self._hub is not None:
            await wait_error(self._hub, self._call)
        if self._call.done is not None:
            with contextlib.suppress(RequestError):
                await self.aread()  # so that the error's response has it
        self._refuse_events()
        yield  # a generator, so that it raises where an iteration does

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
        self._settle()
        call = self._call
        if self._hub is not None and call.done is not None and not call.done.status:
            self._conclude(call.done)
        self._leave()
        if call.uploader is not None:
            await end_upload(call)

    async def _iterate(self, converter: Converter[Item]) -> AsyncGenerator[Item, None]:
        self._check_loop()
        self._begin()
        try:
            while True:
                batch = self._take()
                if batch is None:
                    break
                if not batch:
                    await self._arrival()
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
            error.request_id = self.request_id
            raise

    async def _linger(self) -> None:
        call = self._call
        hub = self._hub
        if call.done is None and hub is not None:
            deadline = hub.loop.time() + LINGER
            while call.done is None and hub.loop.time() < deadline:
                call.items = []
                await arrival_before(deadline, hub, call)
        if call.done is not None:
            call.items = []
            self._conclude(call.done)
            self._ended()

    async def __aenter__(self) -> "AsyncStreamResponse":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        await self.aclose()

    def __del__(self, leaked: Any = leaks.leaked, is_exiting: Any = sys.is_finalizing) -> None:
        if getattr(self, "_hub", None) is None or self._call.done is not None or is_exiting():
            return
        self._drop()
        leaked(self._described(), self._place, self.url.origin)
