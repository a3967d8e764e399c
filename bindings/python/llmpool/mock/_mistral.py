"""Mistral: chat, embeddings, models. Its paths are OpenAI's; the user agent tells its clients."""

from typing import Any, Dict, Tuple

from . import _chat
from ._exchange import Exchange
from ._failures import ErrorAnswer
from ._limits import Lack, mistral_limits
from ._openai import OpenAI
from ._provider import Handler, Refusal, tell_to_wait

CLIENT = b"mistral"  # in the user agent of its SDKs


class Mistral(OpenAI):
    models: Tuple[str, ...] = ("mistral-mock", "mistral-embed-mock")

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        ours = ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/models/{path}")
        return {path: how for path, how in super().routes().items() if path in ours}

    def identify(self, exchange: Exchange) -> None:
        exchange.common["mistral-correlation-id"] = f"req_{exchange.number:024x}"

    def bad_key(self, given: str) -> ErrorAnswer:
        return ErrorAnswer(401, "Unauthorized")

    def refusal(self, model: str, lack: Lack) -> str:
        return "Requests rate limit exceeded" if lack.what == "requests" else "Rate limit exceeded"

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        tell_to_wait(exchange, error)
        if isinstance(error, Refusal):
            self.tell(exchange)
        if error.status == 422:
            where = {"loc": ["body", error.param or "messages"], "type": "value_error"}
            return {"detail": [{**where, "msg": error.message, "input": None}]}
        return {
            "object": "error",
            "message": error.message,
            "type": "rate_limited" if error.status == 429 else "invalid_request_error",
            "param": error.param,
            "code": error.code,
        }

    def tell(self, exchange: Exchange) -> None:
        tokens = exchange.visit.tokens if exchange.visit else 0
        exchange.common.update(mistral_limits(self.states(exchange), tokens))

    def model_value(self, name: str) -> Dict[str, Any]:
        abilities = {"completion_chat": True, "function_calling": True, "vision": False}
        return {**super().model_value(name), "type": "base", "capabilities": abilities}

    def embeddings_value(self, request: Dict[str, Any], number: int) -> Dict[str, Any]:
        return {"id": f"{number:032x}", **super().embeddings_value(request, number)}

    async def _stream(self, exchange: Exchange, chat: _chat.Chat, usage: Any) -> None:
        """The last chunk has the usage, asked for or not."""
        before = None
        async for chunk in _chat.chunks(chat, exchange, {}):
            if before is not None:
                await exchange.event(before)
            before = chunk
        await exchange.event({**(before or chat.head), "usage": chat.usage})

    def _read(self, request: Dict[str, Any], number: int) -> _chat.Chat:
        return _chat.read(self, request, number)

    def _whole(self, chat: _chat.Chat, number: int) -> Dict[str, Any]:
        return _chat.whole(chat, number, {})
