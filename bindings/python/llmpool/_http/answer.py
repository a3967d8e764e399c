"""Heads and ends of answers, as records of the library have them."""

from struct import calcsize
from typing import Any, NamedTuple, Optional, Tuple

from .constants import HTTP_1_1, TIMINGS_FORMAT

TIMES_SIZE = calcsize(TIMINGS_FORMAT)
# Where the fields of llmpool_record_t stand in a tuple of them.
_FLAGS, STATUS, HTTP_STATUS, _HTTP_VERSION, _ATTEMPTS = range(2, 7)
BEGIN, DATA_END, _HEADERS_END, _, _ID_END, _TEXT_END, TIMES_END = range(9, 16)
_CONNECTION = 17


class Answer(NamedTuple):
    """A HEAD or DONE event. What few look at is read from its bytes by whoever does.

    Attributes:
        fields: of its record.
        data: the body, or what of it came with the event.
        rest: what lay behind that: header lines, reason and peer or message, times.
        error: what went wrong on this side of the library, where that ended the request.
    """

    fields: Tuple[int, ...]
    data: bytes
    rest: bytes
    error: Optional[BaseException] = None

    @classmethod
    def of(
        cls,
        *,
        status: int = 0,
        http_status: int = 0,
        http_version: int = HTTP_1_1,
        attempts: int = 0,
        flags: int = 0,
        data: bytes = b"",
        headers: bytes = b"",
        reason: bytes = b"",
        peer: bytes = b"",
        message: bytes = b"",
        connection_id: int = 0,
        timings: bytes = b"",
        error: Optional[BaseException] = None,
    ) -> "Answer":
        """One that no record has."""
        text = message if status else b"%b\0%b\0" % (reason, peer)
        data_end = len(data)
        headers_end = data_end + len(headers)
        text_end = headers_end + len(text)
        fields = (
            0, 0, flags, status, http_status, http_version, attempts, 0, 0, 0, data_end,
            headers_end, headers_end, headers_end, text_end, text_end + len(timings), 0,
            connection_id, 0,
        )  # fmt: skip
        return cls(fields, data, headers + text + timings, error)

    def but(self, **parts: Any) -> "Answer":
        """The same with other parts, named as of() names them."""
        names = Answer.of.__kwdefaults__ or {}
        return Answer.of(**{name: getattr(self, name) for name in names} | parts)

    def _part(self, begin: int, end: int) -> bytes:
        before = self.fields[DATA_END]
        return self.rest[self.fields[begin] - before : self.fields[end] - before]

    def _text(self, index: int) -> bytes:
        parts = self._part(_ID_END, _TEXT_END).split(b"\0")
        return parts[index] if len(parts) > index else b""

    def head(self) -> Tuple[bytes, bytes]:
        """Header lines and reason of an answer."""
        fields, rest = self.fields, self.rest
        before = fields[DATA_END]
        text = rest[fields[_ID_END] - before : fields[_TEXT_END] - before]
        return rest[: fields[_HEADERS_END] - before], text.partition(b"\0")[0]

    @property
    def flags(self) -> int:
        return self.fields[_FLAGS]

    @property
    def status(self) -> int:
        return self.fields[STATUS]

    @property
    def http_status(self) -> int:
        return self.fields[HTTP_STATUS]

    @property
    def http_version(self) -> int:
        return self.fields[_HTTP_VERSION]

    @property
    def attempts(self) -> int:
        return self.fields[_ATTEMPTS]

    @property
    def connection_id(self) -> int:
        return self.fields[_CONNECTION]

    @property
    def headers(self) -> bytes:
        return self._part(DATA_END, _HEADERS_END)

    @property
    def reason(self) -> bytes:
        return b"" if self.status else self._text(0)

    @property
    def peer(self) -> bytes:
        return b"" if self.status else self._text(1)

    @property
    def message(self) -> bytes:
        return self._text(0) if self.status else b""

    @property
    def timings(self) -> bytes:
        times = self._part(_TEXT_END, TIMES_END)  # aligned, so that something may lie before them
        return times[-TIMES_SIZE:] if len(times) >= TIMES_SIZE else b""
