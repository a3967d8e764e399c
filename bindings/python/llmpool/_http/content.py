"""Bodies of requests: JSON, forms, multipart, and what is sent piece by piece."""

import io
import os
from itertools import chain
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
from .urls import params_list, primitive, well_formed

Content = Union[
    str, bytes, bytearray, memoryview, Iterable[bytes], IO[bytes], IO[str], AsyncIterable[bytes]
]
FileContent = Union[str, bytes, IO[bytes]]
FileName = Union[str, bytes, os.PathLike[str], None]
FileTypes = Union[
    FileContent,
    Tuple[FileName, FileContent],
    Tuple[FileName, FileContent, Optional[str]],
    Tuple[FileName, FileContent, Optional[str], Mapping[str, str]],
]
FilesTypes = Union[Mapping[str, FileTypes], Sequence[Tuple[str, FileTypes]]]

# An upload is handed over in pieces of at most this: the library takes one while less than 1 MiB
# waits, so that this bounds the memory of the whole.
PIECE = 256 << 10
# A multipart body up to this is made at once: it can be sent again where that is safe.
_IN_MEMORY = 1 << 20
_CO_COROUTINE = 0x80  # of the inspect module


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
        if _is_async(content):
            return Body(None, content)
        if _is_text(content):
            return _from_text_file(content)
        return Body(None, content, "", _length_of(content))
    if hasattr(content, "__aiter__") or (
        hasattr(content, "__iter__") and not isinstance(content, Mapping)
    ):
        return Body(None, content)
    raise TypeError(
        "content is str, bytes, a file or an (async) iterator of bytes, not "
        f"{type(content).__name__}{_open_it(content)}"
    )


def _open_it(path: Any) -> str:
    return ": open(path, 'rb') is a file" if isinstance(path, os.PathLike) else ""


def _is_async(file: Any) -> bool:
    """Whether it is a file of aiofiles, anyio or the like, whose read() is awaited."""
    code = getattr(file.read, "__code__", None)  # inspect takes longer to import than all of this
    if code is not None and code.co_flags & _CO_COROUTINE:
        return True
    return hasattr(file, "__aiter__") and not hasattr(file, "__iter__")


def _is_text(file: Any) -> bool:
    return isinstance(file, io.TextIOBase) or bool(getattr(file, "encoding", None))


def _from_text_file(file: Any) -> Body:
    """A file opened in text mode is sent as UTF-8: how many bytes it has shows when it is read."""
    begin = file.read(_IN_MEMORY)
    rest = file.read(1) if len(begin) == _IN_MEMORY else ""
    if not rest:
        return Body(begin.encode("utf-8"))
    return Body(None, chain(_cut(begin.encode("utf-8")), (rest.encode("utf-8"),), _read(file)))


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
        if hasattr(piece, "__await__"):
            _refuse_async(piece)
        if not piece:
            return
        yield piece.encode("utf-8") if isinstance(piece, str) else piece


def _refuse_async(source: Any) -> None:
    if hasattr(source, "close"):
        source.close()  # a coroutine: or Python warns that nobody awaited it
    raise TypeError(
        "a file or iterator of asyncio's needs an AsyncClient, as content=; Client and multipart "
        "take a plain file, open(path, 'rb')"
    )


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
    if hasattr(source, "read"):
        source = _read(source)
    elif not hasattr(source, "__iter__"):
        _refuse_async(None)
    for piece in source:
        yield from _cut(piece)


async def async_pieces(source: Any) -> AsyncIterator[Union[bytes, memoryview]]:
    """The same from an async iterator, or from a plain one."""
    if hasattr(source, "read"):
        while True:
            piece = source.read(PIECE)
            if hasattr(piece, "__await__"):
                piece = await piece
            if not piece:
                return
            for part in _cut(piece.encode("utf-8") if isinstance(piece, str) else piece):
                yield part
    elif hasattr(source, "__aiter__"):
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


