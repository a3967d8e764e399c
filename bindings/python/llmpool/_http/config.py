"""Limits and timeouts, and how they reach the library's structs."""

import math
from typing import Any, Dict, Optional, Tuple, Union

from .constants import NO_TIMEOUT


class Unset:
    """The type of UNSET: "not given", where None already means "none"."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()

MaybeInt = Union[int, None, Unset]
MaybeSeconds = Union[float, None, Unset]
TimeoutTypes = Union[float, None, Unset, "Timeout", Tuple[Optional[float], ...]]

# A uint32_t of milliseconds, less the value that means "no timeout": 49 days.
LONGEST_MS = NO_TIMEOUT - 1


def milliseconds(name: str, seconds: float) -> int:
    """Seconds as whole milliseconds of at least 1, since 0 has a meaning of its own."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is a number of seconds or None, not {type(seconds).__name__}")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} is a number of seconds of at least 0, not {seconds}")
    if seconds * 1000 >= LONGEST_MS:
        return LONGEST_MS
    return max(1, math.ceil(seconds * 1000))


def count(name: str, number: int, largest: int = 0xFFFFFFFF, least: int = 1) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} is a whole number or None, not {type(number).__name__}")
    if not least <= number <= largest:
        raise ValueError(f"{name} is None (no limit) or from {least} to {largest}, not {number}")
    return number


# Of llmpool_options_t: max_keepalive_connections, for which 0 means no limit, and
# keepalive_expiry_ms where no idle connection is to be kept.
_NONE_KEPT = (1, 1)


def none_is_kept(options: Any) -> bool:
    return (options.max_keepalive_connections, options.keepalive_expiry_ms) == _NONE_KEPT


class Limits:
    """What a pool may use. A value that is not given stays as the pool has it; None: no limit.

    Args:
        max_connections: open connections, in use and idle. A new pool has 100.
        max_connections_per_origin: of them to one scheme, host and port. None.
        max_keepalive_connections: idle connections kept open. 20. With 0 a connection is closed
            1 ms after its last request, whatever keepalive_expiry says.
        keepalive_expiry: seconds that an idle connection is kept. 30.
        max_connection_age: seconds after which a connection is retired, +-10 % at random. None.
        max_streams_per_connection: HTTP/2 requests at once on one connection; the server's own
            limit counts too. 100.
        max_pending_requests: requests that wait for a connection. 10,000.

    Raises:
        ValueError: a number below 1, or negative seconds.
        TypeError: not a number.
    """

    __slots__ = (
        "max_connections",
        "max_connections_per_origin",
        "max_keepalive_connections",
        "keepalive_expiry",
        "max_connection_age",
        "max_streams_per_connection",
        "max_pending_requests",
    )

    def __init__(
        self,
        *,
        max_connections: MaybeInt = UNSET,
        max_connections_per_origin: MaybeInt = UNSET,
        max_keepalive_connections: MaybeInt = UNSET,
        keepalive_expiry: MaybeSeconds = UNSET,
        max_connection_age: MaybeSeconds = UNSET,
        max_streams_per_connection: MaybeInt = UNSET,
        max_pending_requests: MaybeInt = UNSET,
    ) -> None:
        self.max_connections = max_connections
        self.max_connections_per_origin = max_connections_per_origin
        self.max_keepalive_connections = max_keepalive_connections
        self.keepalive_expiry = keepalive_expiry
        self.max_connection_age = max_connection_age
        self.max_streams_per_connection = max_streams_per_connection
        self.max_pending_requests = max_pending_requests
        self._as_options()

    def _as_options(self) -> Dict[str, int]:
        """The fields of llmpool_options_t that were given; there 0 means no limit."""
        options = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Unset):
                continue
            if name in ("keepalive_expiry", "max_connection_age"):
                options[f"{name}_ms"] = 0 if value is None else milliseconds(name, value)
            elif name == "max_keepalive_connections":
                options[name] = 0 if value is None else count(name, value, least=0) or _NONE_KEPT[0]
            else:
                options[name] = 0 if value is None else count(name, value)
        if self.max_keepalive_connections == 0:
            options["keepalive_expiry_ms"] = _NONE_KEPT[1]
        return options

    @classmethod
    def _of_options(cls, options: Any) -> "Limits":
        """From the fields of llmpool_options_t."""
        values: Dict[str, Any] = {}
        for name in cls.__slots__:
            if name in ("keepalive_expiry", "max_connection_age"):
                values[name] = (getattr(options, f"{name}_ms") or 0) / 1000 or None
            else:
                values[name] = getattr(options, name) or None
        if none_is_kept(options):
            values["max_keepalive_connections"] = 0
        return cls(**values)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Limits) and self._as_options() == other._as_options()

    def __repr__(self) -> str:
        return _repr(self)


