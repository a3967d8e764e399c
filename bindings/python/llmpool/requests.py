"""requests on llmpool: an adapter with the pool of the process below it.

    import requests
    from llmpool.requests import Adapter

    session = requests.Session()
    session.mount("https://", Adapter())
    session.mount("http://", Adapter())

What requests does is requests' own: redirects, cookies, auth, decoding. timeout, verify, cert,
proxies and stream mean the same, and its exceptions are raised. HTTP/2 is on.
"""

import warnings
from types import SimpleNamespace
from typing import (
    Any,
    Dict,
    Hashable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Set,
    Tuple,
    Type,
    Union,
)
from urllib.parse import quote, unquote, urlsplit

try:
    import requests
    import urllib3
    from requests.adapters import DEFAULT_POOLBLOCK, DEFAULT_POOLSIZE, DEFAULT_RETRIES, HTTPAdapter
    from urllib3 import HTTPHeaderDict as _  # noqa: F401  which urllib3 1 has not
except ImportError as error:
    raise ImportError(
        "llmpool.requests needs requests and urllib3 2.2: pip install 'libllmpool[requests]'"
    ) from error

from requests.exceptions import (
    ConnectionError,
    ConnectTimeout,
    InvalidHeader,
    InvalidProxyURL,
    InvalidSchema,
    InvalidURL,
    ProxyError,
    ReadTimeout,
    RetryError,
    SSLError,
)
from requests.utils import prepend_scheme_if_needed, select_proxy
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import SKIP_HEADER, Retry, Timeout
from urllib3.util.request import set_file_position

import llmpool
from llmpool import transport

from ._adapters.patches import compiled_as
from ._adapters.urllib3 import Origin, Response, problem

__all__ = ["Adapter"]

# What may stand in a target as it is.
_TARGET = "!#$%&'()*+,/:;=?@[]~"
_PROXY_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
# Of HTTPAdapter what a subclass may not have of its own, as nothing here would come of it.
_NOT_CALLED = (
    "build_connection_pool_key_attributes", "cert_verify", "get_connection",
    "get_connection_with_tls_context", "proxy_headers", "request_url",
)  # fmt: skip
# HTTPAdapter's own; None as long as it was only seen replaced.
_send: Any = HTTPAdapter.send if HTTPAdapter.send.__module__ == "requests.adapters" else None
# urllib3's own, once it was seen.
_urlopen: Any = None
_URLLIB3_FILE = compiled_as(urllib3.connectionpool)
_KEPT = 256  # timeouts, URLs
_WAYS = 64  # of one adapter
_PIECE = 64 << 10  # that a file is read in
# What urllib3 does not try again.
_FINAL = (
    exceptions.ClosedPoolError, exceptions.EmptyPoolError, exceptions.InvalidHeader,
    exceptions.LocationValueError,
)  # fmt: skip
_ONCE = Retry(0, read=False)
# What requests makes of urllib3's exceptions, or of the reason why one gave up: the first counts.
_ERRORS: Tuple[Tuple[Type[Exception], Type[requests.RequestException]], ...] = (
    (exceptions.NewConnectionError, ConnectionError),
    (exceptions.ConnectTimeoutError, ConnectTimeout),
    (exceptions.ResponseError, RetryError),
    (exceptions.ProxyError, ProxyError),
    (exceptions.SSLError, SSLError),
    (exceptions.ReadTimeoutError, ReadTimeout),
    (exceptions.InvalidHeader, InvalidHeader),
    (exceptions.LocationValueError, InvalidURL),
)


