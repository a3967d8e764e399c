"""httpx and httpx2 on llmpool: the one implementation of both modules.

Each has a module of its own, llmpool.httpx and llmpool.httpx2, whose classes are made of the mixins
here and of its base classes.
"""

import errno
import os
import sys
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Mapping, Optional, Type
from urllib.parse import quote

import llmpool
from llmpool import transport

from .patches import CORES, Unpatched, compiled_as, core_files, core_functions, handler
from .trace import Trace

_DEFAULT_LIMITS = (100, 20, 5.0)
NO_LIMIT = 1 << 31  # connections, this or more
_LONGEST_URL = 1024
SCHEMES = (b"http", b"https")
_TARGET = bytes(set(range(0x21, 0x7F)) - {ord("#")})
# Which of httpx's exceptions each of ours is there; of what is not named the next base counts.
_ERRORS: Dict[Type[BaseException], str] = {
    llmpool.TransportError: "TransportError",
    llmpool.TimeoutException: "TimeoutException",
    llmpool.ConnectTimeout: "ConnectTimeout",
    llmpool.ReadTimeout: "ReadTimeout",
    llmpool.WriteTimeout: "WriteTimeout",
    llmpool.PoolTimeout: "PoolTimeout",
    llmpool.NetworkError: "NetworkError",
    llmpool.ConnectError: "ConnectError",
    llmpool.ReadError: "ReadError",
    llmpool.WriteError: "WriteError",
    llmpool.CloseError: "CloseError",
    llmpool.ProtocolError: "ProtocolError",
    llmpool.LocalProtocolError: "LocalProtocolError",
    llmpool.RemoteProtocolError: "RemoteProtocolError",
    # Of a head: how much of a body is too much nobody says here.
    llmpool.ResponseTooLarge: "RemoteProtocolError",
    llmpool.ProxyError: "ProxyError",
    llmpool.UnsupportedProtocol: "UnsupportedProtocol",
    # By its transport, which was closed: of a task that is cancelled nobody asks.
    llmpool.Cancelled: "ReadError",
    llmpool.PoolClosed: "ReadError",
    # Of a URL that httpx takes: a host or port that nothing can be connected to.
    llmpool.InvalidURL: "ConnectError",
    llmpool.StreamClosed: "StreamClosed",
}
# What the kernel says of a connection that broke. One that the server ended in good order is a
# violation of HTTP instead, as httpx has it.
_BROKEN = [
    "PING",
    *map(
        os.strerror,
        (
            errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH,
            errno.ENETUNREACH, errno.ENETDOWN,
        ),
    ),
]  # fmt: skip

# Of a response: what it is read by, to its end, by a thread and by a task.
_READING = {
    False: frozenset(("read", "iter_bytes", "iter_raw", "close")),
    True: frozenset(("aread", "aiter_bytes", "aiter_raw", "aclose")),
}


