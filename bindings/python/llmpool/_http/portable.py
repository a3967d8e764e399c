"""What leaves the process with an error or a response: everything but credentials.

They are pickled by whoever runs work in other processes, and end up in queues, caches and logs.
"""

import copy
from typing import Any, Dict, Tuple

from . import secrets


def headers(block: bytes) -> bytes:
    """A block of header lines without those that carry credentials."""
    return b"".join(
        line + b"\r\n" for line in map(_line, block.split(b"\r\n")) if line is not None and line
    )


def _line(line: bytes) -> Any:
    name, _, value = line.partition(b":")
    if secrets.is_secret(name.decode("latin-1")):
        return None
    if name.lower() in (b"location", b"content-location", b"referer"):
        return name + b": " + secrets.in_url(value.strip().decode("latin-1")).encode("latin-1")
    return line


# ---- objects whose attributes are slots


def state(value: Any, slots: Tuple[str, ...]) -> Dict[str, Any]:
    return {name: getattr(value, name) for name in slots}


def restore(kind: Any, values: Dict[str, Any]) -> Any:
    made = kind.__new__(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def deep_copy(value: Any, slots: Tuple[str, ...], memo: Dict[int, Any]) -> Any:
    """A copy within the process, which keeps what it has."""
    made = memo[id(value)] = value.__class__.__new__(value.__class__)
    for name in slots:
        setattr(made, name, copy.deepcopy(getattr(value, name), memo))
    return made


def restore_error(kind: Any, arguments: Tuple[Any, ...], values: Dict[str, Any]) -> Any:
    made = kind.__new__(kind, *arguments)
    made.args = arguments
    made.__dict__.update(values)
    return made