class Adapter(HTTPAdapter):
    """For requests.Session.mount(), under "https://", "http://" or the beginning of a URL.

    It is an HTTPAdapter, of which a subclass may override send(), build_response(), add_headers()
    and, for an ssl_context, init_poolmanager(). The urllib3 pools of that one are there, and carry
    nothing, unless something was put in the place of HTTPAdapter.send(), of urllib3's urlopen() or
    of its connections, as responses, pook and VCR do in tests: then these do all the work.

    Args:
        pool_connections: has no meaning here, nor has pool_maxsize, unless pool_block is true.
        max_retries: a number, or a urllib3 Retry, with all that it says: which errors and statuses
            to try again after, for which methods, and how long to wait. Each of its attempts is
            one of the pool, which sends again what a server provably has not seen, but does not
            dial again where a connection is refused. 0: none. An iterator as body is sent once.
        pool_block: at most pool_maxsize connections to one origin; who wants another one waits.
        http1, http2: which versions to speak. Both: what the server picks over TLS, HTTP/1.1
            without.
        trust_env: where verify is True SSL_CERT_FILE and SSL_CERT_DIR count. What else is read of
            the environment is the session's business.
        isolated: pools that nobody else has; close() closes them.
        pool: a llmpool.Pool, instead of what verify, cert and proxies say.
    """

    __attrs__: List[str] = [*HTTPAdapter.__attrs__, "_options"]  # noqa: RUF012

    def __init__(
        self,
        pool_connections: int = DEFAULT_POOLSIZE,
        pool_maxsize: int = DEFAULT_POOLSIZE,
        max_retries: Union[int, Retry] = DEFAULT_RETRIES,
        pool_block: bool = DEFAULT_POOLBLOCK,
        *,
        http1: bool = True,
        http2: bool = True,
        trust_env: bool = True,
        isolated: bool = False,
        pool: Optional[llmpool.Pool] = None,
    ) -> None:
        self._options: Dict[str, Any] = {
            "http1": http1,
            "http2": http2,
            "trust_env": trust_env,
            "isolated": isolated,
            "pool": pool,
        }
        super().__init__(pool_connections, pool_maxsize, max_retries, pool_block)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in _NOT_CALLED:
            if getattr(cls, name) is not getattr(HTTPAdapter, name):
                raise TypeError(
                    f"{cls.__name__}.{name}() would have no effect: llmpool.requests.Adapter "
                    "makes no connections of urllib3"
                )

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = DEFAULT_POOLBLOCK, **pool_kwargs: Any
    ) -> None:
        """Called when it is made, and when it is unpickled.

        Args:
            maxsize, block: see pool_block.
            pool_kwargs: ssl_context, whose CA certificates and verify mode count where verify is
                True.

        Raises:
            TypeError: others of urllib3's pools.
            ValueError: what the context has cannot be read back from it.
        """
        self._context = pool_kwargs.pop("ssl_context", None)
        if pool_kwargs:
            raise TypeError(
                f"init_poolmanager: {sorted(pool_kwargs)[0]} is for connections of urllib3, which "
                "llmpool.requests.Adapter makes none of; ssl_context is translated"
            )
        if self._context is not None:
            transport.way(verify=self._context)
        self._leases: Dict[Hashable, transport.Lease] = {}
        self._waiting: Set[transport.Group] = set()
        super().init_poolmanager(connections, maxsize, block)

    def close(self) -> None:
        """Ends the requests of this adapter that wait for an answer, and nobody else's. An answer
        that has begun can be read to its end, as the answers of a closed session always could. The
        adapter can be used again."""
        for group in list(self._waiting):
            group.cancel()
        self._leases = {}  # each is held by its answers, too
        super().close()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Optional[Mapping[str, str]] = None,
    ) -> requests.Response:
        """Sends a request and waits for the head of its answer.

        Args:
            stream: makes no difference here: the session reads the body where it is false.
            timeout: seconds, for connecting and for each silence of the server, or a pair
                (connect, read), or a urllib3 Timeout; None: no limit.
            verify: True, False, or a file or directory of CA certificates.
            cert: a client certificate: a file with its key, or a pair of files.
            proxies: from schemes, or schemes and hosts, to http://, socks5:// or socks5h:// URLs.

        Raises:
            requests.RequestException: its subclasses say what went wrong, as HTTPAdapter's do.
            ValueError: timeout cannot be meant.
            OSError: a file cannot be read.
        """
        if _is_mocked():
            theirs: Any = super()
            mocked: requests.Response = theirs.send(
                request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )
            return mocked
        try:
            call = _Call(self, request, timeout, verify, cert, proxies)
            self.add_headers(
                request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )
            answer = call.answer()
        except exceptions.HTTPError as error:
            _raise(error, request)
        return self.build_response(request, answer)

    def _lease(
        self, request: requests.PreparedRequest, is_tls: bool, verify: Any, cert: Any, proxy: str
    ) -> transport.Lease:
        if verify is None:
            verify = True
        if isinstance(cert, list):
            cert = tuple(cert)
        key = (is_tls, verify, cert, proxy)
        leases = self._leases
        lease = leases.get(key)
        if lease is None:
            if len(leases) >= _WAYS:  # of proxies with ever other passwords, say
                leases.clear()
            lease = leases.setdefault(key, self._find(request, *key))
        return lease

    def _find(
        self, request: requests.PreparedRequest, is_tls: bool, verify: Any, cert: Any, proxy: str
    ) -> transport.Lease:
        assert request.url is not None
        # Says which file is not there. What it finds out is for a connection of urllib3.
        self.cert_verify(SimpleNamespace(), request.url, verify, cert)
        options = self._options
        if not is_tls:
            verify, cert = True, None
        elif verify is True and self._context is not None:
            verify = self._context
        limits = None
        if self._pool_block:
            limits = llmpool.Limits(max_connections_per_origin=self._pool_maxsize)
        proxy = _proxy_url(proxy)
        try:
            way = transport.way(
                verify=verify,
                cert=cert,
                proxy=proxy,
                http1=options["http1"],
                http2=options["http2"],
                trust_env=options["trust_env"],
            )
            return transport.lease(way, limits, options["isolated"])
        except ValueError as error:
            raise SSLError(error, request=request) from error