class Timeout:
    """How long each part of a request may take, in seconds.

    A value that is not given stays as the pool has it; None means no timeout.

        Timeout(5.0)                        connect, read, write and pool: 5 s each, as in httpx
        Timeout(None)                       no timeout of any kind
        Timeout(5.0, read=None)             5 s, but the server may be silent for ever
        Timeout(first_byte=600, read=30)    10 minutes to think, then never silent for 30 s;
                                            the rest as the pool has it
        Timeout((3.0, 60.0))                (connect, read[, write[, pool]]); the rest None

    Args:
        timeout: the value of connect, read, write and pool where they are not given themselves.
            None also means no first_byte and no total timeout. Another Timeout is copied.
        connect: of a dial: name, TCP, proxy and TLS together. A new pool has 5.
        read: the longest silence while bytes of the answer are awaited. 60.
        write: the longest time in which no byte of the request could be sent. 10.
        pool: the longest wait for a connection. 10.
        first_byte: from the request sent to the first byte of its answer. None: read runs there
            too.
        total: from submission to the last byte. None.

    Raises:
        ValueError: negative, or not a number.
    """

    __slots__ = ("connect", "read", "write", "pool", "first_byte", "total", "_fields")

    # In the order of the fields of llmpool_request_t.
    NAMES = ("connect", "read", "write", "pool", "first_byte", "total")

    def __init__(
        self,
        timeout: TimeoutTypes = UNSET,
        *,
        connect: MaybeSeconds = UNSET,
        read: MaybeSeconds = UNSET,
        write: MaybeSeconds = UNSET,
        pool: MaybeSeconds = UNSET,
        first_byte: MaybeSeconds = UNSET,
        total: MaybeSeconds = UNSET,
    ) -> None:
        base: Tuple[MaybeSeconds, ...]
        if isinstance(timeout, Timeout):
            base = tuple(getattr(timeout, name) for name in self.NAMES)
        elif isinstance(timeout, tuple):
            if not 2 <= len(timeout) <= 4:
                raise ValueError("a timeout tuple is (connect, read[, write[, pool]])")
            base = timeout + (None,) * (4 - len(timeout)) + (UNSET, UNSET)
        elif timeout is None:
            base = (None,) * 6
        else:
            if not isinstance(timeout, Unset):
                _check_timeout(timeout)
            base = (timeout,) * 4 + (UNSET, UNSET)
        given = (connect, read, write, pool, first_byte, total)
        values = [b if isinstance(g, Unset) else g for g, b in zip(given, base)]
        self.connect, self.read, self.write, self.pool, self.first_byte, self.total = values
        self._fields = tuple(
            0
            if isinstance(value, Unset)
            else NO_TIMEOUT
            if value is None
            else milliseconds(name, value)
            for name, value in zip(self.NAMES, values)
        )

    def _as_options(self) -> Dict[str, int]:
        """The fields of llmpool_options_t that were given; there 0 means no timeout."""
        return {
            f"{name}_timeout_ms": 0 if value == NO_TIMEOUT else value
            for name, value in zip(self.NAMES, self._fields)
            if value
        }

    @classmethod
    def _of_options(cls, options: Any) -> "Timeout":
        """From the fields of llmpool_options_t."""
        return cls(
            **{name: getattr(options, f"{name}_timeout_ms") / 1000 or None for name in cls.NAMES}
        )

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Timeout) and self._fields == other._fields

    def __repr__(self) -> str:
        return _repr(self, self.NAMES)


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        kind = type(timeout)
        name = kind.__name__
        if name == "Timeout":  # of httpx or aiohttp
            name = f"{kind.__module__.partition('.')[0]}.{name}"
        raise TypeError(f"timeout is a number of seconds, None or a llmpool.Timeout, not {name}")
    milliseconds("timeout", timeout)


def as_timeout(value: TimeoutTypes) -> Timeout:
    return value if isinstance(value, Timeout) else Timeout(value)


def _repr(value: Any, names: Tuple[str, ...] = ()) -> str:
    given = [
        f"{name}={getattr(value, name)!r}"
        for name in names or value.__slots__
        if not isinstance(getattr(value, name), Unset)
    ]
    return f"{type(value).__name__}({', '.join(given)})"
