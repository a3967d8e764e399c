"""Content codings, undone piece by piece and bounded: gzip, deflate, and br and zstd by extras.

One decoder serves whole bodies and streams. Its result does not depend on how the input is cut, its
time is linear in input and output, and it never makes more than 1 MiB at once.
"""

import re
import zlib
from functools import cache
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

from .exceptions import DecodingError, ResponseTooLarge

# Each is a decoder of its own: a server that names more does not mean it.
MAX_CODINGS = 5
# Of the decoded bytes, at most so many are made at once.
_PIECE = 1 << 20
# What is behind the end of a member is copied when it is found. So a member is given little at
# first, and twice as much each time: the copies stay in proportion to what it has.
_FIRST_SLICE, _LAST_SLICE = 256, 64 << 10
_ZEROS = re.compile(b"\0*").match


class _Coding:
    """How one coding is undone.

    Attributes:
        name: as the content-encoding header has it.
        magic: what each member begins with; empty: there is one member, and what is behind it is
            no part of the body.
        most: members; to begin one costs time, of which a server cannot ask for any amount.
        needs: how many bytes tell which kind of member begins.
        is_strict: its library refuses what is behind the end, where that comes with the end; so
            it is refused where it comes later, too.
    """

    name = ""
    magic: Tuple[bytes, ...] = ()
    most = 1
    needs = 1
    is_strict = False

    def begin(self, first: bytes) -> "_Member":
        raise NotImplementedError


