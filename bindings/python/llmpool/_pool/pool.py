"""Pools: the shared one of the process, and pools of one's own."""

import ctypes
import os
import threading
import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from .._http.config import (
    UNSET,
    Breaker,
    Limits,
    MaybeSeconds,
    Timeout,
    TimeoutTypes,
    Unset,
    as_timeout,
    milliseconds,
    none_is_kept,
)
from .._http.later import later
from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.text import c_string

if TYPE_CHECKING:
    from .._native.stats import Stats
    from .budgets import BudgetState
    from .sight import Histogram, Reasons, RequestState
else:
    BudgetState = later("llmpool._pool.budgets", "BudgetState")
    Histogram = later("llmpool._pool.sight", "Histogram")
    Reasons = later("llmpool._pool.sight", "Reasons")
    RequestState = later("llmpool._pool.sight", "RequestState")
    Stats = later("llmpool._native.stats", "Stats")

Path = Union[str, "os.PathLike[str]"]

# options_get() lends strings that the next configure() takes back: no two at once.
_configuring = threading.Lock()


def _forget_lock() -> None:
    # In a forked child whoever had it is not there.
    global _configuring
    _configuring = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)


def _file(name: str, value: Optional[Path]) -> Optional[bytes]:
    return None if value is None else c_string(name, os.fsencode(value))


def _text(name: str, value: Optional[str]) -> Optional[bytes]:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is a str or None, not {type(value).__name__}")
    return None if value is None else c_string(name, value)


