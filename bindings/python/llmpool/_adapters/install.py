"""The pool under httpx's own transports, all of the process: install(), uninstall(), installed().

Nothing of httpx, and nothing of httpcore, is replaced but one thing that neither has: the attribute
_pool of the transports, which they keep per object, becomes one of the class as well, so that
whoever asks a transport for its pool comes by here. The pool gets a handle_request of its own then,
before the one of its class. Whatever patches httpx or httpcore to mock or to instrument it patches
their classes, before or after, and finds them as they were.
"""

import logging
import os
import sys
import threading
import weakref
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

import llmpool
from llmpool import transport

from .httpcore import CoreKit
from .httpx import NO_LIMIT, AsyncStreamMixin, Carrier, StreamMixin
from .patches import CORES, Unpatched, core_files, core_functions, handler

logger = logging.getLogger("llmpool")


class Installed(NamedTuple):
    """Something that makes requests, as installed() tells of it.

    Attributes:
        what: as "httpx2.AsyncHTTPTransport".
        served: whether llmpool carries its requests.
        reason: why not, or what was done for it.
        number: how many there were until now.
    """

    what: str
    served: bool
    reason: str
    number: int


class Generation:
    """httpx or httpx2, imported, with its httpcore."""

    def __init__(self, module: Any, installation: "Installation") -> None:
        from importlib import import_module

        self.name: str = module.__name__
        self.module = module
        self.core = import_module(CORES[self.name])
        self.installation = installation
        self.kit = CoreKit(
            module,
            self.core,
            type("Stream", (StreamMixin, module.SyncByteStream), {}),
            type("AsyncStream", (AsyncStreamMixin, module.AsyncByteStream), {}),
        )
        self._files = core_files(self.core)
        # Of the pools, and of httpcore's way from them to the network.
        self._unpatched: Dict[Any, Unpatched] = {}
        self._beyond = {
            is_async: Unpatched(core_functions(self.core, is_async), self._files)
            for is_async in (False, True)
        }
        self.backends = {
            type(kind()._network_backend)
            for kind in (self.core.ConnectionPool, self.core.AsyncConnectionPool)
        } | {self.core.SyncBackend, self.core.AnyIOBackend, self.core.TrioBackend}
        # Of the default ones: trust_env, and what they were like.
        self._defaults: weakref.WeakKeyDictionary[Any, Tuple[bool, Tuple[Any, ...]]] = (
            weakref.WeakKeyDictionary()
        )
        self._attributes: List[Tuple[Any, PoolAttribute]] = []
        self.roads: weakref.WeakSet[Road] = weakref.WeakSet()
        # Of what there was until now: how many, by name and reason.
        self.counts: Counter[Tuple[str, str]] = Counter()

    def put_in(self) -> None:
        for kind, is_async in (
            (self.module.HTTPTransport, False),
            (self.module.AsyncHTTPTransport, True),
        ):
            attribute = PoolAttribute(self, is_async)
            kind._pool = attribute
            self._attributes.append((kind, attribute))
        self._places = sys.modules[f"{self.name}._transports.default"]
        self._create = create = getattr(self._places, "create_ssl_context", None)
        if create is None:  # only contexts that say so by themselves are the default then
            return

        def create_ssl_context(
            verify: Any = True, cert: Any = None, trust_env: bool = True, **more: Any
        ) -> Any:
            context = create(verify=verify, cert=cert, trust_env=trust_env, **more)
            if verify is True and cert is None:
                self._defaults[context] = trust_env, self._state(context)
            return context

        self._ours = create_ssl_context
        self._places.create_ssl_context = create_ssl_context  # type: ignore[attr-defined]

    def take_out(self) -> None:
        for kind, attribute in self._attributes:
            if kind.__dict__.get("_pool") is attribute:
                delattr(kind, "_pool")
        self._attributes.clear()
        if self._create is not None and self._places.create_ssl_context is self._ours:
            self._places.create_ssl_context = self._create  # type: ignore[attr-defined]
        for road in list(self.roads):
            road.leave()

    def unpatched(self, kind: Any, name: str) -> Unpatched:
        """Of a class of pools: one that somebody else wrote may have a function of its own."""
        known = self._unpatched.get(kind)
        if known is None:
            known = self._unpatched[kind] = Unpatched([(kind, name)], self._files)
        return known

    def beyond_unpatched(self, is_async: bool) -> Unpatched:
        return self._beyond[is_async]

    def _state(self, context: Any) -> Tuple[Any, ...]:
        """What can be seen of it, and changes when somebody changes it."""
        inner = getattr(context, "_ctx", context)  # truststore's has another one in it
        return (
            inner.verify_mode, inner.check_hostname, inner.verify_flags, inner.minimum_version,
            inner.maximum_version, inner.cert_store_stats()["x509"],
            (self.installation.watch.contexts.given(context) or {}).copy(),
        )  # fmt: skip

    def verify(self, context: Any) -> Tuple[Any, bool]:
        """verify= and trust_env= that say the same as a context of one of its transports.

        Raises:
            ValueError: what it has cannot be told.
        """
        if context is None:
            return True, True
        trust_env, state = self._defaults.get(context, (True, None))
        if state is not None and state == self._state(context):
            return True, trust_env
        given = self.installation.watch.contexts.given(context)
        if given is None:
            if transport.is_default(context):
                return True, True
            raise ValueError(
                "its TLS context was made before install(), and is not the default one: what it "
                "was given cannot be told; call install() first"
            )
        if given.get("has_passphrase"):
            raise ValueError("the key of its client certificate has a passphrase")
        if given:
            transport.note(
                context, client_cert=given.get("client_cert"), ca_path=given.get("ca_path")
            )
        return context, True


