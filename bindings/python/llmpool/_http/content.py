"""Bodies of requests: JSON, forms, multipart, and what is sent piece by piece."""

import os
from typing import (
    IO,
    Any,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)
from urllib.parse import urlencode

from .json import encode
from .urls import params_list, primitive

Content = Union[str, bytes, bytearray, memoryview, Iterable[bytes], IO[bytes], AsyncIterable[bytes]]
FileContent = Union[str, bytes, IO[bytes]]
FileTypes = Union[
    FileContent,
    Tuple[Optional[str], FileContent],
    Tuple[Optional[str], FileContent, Optional[str]],
    Tuple[Optional[str], FileContent, Optional[str], Mapping[str, str]],
]
FilesTypes = Union[Mapping[str, FileTypes], Sequence[Tuple[str, FileTypes]]]

# An upload is handed over in pieces of at most this: the library takes one while less than 1 MiB
# waits, so that this bounds the memory of the whole.
PIECE = 256 << 10
# A multipart body up to this is made at once: it can be sent again where that is safe.
_IN_MEMORY = 1 << 20


class Body(NamedTuple):
    """A request's body.

    Attributes:
        data: all of it, or None.
        upload: where its pieces come from, or None.
        content_type: "" for none.
        length: of an upload, where it is known.
    """

    data: Optional[bytes] = None
    upload: Any = None
    content_type: str = ""
    length: Optional[int] = None


def encode_body(
    content: Optional[Content],
    data: Optional[Mapping[str, Any]],
    json: Any,
    files: Optional[FilesTypes] = None,
    content_type: str = "",
) -> Body:
    """The body; content_type is what the request's headers say already."""
    if (content is not None) + (data is not None or files is not None) + (json is not None) > 1:
        raise TypeError("only one of content, data (with or without files) and json can be given")
    if json is not None:
        return Body(encode(json), None, "application/json")
    if data is not None and not isinstance(data, Mapping):
        raise TypeError("data is a mapping of form fields; a finished body goes to content=")
    if files:
        return _Multipart(data or {}, files, content_type).body()
    if data is not None:
        form = urlencode(params_list(data)).encode("ascii")
        return Body(form, None, "application/x-www-form-urlencoded")
    return _from_content(content)


def _from_content(content: Optional[Content]) -> Body:
    if content is None or isinstance(content, bytes):
        return Body(content)
    if isinstance(content, str):
        return Body(content.encode("utf-8"))
    if isinstance(content, (bytearray, memoryview)):
        return Body(bytes(content))
    if hasattr(content, "read"):
        return Body(None, content, "", _length_of(content))
    if hasattr(content, "__aiter__") or (
        hasattr(content, "__iter__") and not isinstance(content, Mapping)
    ):
        return Body(None, content)
    raise TypeError(
        "content is str, bytes, a file or an (async) iterator of bytes, not "
        f"{type(content).__name__}"
    )


def _length_of(file: Any) -> Optional[int]:
    """How many bytes a file has from where it stands; None where that is not known."""
    try:
        if not file.seekable():
            return None
        position = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (AttributeError, OSError):
        return None
    return int(end) - int(position)


def _read(file: Any) -> Iterator[bytes]:
    while True:
        piece = file.read(PIECE)
        if not piece:
            return
        yield piece.encode("utf-8") if isinstance(piece, str) else piece


def _cut(piece: Any) -> Iterator[Union[bytes, memoryview]]:
    if isinstance(piece, str) or not isinstance(piece, (bytes, bytearray, memoryview)):
        raise TypeError(f"an upload's pieces are bytes, not {type(piece).__name__}")
    if len(piece) <= PIECE:
        if len(piece):
            yield bytes(piece)
        return
    view = memoryview(piece).cast("B")
    for begin in range(0, len(view), PIECE):
        yield view[begin : begin + PIECE]