def _names(name: str, value: Any) -> Optional[bytes]:
    """A list with commas, of what is a sequence of names."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a sequence of str or None, not {type(value).__name__}")
    names = list(value)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f"{name} has names that are str, not {type(one).__name__}")
        if not one or one != one.strip(" ") or set(one) & set(",\r\n"):
            raise ValueError(f"{name} has names without a comma, blanks around it or a line end")
    return c_string(name, ",".join(names))


def key_pair(value: Any) -> Tuple[Any, Any]:
    """Certificate and key of what client_cert takes."""
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) == 3:
        raise ValueError(
            "client_cert is a file or a pair (certificate, key): a key with a passphrase is not "
            "read; 'openssl pkey -in key.pem -out plain.pem' writes one without"
        )
    if len(value) != 2:
        raise ValueError(f"client_cert is a file or a pair (certificate, key), not {len(value)}")
    return value[0], value[1]


def _versions(http1: bool, http2: bool) -> int:
    if http1 and http2:
        return abi.HTTP_AUTO
    if http2:
        return abi.HTTP_2
    if http1:
        return abi.HTTP_1_1
    raise ValueError("one of http1 and http2 must be true")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}")
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{name} is from 0 to {0xFFFFFFFF}, not {value}")
    return value


def _seconds(name: str, value: Any) -> int:
    if value is None:
        raise TypeError(f"{name} is a number of seconds, not None")
    return 0 if value == 0 else milliseconds(name, value)


def _seconds_or_never(name: str, value: Any) -> int:
    return 0 if value is None else _seconds(name, value)


def _longest(name: str, value: Any) -> int:
    """Of what 0 in llmpool_options_t means any."""
    return 0 if value is None else milliseconds(name, value)


def _insecure(name: str, value: Any) -> int:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False; a file of certificates goes to ca_file")
    return int(not value)


# Each option that is one field of llmpool_options_t: that field, and what makes its value.
_OPTIONS: Dict[str, Tuple[str, Callable[[str, Any], Any]]] = {
    "ca_file": ("ca_file", _file),
    "ca_path": ("ca_path", _file),
    "ca_pem": ("ca_pem", _text),
    "verify": ("tls_insecure", _insecure),
    "proxy": ("proxy", _text),
    "no_proxy": ("no_proxy", _text),
    "max_retries": ("max_retries", _count),
    "retry_backoff": ("retry_backoff_ms", _seconds),
    "retry_backoff_max": ("retry_backoff_max_ms", _seconds),
    "retry_after_max": ("retry_after_max_ms", _longest),
    "hedge_percent": ("hedge_percent", _count),
    "dns_cache_ttl": ("dns_cache_ttl_ms", _seconds),
    "tcp_keepalive": ("tcp_keepalive_ms", _seconds_or_never),
    "ping_interval": ("ping_interval_ms", _seconds_or_never),
    "stream_window_bytes": ("stream_window_bytes", _count),
    "max_event_bytes": ("max_event_bytes", _count),
    "quiet_events": ("quiet_events", _names),
    "utilization_warning_percent": ("utilization_warning_percent", _count),
}
OPTION_NAMES = (*_OPTIONS, "client_cert", "http1", "http2", "breaker")


def _fill(
    options: abi.Options,
    limits: Optional[Limits],
    timeout: TimeoutTypes,
    given: Dict[str, Any],
) -> None:
    """Changes the fields that were given and no others."""
    unknown = sorted(set(given) - set(OPTION_NAMES))
    if unknown:
        raise TypeError(
            f"unknown option {unknown[0]!r}; there are limits, timeout, {', '.join(OPTION_NAMES)}"
        )
    values: Dict[str, Any] = {}
    if limits is not None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits is a llmpool.Limits, not {type(limits).__name__}")
        values.update(limits._as_options())
        if values.get("max_keepalive_connections", 1) != 1 and none_is_kept(options):
            values.setdefault("keepalive_expiry_ms", 30_000)  # kept again, as long as by default
    if not isinstance(timeout, Unset):
        values.update(as_timeout(timeout)._as_options())
    if "http1" in given or "http2" in given:
        now = options.http_versions
        http1 = given.get("http1", now != abi.HTTP_2)
        http2 = given.get("http2", now != abi.HTTP_1_1)
        values["http_versions"] = _versions(http1, http2)
    if "client_cert" in given:
        certificate, key = key_pair(given["client_cert"])
        values["client_cert_file"] = _file("client_cert", certificate)
        values["client_key_file"] = _file("client_cert", key)
    if "breaker" in given:
        breaker = given["breaker"]
        if breaker is not None and not isinstance(breaker, Breaker):
            raise TypeError(f"breaker is a llmpool.Breaker or None, not {type(breaker).__name__}")
        none = {"breaker_failures": 0, "breaker_statuses": None}
        values.update(none if breaker is None else breaker._as_options())
    for name, (field, convert) in _OPTIONS.items():
        if name in given:
            values[field] = convert(name, given[name])
    for name, value in values.items():
        setattr(options, name, value)


def _close(handle: int) -> None:
    lib.close(handle, 0)


class Pool:
    """A pool of connections of one's own, with its own limits and counters.

    Most programs want the shared pool, which C code in the process uses too: Client() has it, and
    llmpool.configure() sets its options.

    Args:
        limits: what it may use; what it does not say is the library's default.
        timeout: for requests that have no timeout of their own.
        ca_file: PEM file of the certificate authorities to trust, instead of the system's.
        ca_path: a directory of them, as "openssl rehash" makes it; with ca_file both are trusted.
        ca_pem: PEM text of them itself; with the other two all are trusted.
        client_cert: PEM file with certificate and key, or a pair of files.
        verify: False accepts any certificate.
        proxy: http://, socks5:// or socks5h:// URL; "": none; None: as the environment says.
        no_proxy: hosts to reach directly; None: as the environment says.
        http1, http2: which versions to speak. Both: what the server picks over TLS, HTTP/1.1
            without. http2 alone over http:// is HTTP/2 with prior knowledge.
        max_retries: [2] how often a request is tried again where that is safe.
        retry_backoff, retry_backoff_max: [0.5, 8] seconds, doubled each time.
        retry_after_max: [60] seconds; a longer Retry-After ends the request; None: none does.
        hedge_percent: [5] second attempts for a hundred requests that ask for them, and ten before
            there are any: Retry(hedge_after=). 0: none, up to 100.
        dns_cache_ttl: [300] seconds.
        tcp_keepalive: [15] seconds of silence before the first probe; None: never.
        ping_interval: [30] seconds of silence before an HTTP/2 PING; None: never.
        stream_window_bytes: [1048576] of one answer held here unread.
        max_event_bytes: [16777216] of one server-sent event; a larger one is ResponseTooLarge.
            Of a stream that comes compressed it is always 16 MiB.
        quiet_events: [("ping", "keepalive")] types of server-sent events that say nothing, so
            that the event timeout goes on; None: these.
        utilization_warning_percent: [80] of max_connections; 0: never.
        breaker: [None] when calls to an origin that is down end at once.

    Raises:
        ValueError: an option is out of its range, a file cannot be read.
    """

    def __init__(
        self,
        *,
        limits: Optional[Limits] = None,
        timeout: TimeoutTypes = UNSET,
        ca_file: Union[Path, None, Unset] = UNSET,
        ca_path: Union[Path, None, Unset] = UNSET,
        ca_pem: Union[str, None, Unset] = UNSET,
        client_cert: Union[Path, Tuple[Path, Path], None, Unset] = UNSET,
        verify: Union[bool, Unset] = UNSET,
        proxy: Union[str, None, Unset] = UNSET,
        no_proxy: Union[str, None, Unset] = UNSET,
        http1: Union[bool, Unset] = UNSET,
        http2: Union[bool, Unset] = UNSET,
        max_retries: Union[int, Unset] = UNSET,
        retry_backoff: Union[float, Unset] = UNSET,
        retry_backoff_max: Union[float, Unset] = UNSET,
        retry_after_max: MaybeSeconds = UNSET,
        hedge_percent: Union[int, Unset] = UNSET,
        dns_cache_ttl: Union[float, Unset] = UNSET,
        tcp_keepalive: MaybeSeconds = UNSET,
        ping_interval: MaybeSeconds = UNSET,
        stream_window_bytes: Union[int, Unset] = UNSET,
        max_event_bytes: Union[int, Unset] = UNSET,
        quiet_events: Union[Sequence[str], None, Unset] = UNSET,
        utilization_warning_percent: Union[int, Unset] = UNSET,
        breaker: Union[Breaker, None, Unset] = UNSET,
    ) -> None:
        arguments = locals()
        given = {
            name: arguments[name] for name in OPTION_NAMES if not isinstance(arguments[name], Unset)
        }
        options = abi.Options()
        check(lib.options_init(ctypes.byref(options), ctypes.sizeof(options)))
        _fill(options, limits, timeout, given)
        handle = ctypes.c_void_p()
        check(lib.open(ctypes.byref(options), ctypes.byref(handle)))
        self._own(handle)

    def _own(self, handle: ctypes.c_void_p) -> None:
        assert handle.value
        self._handle: int = handle.value
        self._shared = False
        self._watched: object = None
        self._is_watched = False
        # A pool that is dropped without close() gives its thread and connections back. Not at
        # exit: the library sees to that itself.
        self._finalizer = weakref.finalize(self, _close, self._handle)
        self._finalizer.atexit = False
        self._check_stats_directory()

    def configure(
        self, *, limits: Optional[Limits] = None, timeout: TimeoutTypes = UNSET, **options: Any
    ) -> None:
        """Changes options of the pool in use; what is not given stays as it is.

        Limits, timeouts and retries hold from now on; what shapes a connection (TLS, proxy, HTTP
        version) for new ones, while the old ones retire. The options are those of Pool().

        Raises:
            ValueError: an option is out of its range, a file cannot be read.
            TypeError: there is no such option.
            PoolClosed: the pool is closed.
        """
        with _configuring:
            now = self._options()
            _fill(now, limits, timeout, options)
            check(lib.configure(self._handle, ctypes.byref(now)))

    def _options(self) -> abi.Options:
        now = abi.Options()
        check(lib.options_get(self._handle, ctypes.byref(now), ctypes.sizeof(now)))
        return now

    def _numbers(self) -> abi.Options:
        """Its options, of which only the numbers may be read: the strings were lent."""
        with _configuring:
            return self._options()

    @property
    def limits(self) -> Limits:
        """What the pool may use now; configure() changes it."""
        with _configuring:
            return Limits._of_options(self._options())

    @property
    def timeout(self) -> Timeout:
        """For requests that have no timeout of their own; configure() changes it."""
        with _configuring:
            return Timeout._of_options(self._options())

    def warm(self, url: str, connections: int = 1) -> None:
        """Opens connections to the URL's origin ahead of need, as the limits allow.

        Returns at once. Over HTTP/2 one is enough. What is not used within keepalive_expiry is
        closed again.

        Raises:
            ValueError: the URL is none.
            PoolClosed: the pool is closed.
        """
        raw = c_string("url", url)
        check(lib.warm(self._handle, raw, _count("connections", connections)))

    def stats(self, origin: Optional[str] = None) -> "Stats":
        """The counters of the pool, or of one origin, as "https://api.example.com:443".

        Raises:
            KeyError: the pool does not know the origin.
        """
        from .._native.stats import Stats

        raw = abi.Stats()
        raw.size = ctypes.sizeof(raw)
        name = None if origin is None else c_string("origin", origin)
        check(lib.stats(self._handle, name, ctypes.byref(raw)))
        return Stats(*(getattr(raw, field) for field in Stats.__annotations__))

    def histograms(self, origin: Optional[str] = None) -> "Dict[str, Histogram]":
        """How long things took, of the pool or of one origin: "pool_wait", "budget_wait",
        "connect", "tls", "first_byte", "first_token", "event_gap" and "total".

        Raises:
            KeyError: the pool does not know the origin.
        """
        from .sight import histograms

        return histograms(self, origin)

    def reasons(self, origin: Optional[str] = None) -> "Reasons":
        """Why connections were closed, requests failed and were tried again, and how often.

        Raises:
            KeyError: the pool does not know the origin.
        """
        from .sight import reasons

        return reasons(self, origin)

    def requests(self) -> "List[RequestState]":
        """The requests that are not over, the oldest first: where each stands, and since when."""
        from .sight import requests

        return requests(self)

    def origins(self) -> List[str]:
        """The origins that the pool knows, each as stats() takes it."""
        return self._read_text(lib.origins).split()

    def budgets(self) -> "Dict[str, BudgetState]":
        """Each budget that the pool knows, by its name: limits, what remains, who waits."""
        from .budgets import states

        return states(self)

    def metrics(self, *, openmetrics: bool = False) -> str:
        """The counters of the pool and its origins, with latency histograms, as text.

        Args:
            openmetrics: in OpenMetrics 1.0, "application/openmetrics-text; version=1.0.0;
                charset=utf-8"; else in the text format of Prometheus, "text/plain; version=0.0.4;
                charset=utf-8".
        """
        format = abi.METRICS_OPENMETRICS if openmetrics else abi.METRICS_PROMETHEUS
        text = self._read_text(lib.metrics, format, size=self._metrics_size)
        self._metrics_size = len(text) + 4096  # so that it is seldom made twice
        return text

    _metrics_size = 4096

    def _read_text(self, function: Any, *arguments: int, size: int = 4096) -> str:
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = function(self._handle, *arguments, buffer, size)
            check(length)
            if length < size:
                return ctypes.string_at(buffer, length).decode("utf-8", "replace")
            size = length + 4096  # it may grow between two calls

    def serve_stats(self, directory: Optional[Path]) -> None:
        """Shows the pool to whoever looks in, as `python -m llmpool top` does.

        While the process has a pool to show it has one Unix socket in the directory, PID.sock,
        which gives each who connects one JSON document: counts and names, no header, body or
        query. Only the same user and root are served. A forked child shows its shared pool on a
        socket of its own. LLMPOOL_STATS_DIR in the environment does it for every pool.

        Args:
            directory: made, for this user alone, if it is not there; None: it is shown no more.

        Raises:
            ValueError: the directory is another user's, others may write to it, it is a link, or
                the pools of the process are shown in another.
        """
        check(lib.serve_stats(self._handle, _file("directory", directory)))

    def _check_stats_directory(self) -> None:
        # The library shows the pool there, or goes on without a word where it cannot.
        directory = os.environ.get("LLMPOOL_STATS_DIR")
        if not directory:
            return
        try:
            self.serve_stats(directory)
        except ValueError as error:
            import logging

            logging.getLogger("llmpool").warning("LLMPOOL_STATS_DIR shows nothing: %s", error)

    def close(self, drain: float = 0.0) -> None:
        """Ends the pool: no more requests, and those it has are ended after drain seconds.

        Their callers get PoolClosed. Closing twice does nothing.

        Raises:
            ValueError: this is the shared pool, which is never closed.
        """
        if self._shared:
            raise ValueError("the shared pool is never closed")
        if self._finalizer.detach() is not None:
            check(lib.close(self._handle, milliseconds("drain", drain) if drain else 0))

    def __reduce__(self) -> Any:
        """The shared pool is pickled as the shared pool of whatever process loads it."""
        if self._shared:
            return shared, ()
        raise TypeError(
            "a pool of one's own cannot be pickled, its connections belong to this process: open "
            "one there, or use the shared pool, which is pickled as the shared pool"
        )

    def __copy__(self) -> "Pool":
        return self

    def __deepcopy__(self, memo: Dict[int, Any]) -> "Pool":
        return self

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._shared:
            self.close()

    def __repr__(self) -> str:
        name = "llmpool.shared()" if self._shared else "llmpool.Pool"
        try:
            now = self.stats()
        except Exception as error:
            return f"<{name}: {error}>"
        return (
            f"<{name}: {now.connecting} connecting, {now.in_use} in use, {now.idle} idle "
            f"connections; {now.pending} pending, {now.active} active requests>"
        )


_shared_pool: Optional[Pool] = None


def shared() -> Pool:
    """The pool of this process, which C code uses too. Made on first use, never closed."""
    global _shared_pool
    if _shared_pool is None:
        handle = ctypes.c_void_p()
        check(lib.shared(ctypes.byref(handle)))
        assert handle.value
        pool = Pool.__new__(Pool)
        pool._handle = handle.value
        pool._shared = True
        pool._watched = None
        pool._is_watched = False
        pool._check_stats_directory()
        _shared_pool = pool  # two threads at once get two objects with one handle: no harm
    return _shared_pool


def with_options_of_shared(read: Callable[[abi.Options], Any]) -> Any:
    """What the function makes of the shared pool's options; they are lent to it."""
    with _configuring:
        return read(shared()._options())


