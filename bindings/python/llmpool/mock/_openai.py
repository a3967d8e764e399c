"""OpenAI: chat completions, responses, embeddings, files, batches, models."""

import base64
import struct
import time
from typing import Any, Dict, List, Tuple

from . import _chat
from ._admission import Admission
from ._batches import Batches, Files
from ._exchange import SSE, Exchange
from ._failures import ErrorAnswer, Failures
from ._limits import Lack, go_duration, openai_limits, refused
from ._provider import Crowded, Handler, Provider, Refusal, expected, tell_to_wait
from ._responses import Responses
from ._settings import Settings
from ._text import embed

EMBEDDING_DIMENSIONS = 256

KINDS = {429: "rate_limit_error", 503: "service_unavailable_error"}
CODES = {429: "rate_limit_exceeded", 503: "server_is_overloaded"}
SHORT = {"requests": "RPM", "tokens": "TPM"}
MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."

Value = Dict[str, Any]


class OpenAI(Provider):
    models: Tuple[str, ...] = ("gpt-mock", "gpt-mock-mini", "text-embedding-mock")

    def __init__(self, settings: Settings, failures: Failures, admission: Admission) -> None:
        self._started = int(time.time())
        self._responses = Responses(self)
        self._files = Files()
        self._batches = Batches(
            self._files,
            {
                "/v1/chat/completions": self.chat_value,
                "/v1/embeddings": self.embeddings_value,
                "/v1/responses": self._responses.value,
            },
        )
        super().__init__(settings, failures, admission)

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        return {
            "/v1/chat/completions": {"POST": self._complete},
            "/v1/embeddings": {"POST": self._embeddings},
            "/v1/models": {"GET": self._models},
            "/v1/models/{path}": {"GET": self._model},
            **self._responses.routes(),
            **self._files.routes(),
            **self._batches.routes(),
        }

    # ---- errors, and what is told beside an answer

    def bad_key(self, given: str) -> ErrorAnswer:
        if not given:
            return ErrorAnswer(401, "You didn't provide an API key.")
        return ErrorAnswer(401, "Incorrect API key provided.", "invalid_api_key")

    def no_model(self, name: Any) -> ErrorAnswer:
        return ErrorAnswer(404, f"The model '{name}' does not exist.", "model_not_found", "model")

    def refusal(self, model: str, lack: Lack) -> str:
        where = f"for {model} in organization org-mock on {lack.what} per min ({SHORT[lack.what]})"
        if lack.wait is None:
            return (
                f"Request too large {where}: Limit {lack.limit}, Requested {lack.requested}. The "
                f"input or output tokens must be reduced in order to run successfully. {MORE}"
            )
        return (
            f"Rate limit reached {where}: Limit {lack.limit}, Used {lack.used}, Requested "
            f"{lack.requested}. Please try again in {go_duration(lack.wait)}. {MORE}"
        )

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        tell_to_wait(exchange, error, milliseconds=True)
        if error.status == 429 and not isinstance(error, Crowded):
            made_up = 0.0 if isinstance(error, Refusal) else error.retry_after or 0.0
            self.tell_limits(exchange, made_up)
            if not error.again:
                exchange.common["x-should-retry"] = "false"
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        kind = KINDS.get(error.status, kind)
        if isinstance(error, Refusal):
            kind = error.lack.what
        return {
            "error": {
                "message": error.message,
                "type": "insufficient_quota" if error.code == "insufficient_quota" else kind,
                "param": error.param,
                "code": error.code or CODES.get(error.status),
            }
        }

    def tell(self, exchange: Exchange) -> None:
        """The headers of an answer."""
        exchange.common["openai-processing-ms"] = str(round(exchange.elapsed * 1000))
        exchange.common["openai-version"] = "2020-10-01"
        self.tell_limits(exchange)

    def tell_limits(self, exchange: Exchange, refused_for: float = 0.0) -> None:
        states = self.states(exchange)
        exchange.common.update(openai_limits(refused(states, refused_for)))

    # ---- models

    def model_value(self, name: str) -> Value:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "llmpool"}

    async def _models(self, exchange: Exchange) -> None:
        data = [self.model_value(name) for name in self.names()]
        await exchange.json({"object": "list", "data": data})

    async def _model(self, exchange: Exchange, name: str) -> None:
        if name not in self.names(name):
            raise self.no_model(name)
        await exchange.json(self.model_value(name))

    # ---- chat completions

    async def _complete(self, exchange: Exchange) -> None:
        request = self.call(exchange)
        chat = self._read(request, exchange.number)
        usage = chat.usage
        maxima = request.get("max_completion_tokens"), request.get("max_tokens")
        output = expected(usage["completion_tokens"], maxima, len(chat.answers))
        self.admit(exchange, chat.prompt, output)
        if not request.get("stream"):
            await exchange.think(usage["completion_tokens"])
            self.tell(exchange)
            await exchange.json(self._whole(chat, exchange.number))
            return
        options = request.get("stream_options") or {}
        self.tell(exchange)
        await exchange.start(SSE)
        await exchange.think()
        await self._stream(exchange, chat, usage if options.get("include_usage") else None)
        await exchange.event("[DONE]")
        await exchange.end()

    async def _stream(self, exchange: Exchange, chat: _chat.Chat, usage: Any) -> None:
        more = {} if usage is None else {"usage": None}
        async for chunk in _chat.chunks(chat, exchange, {"refusal": None}, logprobs=None):
            await exchange.event({**chunk, **more})
        if usage is not None:
            head = {**chat.head, "object": "chat.completion.chunk"}
            await exchange.event({**head, "choices": [], "usage": usage})

    def _read(self, request: Value, number: int) -> _chat.Chat:
        return _chat.read(self, request, number, system_fingerprint="fp_mock")

    def _whole(self, chat: _chat.Chat, number: int) -> Value:
        return _chat.whole(chat, number, {"refusal": None}, logprobs=None)

    def chat_value(self, request: Value, number: int) -> Value:
        """An answer as a batch has it."""
        return self._whole(self._read(request, number), number)

    # ---- embeddings

    async def _embeddings(self, exchange: Exchange) -> None:
        value = self.embeddings_value(self.call(exchange), exchange.number)
        self.admit(exchange, value["usage"]["total_tokens"])
        await exchange.think()
        self.tell(exchange)
        await exchange.json(value)

    def embeddings_value(self, request: Value, number: int) -> Value:
        inputs = request.get("input")
        if isinstance(inputs, str):
            inputs = [inputs]
        if not isinstance(inputs, list) or not inputs:
            raise ErrorAnswer(400, "'input' must be a string or a list.", None, "input")
        if isinstance(inputs[0], int):  # one text as tokens
            inputs = [inputs]
        dimensions = request.get("dimensions") or EMBEDDING_DIMENSIONS
        data: List[Value] = []
        for index, text in enumerate(inputs):
            vector: Any = embed(text, dimensions)
            if request.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        used = sum(1 + len(str(text)) // 4 for text in inputs)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return {"object": "list", "data": data, "model": request["model"], "usage": usage}