def _is_mocked() -> bool:
    """Whether somebody has put something in the place of what HTTPAdapter is or uses, as responses
    and VCR do: then it does the work, and a mocked test never reaches the network. What shows
    urllib3's own code within, as the wrappers of instrumentation do, is no mock."""
    global _send, _urlopen
    now = HTTPAdapter.send
    if now is not _send:
        if _send is not None or now.__module__ != "requests.adapters":
            return True
        _send = now
    urlopen = urllib3.HTTPConnectionPool.urlopen
    if urlopen is not _urlopen:
        code = getattr(urlopen, "__code__", None)
        if code is None or code.co_filename != _URLLIB3_FILE:
            return True
        _urlopen = urlopen
    return (
        urllib3.HTTPConnectionPool.ConnectionCls is not HTTPConnection
        or urllib3.HTTPSConnectionPool.ConnectionCls is not HTTPSConnection
    )


def _proxy_url(proxy: str) -> str:
    """As the pool has it.

    Raises:
        InvalidProxyURL: it has no host.
        InvalidSchema: proxies of that kind are not supported.
    """
    if not proxy:
        return ""
    try:
        url = urllib3.util.parse_url(prepend_scheme_if_needed(proxy, "http"))
    except exceptions.LocationValueError:  # whose text has the password in it
        url = urllib3.util.Url()
    if not url.host:
        raise InvalidProxyURL(
            "Please check proxy URL. It is malformed and could be missing the host."
        )
    if url.scheme not in _PROXY_PORTS:
        raise InvalidSchema(
            f"Proxies of the kind {url.scheme}:// are not supported: {', '.join(_PROXY_PORTS)} are"
        )
    user = ""
    if url.auth is not None:
        user = ":".join(quote(unquote(part), safe="") for part in url.auth.split(":", 1)) + "@"
    return f"{url.scheme}://{user}{url.host}:{url.port or _PROXY_PORTS[url.scheme]}"


class _Address(NamedTuple):
    """Where a URL leads: as the seam has it, and in parts."""

    url: bytes
    target: str
    is_tls: bool
    host: str
    port: int

    @property
    def shown(self) -> str:
        """The target without the values of its query, any of which may be a key."""
        url = self.url.decode("ascii")
        return str(llmpool.HTTPError(url))[len(url) - len(self.target) :]


_addresses: Dict[str, _Address] = {}


