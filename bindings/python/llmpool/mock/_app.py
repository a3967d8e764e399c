"""The ASGI application: the OpenAI and Anthropic endpoints that clients use most."""

import asyncio
import hashlib
import json
import random
import time
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, Optional, Tuple

Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Dict[str, Any]]]
Send = Callable[[Dict[str, Any]], Awaitable[None]]
Headers = List[Tuple[bytes, bytes]]

OPENAI_MODELS = ("gpt-mock", "gpt-mock-mini")
EMBEDDING_MODELS = ("text-embedding-mock",)
ANTHROPIC_MODELS = ("claude-mock",)
EMBEDDING_DIMENSIONS = 256

TEXT = (
    "The pool keeps one connection open and sends every call over it, so that none of them "
    "waits for a handshake and each token arrives as soon as the server has written it ."
)
WORDS = tuple(TEXT.split())


@dataclass
class Settings:
    """How the mock behaves.

    Attributes:
        api_key: the key to accept; "" accepts any, also none.
        ttft: seconds before the first token.
        tokens_per_second: of a streamed answer, and of the time a whole one takes; 0: at once.
        tokens: length of an answer where the request sets no smaller maximum.
        error_rate: from 0 to 1, how many calls get an error instead.
        seed: which calls those are: the same seed gives the same ones.
        retry_after: seconds, sent with 429.
        models: the only models that there are, separated by commas; "": any name is one.
    """

    api_key: str = "mock-key"
    ttft: float = 0.0
    tokens_per_second: float = 0.0
    tokens: int = 16
    error_rate: float = 0.0
    seed: int = 0
    retry_after: float = 1.0
    models: str = ""