class Kit:
    """What differs between the generations: their module, and our classes made of its own."""

    def __init__(self, module: Any, stream: Any, async_stream: Any, response: Any = None) -> None:
        self.module = module
        self.stream = stream
        self.async_stream = async_stream
        self.response = response
        self.base: Any = module.Response
        self.plain: Any = module.ByteStream
        # Now, as a program may put ours in their place afterwards.
        self._transports = {False: module.HTTPTransport, True: module.AsyncHTTPTransport}
        self._errors = {ours: getattr(module, name) for ours, name in _ERRORS.items()}
        self._timeouts: Dict[Any, llmpool.Timeout] = {}
        self._methods: Dict[str, bytes] = {}
        self._urls: Dict[str, Any] = {}
        self._own: Dict[bool, Unpatched] = {}
        self._core: Dict[bool, Unpatched] = {}
        self._reading: Dict[bool, Unpatched] = {}
        # What its clients put around the stream of an answer.
        clients = sys.modules.get(f"{module.__name__}._client")
        self._bound = {
            getattr(clients, name, None) for name in ("BoundSyncStream", "BoundAsyncStream")
        }

    def is_unpatched(self, is_async: bool) -> bool:
        """Whether nobody mocks or instruments the transports of httpx, or httpcore."""
        own = self._own.get(is_async)
        if own is None:
            kind = self.transport_class(is_async)
            file = compiled_as(sys.modules[kind.__init__.__module__])
            own = self._own[is_async] = Unpatched([(kind, handler(is_async))], {file})
        if not own:
            return False
        beyond = self._core.get(is_async)
        if beyond is None:
            core = sys.modules.get(CORES[self.module.__name__])
            if core is None:  # who patches it imports it
                return True
            prefix = "Async" if is_async else ""
            pools = [
                (getattr(core, prefix + kind), handler(is_async))
                for kind in ("ConnectionPool", "HTTPProxy", "SOCKSProxy")
            ]
            functions = [*pools, *core_functions(core, is_async)]
            beyond = self._core[is_async] = Unpatched(functions, core_files(core))
        return bool(beyond)

    def transport_class(self, is_async: bool) -> Any:
        """httpx's own."""
        return self._transports[is_async]

    def reads(self, response: Any, is_async: bool) -> Any:
        """The answer below a response, where it may be read without httpx's generators: nothing of
        it was read, nobody has put anything in between, and nothing is to be decoded. Else None.
        """
        stream = response.stream
        if type(stream) in self._bound:
            stream = stream._stream
        if type(stream) is not (self.async_stream if is_async else self.stream):
            return None
        if stream._trace is not None or response.is_stream_consumed or response.is_closed:
            return None
        if "content-encoding" in response.headers:
            return None
        reading = self._reading.get(is_async)
        if reading is None:
            models = sys.modules.get(f"{self.module.__name__}._models")
            files = set() if models is None else {compiled_as(models)}
            functions = [(self.base, name) for name in _READING[is_async]]
            reading = self._reading[is_async] = Unpatched(functions, files)
        if not reading or not _READING[is_async].isdisjoint(response.__dict__):
            return None
        return stream._raw

    # ---- the way in

    def request(
        self, request: Any, pieces: Callable[[Any], Any], retry: llmpool.Retry
    ) -> transport.RawRequest:
        """One of httpx as the seam has it; pieces makes an iterator of a stream."""
        extensions = request.extensions
        options = transport.current_options(extensions.get("llmpool"))
        url = request.url
        scheme = url.raw_scheme
        if scheme not in SCHEMES:
            raise self._unsupported(request, scheme)
        target = extensions.get("target")
        if target is None:
            target = url.raw_path
        else:
            if isinstance(target, str):  # as httpcore takes it, too
                target = target.encode("utf-8")
            if not target.startswith(b"/") or target.translate(None, _TARGET):
                raise self.module.LocalProtocolError(
                    "the extension target: only the origin form is sent, a path and perhaps a "
                    "query",
                    request=request,
                )
        method = self._methods.get(request.method)
        if method is None:
            method = request.method.encode("ascii")
            if len(self._methods) < 64:
                self._methods[request.method] = method
        try:
            return transport.RawRequest(
                method,
                b"%s://%s%s" % (scheme, url.netloc, target),
                request.headers.raw,
                self._body(request, pieces),
                timeout=self._timeout(extensions.get("timeout") or {}, options),
                server_name=server_name(extensions),
                translate=self.translate,
                **options.arguments(retry),
            )
        except (llmpool.HTTPError, llmpool.InvalidURL) as error:
            raise self.translate(error) from error

    def url(self, text: str) -> Any:
        """As httpx has it."""
        known = self._urls.get(text)
        if known is None:
            known = self.module.URL(text)
            if len(text) <= _LONGEST_URL:
                if len(self._urls) >= 256:
                    self._urls.clear()
                self._urls[text] = known
        return known

    def _unsupported(self, request: Any, scheme: bytes) -> Exception:
        if not scheme:
            text = "Request URL is missing an 'http://' or 'https://' protocol."
        else:
            text = f"Request URL has an unsupported protocol '{scheme.decode()}://'."
        error: Exception = self.module.UnsupportedProtocol(text, request=request)
        return error

    def _body(self, request: Any, pieces: Callable[[Any], Any]) -> transport.RawBody:
        stream = request.stream
        if isinstance(stream, self.plain):
            try:
                content: bytes = request.content
            except self.module.RequestNotRead:
                return b"".join(stream)
            return content
        # The iterator and not the stream, so that a generator is closed where it is left.
        body: transport.RawBody = pieces(stream)
        return body

    def _timeout(
        self, given: Mapping[str, Any], options: transport.RequestOptions
    ) -> llmpool.Timeout:
        get = given.get
        key = (
            get("connect"), get("read"), get("write"), get("pool"), options.first_byte,
            options.total, options.event,
        )  # fmt: skip
        known = self._timeouts.get(key)
        if known is None:
            if len(self._timeouts) >= 256:
                self._timeouts.clear()
            known = self._timeouts[key] = llmpool.Timeout(
                connect=key[0], read=key[1], write=key[2], pool=key[3], first_byte=key[4],
                total=key[5], event=key[6],
            )  # fmt: skip
        return known

    # ---- the way out

    def answer(self, raw: transport.BaseRawResponse, stream: Any) -> Any:
        extensions = self.extensions(raw)
        response = self.response(
            raw.status, headers=raw.headers, stream=stream, extensions=extensions
        )
        if raw.block.isascii():  # as it would find out of each name and each value
            response.headers.encoding = "ascii"
        return response

    def extensions(self, raw: transport.BaseRawResponse) -> Dict[str, Any]:
        extensions: Dict[str, Any] = {"http_version": raw.http_version, "llmpool": raw}
        if raw.http_version != b"HTTP/2":  # which has no reason phrases
            extensions["reason_phrase"] = raw.reason
        return extensions

    def translate(self, error: BaseException) -> BaseException:
        """The exception of this generation for one of the package; another is the same."""
        for kind in type(error).__mro__:
            theirs = self._errors.get(kind)
            if theirs is None:
                continue
            text = str(error)
            if kind is llmpool.StreamClosed:
                return theirs()  # type: ignore[no-any-return]
            if kind is llmpool.ReadError and not any(map(text.__contains__, _BROKEN)):
                theirs = self.module.RemoteProtocolError
            return theirs(text)  # type: ignore[no-any-return]
        return error

    def send(self, carrier: "Carrier", request: Any) -> Any:
        """handle_request() of a transport."""
        trace = Trace.of(request)
        raw_request = self.request(request, iter, carrier.retry)
        try:
            raw = transport.send(carrier.pool, raw_request, carrier.group)
        except BaseException as error:
            if trace is not None:
                trace.failed(error)
            raise
        if trace is not None:
            trace.head(raw)
        return self.answer(raw, self.stream(raw, carrier, trace))

    async def asend(self, carrier: "Carrier", request: Any) -> Any:
        """handle_async_request() of a transport."""
        trace = Trace.of(request)
        raw_request = self.request(request, _aiter, carrier.retry)
        try:
            raw = await transport.asend(carrier.pool, raw_request, carrier.group)
        except BaseException as error:
            if trace is not None:
                await trace.afailed(error)
            raise
        if trace is not None:
            await trace.ahead(raw)
        return self.answer(raw, self.async_stream(raw, carrier, trace))