def pieces(source: Any) -> Iterator[Union[bytes, memoryview]]:
    """The pieces of an upload, none of them large."""
    if hasattr(source, "__aiter__"):
        raise TypeError("an async iterator as content needs an AsyncClient")
    for piece in _read(source) if hasattr(source, "read") else source:
        yield from _cut(piece)


async def async_pieces(source: Any) -> AsyncIterator[Union[bytes, memoryview]]:
    """The same from an async iterator, or from a plain one."""
    if hasattr(source, "__aiter__"):
        async for piece in source:
            for part in _cut(piece):
                yield part
    else:
        for part in pieces(source):
            yield part


# ---- multipart/form-data (RFC 7578)

_SPECIAL = str.maketrans(
    {'"': "%22", "\\": "\\\\", **{chr(c): f"%{c:02X}" for c in range(0x20) if c != 0x1B}}
)


def _parameter(name: str, value: str) -> str:
    """As the HTML standard and httpx escape it."""
    return f'{name}="{value.translate(_SPECIAL)}"'


class _Multipart:
    def __init__(self, data: Mapping[str, Any], files: FilesTypes, content_type: str) -> None:
        self.boundary = _boundary_of(content_type) or os.urandom(16).hex()
        self.content_type = content_type or f"multipart/form-data; boundary={self.boundary}"
        self._parts: List[Union[bytes, IO[bytes]]] = []
        for name, value in data.items():
            for each in value if isinstance(value, (list, tuple)) else (value,):
                self._field(name, each)
        for name, file in files.items() if isinstance(files, Mapping) else files:
            self._file(name, file)
        self._parts.append(f"--{self.boundary}--\r\n".encode())

    def _head(self, *lines: str) -> None:
        text = "\r\n".join((f"--{self.boundary}", *lines, "", ""))
        self._parts.append(text.encode("utf-8"))

    def _field(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a field's name is a str, not {type(name).__name__}")
        self._head(f"Content-Disposition: form-data; {_parameter('name', name)}")
        raw = value if isinstance(value, bytes) else primitive(value).encode("utf-8")
        self._parts += (raw, b"\r\n")

    def _file(self, name: str, file: Any) -> None:
        headers: Mapping[str, str] = {}
        kind: Optional[str] = None
        if isinstance(file, tuple):
            filename, content, *more = file
            kind = more[0] if more else None
            headers = more[1] if len(more) > 1 else {}
        else:
            content = file
            filename = os.path.basename(str(getattr(file, "name", "upload")))
        given = {key.lower() for key in headers}
        disposition = f"Content-Disposition: form-data; {_parameter('name', name)}"
        if filename is not None:
            disposition += f"; {_parameter('filename', filename)}"
        lines = [disposition, *(f"{key}: {value}" for key, value in headers.items())]
        if "content-type" not in given:
            if kind is None and filename is not None:
                import mimetypes

                kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
            if kind is not None:
                lines.append(f"Content-Type: {kind}")
        for line in lines:
            if "\r" in line or "\n" in line:
                raise ValueError("a header of a file has a line break")
        self._head(*lines)
        if isinstance(content, str):
            content = content.encode("utf-8")
        if not isinstance(content, bytes) and not hasattr(content, "read"):
            raise TypeError(f"a file is str, bytes or a file object, not {type(content).__name__}")
        if getattr(content, "encoding", None):
            raise TypeError("a file is opened in binary mode to be sent, not in text mode")
        self._parts += (content, b"\r\n")

    def body(self) -> Body:
        length: Optional[int] = 0
        for part in self._parts:
            size = len(part) if isinstance(part, bytes) else _length_of(part)
            length = None if size is None or length is None else length + size
        if length is not None and length <= _IN_MEMORY:
            return Body(b"".join(self._pieces()), None, self.content_type)
        return Body(None, self._pieces(), self.content_type, length)

    def _pieces(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from _read(part)


def _boundary_of(content_type: str) -> str:
    if not content_type.lower().startswith("multipart/form-data"):
        return ""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    return ""
