"""JSON, by the standard library or by what the application prefers."""

import json
import re
from json import JSONEncoder
from typing import Any, Callable, Optional, Union

Dumps = Callable[[Any], Union[bytes, str]]
Loads = Callable[[Union[bytes, str]], Any]

# json.dumps() with options makes an encoder each time. No NaN: it is not JSON.
_standard = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

_dumps: Dumps = _standard
_loads: Optional[Loads] = None


def use_json(*, dumps: Optional[Dumps] = None, loads: Optional[Loads] = None) -> None:
    """Has JSON written and read by another library than Python's, in the whole process.

        llmpool.use_json(dumps=orjson.dumps, loads=orjson.loads)

    Args:
        dumps: for json=; takes the value, gives bytes or str. None: the standard library's.
        loads: for Response.json() and Event.json() without arguments; takes bytes or str. None:
            the standard library's.
    """
    global _dumps, _loads
    _dumps = dumps or _standard
    _loads = loads


def encode(value: Any) -> bytes:
    text = _dumps(value)
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # halves of surrogate pairs: JSON can name them (RFC 8259, 8.2)
        return re.sub("[\ud800-\udfff]", _escape, text).encode("utf-8")


def _escape(half: "re.Match[str]") -> str:
    return f"\\u{ord(half.group()):04x}"


def decode(content: Union[bytes, str], **kwargs: Any) -> Any:
    if isinstance(content, str):
        return decode_text(content, **kwargs)
    if _loads is not None and not kwargs:
        return _loads(content)
    # json.loads() of bytes first guesses the encoding; nearly always it is this one. A byte order
    # mark and UTF-16 are left to it.
    if content[:1] != b"\xef" and content.find(b"\0", 0, 4) < 0:
        try:
            return json.loads(str(content, "utf-8"), **kwargs)
        except UnicodeDecodeError:
            pass
    return json.loads(content, **kwargs)


def decode_text(text: str, **kwargs: Any) -> Any:
    if _loads is not None and not kwargs:
        return _loads(text)
    return json.loads(text, **kwargs)