def configure(
    *, limits: Optional[Limits] = None, timeout: TimeoutTypes = UNSET, **options: Any
) -> None:
    """Changes options of the shared pool, at any time; what is not given stays as it is.

        llmpool.configure(limits=llmpool.Limits(max_connections=20), timeout=30.0)

    See Pool() for the options and Pool.configure() for what takes effect when.
    """
    shared().configure(limits=limits, timeout=timeout, **options)


def stats(origin: Optional[str] = None) -> "Stats":
    """The counters of the shared pool, or of one of its origins: see Pool.stats()."""
    return shared().stats(origin)


def warm(url: str, connections: int = 1) -> None:
    """Opens connections of the shared pool ahead of need: see Pool.warm()."""
    shared().warm(url, connections)


def budgets() -> "Dict[str, BudgetState]":
    """The budgets of the shared pool: see Pool.budgets()."""
    return shared().budgets()


def serve_stats(directory: Optional[Path]) -> None:
    """Shows the shared pool to whoever looks in: see Pool.serve_stats()."""
    shared().serve_stats(directory)


def metrics(
    *,
    openmetrics: bool = False,
    processes: Optional[str] = None,
    directory: Optional[Path] = None,
) -> str:
    """The counters of the shared pool as text: see Pool.metrics().

    Args:
        openmetrics: in OpenMetrics instead of the text format of Prometheus.
        processes: "all": those of all pools of all processes that serve their statistics, added up,
            for a /metrics behind several workers. What was counted stays when one of them ends.
        directory: where these serve them; None: as LLMPOOL_STATS_DIR says.

    Raises:
        ValueError: neither the environment nor the argument has a directory, or it cannot be used.
    """
    own = shared().metrics(openmetrics=openmetrics)
    if processes is None:
        return own
    if processes != "all":
        raise ValueError(f'processes is "all" or None, not {processes!r}')
    from .together import metrics as of_all

    return of_all(own, directory)