class Carrier:
    """What carries the requests of one transport: a pool, and the group that they are in."""

    __slots__ = ("_find", "_lease", "_pool", "group", "retry")

    def __init__(
        self,
        find: Callable[[], transport.Lease],
        pool: Optional[llmpool.Pool] = None,
        retries: int = 0,
    ) -> None:
        # As httpx has it: what cannot be connected to fails at once, or after so many more dials.
        self.retry = llmpool.Retry(max_retries=retries) if retries else transport.NO_REDIAL
        self._find = find
        self._pool = pool
        self._lease = None if pool is not None else find()
        self.group = transport.Group()

    @property
    def pool(self) -> llmpool.Pool:
        if self._pool is not None:
            return self._pool
        lease = self._lease
        if lease is None:  # closed, and used again: httpx's own transports allow it
            lease = self._lease = self._find()
        return lease.pool

    def close(self) -> None:
        """Ends the requests in flight, and the use of the pool."""
        self.group.cancel()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


class ResponseMixin:
    """A response that reads an answer as a whole where it can: httpx does so by a chain of
    generators, four of its own, for whatever may be between."""

    _kit: Kit

    def read(self: Any) -> bytes:
        """See httpx."""
        raw = self._unread(False)
        if raw is None:
            return self._kit.base.read(self)  # type: ignore[no-any-return]
        self.is_stream_consumed = True
        try:
            content: bytes = raw.read()
        except self._kit.module.RequestError as error:
            self._name(error)
            raise
        finally:
            self.is_closed = True
            self.stream.close()
        self._keep(content)
        return content

    async def aread(self: Any) -> bytes:
        """See httpx."""
        raw = self._unread(True)
        if raw is None:
            return await self._kit.base.aread(self)  # type: ignore[no-any-return]
        self.is_stream_consumed = True
        try:
            content: bytes = await raw.read()
        except self._kit.module.RequestError as error:
            self._name(error)
            raise
        finally:
            self.is_closed = True
            await self.stream.aclose()
        self._keep(content)
        return content

    def _unread(self: Any, is_async: bool) -> Any:
        """What is to be read here; None: httpx does it, or has."""
        return None if hasattr(self, "_content") else self._kit.reads(self, is_async)

    def _name(self: Any, error: Any) -> None:
        if self._request is not None:
            error.request = self._request

    def _keep(self: Any, content: bytes) -> None:
        self._num_bytes_downloaded = len(content)
        self._content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = object.__new__(self._kit.base)  # which who has no llmpool can load
        vars(plain).update(vars(self))
        return plain.__reduce_ex__(1)  # of a later protocol pickle wants the class to be this one