class ErrorAnswer(Exception):
    """An answer other than 200."""

    def __init__(
        self, status: int, kind: str, message: str, code: Optional[str] = None, param: Any = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param
        self.headers: Headers = []


# What each side calls its errors.
OPENAI_KINDS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
}
ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class App:
    """Serves OpenAI's chat completions, embeddings and models, and Anthropic's messages."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._only = tuple(filter(None, (name.strip() for name in settings.models.split(","))))
        self._choice = random.Random(settings.seed)
        self._started = int(time.time())
        self._calls = 0
        self._streams = 0
        self._left = 0

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
        path = scope["path"]
        if path == "/_mock/stats":
            await self._body(receive)
            await self._json(send, 200, self._stats(), "")
            return
        self._calls += 1
        number = self._calls
        headers = {name.lower(): value for name, value in scope["headers"]}
        # Both have /v1/models; the header that Anthropic requires tells them apart.
        anthropic = path == "/v1/messages" or b"anthropic-version" in headers
        request_id = f"req_{number:024x}"
        try:
            # Read before it is refused: a body left unread would cost the connection.
            body = await self._body(receive)
            self._authorize(headers, anthropic)
            if b'"stream"' in body:
                route = self._route(scope, body, anthropic, request_id, send)
                await self._watched(route, receive)
            else:
                await self._route(scope, body, anthropic, request_id, send)
        except ErrorAnswer as error:
            await self._error(send, error, anthropic, request_id)

    def _stats(self) -> Dict[str, int]:
        """Calls so far; streamed answers that are not at their end, and those whose client left."""
        return {"calls": self._calls, "streams": self._streams, "left": self._left}

    async def _watched(self, route: Awaitable[None], receive: Receive) -> None:
        """Runs the route until its client leaves, as a model server stops computing then."""
        self._streams += 1
        working = asyncio.ensure_future(route)
        leaving = asyncio.ensure_future(self._disconnect(receive))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            else:
                self._left += 1
        finally:
            self._streams -= 1
            working.cancel()
            leaving.cancel()

    async def _disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _body(self, receive: Receive) -> bytes:
        parts = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise asyncio.CancelledError
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    def _authorize(self, headers: Dict[bytes, bytes], anthropic: bool) -> None:
        if not self.settings.api_key:
            return
        bearer = headers.get(b"authorization", b"")
        given = bearer[7:] if bearer[:7].lower() == b"bearer " else b""
        if anthropic:
            given = headers.get(b"x-api-key", given)
        if given == self.settings.api_key.encode():
            return
        if anthropic:
            raise ErrorAnswer(401, "", "invalid x-api-key")
        if not given:
            raise ErrorAnswer(401, "", "You didn't provide an API key.")
        raise ErrorAnswer(401, "", "Incorrect API key provided.", code="invalid_api_key")

    async def _route(
        self, scope: Scope, body: bytes, anthropic: bool, request_id: str, send: Send
    ) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/v1/models" or path.startswith("/v1/models/"):
            self._expect(method, "GET")
            answer = self._models(path[len("/v1/models/") :], anthropic)
            await self._json(send, 200, answer, request_id)
            return
        handler = {
            "/v1/chat/completions": self._chat,
            "/v1/embeddings": self._embeddings,
            "/v1/messages": self._messages,
        }.get(path)
        if handler is None:
            raise ErrorAnswer(404, "", f"Unknown request URL: {method} {path}.", "unknown_url")
        self._expect(method, "POST")
        self._maybe_fail(anthropic)
        await handler(self._parse(body), request_id, send)

    def _expect(self, method: str, expected: str) -> None:
        if method != expected:
            raise ErrorAnswer(405, "", f"Not allowed to {method} here.", "method_not_allowed")

    def _maybe_fail(self, anthropic: bool) -> None:
        # Two draws a call, whatever comes out, so that a sequence of calls is the same for a seed.
        chance, which = self._choice.random(), self._choice.random()
        if chance >= self.settings.error_rate:
            return
        statuses = (429, 500, 529) if anthropic else (429, 500)
        status = statuses[int(which * len(statuses))]
        message = {
            429: "Rate limit reached for requests.",
            500: "The server had an error while processing your request.",
            529: "Overloaded",
        }[status]
        error = ErrorAnswer(
            status, "", message, code="rate_limit_exceeded" if status == 429 else None
        )
        if status == 429:
            wait = self.settings.retry_after
            error.headers = [
                (b"retry-after", str(max(0, round(wait))).encode()),
                (b"retry-after-ms", str(round(wait * 1000)).encode()),
            ]
        raise error

    def _parse(self, body: bytes) -> Dict[str, Any]:
        try:
            value = json.loads(body)
        except ValueError:
            raise ErrorAnswer(
                400, "", "We could not parse the JSON body of your request."
            ) from None
        if not isinstance(value, dict):
            raise ErrorAnswer(400, "", "The JSON body of a request is an object.")
        return value

    # ---- models

    def _models(self, one: str, anthropic: bool) -> Dict[str, Any]:
        models: List[Dict[str, Any]]
        if anthropic:
            models = [
                {
                    "type": "model",
                    "id": name,
                    "display_name": name.replace("-", " ").title(),
                    "created_at": "2025-01-01T00:00:00Z",
                }
                for name in self._only or (ANTHROPIC_MODELS + ((one,) if one else ()))
            ]
            if not one:
                first, last = models[0]["id"], models[-1]["id"]
                return {"data": models, "has_more": False, "first_id": first, "last_id": last}
        else:
            models = [
                {"id": name, "object": "model", "created": self._started, "owned_by": "llmpool"}
                for name in self._only
                or (OPENAI_MODELS + EMBEDDING_MODELS + ((one,) if one else ()))
            ]
            if not one:
                return {"object": "list", "data": models}
        for model in models:
            if model["id"] == one:
                return model
        raise self._no_model(one, anthropic)

    def _check_model(self, name: str, anthropic: bool) -> None:
        """Any name is a model, so that every program runs, unless the settings say which."""
        if self._only and name not in self._only:
            raise self._no_model(name, anthropic)

    def _no_model(self, name: Any, anthropic: bool) -> ErrorAnswer:
        if anthropic:
            return ErrorAnswer(404, "", f"model: {name}")
        return ErrorAnswer(
            404, "", f"The model '{name}' does not exist.", "model_not_found", "model"
        )

    # ---- OpenAI

    def _tokens(self, *maxima: Any) -> List[str]:
        count = self.settings.tokens
        for maximum in maxima:
            if isinstance(maximum, int) and not isinstance(maximum, bool):
                if maximum < 1:
                    raise ErrorAnswer(400, "", f"{maximum} is less than the minimum of 1.")
                count = min(count, maximum)
        return [(" " if index else "") + WORDS[index % len(WORDS)] for index in range(count)]

    async def _think(self, tokens: int = 0) -> None:
        rate = self.settings.tokens_per_second
        delay = self.settings.ttft + (tokens / rate if rate else 0.0)
        if delay:
            await asyncio.sleep(delay)

    async def _paced(self, tokens: List[str]) -> AsyncIterator[str]:
        """The tokens, each at its time, so that delays do not add up."""
        rate = self.settings.tokens_per_second
        begin = time.monotonic()
        for index, token in enumerate(tokens):
            if rate:
                delay = begin + index / rate - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
            yield token

    def _messages_of(self, request: Dict[str, Any]) -> List[Any]:
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise ErrorAnswer(
                400, "", "'messages' must be a list of at least one.", None, "messages"
            )
        return messages

    def _count_prompt(self, messages: List[Any]) -> int:
        return sum(3 + len(json.dumps(message)) // 4 for message in messages)

    async def _chat(self, request: Dict[str, Any], request_id: str, send: Send) -> None:
        model = request.get("model")
        if not isinstance(model, str):
            raise ErrorAnswer(400, "", "you must provide a model parameter")
        self._check_model(model, False)
        prompt = self._count_prompt(self._messages_of(request))
        maxima = request.get("max_completion_tokens"), request.get("max_tokens")
        tokens = self._tokens(*maxima)
        reason = "length" if len(tokens) in maxima else "stop"
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(tokens),
            "total_tokens": prompt + len(tokens),
        }
        head = {
            "id": f"chatcmpl-{request_id[4:]}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "fp_mock",
        }
        if request.get("stream"):
            options = request.get("stream_options") or {}
            include = usage if options.get("include_usage") else None
            await self._chat_stream(head, tokens, reason, include, request_id, send)
            return
        await self._think(len(tokens))
        message = {"role": "assistant", "content": "".join(tokens), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        await self._json(send, 200, {**head, "choices": [choice], "usage": usage}, request_id)

    async def _chat_stream(
        self,
        head: Dict[str, Any],
        tokens: List[str],
        reason: str,
        usage: Optional[Dict[str, int]],
        request_id: str,
        send: Send,
    ) -> None:
        head = {**head, "object": "chat.completion.chunk"}
        more = {} if usage is None else {"usage": None}

        def chunk(delta: Dict[str, Any], finish: Optional[str] = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _sse(json.dumps({**head, "choices": [choice], **more}, separators=(",", ":")))

        await self._start(send, 200, b"text/event-stream; charset=utf-8", request_id)
        await self._think()
        await self._piece(send, chunk({"role": "assistant", "content": "", "refusal": None}))
        async for token in self._paced(tokens):
            await self._piece(send, chunk({"content": token}))
        await self._piece(send, chunk({}, reason))
        if usage is not None:
            last = {**head, "choices": [], "usage": usage}
            await self._piece(send, _sse(json.dumps(last, separators=(",", ":"))))
        await self._piece(send, _sse("[DONE]"))
        await self._piece(send, b"", more=False)

    async def _embeddings(self, request: Dict[str, Any], request_id: str, send: Send) -> None:
        model = request.get("model")
        if not isinstance(model, str):
            raise ErrorAnswer(400, "", "you must provide a model parameter")
        self._check_model(model, False)
        inputs = request.get("input")
        if isinstance(inputs, str):
            inputs = [inputs]
        if not isinstance(inputs, list) or not inputs:
            raise ErrorAnswer(400, "", "'input' must be a string or a list.", None, "input")
        if isinstance(inputs[0], int):  # one text as tokens
            inputs = [inputs]
        dimensions = request.get("dimensions") or EMBEDDING_DIMENSIONS
        await self._think()
        data = []
        for index, text in enumerate(inputs):
            vector: Any = _embed(text, dimensions)
            if request.get("encoding_format") == "base64":
                import base64
                import struct

                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        used = sum(1 + len(str(text)) // 4 for text in inputs)
        usage = {"prompt_tokens": used, "total_tokens": used}
        answer = {"object": "list", "data": data, "model": model, "usage": usage}
        await self._json(send, 200, answer, request_id)

    # ---- Anthropic

    async def _messages(self, request: Dict[str, Any], request_id: str, send: Send) -> None:
        model = request.get("model")
        if not isinstance(model, str):
            raise ErrorAnswer(400, "", "model: Field required")
        self._check_model(model, True)
        if not isinstance(request.get("max_tokens"), int):
            raise ErrorAnswer(400, "", "max_tokens: Field required")
        prompt = self._count_prompt(self._messages_of(request))
        tokens = self._tokens(request["max_tokens"])
        reason = "max_tokens" if len(tokens) == request["max_tokens"] else "end_turn"
        message: Dict[str, Any] = {
            "id": f"msg_{request_id[4:]}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": prompt,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
                "service_tier": "standard",
            },
        }
        if request.get("stream"):
            await self._messages_stream(message, tokens, reason, request_id, send)
            return
        await self._think(len(tokens))
        message["content"] = [{"type": "text", "text": "".join(tokens)}]
        message["stop_reason"] = reason
        message["usage"]["output_tokens"] = len(tokens)
        await self._json(send, 200, message, request_id)

    async def _messages_stream(
        self,
        message: Dict[str, Any],
        tokens: List[str],
        reason: str,
        request_id: str,
        send: Send,
    ) -> None:
        async def event(kind: str, **fields: Any) -> None:
            text = json.dumps({"type": kind, **fields}, separators=(",", ":"))
            await self._piece(send, f"event: {kind}\n".encode() + _sse(text))

        await self._start(send, 200, b"text/event-stream; charset=utf-8", request_id)
        await event("message_start", message=message)
        await event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        await event("ping")
        await self._think()
        async for token in self._paced(tokens):
            delta = {"type": "text_delta", "text": token}
            await event("content_block_delta", index=0, delta=delta)
        await event("content_block_stop", index=0)
        end = {"stop_reason": reason, "stop_sequence": None}
        await event("message_delta", delta=end, usage={"output_tokens": len(tokens)})
        await event("message_stop")
        await self._piece(send, b"", more=False)

    # ---- answers

    async def _start(
        self,
        send: Send,
        status: int,
        content_type: bytes,
        request_id: str,
        headers: Optional[Headers] = None,
    ) -> None:
        identity = request_id.encode()
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"x-request-id", identity),
                    (b"request-id", identity),
                    *(headers or []),
                ],
            }
        )

    async def _piece(self, send: Send, body: bytes, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _json(
        self,
        send: Send,
        status: int,
        value: Any,
        request_id: str,
        headers: Optional[Headers] = None,
    ) -> None:
        body = json.dumps(value, separators=(",", ":")).encode()
        length = (b"content-length", str(len(body)).encode())
        await self._start(send, status, b"application/json", request_id, [length, *(headers or [])])
        await self._piece(send, body, more=False)

    async def _error(
        self, send: Send, error: ErrorAnswer, anthropic: bool, request_id: str
    ) -> None:
        value: Dict[str, Any]
        if anthropic:
            kind = ANTHROPIC_KINDS.get(error.status, "api_error")
            value = {
                "type": "error",
                "error": {"type": kind, "message": error.message},
                "request_id": request_id,
            }
        else:
            kind = OPENAI_KINDS.get(error.status, "server_error")
            value = {
                "error": {
                    "message": error.message,
                    "type": kind,
                    "param": error.param,
                    "code": error.code,
                }
            }
        await self._json(send, error.status, value, request_id, error.headers)


def _sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def _embed(text: Any, dimensions: int) -> List[float]:
    """A vector of length 1 that depends on the text and on nothing else."""
    seed = hashlib.sha256(str(text).encode()).digest()
    source = random.Random(seed)
    vector = [source.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = sum(value * value for value in vector) ** 0.5
    return [round(value / length, 8) for value in vector]