def _field_name(name: Any) -> str:
    plain = primitive(name) if isinstance(name, (str, bytes)) else None
    if plain is None:
        raise TypeError(f"a field's name is a str, not {type(name).__name__}")
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain


def _file_name(field: str, name: Any) -> str:
    """A file's name as text; what of it is no text in the file system's encoding is U+FFFD."""
    if isinstance(name, (bytes, os.PathLike)):
        name = os.fsdecode(name)
    if not isinstance(name, str):
        raise TypeError(f"the file name of the field {field!r} is a str, not {type(name).__name__}")
    return well_formed(name)


def _named_files(files: Any) -> Iterator[Tuple[Any, Any]]:
    if isinstance(files, Mapping):
        yield from files.items()
        return
    for pair in files:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError("files is a mapping of fields to files, or pairs (field, file)")
        yield pair[0], pair[1]


class _Multipart:
    def __init__(self, data: Mapping[str, Any], files: FilesTypes, content_type: str) -> None:
        if content_type and not content_type.lower().startswith("multipart/"):
            raise ValueError(
                "files= are sent as multipart/form-data, but the headers have content-type "
                f"{content_type!r}: leave it out, of the client's headers too"
            )
        boundary = _boundary_of(content_type)
        self.boundary = boundary or os.urandom(16).hex()
        self.content_type = content_type or "multipart/form-data"
        if not boundary:
            self.content_type = f"{self.content_type.rstrip('; ')}; boundary={self.boundary}"
        self._parts: List[Union[bytes, IO[bytes]]] = []
        for name, value in data.items():
            for each in value if isinstance(value, (list, tuple)) else (value,):
                self._field(name, each)
        for name, file in _named_files(files):
            self._file(_field_name(name), file)
        self._parts.append(f"--{self.boundary}--\r\n".encode())

    def _head(self, *lines: str) -> None:
        text = "\r\n".join((f"--{self.boundary}", *lines, "", ""))
        self._parts.append(text.encode("utf-8"))

    def _field(self, name: str, value: Any) -> None:
        self._head(f"Content-Disposition: form-data; {_parameter('name', _field_name(name))}")
        raw = primitive(value)
        self._parts += (raw if isinstance(raw, bytes) else raw.encode("utf-8"), b"\r\n")

    def _file(self, name: str, file: Any) -> None:
        headers: Mapping[str, str] = {}
        kind: Optional[str] = None
        filename: Any
        if isinstance(file, tuple):
            if not 2 <= len(file) <= 4:
                raise TypeError(
                    f"the file of the field {name!r} is a tuple (file name, file[, content type[, "
                    f"headers]]), not one of {len(file)}"
                )
            filename, content, *more = file
            kind = more[0] if more else None
            headers = more[1] if len(more) > 1 else {}
        else:
            content = file
            filename = getattr(file, "name", "upload")
            if not isinstance(filename, (str, bytes, os.PathLike)):  # a descriptor's number
                filename = str(filename)
            filename = os.path.basename(filename)
        given = {key.lower() for key in headers}
        disposition = f"Content-Disposition: form-data; {_parameter('name', name)}"
        if filename is not None:
            filename = _file_name(name, filename)
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
        self._parts += (_part(content), b"\r\n")

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


def _part(content: Any) -> Union[bytes, IO[bytes]]:
    if isinstance(content, io.StringIO):
        content = content.read()
    if isinstance(content, str):
        return content.encode("utf-8")
    if isinstance(content, bytes):
        return content
    if isinstance(content, (bytearray, memoryview)):
        return bytes(content)
    if not hasattr(content, "read"):
        raise TypeError(
            f"a file is str, bytes or a file object, not {type(content).__name__}"
            f"{_open_it(content)}"
        )
    if _is_async(content):
        _refuse_async(None)
    if _is_text(content):
        raise TypeError("a file is opened in binary mode to be sent, not in text mode")
    file: IO[bytes] = content
    return file


def _boundary_of(content_type: str) -> str:
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    return ""