class StreamMixin:
    """Of a response: the bytes of an answer, as a SyncByteStream."""

    def __init__(
        self, raw: transport.RawResponse, carrier: Carrier, trace: Optional[Trace]
    ) -> None:
        self._raw = raw
        self._carrier = carrier  # whose pool is kept for as long
        self._trace = trace

    def __iter__(self) -> Iterator[bytes]:
        if self._trace is not None:
            return self._trace.body(self._raw)
        return iter(self._raw)

    def close(self) -> None:
        self._raw.close()
        if self._trace is not None:
            self._trace.closed()


class AsyncStreamMixin:
    """Of a response: the bytes of an answer, as an AsyncByteStream."""

    def __init__(
        self, raw: "transport.AsyncRawResponse", carrier: Carrier, trace: Optional[Trace]
    ) -> None:
        self._raw = raw
        self._carrier = carrier
        self._trace = trace

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._trace is not None:
            return self._trace.abody(self._raw)
        return self._raw.__aiter__()

    async def aclose(self) -> None:
        await self._raw.aclose()
        if self._trace is not None:
            await self._trace.aclosed()


def _aiter(stream: Any) -> Any:
    return stream.__aiter__()  # the function came with Python 3.10


def server_name(extensions: Mapping[str, Any]) -> Optional[str]:
    """What the extension sni_hostname says; httpcore takes bytes, too."""
    name = extensions.get("sni_hostname")
    return name.decode("ascii") if isinstance(name, bytes) else name


def _limits(limits: Any) -> Optional[llmpool.Limits]:
    """As ours; None where they are httpx's defaults."""
    if limits is None:
        return None
    given = (limits.max_connections, limits.max_keepalive_connections, limits.keepalive_expiry)
    if given == _DEFAULT_LIMITS:
        return None
    # sys.maxsize, as httpcore has it, is no limit.
    connections, keepalive = (
        None if number is not None and number >= NO_LIMIT else number for number in given[:2]
    )
    return llmpool.Limits(
        max_connections=connections, max_keepalive_connections=keepalive, keepalive_expiry=given[2]
    )


def _proxy_url(module: Any, proxy: Any) -> str:
    """As ours, with the credentials in it; "" for none."""
    if proxy is None:
        return ""
    if isinstance(proxy, (str, module.URL)):
        proxy = module.Proxy(proxy)
    if proxy.headers:
        raise ValueError("proxy: headers of its own are not sent to a proxy; auth= is")
    url = proxy.url
    user = ""
    if proxy.auth is not None:
        user = ":".join(quote(part, safe="") for part in proxy.auth) + "@"
    return f"{url.scheme}://{user}{url.netloc.decode('ascii')}"


