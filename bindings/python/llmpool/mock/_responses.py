"""OpenAI's responses API, whole and streamed."""

import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, List

from ._exchange import SSE, Exchange
from ._failures import ErrorAnswer
from ._provider import Handler, expected
from ._text import Answer, Shelf, Tool, arguments_of, calls_for, tokens_in

if TYPE_CHECKING:
    from ._openai import OpenAI

STORED_MAX = 1000

Value = Dict[str, Any]


class Responses:
    """POST /v1/responses, and those that it stores."""

    def __init__(self, provider: "OpenAI") -> None:
        self._provider = provider
        self._stored = Shelf(STORED_MAX)

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        return {
            "/v1/responses": {"POST": self._create},
            "/v1/responses/{id}": {"GET": self._retrieve, "DELETE": self._delete},
        }

    async def _create(self, exchange: Exchange) -> None:
        request = self._provider.call(exchange)
        answer = self._answer(request)
        begun = _begun(request, exchange.number)
        done = _done(begun, answer, exchange.number, _prompt(request))
        output = expected(answer.size, [request.get("max_output_tokens")])
        self._provider.admit(exchange, done["usage"]["input_tokens"], output)
        if begun["store"]:
            self._stored.put(done["id"], done)
        if not request.get("stream"):
            await exchange.think(answer.size)
            self._provider.tell(exchange)
            await exchange.json(done)
            return
        self._provider.tell(exchange)
        await exchange.start(SSE)
        number = 0
        async for event in _events(exchange, begun, done, answer):
            await exchange.event({**event, "sequence_number": number}, event["type"])
            number += 1
        await exchange.end()

    def value(self, request: Value, number: int) -> Value:
        """An answer as a batch has it."""
        answer = self._answer(request)
        return _done(_begun(request, number), answer, number, _prompt(request))

    async def _retrieve(self, exchange: Exchange, identity: str) -> None:
        await exchange.json(self._found(self._stored.get(identity), identity))

    async def _delete(self, exchange: Exchange, identity: str) -> None:
        self._found(self._stored.take(identity), identity)
        await exchange.json({"id": identity, "object": "response", "deleted": True})

    @staticmethod
    def _found(stored: Any, identity: str) -> Any:
        if stored is None:
            raise ErrorAnswer(404, f"Response with id '{identity}' not found.")
        return stored

    def _answer(self, request: Value) -> Answer:
        given = request.get("input")
        if not given or not isinstance(given, (str, list)):
            raise ErrorAnswer(400, "'input' must be a string or a list.", None, "input")
        items = given if isinstance(given, list) else []
        choice = request.get("tool_choice") or "auto"
        if isinstance(choice, dict):
            choice = choice.get("name") or "required"
        calls = calls_for(
            [
                Tool(tool["name"], tool.get("parameters"))
                for tool in request.get("tools") or []
                if tool.get("type") == "function"
            ],
            [item["name"] for item in items if item.get("type") == "function_call"],
            bool(items) and items[-1].get("type") == "function_call_output",
            choice,
            request.get("parallel_tool_calls") is not False,
        )
        if calls:
            return Answer([], calls)
        form = (request.get("text") or {}).get("format") or {}
        schema = form.get("schema") if form.get("type") == "json_schema" else None
        maximum = request.get("max_output_tokens")
        return self._provider.texts(request["model"], maximum, schema=schema)


def _prompt(request: Value) -> int:
    given = request["input"]
    return tokens_in(given if isinstance(given, list) else [given])


def _begun(request: Value, number: int) -> Value:
    """The response before its first token."""
    return {
        "id": f"resp_{number:024x}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": request["model"],
        "output": [],
        "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": request.get("store") is not False,
        "temperature": request.get("temperature", 1.0),
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": request.get("tools") or [],
        "top_p": request.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": request.get("metadata") or {},
    }


def _done(begun: Value, answer: Answer, number: int, prompt: int) -> Value:
    status = "incomplete" if answer.cut else "completed"
    output: List[Value] = [
        {
            "id": f"fc_{number:020x}{index:04x}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{number:020x}{index:04x}",
            "name": call.name,
            "arguments": "".join(arguments_of(call)),
        }
        for index, call in enumerate(answer.calls)
    ]
    if not answer.calls:
        text = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        message = {"type": "message", "status": status, "role": "assistant", "content": [text]}
        output = [{"id": f"msg_{number:024x}", **message}]
    return {
        **begun,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.cut else None,
        "output": output,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.size,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + answer.size,
        },
    }


async def _events(
    exchange: Exchange, begun: Value, done: Value, answer: Answer
) -> AsyncIterator[Value]:
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    await exchange.think()
    for index, item in enumerate(done["output"]):
        if item["type"] == "function_call":
            events = _call(exchange, item, arguments_of(answer.calls[index]))
        else:
            events = _message(exchange, item, answer.tokens)
        async for event in events:
            yield {**event, "output_index": index}
    yield {"type": f"response.{done['status']}", "response": done}


async def _call(exchange: Exchange, item: Value, pieces: List[str]) -> AsyncIterator[Value]:
    opened = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "item": opened}
    kind, where = "response.function_call_arguments", {"item_id": item["id"]}
    async for piece in exchange.paced(pieces):
        yield {"type": f"{kind}.delta", **where, "delta": piece}
    ended = {"arguments": item["arguments"], "name": item["name"]}
    yield {"type": f"{kind}.done", **where, **ended}
    yield {"type": "response.output_item.done", "item": item}


async def _message(exchange: Exchange, item: Value, pieces: List[str]) -> AsyncIterator[Value]:
    (part,) = item["content"]
    where = {"item_id": item["id"], "content_index": 0}
    opened = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "item": opened}
    yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
    kind = "response.output_text"
    async for token in exchange.paced(pieces):
        yield {"type": f"{kind}.delta", **where, "delta": token, "logprobs": []}
    yield {"type": f"{kind}.done", **where, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": part}
    yield {"type": "response.output_item.done", "item": item}