class PoolAttribute:
    """_pool of a class of transports: gives each its own, as before, and puts a road beside it."""

    def __init__(self, generation: Generation, is_async: bool) -> None:
        self._generation = generation
        self._is_async = is_async
        self._kind = getattr(
            generation.core, "AsyncConnectionPool" if is_async else "ConnectionPool"
        )

    def __get__(self, transport: Any, owner: Any = None) -> Any:
        if transport is None:
            return self
        try:
            pool = transport.__dict__["_pool"]
        except KeyError:
            raise AttributeError("_pool") from None
        if isinstance(pool, self._kind) and "_llmpool_road" not in pool.__dict__:
            with _lock:
                if "_llmpool_road" not in pool.__dict__:
                    Road(self._generation, transport, pool, self._is_async)
        return pool

    def __set__(self, transport: Any, pool: Any) -> None:
        transport.__dict__["_pool"] = pool

    def __delete__(self, transport: Any) -> None:
        try:
            del transport.__dict__["_pool"]
        except KeyError:
            raise AttributeError("_pool") from None


class Road:
    """How the requests of one pool of httpcore go: by llmpool, or by the pool as before.

    The pool has it, and functions of its own that lead here; not the other way round, so that a
    client that is dropped gives everything back at once.
    """

    def __init__(self, generation: Generation, transport: Any, pool: Any, is_async: bool) -> None:
        self._generation = generation
        self._kit = generation.kit
        self._pool = weakref.ref(pool)
        self._is_async = is_async
        self.what = f"{type(transport).__module__.partition('.')[0]}.{type(transport).__name__}"
        self._carrier: Optional[Carrier] = None
        name = handler(is_async)
        close = "aclose" if is_async else "close"
        self._unpatched = generation.unpatched(type(pool), name)
        self._beyond_unpatched = generation.beyond_unpatched(is_async)
        # Of this pool as a whole; "" where there is none.
        self.reason = why_not(generation, pool)
        if not (_is_free(pool, name) and _is_free(pool, close)):
            self.reason = "a function of its own in the place of httpcore's"
        self._backend = pool._network_backend  # which a test may replace
        self._functions: Dict[str, Any] = {}
        pool.__dict__["_llmpool_road"] = self
        generation.counts[self.what, self.reason] += 1
        if self.reason:
            tell(self.what, self.reason)
        else:
            road = weakref.ref(self)
            self._functions = {
                name: (_handle_async if is_async else _handle)(road, self._pool),
                close: (_close_async if is_async else _close)(road, self._pool),
            }
            pool.__dict__.update(self._functions)
        generation.roads.add(self)

    def takes(self, request: Any) -> bool:
        """Whether llmpool carries this request."""
        pool = self._pool()
        if (
            self.reason
            or pool is None
            or pool._network_backend is not self._backend
            or not (self._unpatched and self._beyond_unpatched)
        ):
            return False
        reason = self._kit.why_not(request)
        if not reason and self._is_async and not _in_asyncio():
            reason = "an event loop that is not asyncio's"
        if not reason and self._carrier is None:
            reason = self._open()
        if reason:
            tell(self.what, reason)
        return not reason

    def _open(self) -> str:
        with _lock:
            pool = self._pool()
            if self._carrier is None and pool is not None:
                try:
                    self._carrier = carrier_of(self._generation, pool)
                except Exception as error:  # whatever it is, the old road is there
                    counts = self._generation.counts
                    counts[self.what, ""] -= 1
                    self.reason = str(error)
                    counts[self.what, self.reason] += 1
            return self.reason

    @property
    def carrier(self) -> Carrier:
        assert self._carrier is not None
        return self._carrier

    @property
    def kit(self) -> CoreKit:
        return self._kit

    def close(self) -> None:
        if self._carrier is not None:
            self._carrier.close()

    def leave(self) -> None:
        """The pool is as it was. What is in flight goes on."""
        pool = self._pool()
        if pool is not None:
            for name, function in {**self._functions, "_llmpool_road": self}.items():
                if pool.__dict__.get(name) is function:  # and nobody's patch
                    del pool.__dict__[name]


