"""Responses whose body is read as it comes."""

import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NoReturn, Optional, Type

from .._http import explain, portable
from .._http.answer import Answer
from .._http.decode import StreamDecoder
from .._http.exceptions import (
    NotEventStream,
    RequestError,
    ResponseNotRead,
    ResponseTooLarge,
    StreamClosed,
    StreamConsumed,
)
from .._http.later import later
from .._http.models import Response
from .._http.sse import Event
from .._native.call import Call
from .._native.lane import Lane
from .._pool import leaks
from .converters import Bytes, Converter, Events, Item, Lines, Raw, Text
from .incoming import CREDIT, Incoming, LaneIncoming

if TYPE_CHECKING:
    from .._http.timings import Timings
else:
    Timings = later("llmpool._http.timings", "Timings")

# After the event that iter_sse() stops at, the end of the answer is awaited so long (seconds):
# usually it follows at once, and a connection that was read to its end can be used again.
LINGER = 0.1


class BaseStream(Incoming, Response):
    """What both kinds of streamed responses share: everything but waiting."""

    __slots__ = (
        "_call", "_end", "_owed", "_lent", "_consumed", "_closed", "_place", "_error",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, call: Call, place: str) -> None:
        head = call.head
        assert head is not None
        self._received(call, head, head.http_status, call.limit)
        self._end: Optional[Answer] = None
        self._call = call
        self._owed = self._lent = 0
        self._consumed = False
        self._closed = False
        self._place = place
        self._error: Optional[Exception] = None

    @property
    def is_stream_consumed(self) -> bool:
        """Whether an iteration of the body has begun."""
        return self._consumed

    @property
    def is_closed(self) -> bool:
        """Whether the answer is at its end, or was given up."""
        return self._closed or (self._call.done is not None and not self._call.items)

    @property
    def content(self) -> bytes:
        """The body, once read.

        Raises:
            ResponseNotRead: it was not read as a whole.
        """
        if self._content is None:
            raise ResponseNotRead("the body of a streamed response has to be read first")
        return self._content

    @property
    def raw_content(self) -> bytes:
        """The same as content: what was sent is not kept."""
        return self.content

    def _beginning(self) -> bytes:
        if self._content is not None:
            return self._content
        items = [] if self._consumed else self._call.items
        parts = [item.data.encode() if type(item) is Event else item for item in items]
        decoded: List[bytes] = []
        with suppress(RequestError):
            for part in StreamDecoder(self._coding(), CREDIT).feed(b"".join(parts)):
                decoded.append(part)
        return b"".join(decoded)

    @property
    def _is_event_stream(self) -> bool:
        """HTML Living Standard, 9.2.3: a 200 of this type, whatever its parameters."""
        kind = self.headers.get("content-type", "").partition(";")[0]
        return self.status_code == 200 and kind.strip().lower() == "text/event-stream"

    def _refuse_events(self) -> NoReturn:
        """Raises what the answer is instead of an event stream."""
        self.raise_for_status()
        message = explain.no_events(self, self._beginning())
        raise NotEventStream(message, request=self.request, request_id=self.request_id)

    def _described(self) -> str:
        """For whoever dropped it."""
        return repr(self) + explain.id_note(self.headers)

    def _begin(self) -> None:
        self._check_begin()
        self._consumed = True

    def _check_begin(self) -> None:
        if self._closed:
            raise StreamClosed("the response was closed")
        if self._consumed:
            raise StreamConsumed("the body of a streamed response can be read once")

    def _conclude(self, done: Answer) -> None:
        """What is known at the end only."""
        self._end = done

    @property
    def timings(self) -> "Timings":
        """All None before the end."""
        from .._http.timings import timings_of

        return timings_of(b"" if self._end is None else self._end.timings)

    @property
    def attempts(self) -> int:
        return (self._end and self._end.attempts) or self._answer.attempts

    def _collect(self, parts: List[bytes], size: int) -> None:
        if size > self._limit:
            raise ResponseTooLarge(
                f"the answer's body is larger than {self._limit} bytes; max_response_bytes "
                "allows more",
                request=self.request,
                status="LLMPOOL_E_TOO_LARGE",
                request_id=self.request_id,
            )

    def _portable(self) -> Response:
        plain: Response = portable.restore(Response, portable.state(self, Response.__slots__))
        plain._content = self._content or b""
        plain._answer = self._answer.but(
            data=plain._content, attempts=self.attempts,
            timings=b"" if self._end is None else self._end.timings,
        )  # fmt: skip
        plain.history = [earlier._portable() for earlier in self.history]
        return plain

    def __reduce__(self) -> Any:
        raise TypeError(
            "a streamed response can be neither pickled nor copied: read it, and hand on content"
        )

    def __copy__(self) -> Response:
        return self.__reduce__()  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: Dict[int, Any]) -> Response:
        return self.__reduce__()  # type: ignore[no-any-return]


