"""Headers as adapters have them: pairs of bytes, in order, in the case they were written in."""

from typing import Dict, Iterable, List, Optional, Tuple

from .exceptions import LocalProtocolError, UnsupportedProtocol

RawHeaders = Iterable[Tuple[bytes, bytes]]

_TOKEN = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+-.^_`|~"
# Lines that were checked: most of a client's are the same in each request. Of what is longer, or
# beyond so many, none is kept.
_lines: Dict[Tuple[bytes, bytes], bytes] = {}
_LINES = 1024
_LONGEST = 4096


class Framing:
    """What headers say of a body.

    Attributes:
        length: Content-Length, or None.
        chunked: Transfer-Encoding is "chunked".
    """

    __slots__ = ("length", "chunked")

    def __init__(self) -> None:
        self.length: Optional[int] = None
        self.chunked = False


def header_lines(pairs: RawHeaders) -> Tuple[List[bytes], Framing]:
    """The lines for the library, and what was among them of Content-Length and Transfer-Encoding,
    which are written by whoever frames the body.

    Raises:
        LocalProtocolError: a name or a value that cannot be sent.
        UnsupportedProtocol: Upgrade, which would take the connection out of its pool.
    """
    lines = []
    framing = Framing()
    get = _lines.get
    for pair in pairs:
        line = get(pair)
        if line is None:
            line = _line(pair, framing)
        if line:
            lines.append(line)
    return lines, framing


def _line(pair: Tuple[bytes, bytes], framing: Framing) -> bytes:
    name, value = pair
    if (  # which is another one nearly each time
        name == b"Content-Length"
        and framing.length is None
        and isinstance(value, bytes)
        and value.isdigit()
        and len(value) <= 18
    ):
        framing.length = int(value)
        return b""
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        wrong = value if isinstance(name, bytes) else name
        raise TypeError(f"headers are pairs of bytes; one has {type(wrong).__name__}")
    if not name or name.translate(None, _TOKEN):
        raise LocalProtocolError(f"the header name {name!r} is not allowed")
    if b"\r" in value or b"\n" in value or b"\0" in value:
        # Not shown: it may be a key.
        raise LocalProtocolError(f"the value of the header {name!r} has a line break or a NUL")
    known = name.lower()
    value = value.strip(b" \t")
    if known == b"content-length":
        _note_length(value, framing)
        return b""
    if known == b"transfer-encoding":
        if value.lower() != b"chunked":
            raise LocalProtocolError('Transfer-Encoding: only "chunked" is sent')
        framing.chunked = True
        return b""
    if known == b"upgrade":
        raise UnsupportedProtocol(
            "Upgrade would take the connection out of its pool, which keeps it for other requests: "
            "use a transport that gives its connections away, as for a WebSocket"
        )
    line = b"%s: %s\r\n" % (name, value)
    if known == b"connection" and value.lower() == b"keep-alive":
        line = b""  # what HTTP/1.1 does without a word
    if len(line) <= _LONGEST:
        if len(_lines) >= _LINES:
            _lines.clear()
        _lines[pair] = line
    return line


def _note_length(value: bytes, framing: Framing) -> None:
    """Lengths that are given twice, in two lines or in one, are one if they are equal (RFC 9110,
    8.6)."""
    for part in value.split(b","):
        part = part.strip(b" \t")
        if not part.isdigit() or len(part) > 18:
            raise LocalProtocolError("Content-Length: expected a number of bytes in digits")
        length = int(part)
        if framing.length not in (None, length):
            raise LocalProtocolError(f"Content-Length says both {framing.length} and {length}")
        framing.length = length


def header_pairs(block: bytes) -> List[Tuple[bytes, bytes]]:
    """Of an answer's "name: value" lines, which the library has checked."""
    pairs = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            pairs.append((name, value.strip(b" \t")))
    return pairs
