"""Cohere's second API: chat, embed, rerank."""

from typing import Any, AsyncIterator, Dict, List

from ._chat import schema_of
from ._exchange import SSE, Exchange
from ._failures import ErrorAnswer
from ._provider import Handler, Provider, expected, tell_to_wait
from ._text import Answer, Tool, arguments_of, calls_for, embed, tokens_in

EMBEDDING_DIMENSIONS = 256

Value = Dict[str, Any]


class Cohere(Provider):
    models = ("command-mock", "embed-mock", "rerank-mock")
    chance_statuses = (429, 500, 503)

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        return {
            "/v2/chat": {"POST": self._create},
            "/v2/embed": {"POST": self._embed},
            "/v2/rerank": {"POST": self._rerank},
        }

    def bad_key(self, given: str) -> ErrorAnswer:
        return ErrorAnswer(401, "invalid api token")

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        tell_to_wait(exchange, error)
        return {"id": _identity(exchange), "message": error.message}

    # ---- chat

    async def _create(self, exchange: Exchange) -> None:
        request = self.call(exchange)
        messages = self.messages(request)
        answer = self._answer(request, messages)
        output = expected(answer.size, [request.get("max_tokens")])
        self.admit(exchange, tokens_in(messages), output)
        end = {"finish_reason": _finish(answer), "usage": _usage(tokens_in(messages), answer.size)}
        if not request.get("stream"):
            await exchange.think(answer.size)
            await exchange.json(
                {"id": _identity(exchange), **end, "message": _message(exchange, answer)}
            )
            return
        await exchange.start(SSE)
        await exchange.think()
        begun = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
        start = {"type": "message-start", "id": _identity(exchange), "delta": {"message": begun}}
        await exchange.event(start, "message-start")
        async for event in _events(exchange, answer):
            await exchange.event(event, event["type"])
        await exchange.event({"type": "message-end", "delta": end}, "message-end")
        await exchange.event("[DONE]")
        await exchange.end()

    def _answer(self, request: Value, messages: List[Any]) -> Answer:
        functions = [tool["function"] for tool in request.get("tools") or []]
        calls = calls_for(
            [Tool(function["name"], function.get("parameters")) for function in functions],
            [
                call["function"]["name"]
                for message in messages
                for call in message.get("tool_calls") or []
            ],
            messages[-1].get("role") == "tool",
            (request.get("tool_choice") or "auto").lower(),
        )
        if calls:
            return Answer([], calls)
        form = request.get("response_format")
        schema = (form or {}).get("json_schema") or schema_of(form)
        return self.texts(request["model"], request.get("max_tokens"), schema=schema)

    # ---- embed, rerank

    async def _embed(self, exchange: Exchange) -> None:
        request = self.call(exchange)
        texts = self.messages(request, "texts")
        dimensions = request.get("output_dimension") or EMBEDDING_DIMENSIONS
        self.admit(exchange, tokens_in(texts))
        await exchange.think()
        await exchange.json(
            {
                "id": _identity(exchange),
                "embeddings": {"float": [embed(text, dimensions) for text in texts]},
                "texts": texts,
                "meta": {"api_version": {"version": "2"}},
                "response_type": "embeddings_by_type",
            }
        )

    async def _rerank(self, exchange: Exchange) -> None:
        """By the words that a document shares with the query."""
        request = self.call(exchange)
        documents = self.messages(request, "documents")
        self.admit(exchange, tokens_in(documents))
        wanted = set(str(request.get("query", "")).lower().split())
        scores = [
            len(wanted & set(str(text).lower().split())) / (len(wanted) or 1) for text in documents
        ]
        order = sorted(range(len(documents)), key=lambda index: -scores[index])
        results = [{"index": index, "relevance_score": scores[index]} for index in order]
        await exchange.think()
        await exchange.json(
            {
                "id": _identity(exchange),
                "results": results[: request.get("top_n") or len(results)],
                "meta": {"api_version": {"version": "2"}},
            }
        )


def _identity(exchange: Exchange) -> str:
    return f"00000000-0000-4000-8000-{exchange.number:012x}"


def _finish(answer: Answer) -> str:
    return "TOOL_CALL" if answer.calls else "MAX_TOKENS" if answer.cut else "COMPLETE"


def _usage(prompt: int, size: int) -> Value:
    tokens = {"input_tokens": prompt, "output_tokens": size}
    return {"billed_units": tokens, "tokens": tokens}


def _tool_calls(exchange: Exchange, answer: Answer) -> List[Value]:
    return [
        {
            "id": f"{call.name}_{exchange.number:08x}{index:02x}",
            "type": "function",
            "function": {"name": call.name, "arguments": "".join(arguments_of(call))},
        }
        for index, call in enumerate(answer.calls)
    ]


def _message(exchange: Exchange, answer: Answer) -> Value:
    if answer.calls:
        calls = _tool_calls(exchange, answer)
        return {"role": "assistant", "tool_plan": "I call it.", "tool_calls": calls}
    return {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}


def _event(kind: str, index: int, **message: Any) -> Value:
    return {"type": kind, "index": index, "delta": {"message": message}}


async def _events(exchange: Exchange, answer: Answer) -> AsyncIterator[Value]:
    for index, (call, value) in enumerate(zip(answer.calls, _tool_calls(exchange, answer))):
        opened = {**value, "function": {"name": call.name, "arguments": ""}}
        yield _event("tool-call-start", index, tool_calls=opened)
        async for piece in exchange.paced(arguments_of(call)):
            yield _event("tool-call-delta", index, tool_calls={"function": {"arguments": piece}})
        yield {"type": "tool-call-end", "index": index}
    if answer.calls:
        return
    yield _event("content-start", 0, content={"type": "text", "text": ""})
    async for token in exchange.paced(answer.tokens):
        yield _event("content-delta", 0, content={"text": token})
    yield {"type": "content-end", "index": 0}