class _Member:
    """One compressed stream.

    Attributes:
        rest: what is behind its end, as soon as that was seen; None before.
    """

    rest: Optional[bytes] = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Gives all that the data decodes to; raises what the library raises."""
        raise NotImplementedError


class _ZlibMember(_Member):
    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        inflater = self._inflater
        while True:
            part = inflater.decompress(data, _PIECE)
            if part:
                yield part
            if inflater.eof:
                self.rest = inflater.unused_data
                return
            data = inflater.unconsumed_tail
            if not data and len(part) < _PIECE:  # else it may hold back what did not fit
                return


class _Gzip(_Coding):
    name = "gzip"
    magic = (b"\x1f\x8b",)
    most = 100_000

    def begin(self, first: bytes) -> _Member:
        return _ZlibMember(16 + zlib.MAX_WBITS)


class _Deflate(_Coding):
    name = "deflate"
    needs = 2

    def begin(self, first: bytes) -> _Member:
        # RFC 9110 8.4.1.2 means the zlib format; some servers send the bare deflate stream. The
        # header of the former is a multiple of 31 (RFC 1950, 2.2).
        is_zlib = first[0] & 0x8F == 8 and not (first[0] << 8 | first[1]) % 31
        return _ZlibMember(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)


class _BrotliMember(_Member):
    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped, import-not-found, unused-ignore]

        self._decompressor: Any = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        while True:
            part = decompressor.process(data, output_buffer_limit=_PIECE)
            if part:
                yield part
            if decompressor.is_finished():
                self.rest = b""
                return
            data = b""
            if decompressor.can_accept_more_data() and len(part) < _PIECE:
                return


class _Brotli(_Coding):
    name = "br"
    is_strict = True

    def begin(self, first: bytes) -> _Member:
        return _BrotliMember()


class _ZstdMember(_Member):
    def __init__(self) -> None:
        zstd = _zstd_module()
        # RFC 9659: a window of more than 8 MiB is not for HTTP.
        options = {zstd.DecompressionParameter.window_log_max: 23}
        self._decompressor = zstd.ZstdDecompressor(options=options)

    def feed(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        while True:
            part = decompressor.decompress(data, _PIECE)
            if part:
                yield part
            if decompressor.eof:
                self.rest = decompressor.unused_data
                return
            if decompressor.needs_input:
                return
            data = b""


class _Zstd(_Coding):
    name = "zstd"
    magic = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + n,)) + b"\x2a\x4d\x18" for n in range(16)))
    most = 1_000

    def begin(self, first: bytes) -> _Member:
        return _ZstdMember()


def _zstd_module() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # 3.14
    except ImportError:
        from backports import zstd  # type: ignore[import-not-found, no-redef, unused-ignore]
    return zstd


_CODINGS: Dict[str, Type[_Coding]] = {
    "gzip": _Gzip, "x-gzip": _Gzip, "deflate": _Deflate, "br": _Brotli, "zstd": _Zstd,
}  # fmt: skip
# Known to us and not undone. Other words, "utf-8" and "none" among them, are mistakes of servers
# whose bodies are plain.
_FOREIGN = frozenset(("compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"))
_EXTRAS = {"br": "Brotli", "zstd": "Zstandard"}


def _is_installed(coding: str) -> bool:
    try:
        if coding == "zstd":  # not imported before there is something to decode
            from importlib.util import find_spec

            return bool(find_spec("_zstd") or find_spec("backports.zstd"))
        import brotli  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return False
    # Before brotli 1.2 a few bytes could become any number at once.
    return hasattr(brotli.Decompressor, "can_accept_more_data")


@cache
def accept_encoding() -> str:
    """The accept-encoding of a client: what is undone here."""
    return ", ".join(["gzip", "deflate", *filter(_is_installed, _EXTRAS)])


def _codings(content_encoding: str) -> List[_Coding]:
    """The decoders in the order in which they are undone; none where a coding is unknown."""
    names = [part.strip().lower() for part in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if len(names) > MAX_CODINGS:
        shown = ", ".join(names[:MAX_CODINGS])
        raise DecodingError(
            f"the answer names {len(names)} content codings ({shown}, ...), more than the "
            f"{MAX_CODINGS} that are undone"
        )
    for name in names:
        if name in _EXTRAS and not _is_installed(name):
            raise DecodingError(
                f"the answer is encoded with {_EXTRAS[name]} ({name!r}): pip install "
                f'"libllmpool[{name}]", or ask for another with the header accept-encoding: gzip; '
                "raw_content and iter_raw() have the bytes as they came"
            )
        if name in _FOREIGN:
            raise DecodingError(
                f"the answer is encoded with {name!r}, which is not undone here; raw_content and "
                "iter_raw() have the bytes as they came"
            )
    if not all(name in _CODINGS for name in names):
        return []
    return [_CODINGS[name]() for name in reversed(names)]


class _Decoder:
    """One coding of a body that comes in pieces."""

    def __init__(self, coding: _Coding) -> None:
        self._coding = coding
        self._member: Optional[_Member] = None
        self._slice = _FIRST_SLICE
        self._held = b""  # the beginning of a member, too short to tell its kind
        self._begun = 0  # members so far
        self._is_over = False  # what still comes is no part of the body
        self.size = 0  # of what was decoded

    def feed(self, data: bytes) -> Iterator[bytes]:
        position = 0
        while position < len(data) and not self._is_over:
            member = self._member
            if member is None:
                piece, position = self._begin(data, position)
                member = self._member
                if member is None:
                    continue
            else:
                piece = data[position : position + self._slice]
                position += len(piece)
                self._slice = min(2 * self._slice, _LAST_SLICE)
            yield from self._decode(member, piece)
            if member.rest is not None:
                position -= len(member.rest)
                self._member = None
                self._is_over = not self._coding.magic
        if self._is_over and self._coding.is_strict and position < len(data):
            raise DecodingError(
                f"the answer's body goes on behind the end of its {self._coding.name}"
            )

    def _begin(self, data: bytes, position: int) -> Tuple[bytes, int]:
        """Begins a member where enough of it is there, or knows that none follows.

        Returns the bytes that the member begins with, in which none ends but the only one, and the
        position behind them.
        """
        coding = self._coding
        if self._begun and not self._held:  # gzip may be padded with zeros
            position = _ZEROS(data, position).end()  # type: ignore[union-attr]
        needs = len(coding.magic[0]) if self._begun else coding.needs
        missing = needs - len(self._held)
        self._held += data[position : position + missing]
        position = min(position + missing, len(data))
        if len(self._held) < needs:
            return b"", position
        held, self._held = self._held, b""
        if not self._begun or held in coding.magic:
            if self._begun == coding.most:
                raise DecodingError(
                    f"the answer's body has more than {coding.most} members of {coding.name}"
                )
            self._begun += 1
            self._slice = _FIRST_SLICE
            self._member = coding.begin(held)
        else:
            self._is_over = True  # ignored, as curl and all others have it
        return held, position

    def _decode(self, member: _Member, data: bytes) -> Iterator[bytes]:
        try:
            yield from member.feed(data)
        except (DecodingError, MemoryError):
            raise
        except Exception as error:  # zlib.error, brotli.error, ZstdError
            raise DecodingError(
                f"the answer's body is not valid {self._coding.name}: {error}"
            ) from None

    def finish(self) -> None:
        if self._member is not None or (not self._begun and self._held):
            raise DecodingError("the answer's compressed body ends too early")


class StreamDecoder:
    """Undoes the codings of a body that comes in pieces; one unknown stays as it is.

    Args:
        limit: of the bytes that each coding may decode to; None: no limit.

    Raises:
        DecodingError: more codings than five, or one that needs an extra.
    """

    def __init__(self, content_encoding: str, limit: Optional[int] = None) -> None:
        self._decoders = [_Decoder(coding) for coding in _codings(content_encoding)]
        self._limit = limit

    @property
    def is_identity(self) -> bool:
        return not self._decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of about 1 MiB at most.

        Raises:
            DecodingError: the body is not what the codings say.
            ResponseTooLarge: decoded it is larger than the limit.
        """
        pieces: Iterator[bytes] = iter((data,))
        for decoder in self._decoders:
            pieces = self._chain(decoder, pieces)
        return pieces

    def _chain(self, decoder: _Decoder, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for part in decoder.feed(piece):
                decoder.size += len(part)
                if self._limit is not None and decoder.size > self._limit:
                    raise ResponseTooLarge(
                        f"the answer's body is larger than {self._limit} bytes when decoded; "
                        "max_response_bytes allows more",
                        status="LLMPOOL_E_TOO_LARGE",
                    )
                yield part

    def finish(self) -> None:
        """Raises DecodingError where the body was cut short."""
        for decoder in self._decoders:
            decoder.finish()


def decode_body(content_encoding: str, data: bytes, limit: int) -> bytes:
    """A whole body without its codings, the last applied first; one unknown stays as it is.

    Raises: as StreamDecoder.
    """
    if not data:  # an answer to HEAD names the coding of a body that is not there
        return data
    decoder = StreamDecoder(content_encoding, limit)
    if decoder.is_identity:
        return data
    parts = list(decoder.feed(data))
    decoder.finish()
    return parts[0] if len(parts) == 1 else b"".join(parts)
