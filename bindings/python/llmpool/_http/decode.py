"""Content codings: gzip and deflate, bounded."""

import zlib
from typing import Iterator, List

from .exceptions import DecodingError, ResponseTooLarge

CODINGS = ("gzip", "x-gzip", "deflate")


def _inflate(data: bytes, wbits: int, limit: int) -> bytes:
    """One or more members, one after the other; not more than limit bytes come out."""
    parts: List[bytes] = []
    total = 0
    while True:
        inflater = zlib.decompressobj(wbits)
        # One byte more than is left, so that going beyond the limit shows.
        part = inflater.decompress(data, limit - total + 1)
        total += len(part)
        if total > limit:
            raise ResponseTooLarge(
                f"the answer's body is larger than {limit} bytes when decoded; "
                "max_response_bytes allows more",
                status="LLMPOOL_E_TOO_LARGE",
            )
        parts.append(part)
        if not inflater.eof:
            raise DecodingError("the answer's compressed body ends too early")
        data = inflater.unused_data
        if not data.strip(b"\0"):  # gzip may be padded with zeros
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _decode_one(coding: str, data: bytes, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflate(data, 16 + zlib.MAX_WBITS, limit)
    # RFC 9110 8.4.1.2 means the zlib format; some servers send the bare deflate stream.
    try:
        return _inflate(data, zlib.MAX_WBITS, limit)
    except zlib.error:
        return _inflate(data, -zlib.MAX_WBITS, limit)


def decode_body(content_encoding: str, data: bytes, limit: int) -> bytes:
    """The body without its codings, the last applied first; one unknown stays as it is.

    Raises:
        DecodingError: the body is not what the codings say.
        ResponseTooLarge: decoded it is larger than limit bytes.
    """
    if not data:  # an answer to HEAD names the coding of a body that is not there
        return data
    codings = [part.strip().lower() for part in content_encoding.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not all(coding in CODINGS for coding in codings):
        return data
    for coding in reversed(codings):
        try:
            data = _decode_one(coding, data, limit)
        except zlib.error as error:
            raise DecodingError(f"the answer's body is not valid {coding}: {error}") from None
    return data


# Of a stream's decoded bytes, at most so many are made at once.
_PIECE = 1 << 20


class _Inflater:
    """One gzip or deflate coding of a body that comes in pieces."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._wbits = zlib.MAX_WBITS if coding == "deflate" else 16 + zlib.MAX_WBITS
        self._inflater = zlib.decompressobj(self._wbits)
        self._begun = False
        self._between = False  # a member has ended: another may begin, or zeros fill up

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._between:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflater = zlib.decompressobj(self._wbits)
                self._between = False
            part = self._decompress(data)
            if part:
                yield part
            if self._inflater.eof:
                self._between = True
                data = self._inflater.unused_data
            else:
                data = self._inflater.unconsumed_tail

    def _decompress(self, data: bytes) -> bytes:
        try:
            part = self._inflater.decompress(data, _PIECE)
        except zlib.error as error:
            if self._begun or self._coding != "deflate":
                raise DecodingError(
                    f"the answer's body is not valid {self._coding}: {error}"
                ) from None
            # The bare deflate stream, as in _decode_one().
            self._begun = True
            self._wbits = -zlib.MAX_WBITS
            self._inflater = zlib.decompressobj(self._wbits)
            return self._decompress(data)
        self._begun = True
        return part

    def finish(self) -> None:
        if self._begun and not self._between:
            raise DecodingError("the answer's compressed body ends too early")


class StreamDecoder:
    """Undoes the codings of a body that comes in pieces; one unknown stays as it is."""

    def __init__(self, content_encoding: str) -> None:
        codings = [part.strip().lower() for part in content_encoding.split(",")]
        codings = [coding for coding in codings if coding not in ("", "identity")]
        if not all(coding in CODINGS for coding in codings):
            codings = []
        self._inflaters = [_Inflater(coding) for coding in reversed(codings)]

    @property
    def is_identity(self) -> bool:
        return not self._inflaters

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of at most 1 MiB."""
        pieces: Iterator[bytes] = iter((data,))
        for inflater in self._inflaters:
            pieces = _chain(inflater, pieces)
        return pieces

    def finish(self) -> None:
        """Raises DecodingError where the body was cut short."""
        for inflater in self._inflaters:
            inflater.finish()


def _chain(inflater: _Inflater, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from inflater.feed(piece)
