"""JSON, by the standard library or by what the application prefers."""

import json
import re
from json import JSONEncoder
from typing import Any, Callable, Optional, Tuple, Union

Dumps = Callable[[Any], Union[bytes, str]]
Loads = Callable[[Union[bytes, str]], Any]

_SPACE = " \t\n\r"  # RFC 8259, section 2


def _writer() -> Dumps:
    """Writes JSON as json.dumps() does, without blanks and ASCII escapes. That one makes an encoder
    for each call, which takes longer than most bodies do."""
    standard = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)  # RFC 8259
    text = json.encoder.encode_basestring
    try:
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
        # Without the set of what it is in: a circle is found by its depth.
        parts = make(None, standard.default, text, None, ":", ",", False, False, False)
    except (AttributeError, TypeError):  # an interpreter that has none, or another
        return standard.encode

    def write(value: Any) -> str:
        try:
            return "".join(parts(value, 0))
        except RecursionError:
            return standard.encode(value)  # says whether it is a circle

    return write


_standard = _writer()
_scan: Callable[[str, int], Tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore

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
            text = str(content, "utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return decode_text(text, **kwargs)
    return json.loads(content, **kwargs)


def decode_text(text: str, **kwargs: Any) -> Any:
    if kwargs:
        return json.loads(text, **kwargs)
    if _loads is not None:
        return _loads(text)
    # What json.loads() does beside this is to look for blanks, by regular expressions.
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # blanks before it, or nothing that begins a value
        return json.loads(text)
    if end != len(text) and text[end:].strip(_SPACE):
        return json.loads(text)  # says what is wrong
    return value
