"""One request, and the means to answer it."""

import asyncio
import json
import time
from email.utils import formatdate
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    List,
    Optional,
    Tuple,
)
from urllib.parse import parse_qs

from ._failures import COMMENT, NOTHING, ErrorAnswer, Plan
from ._settings import Settings

if TYPE_CHECKING:
    from ._admission import Visit

Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Dict[str, Any]]]
Send = Callable[[Dict[str, Any]], Awaitable[None]]

SSE = "text/event-stream; charset=utf-8"


class Cut(Exception):
    """Raised in an answer that has begun, it breaks the connection, or the stream of HTTP/2."""


class Exchange:
    """One request and its answer.

    Attributes:
        method, path, body: of the request.
        headers: of the request, by their names in small letters.
        number: of the request, from 1.
        model: that it calls; "" where it calls none, or is not read yet.
        plan: what the name of its model says.
        visit: of a call of a model, what limits it.
        common: headers of the answer, which the provider adds to.
        alive: by which a stream of this provider says that it is alive.
        begun: whether the answer has.
    """

    def __init__(
        self, scope: Scope, body: bytes, send: Send, number: int, settings: Settings
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Dict[bytes, bytes] = {name.lower(): value for name, value in scope["headers"]}
        self.body = body
        self.number = number
        self.model = ""
        self.plan: Plan = NOTHING
        self.visit: Optional[Visit] = None
        self.common: Dict[str, str] = {}
        self.alive = COMMENT
        self.begun = False
        self._arrived = time.monotonic()
        self._scope = scope
        self._send = send
        self._settings = settings

    # ---- the request

    def header(self, name: str) -> str:
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def query(self, name: str, default: str = "") -> str:
        values = parse_qs(self._scope["query_string"].decode("latin-1")).get(name)
        return values[-1] if values else default

    @property
    def origin(self) -> str:
        """As the client knows this server: https://127.0.0.1:40123."""
        host = self.header("host") or ":".join(map(str, self._scope["server"]))
        return f"{self._scope['scheme']}://{host}"

    @property
    def elapsed(self) -> float:
        """Seconds since it arrived."""
        return time.monotonic() - self._arrived

    def object(self) -> Dict[str, Any]:
        """The body, a JSON object."""
        return json_object(self.body)

    # ---- the answer

    async def start(self, content_type: str, status: int = 200, length: int = -1) -> None:
        headers = {"content-type": content_type, **self.common}
        if length >= 0:
            headers["content-length"] = str(length)
        if self._settings.limit_clock_offset:  # else the server has the right one
            now = time.time() + self._settings.limit_clock_offset
            headers["date"] = formatdate(now, usegmt=True)
        self.begun = True
        if self.visit is not None:
            self.visit.begin(self.model, status, self.elapsed)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def piece(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.leave()  # before the client knows: its next call may come at once
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def leave(self) -> None:
        """It limits other calls no more."""
        if self.visit is not None:
            self.visit.leave(self.model, self.elapsed)

    async def whole(self, content_type: str, data: bytes, status: int = 200) -> None:
        await self.start(content_type, status, len(data))
        await self.end(data)

    async def json(self, value: Any, status: int = 200) -> None:
        await self.whole("application/json", compact(value).encode(), status)

    async def event(self, data: Any, name: Optional[str] = None) -> None:
        """A server-sent event; data is JSON, or text as it is."""
        text = data if isinstance(data, str) else compact(data)
        head = f"event: {name}\n" if name else ""
        await self.piece(f"{head}data: {text}\n\n".encode())

    # ---- its time

    async def think(self, tokens: int = 0) -> None:
        """The time to the first token, and that which so many tokens take."""
        delay = self._settings.ttft + self.plan.delay
        if self.plan.lasts:
            delay += 0.0 if self.begun else self.plan.lasts
        elif tokens:
            delay += self._due(tokens, tokens)
        if delay:
            await asyncio.sleep(delay)
        if self.plan.think:
            await self._ponder(self.plan.think)

    async def _ponder(self, seconds: float) -> None:
        """A whole answer just takes as long."""
        end = time.monotonic() + seconds
        while self.begun and time.monotonic() < end - self._settings.alive_interval:
            await self.piece(self.alive)
            await asyncio.sleep(self._settings.alive_interval)
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def paced(self, pieces: List[str]) -> AsyncIterator[str]:
        """The pieces, each at its time, so that delays do not add up; and what goes wrong there."""
        async for _, piece in self.paced_together([pieces]):
            yield piece

    async def paced_together(self, choices: List[List[str]]) -> AsyncIterator[Tuple[int, str]]:
        """(which, piece) of several answers that are written at once."""
        begin = time.monotonic()
        longest = max(map(len, choices), default=0)
        for index in range(longest):
            if self.plan is not NOTHING:
                await self._go_wrong(index, longest)
            due = self._due(index, longest)
            if due:
                delay = begin + due - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
            for which, pieces in enumerate(choices):
                if index < len(pieces):
                    yield which, pieces[index]

    def _due(self, index: int, count: int) -> float:
        """Seconds from the first token to that of the index, of so many."""
        if self.plan.lasts:  # the last one when they are over
            return (index + 1) * self.plan.lasts / count
        rate = self._settings.tokens_per_second
        return index / rate if rate else 0.0

    async def _go_wrong(self, index: int, count: int) -> None:
        if self.plan.late and index == count // 2:
            raise ErrorAnswer(self.plan.late)
        if index == self.plan.cut:
            raise Cut
        while index == self.plan.stall:  # until the client leaves
            await asyncio.sleep(self._settings.alive_interval)
            if self.plan.stall_bytes:
                await self.piece(self.plan.stall_bytes)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def json_object(body: bytes) -> Dict[str, Any]:
    """The body, a JSON object.

    Raises:
        ErrorAnswer: 400, it is none.
    """
    try:
        value = json.loads(body)
    except ValueError:
        raise ErrorAnswer(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise ErrorAnswer(400, "The JSON body of a request is an object.")
    return value