class StreamResponse(LaneIncoming, BaseStream):
    """An answer whose body is read as it comes: see Client.stream().

    Status and headers are there at once; attempts, timings and the like are complete after the
    end. The body can be iterated once. One thread at a time may read, not always the same; any
    may close.
    """

    __slots__ = ("_lane",)

    def __init__(self, call: Call, lane: Lane, *, place: str = "") -> None:
        super().__init__(call, place)
        self._lane: List[Lane] = [lane]

    def iter_raw(self) -> Iterator[bytes]:
        """The body as it was sent, before gzip and deflate are undone."""
        return self._iterate(Raw())

    def iter_bytes(self, chunk_size: Optional[int] = None) -> Iterator[bytes]:
        """The body, gzip and deflate undone; as it comes, or in chunks of chunk_size bytes."""
        return self._iterate(Bytes(self._coding(), chunk_size))

    def iter_text(self, chunk_size: Optional[int] = None) -> Iterator[str]:
        """The body as text; as it comes, or in chunks of chunk_size characters."""
        return self._iterate(Text(self._coding(), self.encoding, chunk_size))

    def iter_lines(self) -> Iterator[str]:
        """The body line by line, without the line ends, which are LF, CRLF and CR."""
        return self._iterate(Lines(self._coding(), self.encoding))

    def iter_sse(self, stop: Optional[str] = None) -> Iterator[Event]:
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

    def _no_events(self) -> Iterator[Event]:
        self._check_begin()
        if self._lane:
            lane = self._lane.pop()
            try:
                lane.wait_error(self._call)
            finally:
                self._lane.append(lane)
        if self._call.done is not None:
            with suppress(RequestError):
                self.read()  # so that the error's response has it
        self._refuse_events()
        yield  # a generator, so that it raises where an iteration does

    def read(self) -> bytes:
        """The whole body; afterwards content, text and json() have it.

        Raises:
            ResponseTooLarge: it is larger than max_response_bytes.
        """
        if self._content is None:
            parts: List[bytes] = []
            size = 0
            for part in self.iter_bytes():
                parts.append(part)
                size += len(part)
                self._collect(parts, size)
            self._content = b"".join(parts)
        return self._content

    def close(self) -> None:
        """Gives the answer up where it is not at its end: the request is cancelled. Twice does
        nothing."""
        self._closed = True
        self._settle()
        self._leave()
        if self._call.done is not None and not self._call.done.status:
            self._conclude(self._call.done)

    def _iterate(self, converter: Converter[Item]) -> Iterator[Item]:
        self._begin()
        try:
            while True:
                batch = self._take()
                if batch is None:
                    break
                if not batch:
                    self._wait()
                    continue
                yield from converter.batch(batch)
                if converter.stopped:
                    self._wait(LINGER)
                    return
            yield from converter.end()
        except RequestError as error:
            error.request = self.request
            error.request_id = self.request_id
            raise
        finally:
            if self._closed:  # by another thread, while this one had the lane
                self._leave()

    def __enter__(self) -> "StreamResponse":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        self.close()

    def __del__(self, leaked: Any = leaks.leaked, is_exiting: Any = sys.is_finalizing) -> None:
        lanes = getattr(self, "_lane", None)
        if not lanes or is_exiting():
            return
        # Not end(), which waits: this may be any thread, at any moment.
        lanes.pop().close()
        if self._call.done is None:
            leaked(self._described(), self._place, self.url.origin)


__all__ = ["BaseStream", "StreamResponse"]
