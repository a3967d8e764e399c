"""Limits and timeouts, and how they reach the library's structs."""

import math
from typing import Any, Callable, Dict, Iterable, Literal, Optional, Tuple, Union

from .constants import (
    NO_TIMEOUT,
    REQUEST_NO_REDIAL,
    REQUEST_NO_RETRY,
    REQUEST_RETRY_SENT,
    REQUEST_RETRY_STATUS,
)
from .spending import BaseBudget, BudgetRequest, Spending


class Unset:
    """The type of UNSET: "not given", where None already means "none"."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()

MaybeInt = Union[int, None, Unset]
MaybeSeconds = Union[float, None, Unset]
TimeoutTypes = Union[float, None, Unset, "Timeout", Tuple[Optional[float], ...]]
RetryTypes = Union[None, Literal["status", "sent", False], "Retry"]

# What budget= takes: a llmpool.Budget, a Spending, a name, or a function that chooses one of these.
BudgetTypes = Union[None, str, BaseBudget, Spending, Callable[[BudgetRequest], Any]]
MaybeBudget = Union[BudgetTypes, Unset]

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


def count(name: str, number: int, largest: int = 0xFFFFFFFF) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} is a whole number or None, not {type(number).__name__}")
    if not 1 <= number <= largest:
        raise ValueError(f"{name} is None (no limit) or from 1 to {largest}, not {number}")
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

    # Each that is a number; those in seconds are milliseconds in llmpool_options_t.
    COUNTS = (
        "max_connections", "max_connections_per_origin", "max_keepalive_connections",
        "max_streams_per_connection", "max_pending_requests",
    )  # fmt: skip
    SECONDS = ("keepalive_expiry", "max_connection_age")
    __slots__ = COUNTS + SECONDS
    max_connections: MaybeInt
    max_connections_per_origin: MaybeInt
    max_keepalive_connections: MaybeInt
    max_streams_per_connection: MaybeInt
    max_pending_requests: MaybeInt
    keepalive_expiry: MaybeSeconds
    max_connection_age: MaybeSeconds

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
        arguments = locals()
        for name in self.__slots__:
            setattr(self, name, arguments[name])
        self._as_options()

    def _as_options(self) -> Dict[str, int]:
        """The fields of llmpool_options_t that were given; there 0 means no limit."""
        options = {}
        none_kept = False
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Unset):
                continue
            if name in self.SECONDS:
                options[f"{name}_ms"] = 0 if value is None else milliseconds(name, value)
            elif name == "max_keepalive_connections" and value == 0 and value is not False:
                options[name], none_kept = _NONE_KEPT[0], True
            else:
                options[name] = 0 if value is None else count(name, value)
        if none_kept:
            options["keepalive_expiry_ms"] = _NONE_KEPT[1]
        return options

    @classmethod
    def _of_options(cls, options: Any) -> "Limits":
        """From the fields of llmpool_options_t."""
        values: Dict[str, Any] = {}
        for name in cls.__slots__:
            if name in cls.SECONDS:
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


class Breaker:
    """When calls to an origin that is down end at once, instead of each running into its timeout.

    After `failures` failures in a row that brought no HTTP answer (a dial, unless another
    connection is open; TLS; a connection lost before the head of the answer; a timeout of the
    pool's, and not a shorter one of the request's or client's, while nothing came from that origin)
    calls to that origin raise at once what the last
    of them raised, with `unseen`, and so do those that wait. A connection that can be made again,
    or an answer of any other status, closes the breaker.

    Args:
        failures: in a row, 1 to 1000.
        statuses: of answers that count as failures, too: 500 to 599. Calls that end for one raise
            RefusedStream.

    Raises:
        ValueError: a number out of its range.
        TypeError: not a number.
    """

    __slots__ = ("failures", "statuses")
    failures: int
    statuses: Tuple[int, ...]

    def __init__(self, failures: int = 3, *, statuses: Iterable[int] = ()) -> None:
        if isinstance(failures, bool) or not isinstance(failures, int):
            raise TypeError(f"failures is a whole number, not {type(failures).__name__}")
        if not 1 <= failures <= 1000:
            raise ValueError(f"failures is from 1 to 1000, not {failures}")
        if isinstance(statuses, (int, str)):
            raise TypeError(f"statuses is several whole numbers, not {type(statuses).__name__}")
        self.failures = failures
        self.statuses = tuple(statuses)
        for status in self.statuses:
            if isinstance(status, bool) or not isinstance(status, int):
                raise TypeError(f"statuses are whole numbers, not {type(status).__name__}")
            if not 500 <= status <= 599:
                raise ValueError(f"statuses are from 500 to 599, not {status}")

    def _as_options(self) -> Dict[str, Any]:
        """The fields of llmpool_options_t."""
        statuses = ",".join(str(int(status)) for status in self.statuses)
        return {"breaker_failures": self.failures, "breaker_statuses": statuses.encode() or None}

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Breaker):
            return False
        return (self.failures, set(self.statuses)) == (other.failures, set(other.statuses))

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
        Timeout(event=120)                  a stream of events says something every 2 minutes
        Timeout((3.0, 60.0))                (connect, read[, write[, pool]]); the rest None

    Args:
        timeout: the value of connect, read, write and pool where they are not given themselves.
            None also means no budget, first_byte, total and event timeout. Another Timeout is
            copied.
        connect: of a dial: name, TCP, proxy and TLS together. A new pool has 5.
        read: the longest silence while bytes of the answer are awaited. 60.
        write: the longest time in which no byte of the request could be sent. 10.
        pool: the longest wait for a connection. 10.
        budget: the longest wait for the request's budget, before that. 60.
        first_byte: from the request sent to the first byte of its answer. None: read runs there
            too.
        total: from submission to the last byte. None.
        event: of an answer that is an unencoded text/event-stream, the longest time from its head
            to the first event that says something, and from one to the next: comments, and events
            of a type in the pool's quiet_events, do not. It stands while the application does not
            read. None.

    Raises:
        ValueError: negative, or not a number.
    """

    NAMES = ("connect", "read", "write", "pool", "budget", "first_byte", "total", "event")
    _OF_ONE_VALUE = ("connect", "read", "write", "pool")  # what a number, or a tuple, stands for
    __slots__ = (*NAMES, "_fields")
    connect: MaybeSeconds
    read: MaybeSeconds
    write: MaybeSeconds
    pool: MaybeSeconds
    budget: MaybeSeconds
    first_byte: MaybeSeconds
    total: MaybeSeconds
    event: MaybeSeconds

    def __init__(
        self,
        timeout: TimeoutTypes = UNSET,
        *,
        connect: MaybeSeconds = UNSET,
        read: MaybeSeconds = UNSET,
        write: MaybeSeconds = UNSET,
        pool: MaybeSeconds = UNSET,
        budget: MaybeSeconds = UNSET,
        first_byte: MaybeSeconds = UNSET,
        total: MaybeSeconds = UNSET,
        event: MaybeSeconds = UNSET,
    ) -> None:
        arguments = locals()
        base = self._base(timeout)
        fields = []
        for name in self.NAMES:
            value = arguments[name]
            if isinstance(value, Unset):
                value = base.get(name, UNSET)
            setattr(self, name, value)
            if isinstance(value, Unset):
                fields.append(0)
            else:
                fields.append(NO_TIMEOUT if value is None else milliseconds(name, value))
        self._fields = tuple(fields)

    def _base(self, timeout: TimeoutTypes) -> Dict[str, MaybeSeconds]:
        """What the first argument says of each."""
        if isinstance(timeout, Timeout):
            return {name: getattr(timeout, name) for name in self.NAMES}
        if isinstance(timeout, tuple):
            if not 2 <= len(timeout) <= len(self._OF_ONE_VALUE):
                raise ValueError("a timeout tuple is (connect, read[, write[, pool]])")
            return {**dict.fromkeys(self._OF_ONE_VALUE), **dict(zip(self._OF_ONE_VALUE, timeout))}
        if timeout is not None and not isinstance(timeout, Unset):
            _check_timeout(timeout)
        return dict.fromkeys(self.NAMES if timeout is None else self._OF_ONE_VALUE, timeout)

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


class Retry:
    """When a request may be sent again, and how often.

    What the server provably has not acted on is sent again in any case. A request whose body comes
    piece by piece, or of whose answer a part was delivered, never is. All requests of a pool share
    a budget of 10 retries, to which each request adds a fifth of one and each second 3, up to 100:
    while it is empty a request ends as it would without another try.

        Retry(status=True)                     as retry="status"
        Retry(sent=True)                       as retry="sent"
        Retry(status=True, max_retries=5, retry_after_max=120)
        Retry(sent=True, hedge_after=2.0)

    With hedge_after, where no byte of the answer has come so long after an attempt was given its
    connection, a second attempt goes out, once, on another connection if one is idle or may be
    opened, else on another stream. The first that answers with anything but what status=True
    retries is the answer. The other is given up, and may be billed all the same. It is left out
    where it would wait, for a connection or for the request's budget, and beyond hedge_percent of
    the pool. One that sends its body piece by piece has none.

    Args:
        status: also after 408, 409, 429 and 5xx, minding Retry-After (RFC 9110, 10.2.3).
        sent: even where the server may have begun to act on it: a connection that was lost, a
            timeout. Only for what may happen twice.
        connect: also where no connection could be made, after a pause. False: that fails at once,
            as in httpx and requests, and does not wait for the pause of up to a second that follows
            a connection which could not be made.
        max_retries: how often, for whatever reason, from 1; not given: as the pool has it.
        retry_after_max: seconds; a longer Retry-After ends the request with the answer in hand.
            None: any; not given: as the pool has it.
        hedge_after: seconds from an attempt's beginning, needs sent; None: no second attempt.

    Raises:
        ValueError: a number below 1, negative seconds, or hedge_after without sent.
        TypeError: not a number.
    """

    NAMES = ("status", "sent", "connect", "max_retries", "retry_after_max", "hedge_after")
    __slots__ = (*NAMES, "_flags", "_fields", "_unhedged")

    def __init__(
        self,
        *,
        status: bool = False,
        sent: bool = False,
        connect: bool = True,
        max_retries: Union[int, Unset] = UNSET,
        retry_after_max: MaybeSeconds = UNSET,
        hedge_after: MaybeSeconds = UNSET,
    ) -> None:
        self.status = status
        self.sent = sent
        self.connect = connect
        self.max_retries = max_retries
        self.retry_after_max = retry_after_max
        self.hedge_after = hedge_after
        self._flags = (
            (REQUEST_RETRY_STATUS if status else 0)
            | (REQUEST_RETRY_SENT if sent else 0)
            | (0 if connect else REQUEST_NO_REDIAL)
        )
        # In the order of Call's options.
        self._fields = (
            0 if isinstance(max_retries, Unset) else _retries(max_retries),
            0
            if isinstance(retry_after_max, Unset)
            else NO_TIMEOUT
            if retry_after_max is None
            else milliseconds("retry_after_max", retry_after_max),
            _hedge(hedge_after, sent),
        )
        # Of a request whose body cannot be sent twice.
        self._unhedged = (*self._fields[:2], 0)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Retry) and (self._flags, self._fields) == (
            other._flags,
            other._fields,
        )

    def __repr__(self) -> str:
        return _repr(self, self.NAMES)


