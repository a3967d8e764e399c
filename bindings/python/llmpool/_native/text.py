"""Text on its way to the library: the one place where a str becomes a C string."""

import os
from typing import Optional, Union


def c_string(name: str, value: Union[str, bytes]) -> bytes:
    """The bytes of a C string, which ends at its first NUL: one that has any is refused.

    Raises:
        TypeError: it is no str (bytes are for paths).
        ValueError: it has a NUL, or half a surrogate pair.
    """
    if isinstance(value, str):
        try:
            value = os.fsencode(value) if name.endswith("_file") else value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{name} has half a surrogate pair in it") from None
    elif not isinstance(value, bytes):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    if b"\0" in value:
        raise ValueError(f"{name} has a NUL in it")
    return value


def server_name(name: Optional[str]) -> Optional[bytes]:
    """A name for TLS as the library takes it; None for none."""
    if not name:
        return None
    if not isinstance(name, str):
        raise TypeError(f"server_name is a str or None, not {type(name).__name__}")
    if not name.isascii():
        raise ValueError("server_name is a host name in ASCII letters")
    return c_string("server_name", name)
