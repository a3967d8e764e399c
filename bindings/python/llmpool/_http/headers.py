"""Headers: a multi-dict that does not mind case, and the block of lines that the library takes."""

from enum import Enum
from typing import Any, Iterable, Iterator, List, Mapping, MutableMapping, Optional, Tuple, Union

from . import secrets
from .exceptions import LocalProtocolError

Text = Union[str, bytes]
HeaderTypes = Union[
    "Headers", Mapping[str, Text], Mapping[bytes, Text], Iterable[Tuple[Text, Text]], None
]
# The name as given, its lower case, the value, and its bytes where they are not the value's UTF-8.
Item = Tuple[str, str, str, Optional[bytes]]

_TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+-.^_`|~"


def _name(name: Text) -> str:
    if isinstance(name, bytes):
        return name.decode("latin-1")
    if isinstance(name, str):
        return name
    raise TypeError(f"a header's name is str or bytes, not {type(name).__name__}")


def _item(name: Text, value: Any) -> Item:
    text = _name(name)
    if isinstance(value, Enum):  # str() and format() of one with str in it differ by version
        value = value.value
    if isinstance(value, str):
        return text, text.lower(), value, None
    if isinstance(value, bytes):
        return text, text.lower(), decode(value), None if value.isascii() else value
    shown = secrets.text(text)  # name and value may have changed places
    if value is None:
        raise TypeError(
            f"the value of the header {shown!r} is None: is an environment variable not set? A "
            "header that is not to be sent is left out"
        )
    raise TypeError(
        f"the value of the header {shown!r} is str or bytes, not {type(value).__name__}"
    )


def _pairs(headers: Any) -> Iterator[Tuple[Any, Any]]:
    """Of what is no mapping. What it is instead of pairs is not shown: it may be a key."""
    shape = "headers are a mapping of names to values, or pairs (name, value)"
    if isinstance(headers, (str, bytes)) or not hasattr(headers, "__iter__"):
        raise TypeError(f"{shape}, not {type(headers).__name__}")
    for pair in headers:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{shape}; one of them is {type(pair).__name__}")
        yield pair[0], pair[1]


def decode(raw: bytes) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        return str(raw, "latin-1")


class Headers(MutableMapping[str, str]):
    """HTTP headers: names compared without regard to case, several values to a name allowed.

    As in httpx: headers["name"] joins several values by ", ", get_list() has them apart,
    multi_items() has every line. repr() does not show secrets.
    """

    __slots__ = ("_items", "_version")

    def __init__(self, headers: HeaderTypes = None) -> None:
        self._items: List[Item] = []
        self._version = 0  # counts changes, so that what is built from it can be cached
        if headers is None:
            return
        if isinstance(headers, Headers):
            self._items = list(headers._items)
            return
        pairs: Iterable[Tuple[Text, Text]] = (
            headers.items() if isinstance(headers, Mapping) else _pairs(headers)
        )
        self._items = [_item(name, value) for name, value in pairs]

    @classmethod
    def _parse(cls, block: bytes) -> "Headers":
        """From the library's "name: value" lines, which it has checked."""
        self = cls()
        if not block.isascii():  # each value by itself: one in Latin-1 does not concern another
            lines = (line.partition(b":") for line in block.split(b"\r\n"))
            self._items = [_item(n, value.strip(b" \t")) for n, colon, value in lines if colon]
            return self
        for line in str(block, "ascii").split("\r\n"):
            name, separator, value = line.partition(":")
            if separator:
                self._items.append((name, name.lower(), value.strip(" \t"), None))
        return self

    @property
    def raw(self) -> List[Tuple[bytes, bytes]]:
        """Every line as a pair of bytes, in order, as they were given or received."""
        return [
            (name.encode("utf-8"), value.encode("utf-8") if raw is None else raw)
            for name, _, value, raw in self._items
        ]

    def multi_items(self) -> List[Tuple[str, str]]:
        """Every line as (lower-case name, value)."""
        return [(key, value) for _, key, value, _ in self._items]

    def get_list(self, key: str, split_commas: bool = False) -> List[str]:
        """Every value of a name, in order; with split_commas also split at commas."""
        key = key.lower()
        values = [value for _, name, value, _ in self._items if name == key]
        if not split_commas:
            return values
        return [part.strip() for value in values for part in value.split(",")]

    def update(self, headers: HeaderTypes = None, **_: Any) -> None:  # type: ignore[override]
        """Replaces each name that the argument has, keeping its several values."""
        other = headers if isinstance(headers, Headers) else Headers(headers)
        if not other._items:
            return
        replaced = {item[1] for item in other._items}
        self._items = [item for item in self._items if item[1] not in replaced] + other._items
        self._version += 1

    def copy(self) -> "Headers":
        return Headers(self)

    def __getitem__(self, key: str) -> str:
        values = self.get_list(key)
        if not values:
            raise KeyError(key)
        return values[0] if len(values) == 1 else ", ".join(values)

    def __setitem__(self, key: str, value: str) -> None:
        item = _item(key, value)
        lower = item[1]
        for index, found in enumerate(self._items):
            if found[1] == lower:
                rest = [later for later in self._items[index + 1 :] if later[1] != lower]
                self._items[index:] = [item, *rest]
                break
        else:
            self._items.append(item)
        self._version += 1

    def __delitem__(self, key: str) -> None:
        lower = key.lower()
        left = [item for item in self._items if item[1] != lower]
        if len(left) == len(self._items):
            raise KeyError(key)
        self._items = left
        self._version += 1

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        lower = key.lower()
        return any(item[1] == lower for item in self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(item[1] for item in self._items))

    def __len__(self) -> int:
        return len({item[1] for item in self._items})

    def __eq__(self, other: Any) -> bool:
        try:
            other = other if isinstance(other, Headers) else Headers(other)
        except (TypeError, ValueError):
            return NotImplemented
        return sorted(self.multi_items()) == sorted(other.multi_items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [(key, secrets.header(key, value)) for key, value in self.multi_items()]
        return f"Headers({shown!r})"

    def _block(self) -> bytes:
        """The lines for llmpool_request_t.headers, each name and value checked."""
        return b"".join(_line(name, value, raw) for name, _, value, raw in self._items)


def _line(name: str, value: str, raw: Optional[bytes]) -> bytes:
    # Checked before they are joined: afterwards a line break would be a header of its own. The
    # value is not shown, it may be a key.
    if not name or name.strip(_TOKEN):  # what is left of it begins with another character
        raise LocalProtocolError(f"the header name {name!r} is not allowed")
    if "\r" in value or "\n" in value or "\0" in value:
        raise LocalProtocolError(
            f"the value of the header {name!r} has a line break or a NUL; is the end of a file "
            "in it?"
        )
    if raw is not None:
        return b"%s: %s\r\n" % (name.encode("ascii"), raw.strip(b" \t"))
    try:
        return f"{name}: {value.strip(' ' + chr(9))}\r\n".encode("ascii")
    except UnicodeEncodeError:
        raise LocalProtocolError(
            f"the value of the header {name!r} has characters that are not ASCII; HTTP names no "
            "encoding for them: give it as bytes, value.encode('utf-8') for example"
        ) from None


def merge(first: Headers, second: Optional[Headers]) -> Headers:
    """A new set: what the second names replaces what the first has of that name."""
    merged = first.copy()
    if second is not None:
        merged.update(second)
    return merged
