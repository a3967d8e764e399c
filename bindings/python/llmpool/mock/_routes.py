"""Answers in the place of httpx2's and httpx's transports: see Routes."""

import json as _json
import re
import threading
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterable,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

from .._http import secrets
from .._http.later import later

if TYPE_CHECKING:
    from httpx2 import Request, Response

    from .._http.sse import Event
else:
    Request = later("httpx2", "Request")
    Response = later("httpx2", "Response")
    Event = later("llmpool", "Event")

Text = Union[str, "re.Pattern[str]"]
Failure = Union[BaseException, Type[BaseException]]
Pieces = Union[Iterable[Any], AsyncIterable[Any]]
Reply = Callable[[Request], Union[Response, Awaitable[Response]]]

_LIBRARIES = ("httpx2", "httpx")


class UnmatchedRequest(AssertionError):
    """A request that no route is for. It is not sent."""


class Call:
    """A request that a route answered.

    Attributes:
        request: its body is read.
        response: None until there is one, and where an exception was raised instead.
    """

    __slots__ = ("request", "response")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.response: Optional[Response] = None

    def __repr__(self) -> str:
        answer = "none" if self.response is None else self.response.status_code
        return f"<Call {_shown(self.request)}: {answer}>"


class Calls(List[Call]):
    """In the order in which they came."""

    @property
    def last(self) -> Call:
        """IndexError where there was none."""
        return self[-1]


class _Target(NamedTuple):
    """Whose answer is made, and for which kind of client."""

    module: Any
    is_async: bool


_Answer = Callable[[_Target, Any], Any]


class Route:
    """Which requests are meant, and how they are answered; made by Routes.

    Attributes:
        calls: what it answered.
    """

    def __init__(
        self,
        method: Optional[str],
        url: Optional[Text],
        headers: Optional[Mapping[str, Text]],
        content: Union[bytes, str, "re.Pattern[bytes]", None],
        json: Any,
        match: Optional[Callable[[Request], bool]],
    ) -> None:
        if isinstance(url, str) and "://" not in url and not url.startswith("/"):
            raise ValueError(f"url: expected https://..., a path or a pattern, not {url!r}")
        self._method = method and method.upper()
        self._url = url
        self._headers = dict(headers or {})
        self._content = content.encode() if isinstance(content, str) else content
        self._json = json
        self._match = match
        self._answers: List[_Answer] = []
        self._passes = False
        self.calls = Calls()

    @property
    def called(self) -> bool:
        return bool(self.calls)

    @property
    def call_count(self) -> int:
        return len(self.calls)

    # ---- the answers

    def respond(
        self,
        status_code: int = 200,
        *,
        headers: Union[Mapping[str, str], Sequence[Tuple[str, str]], None] = None,
        content: Union[bytes, str, None] = None,
        json: Any = None,
        stream: Optional[Pieces] = None,
        sse: Optional[Pieces] = None,
        extensions: Optional[Mapping[str, Any]] = None,
    ) -> "Route":
        """Adds an answer: the first goes to the first call, and so on; the last to all after it.

        Args:
            headers: content-length and content-type come by themselves.
            content, json: the body.
            stream: the body in pieces, bytes or str, one after another; an exception among them is
                raised there. A list is sent in each call, an iterator only once.
            sse: the body as server-sent events: a str is the data of one, a dict or a list is sent
                as JSON, a llmpool.Event as it is, bytes too; exceptions and iterators as above.
            extensions: as {"http_version": b"HTTP/2"}; without it is HTTP/1.1.

        Raises:
            ValueError: more than one of content, json, stream and sse.
        """
        if sum(body is not None for body in (content, json, stream, sse)) > 1:
            raise ValueError("content, json, stream, sse: expected one of them at most")
        pieces, encode = (stream, _piece) if sse is None else (sse, _event)

        def answer(target: _Target, request: Any) -> Any:
            if pieces is None:
                made = target.module.Response(
                    status_code, headers=headers, content=content, json=json
                )
                # As one from a transport, whose body can still be read raw.
                lines, body = made.headers.raw, _body(target, [b"".join(made.stream)], _piece)
            else:
                given = target.module.Headers(headers)
                if sse is not None:
                    given.setdefault("content-type", "text/event-stream")
                lines, body = given.raw, _body(target, pieces, encode)
            more = {"http_version": b"HTTP/1.1", **(extensions or {})}
            return target.module.Response(status_code, headers=lines, stream=body, extensions=more)

        self._answers.append(answer)
        return self

    def fail(self, error: Failure) -> "Route":
        """Adds an answer that is an exception, as httpx2.ConnectError; see respond() for which call
        it is."""

        def answer(target: _Target, request: Any) -> Any:
            raise _raised(error)

        self._answers.append(answer)
        return self

    def reply(self, function: Reply) -> "Route":
        """Adds an answer that a function makes: it takes the request, its body read, and returns a
        httpx2.Response (of httpx, where the request is) or raises. It may be async, for async
        clients. See respond() for which call it is."""

        def answer(target: _Target, request: Any) -> Any:
            return function(request)

        self._answers.append(answer)
        return self

    def pass_through(self) -> "Route":
        """Sends these requests, as if there were no Routes."""
        self._passes = True
        return self

    # ---- what Routes does with it

    def _why_not(self, request: Any) -> str:
        """What of the request is not as it should be; "" where all is."""
        if self._method not in (None, request.method):
            return "method"
        if not _same_url(self._url, request.url):
            return "url"
        for name, value in self._headers.items():
            if not any(_same_text(value, each) for each in request.headers.get_list(name)):
                return f"header {name}"
        if isinstance(self._content, re.Pattern):
            if not self._content.search(request.content):
                return "content"
        elif self._content not in (None, request.content):
            return "content"
        if self._json is not None:
            try:
                given = _json.loads(request.content)
            except ValueError:
                return "json"
            if given != self._json:
                return "json"
        return "" if self._match is None or self._match(request) else "match"

    def _begin(self, call: Call) -> Optional[_Answer]:
        """The answer to it; None: it is to be sent."""
        with _lock:
            number = len(self.calls)
            self.calls.append(call)
        if self._passes:
            return None
        if not self._answers:
            self.respond()
        return self._answers[min(number, len(self._answers) - 1)]

    def __repr__(self) -> str:
        url = self._url.pattern if isinstance(self._url, re.Pattern) else self._url
        return f"<Route {self._method or '*'} {'*' if url is None else secrets.in_url(url)}>"


