"""Server-sent events, and their parser for streams that the library hands over as bytes.

The library parses an unencoded text/event-stream itself. This parser is for the rest: an answer
sent with gzip, or one asked for with sse=False.
"""

from typing import Any, List, NamedTuple, Optional

from .exceptions import ResponseTooLarge
from .json import decode_text

MAX_EVENT_BYTES = 16 << 20  # as the library's option max_event_bytes has it
MAX_ID_BYTES = 4096
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """A server-sent event.

    Attributes:
        event: its type, "message" where the server named none.
        data: its data lines, joined by line feeds.
        id: the last event id so far, of this or an earlier event; "" for none.
        retry: milliseconds that the server asks a client to wait before it connects again; None
            where this event does not say.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: Optional[int] = None

    def json(self, **kwargs: Any) -> Any:
        """The data parsed as JSON (see use_json()); keyword arguments go to json.loads().

        Raises:
            ValueError: the data is not JSON (json.JSONDecodeError).
        """
        try:
            return decode_text(self.data, **kwargs)
        except ValueError as error:
            from .explain import event_not_json

            raise event_not_json(self.data, error) from None

    def encode(self, last_id: str = "") -> bytes:
        """The event as it is sent, its id left out where it is the last one."""
        lines = []
        if self.event != "message":
            lines.append(f"event: {self.event}\n")
        if self.id != last_id:
            lines.append(f"id: {self.id}\n")
        if self.retry is not None:
            lines.append(f"retry: {self.retry}\n")
        lines += [f"data: {line}\n" for line in self.data.split("\n")]
        lines.append("\n")
        return "".join(lines).encode("utf-8")


class Parser:
    """text/event-stream (HTML Living Standard, section 9.2.6), from bytes in pieces.

    As the library's own: an event at the end without its empty line is dropped, one of more than
    16 MiB is refused, an id of more than 4,096 bytes passed over.
    """

    __slots__ = ("_tail", "_size", "_skip_lf", "_begun", "_data", "_type", "_id", "_retry")

    def __init__(self) -> None:
        # The beginning of a line, in one run: a piece of two bytes is an object of forty.
        self._tail = bytearray()
        self._size = 0  # bytes of the event at hand
        self._skip_lf = False  # the last byte was a CR: a LF belongs to it
        self._begun = False  # it is too late for a byte order mark
        self._data: List[bytes] = []
        self._type = b""
        self._id = ""
        self._retry: Optional[int] = None

    def feed(self, data: bytes) -> List[Event]:
        """The events that these bytes complete.

        Raises:
            ResponseTooLarge: an event has more than 16 MiB.
        """
        if self._skip_lf and data:
            self._skip_lf = False
            if data[:1] == b"\n":
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._size += len(data)
        if self._size > MAX_EVENT_BYTES:
            self._measure(data)
        if b"\n" not in data:
            if data:
                self._tail += data
            return []
        lines = data.split(b"\n")
        if self._tail:
            lines[0] = bytes(self._tail + lines[0])
        last = lines.pop()
        self._tail = bytearray(last)
        events: List[Event] = []
        if not self._begun:
            self._begun = True
            if lines[0].startswith(_BOM):
                lines[0] = lines[0][3:]
        for line in lines:
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        if events:
            self._size = sum(map(len, self._data)) + len(last)
        return events

    def _measure(self, data: bytes) -> None:
        # Several events may be in one piece: it is the longest that counts.
        end = data.find(b"\n\n")
        longest = max(map(len, data.split(b"\n\n"))) if end >= 0 else 0
        first = self._size - len(data) + (end if end >= 0 else len(data))
        if first > MAX_EVENT_BYTES or longest > MAX_EVENT_BYTES:
            raise ResponseTooLarge(
                "an event of the stream is larger than 16 MiB", status="LLMPOOL_E_TOO_LARGE"
            )

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if b"\0" not in value and len(value) <= MAX_ID_BYTES:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self._retry = min(int(value[:20]), 0xFFFFFFFE)
        elif not name:  # a comment does not count
            self._size = max(0, self._size - len(line) - 1)

    def _dispatch(self, events: List[Event]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            kind = self._type.decode("utf-8", "replace") or "message"
            events.append(Event(kind, data.decode("utf-8", "replace"), self._id, self._retry))
            self._retry = None
            self._data = []
        self._type = b""