def _is_free(pool: Any, name: str) -> bool:
    """Whether nobody has given a pool such a function. One of ours may have been put back by a
    mock that began before an uninstall() and ended after it."""
    function = pool.__dict__.get(name)
    return function is None or getattr(function, "__module__", None) == __name__


def _in_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")  # nobody runs its loop who has not imported it
    return asyncio is not None and asyncio._get_running_loop() is not None


# What the pools of httpcore get beside their own. Each looks for its road when it is called: a
# function that held it would hold a circle.


def _handle(road: "weakref.ref[Road]", ref: Callable[[], Any]) -> Callable[[Any], Any]:
    def handle_request(request: Any) -> Any:
        here = road()
        if here is not None and here.takes(request):
            return here.kit.send(here.carrier, request)
        pool = ref()
        return type(pool).handle_request(pool, request)

    return handle_request


def _handle_async(road: "weakref.ref[Road]", ref: Callable[[], Any]) -> Callable[[Any], Any]:
    async def handle_async_request(request: Any) -> Any:
        here = road()
        if here is not None and here.takes(request):
            return await here.kit.asend(here.carrier, request)
        pool = ref()
        return await type(pool).handle_async_request(pool, request)

    return handle_async_request


def _close(road: "weakref.ref[Road]", ref: Callable[[], Any]) -> Callable[[], None]:
    def close() -> None:
        here = road()
        if here is not None:
            here.close()
        pool = ref()
        type(pool).close(pool)

    return close


def _close_async(road: "weakref.ref[Road]", ref: Callable[[], Any]) -> Callable[[], Any]:
    async def aclose() -> None:
        here = road()
        if here is not None:
            here.close()
        pool = ref()
        await type(pool).aclose(pool)

    return aclose


# ---- what a pool of httpcore was made with


def why_not(generation: Generation, pool: Any) -> str:
    """Why llmpool cannot take its place; "": it can."""
    if getattr(pool, "_uds", None) is not None:
        return "a unix socket"
    if getattr(pool, "_local_address", None) is not None:
        return "a local address"
    if type(pool._network_backend) not in generation.backends:
        return "a network backend of its own"
    for option in getattr(pool, "_socket_options", None) or ():
        if not _is_honoured(option):
            return f"the socket option {option[:2]}"
    if any(name.lower() != b"proxy-authorization" for name, _ in _proxy_headers(pool)):
        return "headers for its proxy"
    if getattr(pool, "_proxy_ssl_context", None) is not None:
        return "a TLS context for its proxy"
    return ""


def _is_honoured(option: Any) -> bool:
    """Keepalive, and the time until a dead link is noticed, are options of the pool, which has both
    on; it never delays small writes."""
    import socket

    known = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    }
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        if hasattr(socket, name):
            known.add((socket.IPPROTO_TCP, getattr(socket, name)))
    return tuple(option[:2]) in known


def _proxy_headers(pool: Any) -> List[Tuple[bytes, bytes]]:
    return getattr(pool, "_proxy_headers", None) or []