class Routes:
    """Answers requests of httpx2's clients, and of SDKs that are made of them, without a network.

        with llmpool.mock.Routes() as routes:
            route = routes.post("/v1/chat/completions").respond(429).respond(json={...})
            OpenAI(api_key="k").chat.completions.create(...)
            assert route.call_count == 2
            assert route.calls.last.request.headers["authorization"] == "Bearer k"

    While its block lasts it stands in the place of httpx2.HTTPTransport and AsyncHTTPTransport and
    of llmpool.httpx2's, in all threads, for clients made before or in it, with llmpool.install() or
    without; the same of httpx where that is installed. The first route that a request matches has
    it; in a block within another the inner one's come first. A request that matches none raises
    UnmatchedRequest and is not sent; whatever catches that, the end of the block raises it again.

    Args:
        base_url: before every URL of a route that is a path.
        assert_all_called: whether the end of the block raises AssertionError where a route was not
            called.
        transports: other classes of transports to stand in the place of, as
            openai.DefaultAioHttpClient's.

    Attributes:
        calls: those of all routes, in the order in which they came. A new block begins without.
        unmatched: the requests that no route was for; what is removed here is forgiven.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        assert_all_called: bool = True,
        transports: Iterable[Type[Any]] = (),
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._assert_all_called = assert_all_called
        self._transports = tuple(transports)
        self._routes: List[Route] = []
        self._patched: List[_Patch] = []
        self.calls = Calls()
        self.unmatched: List[Request] = []

    def route(
        self,
        method: Optional[str] = None,
        url: Optional[Text] = None,
        *,
        headers: Optional[Mapping[str, Text]] = None,
        content: Union[bytes, str, "re.Pattern[bytes]", None] = None,
        json: Any = None,
        match: Optional[Callable[[Request], bool]] = None,
    ) -> Route:
        """Adds a route. What is not given matches anything; one without an answer answers 200.

        Args:
            method: as "POST".
            url: "https://api.openai.com/v1/models"; a path, behind base_url or on any host; or a
                compiled pattern that the whole URL begins with. A query counts where it is given,
                in any order.
            headers: of which each must be there, with this value or one that a pattern finds.
            content: the body, or a pattern that is found in it.
            json: what the body is, as JSON.
            match: is asked last, with the request, whose body is read.

        Raises:
            ValueError: the URL is neither absolute nor a path.
        """
        if isinstance(url, str) and url.startswith("/"):
            url = self._base_url + url
        route = Route(method, url, headers, content, json, match)
        self._routes.append(route)
        return route

    def get(
        self,
        url: Optional[Text] = None,
        *,
        headers: Optional[Mapping[str, Text]] = None,
        match: Optional[Callable[[Request], bool]] = None,
    ) -> Route:
        """route("GET", ...)"""
        return self.route("GET", url, headers=headers, match=match)

    def post(
        self,
        url: Optional[Text] = None,
        *,
        headers: Optional[Mapping[str, Text]] = None,
        content: Union[bytes, str, "re.Pattern[bytes]", None] = None,
        json: Any = None,
        match: Optional[Callable[[Request], bool]] = None,
    ) -> Route:
        """route("POST", ...)"""
        return self.route("POST", url, headers=headers, content=content, json=json, match=match)

    def __enter__(self) -> "Routes":
        if self in _active:
            raise RuntimeError("these Routes have a block already")
        for route in self._routes:
            route.calls.clear()
        self.calls.clear()
        self.unmatched.clear()
        with _lock:
            self._patched = _patch(self._transports)
            _active.append(self)
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        with _lock:
            _active.remove(self)
            for patch in self._patched:
                patch.release()
            self._patched.clear()
        if kind is not None:
            return
        if self.unmatched:
            raise UnmatchedRequest("; ".join(map(_unmatched, self.unmatched)))
        missed = [repr(route) for route in self._routes if not route.calls]
        if missed and self._assert_all_called:
            raise AssertionError(f"never called: {', '.join(missed)}")


# ---- what a request is compared with


def _same_text(wanted: Text, value: str) -> bool:
    return bool(wanted.search(value)) if isinstance(wanted, re.Pattern) else wanted == value


def _same_url(wanted: Optional[Text], url: Any) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, re.Pattern):
        return bool(wanted.match(str(url)))
    other = type(url)(wanted)  # in its normal form
    if other.scheme and (other.scheme, other.host, other.port) != (url.scheme, url.host, url.port):
        return False
    if other.raw_path.partition(b"?")[0] != url.raw_path.partition(b"?")[0]:
        return False
    if not other.query:
        return True
    return bool(sorted(other.params.multi_items()) == sorted(url.params.multi_items()))


def _shown(request: Any) -> str:
    return f"{request.method} {secrets.in_url(str(request.url))}"


def _unmatched(request: Any) -> str:
    return f"{_shown(request)} matches no route"


# ---- what an answer is made of


def _raised(error: Failure) -> BaseException:
    made = error("mocked") if isinstance(error, type) else error
    return made.with_traceback(None)  # which would grow with each call


def _piece(piece: Any) -> bytes:
    if isinstance(piece, BaseException) or (
        isinstance(piece, type) and issubclass(piece, BaseException)
    ):
        raise _raised(piece)
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _event(item: Any) -> bytes:
    encode = getattr(item, "encode", None)
    if encode is not None and not isinstance(item, str):
        return bytes(encode())
    if isinstance(item, (dict, list)):
        item = _json.dumps(item)
    if isinstance(item, str):
        return "".join(f"data: {line}\n" for line in item.split("\n")).encode() + b"\n"
    return _piece(item)


class _Body:
    """The bytes of an answer, for both kinds of client; made into a class of each library."""

    def __init__(self, pieces: Pieces, encode: Callable[[Any], bytes]) -> None:
        self._pieces = pieces
        self._encode = encode

    def __iter__(self) -> Iterator[bytes]:
        if not isinstance(self._pieces, Iterable):
            raise TypeError("stream, sse: a blocking client cannot read an async iterable")
        return map(self._encode, self._pieces)

    async def __aiter__(self) -> Any:
        if isinstance(self._pieces, AsyncIterable):
            async for piece in self._pieces:
                yield self._encode(piece)
        else:
            for piece in self._pieces:
                yield self._encode(piece)


_bodies: Dict[Any, Any] = {}


def _body(target: _Target, pieces: Pieces, encode: Callable[[Any], bytes]) -> Any:
    module = target.module
    kind = _bodies.get(module)
    if kind is None:
        bases = (_Body, module.SyncByteStream, module.AsyncByteStream)
        kind = _bodies[module] = type("Body", bases, {})
    return kind(pieces, encode)


# ---- the places of transports


_lock = threading.RLock()
_active: List[Routes] = []  # the innermost last
_patches: "Dict[Tuple[Any, str], _Patch]" = {}


class _Patch:
    """One function of one class of transports, while somebody's block lasts."""

    def __init__(self, kind: Any, name: str, target: _Target) -> None:
        self.key = kind, name
        self.users = 0
        self._kind = kind
        self._name = name
        self._target = target
        self.before = getattr(kind, name)
        self._own = vars(kind).get(name)
        self.function = _handle_async(self) if target.is_async else _handle(self)
        setattr(kind, name, self.function)

    @property
    def is_live(self) -> bool:
        return self.users > 0

    def release(self) -> None:
        self.users -= 1
        if self.users:
            return
        del _patches[self.key]
        # Over somebody else's patch nothing is put back: ours lets everything through from now on.
        if vars(self._kind).get(self._name) is not self.function:
            return
        if self._own is None:
            delattr(self._kind, self._name)
        else:
            setattr(self._kind, self._name, self._own)

    def begin(self, request: Any) -> Tuple[Optional[Call], Optional[_Answer]]:
        """Which answer there is; none: it is to be sent."""
        active = list(reversed(_active))
        for routes in active:
            for route in routes._routes:
                if not route._why_not(request):
                    call = Call(request)
                    routes.calls.append(call)
                    return call, route._begin(call)
        if not active:
            return None, None
        active[0].unmatched.append(request)
        reasons = [
            f"{route!r}: {route._why_not(request)}" for each in active for route in each._routes
        ]
        raise UnmatchedRequest("\n  ".join([_unmatched(request), *reasons]))

    def answer(self, answer: _Answer, request: Any) -> Any:
        return answer(self._target, request)

    def check(self, response: Any) -> Any:
        if isinstance(response, self._target.module.Response):
            return response
        if hasattr(response, "close"):  # a coroutine that nobody will await
            response.close()
        raise TypeError(
            f"reply: expected a {self._target.module.__name__}.Response, not a "
            f"{type(response).__module__}.{type(response).__name__}"
        )


