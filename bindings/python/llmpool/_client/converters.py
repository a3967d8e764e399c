"""Converters: from what the library delivers to what the application reads."""

import codecs
from typing import Any, Generic, Iterable, Iterator, List, Optional, TypeVar

from .._http.decode import StreamDecoder
from .._http.sse import Event, Parser

Item = TypeVar("Item")


class Converter(Generic[Item]):
    """Turns batches of what arrived into items.

    Attributes:
        stopped: nothing more is wanted.
    """

    stopped = False

    def batch(self, items: List[Any]) -> Iterable[Item]:
        raise NotImplementedError

    def end(self) -> Iterable[Item]:
        return ()


class Raw(Converter[bytes]):
    """The bytes as they were sent; parsed events are written anew."""

    def __init__(self) -> None:
        self._last_id = ""

    def batch(self, items: List[Any]) -> Iterable[bytes]:
        for item in items:
            if type(item) is Event:
                yield item.encode(self._last_id)
                self._last_id = item.id
            else:
                yield item


class Bytes(Converter[bytes]):
    """Decoded bytes, in chunks of one size where that is asked for."""

    def __init__(self, coding: str, size: Optional[int] = None) -> None:
        self._raw = Raw()
        self._decoder = StreamDecoder(coding)
        self._plain = self._decoder.is_identity and size is None
        self._size = size
        self._left = b""

    def batch(self, items: List[Any]) -> Iterable[bytes]:
        raw = self._raw.batch(items)
        return raw if self._plain else self._chunks(raw)

    def _chunks(self, raw: Iterable[bytes]) -> Iterator[bytes]:
        size = self._size
        for piece in raw:
            for part in self._decoder.feed(piece):
                if size is None:
                    yield part
                    continue
                data = self._left + part
                whole = len(data) - len(data) % size
                for begin in range(0, whole, size):
                    yield data[begin : begin + size]
                self._left = data[whole:]

    def end(self) -> Iterable[bytes]:
        self._decoder.finish()
        return (self._left,) if self._left else ()


# Python's incremental decoders of these refuse what has no byte order mark.
_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


class Text(Converter[str]):
    def __init__(self, coding: str, encoding: str, size: Optional[int] = None) -> None:
        self._bytes = Bytes(coding)
        self._name = codecs.lookup(encoding).name
        self._begin: Optional[bytes] = b"" if self._name in _MARKS else None
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._size = size
        self._left = ""

    def batch(self, items: List[Any]) -> Iterable[str]:
        for piece in self._bytes.batch(items):
            yield from self._chunks(self._decode(piece))

    def _decode(self, piece: bytes, final: bool = False) -> str:
        if self._begin is not None:
            piece = self._begin + piece
            if len(piece) < 4 and not final:
                self._begin = piece
                return ""
            self._begin = None
            if not piece.startswith(
                _MARKS[self._name]
            ):  # in the order that decode() takes it to be
                self._decoder = codecs.getincrementaldecoder(f"{self._name}-le")("replace")
        return self._decoder.decode(piece, final)

    def _chunks(self, text: str) -> Iterator[str]:
        size = self._size
        if size is None:
            if text:
                yield text
            return
        text = self._left + text
        whole = len(text) - len(text) % size
        for begin in range(0, whole, size):
            yield text[begin : begin + size]
        self._left = text[whole:]

    def end(self) -> Iterable[str]:
        for piece in self._bytes.end():
            yield from self._chunks(self._decode(piece))
        yield from self._chunks(self._decode(b"", True))
        if self._left:
            yield self._left


class Lines(Converter[str]):
    """Lines without their ends, which are LF, CRLF and CR and nothing else."""

    def __init__(self, coding: str, encoding: str) -> None:
        self._text = Text(coding, encoding)
        self._tail: List[str] = []
        self._skip_lf = False

    def batch(self, items: List[Any]) -> Iterable[str]:
        for text in self._text.batch(items):
            yield from self._lines(text)

    def _lines(self, text: str) -> List[str]:
        if self._skip_lf:
            self._skip_lf = False
            if text[:1] == "\n":
                text = text[1:]
        if "\r" in text:
            self._skip_lf = text[-1:] == "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        last = lines.pop()
        if lines and self._tail:
            lines[0] = "".join((*self._tail, lines[0]))
            self._tail = []
        if last:
            self._tail.append(last)
        return lines

    def end(self) -> Iterable[str]:
        for text in self._text.end():
            yield from self._lines(text)
        if self._tail:
            yield "".join(self._tail)


class Events(Converter[Event]):
    def __init__(self, coding: str, stop: Optional[str]) -> None:
        self._coding = coding
        self._stop = stop
        self._bytes: Optional[Bytes] = None
        self._parser = Parser()

    def batch(self, items: List[Any]) -> Iterable[Event]:
        if type(items[0]) is Event:
            return self._until_stop(items)
        return self._parse(items)

    def _until_stop(self, events: List[Event]) -> List[Event]:
        stop = self._stop
        if stop is not None:
            for index, event in enumerate(events):
                if event.data == stop:
                    self.stopped = True
                    return events[:index]
        return events

    def _parse(self, items: List[Any]) -> Iterator[Event]:
        """Event by event, so that those before a fault in the batch are not lost."""
        if self._bytes is None:
            self._bytes = Bytes(self._coding)
        for piece in self._bytes.batch(items):
            yield from self._until_stop(self._parser.feed(piece))
            if self.stopped:
                return

    def end(self) -> Iterable[Event]:
        if self._bytes is not None:
            self._bytes.end()
        return ()