def _proxy(pool: Any) -> str:
    """The URL of its proxy, credentials included; "" for none."""
    url = getattr(pool, "_proxy_url", None)
    if url is None:
        return ""
    user = getattr(pool, "_proxy_auth", None)
    for _, value in _proxy_headers(pool):
        scheme, _, credentials = value.partition(b" ")
        if scheme.lower() != b"basic":
            raise ValueError("a proxy that wants another authentication than Basic")
        from base64 import b64decode

        user = tuple(b64decode(credentials).partition(b":")[::2])
    host = f"[{url.host.decode()}]" if b":" in url.host else url.host.decode()
    port = "" if url.port is None else f":{url.port}"
    before = "" if user is None else ":".join(quote(part, safe="") for part in user) + "@"
    return f"{url.scheme.decode()}://{before}{host}{port}"


def carrier_of(generation: Generation, pool: Any) -> Carrier:
    """What carries the requests of such a pool.

    Raises:
        Exception: what it was made with cannot be had here.
    """
    verify, trust_env = generation.verify(getattr(pool, "_ssl_context", None))
    way = transport.way(
        verify=verify,
        proxy=_proxy(pool),
        http1=getattr(pool, "_http1", True),
        http2=getattr(pool, "_http2", False) or generation.installation.http2,
        trust_env=trust_env,
    )
    retries = getattr(pool, "_retries", 0)
    carrier = Carrier(lambda: transport.lease(way), retries=retries)
    generation.installation.make_room(
        carrier.pool,
        getattr(pool, "_max_connections", 0),
        getattr(pool, "_max_keepalive_connections", 0),
    )
    return carrier


# ---- the installation


class Installation:
    def __init__(self, http2: bool) -> None:
        from importlib import import_module

        self.http2 = http2
        # Under "python -m llmpool run" it is there already, and has seen what came before.
        self.watch: Any = sys.modules.get("llmpool_watch")
        if self.watch is None:
            self.watch = import_module("llmpool._run.llmpool_watch")
        self.generations: List[Generation] = []
        # Of each pool: what it was given here, and what it had before.
        self._room: weakref.WeakKeyDictionary[llmpool.Pool, Tuple[Any, Any]] = (
            weakref.WeakKeyDictionary()
        )
        self.switches: List[Switch] = []

    def begin(self) -> None:
        self.watch.imports.after("ssl", self.watch.contexts.watch)
        for name in CORES:
            self.watch.imports.after(name, self._add)
        self.switches = [kind(self.watch.imports) for kind in (LiteLLM, GoogleGenAI, HttpxAiohttp)]

    def _add(self, module: Any) -> None:
        with _lock:
            if _installation is not self or any(g.module is module for g in self.generations):
                return
            if module.__name__ != module.HTTPTransport.__module__.partition(".")[0]:
                return  # an alias of the other generation, which is served under its own name
            generation = Generation(module, self)
            generation.put_in()
            self.generations.append(generation)

    def end(self) -> None:
        self.watch.imports.forget()
        self.watch.contexts.end()
        for switch in self.switches:
            switch.back()
        for generation in self.generations:
            generation.take_out()

    def make_room(self, pool: llmpool.Pool, connections: int, keepalive: int) -> None:
        """Limits choose no pool here: the pool has the largest that were asked for, unless the
        application has set its own."""
        with _lock:
            now = pool.limits
            state = (now.max_connections, now.max_keepalive_connections)
            known = self._room.get(pool)
            if state != (known if known is not None else _default_limits()):
                return
            wanted = (_larger(state[0], connections), _larger(state[1], keepalive))
            self._room[pool] = wanted
            if wanted != state:
                pool.configure(
                    limits=llmpool.Limits(
                        max_connections=wanted[0], max_keepalive_connections=wanted[1]
                    )
                )


def _larger(now: Any, asked: int) -> Optional[int]:
    return None if now is None or asked >= NO_LIMIT else max(now, asked)


def _default_limits() -> Tuple[Any, Any]:
    return 100, 20


class Switch:
    """A library that would use aiohttp, and can be told not to, as a rule."""

    what = ""
    module = ""  # what is imported where it is used
    reason = "not imported"
    is_served = False

    def back(self) -> None:
        """As it was before."""