def _retries(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"max_retries is a whole number, not {type(number).__name__}")
    if not 1 <= number <= 0xFFFFFFFF:
        raise ValueError(
            f"max_retries is from 1 to {0xFFFFFFFF}, not {number}; retry=False sends nothing again"
        )
    return number


def _hedge(after: MaybeSeconds, sent: bool) -> int:
    if after is None or isinstance(after, Unset):
        return 0
    if not sent:
        raise ValueError("hedge_after: only with sent=True, as the server may act on both attempts")
    return milliseconds("hedge_after", after)


AS_POOL = Retry()
NO_REDIAL = Retry(connect=False)
_NEVER = Retry()
_NEVER._flags = REQUEST_NO_RETRY
_RETRIES = {"status": Retry(status=True), "sent": Retry(sent=True)}


def as_retry(value: RetryTypes) -> Retry:
    if value is None:
        return AS_POOL
    if isinstance(value, Retry):
        return value
    if value is False:
        return _NEVER
    known = _RETRIES.get(value) if isinstance(value, str) else None
    if known is None:
        shown = repr(value) if isinstance(value, (str, bool)) else type(value).__name__
        raise TypeError(f'retry is None, False, "status", "sent" or a llmpool.Retry, not {shown}')
    return known


def _repr(value: Any, names: Tuple[str, ...] = ()) -> str:
    given = [
        f"{name}={getattr(value, name)!r}"
        for name in names or value.__slots__
        if not isinstance(getattr(value, name), Unset)
    ]
    return f"{type(value).__name__}({', '.join(given)})"
