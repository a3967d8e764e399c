"""The ASGI application: whose API a request means, and what is counted."""

import asyncio
from typing import Any, Awaitable, Dict, List, Set, Tuple

from ._admission import Admission
from ._anthropic import Anthropic
from ._cohere import Cohere
from ._exchange import Exchange, Receive, Scope, Send
from ._failures import ErrorAnswer, Failures
from ._gemini import KEY as GEMINI_KEY
from ._gemini import Gemini
from ._mistral import CLIENT as MISTRAL_CLIENT
from ._mistral import Mistral
from ._openai import OpenAI
from ._provider import Handler, Provider
from ._settings import Settings

STATS = "/_mock/stats"
CALLS = "/_mock/calls"


class Counts:
    """What the mock counts.

    Attributes:
        calls: requests so far.
        streams: streamed answers that are not at their end.
        left: those whose client left before.
        paths: calls by method and path; those to none are "other".
        versions: calls by version of HTTP.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.streams = 0
        self.left = 0
        self.paths: Dict[str, int] = {}
        self.versions: Dict[str, int] = {}
        self._peers: Set[Tuple[Any, ...]] = set()

    def call(self, scope: Scope) -> None:
        self.calls += 1
        self._peers.add(tuple(scope.get("client") or ()))
        version = scope["http_version"]
        self.versions[version] = self.versions.get(version, 0) + 1

    def path(self, method: str, path: str) -> None:
        name = f"{method} {path}" if path else "other"
        self.paths[name] = self.paths.get(name, 0) + 1

    def value(self) -> Dict[str, Any]:
        return {
            "calls": self.calls,
            "streams": self.streams,
            "left": self.left,
            "connections": len(self._peers),
            "versions": self.versions,
            "paths": self.paths,
        }


class App:
    """Serves the APIs of OpenAI, Anthropic, Gemini, Mistral and Cohere."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failures = Failures(settings)
        self.admission = Admission(settings)
        self._counts = Counts()
        common = settings, self.failures, self.admission
        self._openai = OpenAI(*common)
        self._anthropic = Anthropic(*common)
        self._gemini = Gemini(*common)
        self._mistral = Mistral(*common)
        self._cohere = Cohere(*common)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in (STATS, CALLS):  # not counted, nor is who asks
            await self._tell(Exchange(scope, await self._body(receive), send, 0, self.settings))
            return
        self._counts.call(scope)
        number = self._counts.calls
        # Read before it is refused: a body left unread would cost the connection.
        body = await self._body(receive)
        exchange = Exchange(scope, body, send, number, self.settings)
        provider = self._provider(exchange)
        provider.identify(exchange)
        try:
            handler, arguments = self._handler(provider, exchange)
            provider.authorize(exchange)
            answering = handler(exchange, *arguments)
            if b'"stream"' in body or exchange.path.endswith(":streamGenerateContent"):
                await self._watched(answering, receive)
            else:
                await answering
        except ErrorAnswer as error:
            if exchange.begun:
                await provider.late_error(exchange, error)
            else:
                # Gives headers, too, hence before they are sent.
                value = provider.error(exchange, error)
                await exchange.json(value, error.status)
        finally:
            exchange.leave()

    async def _tell(self, exchange: Exchange) -> None:
        if exchange.path == STATS:
            await exchange.json({**self._counts.value(), "limits": self.admission.stats()})
            return
        since = exchange.query("since", "0")
        calls, following = self.admission.calls(int(since) if since.isdigit() else 0)
        exchange.common["x-next"] = str(following)
        await exchange.json(calls)

    def _provider(self, exchange: Exchange) -> Provider:
        """By path, and by what its clients send where paths are the same."""
        path = exchange.path
        if path.startswith("/v1/messages") or b"anthropic-version" in exchange.headers:
            return self._anthropic
        if path.startswith("/v1beta/") or GEMINI_KEY in exchange.headers:
            return self._gemini
        if path.startswith("/v2/"):
            return self._cohere
        if MISTRAL_CLIENT in exchange.headers.get(b"user-agent", b"").lower():
            return self._mistral
        return self._openai

    def _handler(self, provider: Provider, exchange: Exchange) -> Tuple[Handler, Tuple[str, ...]]:
        method, path = exchange.method, exchange.path
        route, arguments = provider.find(path)
        self._counts.path(method, route.path if route and method in route.handlers else "")
        if route is None:
            raise ErrorAnswer(404, f"Unknown request URL: {method} {path}.", "unknown_url")
        if method not in route.handlers:
            raise ErrorAnswer(405, f"Not allowed to {method} here.", "method_not_allowed")
        return route.handlers[method], arguments

    async def _watched(self, answering: Awaitable[None], receive: Receive) -> None:
        """Runs it until its client leaves, as a model server stops computing then."""
        self._counts.streams += 1
        working = asyncio.ensure_future(answering)
        leaving = asyncio.ensure_future(self._disconnect(receive))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            else:
                self._counts.left += 1
        finally:
            self._counts.streams -= 1
            working.cancel()
            leaving.cancel()

    async def _disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _body(self, receive: Receive) -> bytes:
        parts: List[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise asyncio.CancelledError
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)