class LiteLLM(Switch):
    what = "litellm, async"
    module = "litellm"
    _NAME = "DISABLE_AIOHTTP_TRANSPORT"

    def __init__(self, imports: Any) -> None:
        self._is_set = False
        self._module: Any = None
        given = os.environ.get(self._NAME)
        if given is not None and given.strip().lower() != "true":
            self.reason = f"the environment has {self._NAME}={given}: its async calls use aiohttp"
            return
        if given is None and not imports.is_there("litellm"):
            # It makes clients while it is imported, but imports httpx first.
            os.environ[self._NAME] = "True"
            self._is_set = True
        imports.after("litellm", self._imported)

    def _imported(self, module: Any) -> None:
        self._module = module
        module.disable_aiohttp_transport = True
        self.is_served = True
        self.reason = "disable_aiohttp_transport was set: it would use aiohttp"
        if not self._is_set:
            self.reason += "; clients that it made before install() still do"
        tell_done(self.what, self.reason)

    def back(self) -> None:
        if self._is_set and os.environ.get(self._NAME) == "True":
            del os.environ[self._NAME]
        if self._module is not None:
            self._module.disable_aiohttp_transport = False


class GoogleGenAI(Switch):
    what = "google-genai, async"
    module = "google.genai._api_client"

    def __init__(self, imports: Any) -> None:
        self._module: Any = None
        imports.after(self.module, self._imported)

    def _imported(self, module: Any) -> None:
        if not hasattr(module, "has_aiohttp"):
            self.reason = "nothing is known of this version: its async calls may use aiohttp"
            tell(self.what, self.reason)
            return
        self.is_served = True
        if module.has_aiohttp:
            self._module = module
            module.has_aiohttp = False
            self.reason = "has_aiohttp was cleared: it would use aiohttp"
            tell_done(self.what, self.reason)
        else:
            self.reason = "aiohttp is not there"

    def back(self) -> None:
        if self._module is not None:
            self._module.has_aiohttp = True


class HttpxAiohttp(Switch):
    """Clients of httpx on a transport of aiohttp's. cohere's async ones are, if it is there."""

    what = "httpx_aiohttp, async"
    module = "httpx_aiohttp"
    reason = "its clients use aiohttp; a client of llmpool.httpx can be given instead"

    def __init__(self, imports: Any) -> None:
        imports.after(self.module, lambda _: tell(self.what, self.reason))


_lock = threading.RLock()


def _forget_lock() -> None:
    # In a forked child whoever had it is not there.
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_lock)

_installation: Optional[Installation] = None
_told: Dict[Tuple[str, str], bool] = {}


def tell(what: str, reason: str) -> None:
    """What stays as it was, said once."""
    if _told.setdefault((what, reason), False):
        return
    _told[(what, reason)] = True
    logger.info("llmpool: %s is not served by llmpool: %s", what, reason)


def tell_done(what: str, reason: str) -> None:
    logger.info("llmpool: %s: %s", what, reason)


def install(*, http2: bool = True) -> None:
    """Puts the pool under every transport of httpx and httpx2 in this process, those made before
    included: every client, and every SDK that is made of them, uses it from now on.

    One pool serves all that connect in the same way (CA and client certificates, verify, proxy,
    HTTP versions): as a rule the shared one, whose max_connections grows to the largest that a
    transport asks for, unless the application has set it. Modules that are not imported yet are
    served when they are. What stays with the old transport is logged once, and listed by
    installed(): unix sockets, local addresses, Upgrade, trio, socket options other than keepalive,
    TCP_USER_TIMEOUT and TCP_NODELAY, TLS contexts whose contents cannot be told. Mocks and
    instrumentation of httpx and httpcore work as before, whether they come first or later.

    Args:
        http2: HTTP/2 where the server has it, though httpx's default is HTTP/1.1; False: only for
            clients with http2=True.

    A second call changes http2 for transports that have made no request yet.
    """
    global _installation
    with _lock:
        if _installation is not None:
            _installation.http2 = http2
            return
        _installation = Installation(http2)
        _installation.begin()


def uninstall() -> None:
    """Takes the pool away again. Requests in flight go on; the pool stays open. Without install()
    it does nothing."""
    global _installation
    with _lock:
        ended, _installation = _installation, None
        if ended is not None:
            ended.end()
        _told.clear()


def installed() -> List[Installed]:
    """What there was in this process since install(): whether llmpool serves it, and if not, why.
    Empty without install(). Transports that have made no request yet are not known."""
    with _lock:
        if _installation is None:
            return []
        found = [
            Installed(what, not reason, reason, count)
            for generation in _installation.generations
            for (what, reason), count in sorted(generation.counts.items())
            if count
        ]
        for switch in _installation.switches:
            if switch.is_served or switch.module in sys.modules:
                found.append(Installed(switch.what, switch.is_served, switch.reason, 1))
        return found


for _function in (install, uninstall, installed):  # as __init__.py has it for what it imports
    _function.__module__ = "llmpool"