def _address(url: str) -> _Address:
    """Raises LocationValueError where it leads nowhere."""
    known = _addresses.get(url)
    if known is not None:
        return known
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        is_tls = scheme == "https"
        if scheme not in ("http", "https"):
            raise exceptions.URLSchemeUnknown(scheme)
        if not host:
            raise exceptions.LocationValueError("No host specified.")
        # Without its user part, which became a header when the request was prepared.
        netloc = f"[{host}]" if ":" in host else host
        if port is not None:
            netloc += f":{port}"
        target = quote(parts.path or "/", safe=_TARGET)
        if parts.query:
            target += "?" + quote(parts.query, safe=_TARGET)
        raw = f"{scheme}://{netloc}{target}".encode("ascii")
    except exceptions.LocationValueError:
        raise
    except ValueError:  # whose text may have a password in it
        raise exceptions.LocationValueError("The host or the port of the URL is wrong.") from None
    known = _Address(raw, target, is_tls, host, port or (443 if is_tls else 80))
    if len(_addresses) >= _KEPT:
        _addresses.clear()
    _addresses[url] = known
    return known


_timeouts: Dict[Tuple[Any, ...], llmpool.Timeout] = {}


def _timeout(timeout: Any, options: transport.RequestOptions) -> llmpool.Timeout:
    """Connecting is TCP, proxy and TLS together; what urllib3 calls total bounds both."""
    if isinstance(timeout, Timeout):
        running = timeout.clone()
        running.start_connect()
        connect = Timeout.resolve_default_timeout(running.connect_timeout)
        read = Timeout.resolve_default_timeout(running.read_timeout)
    elif isinstance(timeout, tuple):
        try:
            connect, read = timeout
        except ValueError:
            raise ValueError(
                f"Invalid timeout {timeout}. Pass a (connect, read) timeout tuple, or a single "
                "float to set both timeouts to the same value."
            ) from None
    else:
        connect = read = timeout
    key = (connect, read, options.first_byte, options.total, options.event)
    known = _timeouts.get(key)
    if known is None:
        Timeout(connect=connect, read=read)  # refuses what cannot be meant
        if len(_timeouts) >= _KEPT:
            _timeouts.clear()
        # A server that takes no more of a request is as silent as one that does not answer.
        known = _timeouts[key] = llmpool.Timeout(
            connect=connect, read=read, write=read, pool=None, first_byte=key[2], total=key[3],
            event=key[4],
        )  # fmt: skip
    return known


class _Call:
    """A request on its way: what each attempt is made of."""

    __slots__ = ("adapter", "request", "address", "lease", "pool", "timeout", "options",
                 "is_proxied", "body", "is_repeatable", "position")  # fmt: skip

    def __init__(
        self,
        adapter: Adapter,
        request: requests.PreparedRequest,
        timeout: Any,
        verify: Any,
        cert: Any,
        proxies: Optional[Mapping[str, str]],
    ) -> None:
        assert request.url is not None
        self.adapter = adapter
        self.request = request
        self.address = _address(request.url)
        self.options = transport.current_options()
        self.timeout = _timeout(timeout, self.options)
        proxy = ""
        if proxies:
            proxy = select_proxy(request.url, proxies) or ""  # type: ignore[arg-type]
        self.is_proxied = bool(proxy)
        self.lease: Optional[transport.Lease] = None
        pool = adapter._options["pool"]
        if pool is None:
            self.lease = adapter._lease(request, self.address.is_tls, verify, cert, proxy)
            pool = self.lease.pool
            if verify is False and self.address.is_tls:
                _warn(self.address.host)
        self.pool: llmpool.Pool = pool
        self.body = _body(request.body)
        self.is_repeatable = True
        self.position: Any = None
        if self.body is not None and not isinstance(self.body, bytes):
            self.position = set_file_position(self.body, None)
            self.is_repeatable = (
                isinstance(self.position, int)
                if hasattr(self.body, "read")
                else not hasattr(self.body, "__next__")
            )

    def origin(self) -> Origin:
        address = self.address
        return Origin(address.is_tls, address.host, address.port, self.is_proxied)

    def answer(self) -> Response:
        """Sends it until it is answered as max_retries says, as urllib3's pools do.

        Raises:
            urllib3.exceptions.HTTPError: its subclasses say what went wrong.
        """
        method = self.request.method or "GET"
        target = self.address.target
        retries = self.adapter.max_retries
        if not isinstance(retries, Retry):  # somebody set it
            retries = Retry.from_int(retries, redirect=False)
        while True:
            try:
                raw = self._attempt(method)
            except (llmpool.HTTPError, llmpool.InvalidURL) as error:
                origin = self.origin()
                failure = problem(error, origin)
                if isinstance(failure, _FINAL):
                    raise failure from error
                if not self.is_repeatable:
                    retries = _ONCE
                retries = retries.increment(
                    method, self.address.shown, error=failure, _pool=origin.pool
                )
                retries.sleep()
                continue
            answer = Response(raw, self, method=method, url=target, retries=retries)
            has_retry_after = "retry-after" in answer.headers
            if not self.is_repeatable or not retries.is_retry(
                method, answer.status, has_retry_after
            ):
                return answer
            try:
                retries = retries.increment(
                    method, self.address.shown, response=answer, _pool=self.origin().pool
                )
            except exceptions.MaxRetryError:
                if retries.raise_on_status:
                    answer.drain_conn()
                    raise
                return answer
            answer.drain_conn()
            retries.sleep(answer)

    def _attempt(self, method: str) -> transport.RawResponse:
        options = self.options
        body = self.body
        if body is not None and not isinstance(body, bytes):
            if self.is_repeatable:
                set_file_position(body, self.position)
            body = _pieces(body)
        request = transport.RawRequest(
            method.encode("ascii"),
            self.address.url,
            _headers(self.request.headers, body is not None),
            body,
            timeout=self.timeout,
            **options.arguments(transport.NO_REDIAL),
        )
        group = transport.Group()
        waiting = self.adapter._waiting
        waiting.add(group)
        try:
            return transport.send(self.pool, request, group)
        finally:
            waiting.discard(group)


