"""Chat completions, as OpenAI has them, and others after it."""

import time
from typing import Any, AsyncIterator, Dict, List, NamedTuple

from ._exchange import Exchange
from ._provider import Provider
from ._text import Answer, Tool, arguments_of, calls_for, tokens_in

CHOICES_MAX = 128

Value = Dict[str, Any]


class Chat(NamedTuple):
    """A request that was understood, and what comes of it.

    Attributes:
        head: what each chunk begins with.
        answers: one for each choice.
        prompt: its tokens.
    """

    head: Value
    answers: List[Answer]
    prompt: int

    @property
    def usage(self) -> Value:
        completion = sum(answer.size for answer in self.answers)
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
        }


def read(provider: Provider, request: Value, number: int, **head: Any) -> Chat:
    n = request.get("n")
    count = min(n, CHOICES_MAX) if isinstance(n, int) and n > 0 else 1
    answer = answer_to(provider, request)
    return Chat(
        {
            "id": f"chatcmpl-{number:024x}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            **head,
        },
        [answer] * count,
        tokens_in(request["messages"]),
    )


def answer_to(provider: Provider, request: Value) -> Answer:
    messages = provider.messages(request)
    functions = [tool["function"] for tool in request.get("tools") or [] if "function" in tool]
    calls = calls_for(
        [Tool(function["name"], function.get("parameters")) for function in functions],
        [
            call["function"]["name"]
            for message in messages
            for call in message.get("tool_calls") or []
            if "function" in call
        ],
        messages[-1].get("role") == "tool",
        _chosen_tool(request),
        request.get("parallel_tool_calls") is not False,
    )
    if calls:
        return Answer([], calls)
    maxima = request.get("max_completion_tokens"), request.get("max_tokens")
    form = schema_of(request.get("response_format"))
    return provider.texts(request["model"], *maxima, schema=form)


def _chosen_tool(request: Value) -> str:
    """tool_choice, as calls_for wants it."""
    choice = request.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        return str((choice.get("function") or {}).get("name") or "required")
    return {"any": "required"}.get(choice, str(choice))


def schema_of(response_format: Any) -> Any:
    """None where any text will do."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_schema":
        return (response_format.get("json_schema") or {}).get("schema") or {"type": "object"}
    if kind == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "length" if answer.cut else "stop"


def _tool_call(call: Tool, number: int, choice: int, at: int, arguments: str) -> Value:
    return {
        "id": f"call_{number:012x}{choice:02x}{at:02x}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def whole(chat: Chat, number: int, message: Value, **choice: Any) -> Value:
    """message, choice: what those have beside."""
    choices = []
    for index, answer in enumerate(chat.answers):
        spoken: Value = {"role": "assistant", "content": answer.text, **message}
        if answer.calls:
            spoken["content"] = None
            spoken["tool_calls"] = [
                _tool_call(call, number, index, at, "".join(arguments_of(call)))
                for at, call in enumerate(answer.calls)
            ]
        finish = _finish(answer)
        choices.append({"index": index, "message": spoken, **choice, "finish_reason": finish})
    return {**chat.head, "choices": choices, "usage": chat.usage}


async def chunks(
    chat: Chat, exchange: Exchange, first: Value, **choice: Any
) -> AsyncIterator[Value]:
    """Of a stream, without that of the usage.

    first, choice: what the first delta of a choice and each choice have beside.
    """
    head = {**chat.head, "object": "chat.completion.chunk"}

    def chunk(index: int, delta: Value, finish: Any = None) -> Value:
        one = {"index": index, "delta": delta, **choice, "finish_reason": finish}
        return {**head, "choices": [one]}

    for index in range(len(chat.answers)):
        yield chunk(index, {"role": "assistant", "content": "", **first})
    tokens = [answer.tokens for answer in chat.answers]
    async for index, token in exchange.paced_together(tokens):
        yield chunk(index, {"content": token})
    for index, answer in enumerate(chat.answers):
        for at, call in enumerate(answer.calls):
            opened = _tool_call(call, exchange.number, index, at, "")
            yield chunk(index, {"tool_calls": [{"index": at, **opened}]})
            async for piece in exchange.paced(arguments_of(call)):
                more = {"index": at, "function": {"arguments": piece}}
                yield chunk(index, {"tool_calls": [more]})
        yield chunk(index, {}, _finish(answer))