def _handle(patch: _Patch) -> Callable[[Any, Any], Any]:
    def handle_request(self: Any, request: Any) -> Any:
        call = answer = None
        if patch.is_live:
            request.read()
            call, answer = patch.begin(request)
        if answer is None:
            response = patch.before(self, request)
        else:
            response = patch.check(patch.answer(answer, request))
        if call is not None:
            call.response = response
        return response

    return handle_request


def _handle_async(patch: _Patch) -> Callable[[Any, Any], Any]:
    async def handle_async_request(self: Any, request: Any) -> Any:
        call = answer = None
        if patch.is_live:
            await request.aread()
            call, answer = patch.begin(request)
        if answer is None:
            response = await patch.before(self, request)
        else:
            response = patch.answer(answer, request)
            if isinstance(response, Awaitable):
                response = await response
            response = patch.check(response)
        if call is not None:
            call.response = response
        return response

    return handle_async_request


def _patch(more: Iterable[Type[Any]]) -> List[_Patch]:
    """Stands in the place of all transports there are, in one more block."""
    from importlib import import_module

    modules: List[Any] = []
    kinds: List[Any] = []
    for name in _LIBRARIES:
        try:
            module = import_module(name)
            ours = import_module(f"llmpool.{name}")
        except ImportError:
            continue
        kinds += [module.HTTPTransport, module.AsyncHTTPTransport]
        kinds += [ours.Transport, ours.AsyncTransport]
        if module not in modules:
            modules.append(module)
    if not modules:
        raise ImportError("Routes needs httpx2: pip install 'libllmpool[httpx2]'")
    found: List[_Patch] = []
    for kind in dict.fromkeys([*kinds, *more]):
        places = [
            (name, _Target(module, is_async))
            for module in modules
            for name, base, is_async in (
                ("handle_request", module.BaseTransport, False),
                ("handle_async_request", module.AsyncBaseTransport, True),
            )
            if issubclass(kind, base)
        ]
        if not places:
            raise TypeError(f"transports: expected classes of httpx2 or httpx, not {kind!r}")
        for name, target in places:
            patch = _patches.get((kind, name))
            if patch is None:
                patch = _patches[kind, name] = _Patch(kind, name, target)
            found.append(patch)
    for patch in found:
        patch.users += 1
    return found


for _public in (Call, Calls, Route, Routes, UnmatchedRequest):
    _public.__module__ = "llmpool.mock"
del _public