def _headers(headers: Mapping[str, Any], has_body: bool) -> List[Tuple[bytes, bytes]]:
    """In their order, behind what http.client says where they do not."""
    pairs = []
    is_encoded = is_framed = False
    for name, value in headers.items():
        if isinstance(value, str):
            if value == SKIP_HEADER:
                is_encoded = is_encoded or name.lower() == "accept-encoding"
                continue
            value = value.encode("latin-1")
        raw = name.encode("ascii") if isinstance(name, str) else name
        known = raw.lower()
        if known == b"accept-encoding":
            is_encoded = True
        elif known == b"content-length" or known == b"transfer-encoding":
            is_framed = True
        pairs.append((raw, value))
    if not is_encoded:
        pairs.append((b"Accept-Encoding", b"identity"))
    if has_body and not is_framed:
        pairs.append((b"Transfer-Encoding", b"chunked"))
    return pairs


def _body(body: Any) -> Any:
    """Bytes, None, or what is read or iterated."""
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8")
    if hasattr(body, "read"):
        return body
    try:
        return bytes(memoryview(body))
    except TypeError:
        pass
    if hasattr(body, "__iter__"):
        return body
    raise TypeError(
        "'body' must be a bytes-like object, file-like object, or iterable. Instead was "
        f"{type(body).__name__}"
    )


def _pieces(body: Any) -> Iterator[bytes]:
    """Of what is the caller's, and is not closed here."""
    for piece in _read(body) if hasattr(body, "read") else body:
        yield piece.encode("utf-8") if isinstance(piece, str) else piece


def _read(file: Any) -> Iterator[Any]:
    while True:
        piece = file.read(_PIECE)
        if not piece:
            return
        yield piece


def _warn(host: str) -> None:
    warnings.warn(
        f"Unverified HTTPS request is being made to host '{host}'. Adding certificate verification "
        "is strongly advised. See: "
        "https://urllib3.readthedocs.io/en/latest/advanced-usage.html#tls-warnings",
        exceptions.InsecureRequestWarning,
        stacklevel=2,
    )


def _raise(error: exceptions.HTTPError, request: requests.PreparedRequest) -> NoReturn:
    """What requests makes of an exception of urllib3."""
    reason: Any = error
    if isinstance(error, exceptions.MaxRetryError):
        reason = error.reason
        if isinstance(reason, exceptions.ReadTimeoutError):  # the last of several
            raise ConnectionError(error, request=request)
    for theirs, ours in _ERRORS:
        if isinstance(reason, theirs):
            raise ours(error, request=request)
    raise ConnectionError(error, request=request)