class TransportMixin:
    """What both kinds of transport are made from."""

    _kit: Kit

    def __init__(
        self,
        *,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = True,
        limits: Any = None,
        proxy: Any = None,
        retries: int = 0,
        isolated: bool = False,
        pool: Optional[llmpool.Pool] = None,
    ) -> None:
        """
        Args:
            verify: True: the system's CA certificates (SSL_CERT_FILE and SSL_CERT_DIR count with
                trust_env), or certifi's where it has none; False: any certificate; a file; a
                directory as "openssl rehash" makes it; an ssl.SSLContext, of which the CA
                certificates and the verify mode are taken over.
            cert: a client certificate: a file with its key, or a pair of files.
            trust_env: see verify. Proxies of the environment are the client's business: a transport
                has the one that it is given.
            http1, http2: which versions to speak. Both: what the server picks over TLS, HTTP/1.1
                without.
            limits: of a pool for all transports that connect in the same way with the same limits;
                httpx's defaults count as not given.
            proxy: http://, socks5:// or socks5h:// URL, or a Proxy.
            retries: how often to connect again, as httpx's transports have it.
            isolated: a pool that nobody else has; close() closes it.
            pool: a llmpool.Pool instead of all that.

        Raises:
            ValueError: what verify or proxy says has no counterpart here, or is wrong.
            OSError: a file cannot be read.
        """
        way = transport.way(
            verify=verify,
            cert=cert,
            proxy=_proxy_url(self._kit.module, proxy),
            http1=http1,
            http2=http2,
            trust_env=trust_env,
        )
        ours = _limits(limits)
        self._carrier = Carrier(lambda: transport.lease(way, ours, isolated), pool, retries)
        self._arguments = {
            "verify": verify, "cert": cert, "trust_env": trust_env, "limits": limits,
            "proxy": proxy, "retries": retries,
        }  # fmt: skip
        self._theirs: Any = None

    def _patched(self, is_async: bool) -> Any:
        """One of httpx's own in the place of this one, as somebody has patched those."""
        if self._theirs is None:
            from .theirs import theirs

            self._theirs = theirs(self._kit, self._carrier, is_async, self._arguments)
        return self._theirs

    @property
    def pool(self) -> llmpool.Pool:
        """The pool that carries the requests: the process's, if nothing says otherwise."""
        return self._carrier.pool

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}>"


class ClientMixin:
    """What both kinds of client are made from: the hooks that httpx's own clients call."""

    _kit: Kit
    _transport_class: Any

    def __init__(
        self,
        *,
        http2: bool = True,
        isolated: bool = False,
        pool: Optional[llmpool.Pool] = None,
        **arguments: Any,
    ) -> None:
        """
        Args:
            http2: on by default, and not handed to httpx, which would want h2 for it.
            isolated: a pool that nobody else has.
            pool: a llmpool.Pool, instead of what verify, cert, limits, http1, http2 and proxy say.
            arguments: all others of httpx's own client.
        """
        self._llmpool_options: Dict[str, Any] = {"http2": http2, "isolated": isolated}
        if pool is not None:
            self._llmpool_options["pool"] = pool
        self._hooked = False
        super().__init__(**arguments)
        if not self._hooked:
            version = getattr(self._kit.module, "__version__", "?")
            raise RuntimeError(
                f"{self._kit.module.__name__} {version} does not ask for its transport where "
                "llmpool puts its own in: give it one, transport=Transport()"
            )

    def build_request(self, method: str, url: Any, **arguments: Any) -> Any:
        """See httpx. What it makes of a URL costs a tenth of a call, and most are the same."""
        if type(url) is str:
            url = self._kit.url(url)
        return super().build_request(method, url, **arguments)  # type: ignore[misc]

    def _init_transport(self, *_: Any, transport: Any = None, **arguments: Any) -> Any:
        self._hooked = True
        if transport is not None:
            return transport
        return self._own_transport(arguments)

    def _init_proxy_transport(self, proxy: Any, *_: Any, **arguments: Any) -> Any:
        return self._own_transport({**arguments, "proxy": proxy})

    def _own_transport(self, arguments: Dict[str, Any]) -> Any:
        # Some versions of httpx hand over arguments that they have no more, all None.
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._transport_class(**{**given, **self._llmpool_options})
