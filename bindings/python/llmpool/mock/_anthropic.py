"""Anthropic: messages, their batches and tokens, models."""

from typing import Any, AsyncIterator, Dict, List, NamedTuple, Tuple

from ._admission import Admission
from ._exchange import SSE, Exchange, compact
from ._failures import PING, ErrorAnswer, Failures
from ._limits import Lack, anthropic_limits, instant, refused
from ._provider import Crowded, Handler, Provider, Refusal, tell_to_wait
from ._schemas import value_of
from ._settings import Settings
from ._text import Answer, Shelf, Tool, arguments_of, calls_for, tokens_in, words

BATCHES_MAX = 1000
THOUGHTS = 4  # words, where thinking is on
COUNTED = ("text_delta", "input_json_delta")  # what a stream has of the tokens of its usage

KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

Value = Dict[str, Any]


class Spoken(NamedTuple):
    """A request that was understood, and what comes of it.

    Attributes:
        message: with no content, as a stream begins.
        content: its blocks.
        pieces: of each block, what a stream has of it.
        answer: what they were made of.
        reason: why it stops.
    """

    message: Value
    content: List[Value]
    pieces: List[List[str]]
    answer: Answer
    reason: str

    @property
    def whole(self) -> Value:
        usage = {**self.message["usage"], "output_tokens": self.answer.size}
        end = {"content": self.content, "stop_reason": self.reason, "usage": usage}
        return {**self.message, **end}


class Anthropic(Provider):
    models = ("claude-mock",)
    chance_statuses = (429, 500, 529)
    limited = ("requests", "input-tokens", "output-tokens")
    overloaded = 529

    def __init__(self, settings: Settings, failures: Failures, admission: Admission) -> None:
        self._batches = Shelf(BATCHES_MAX)
        super().__init__(settings, failures, admission)

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        batch = "/v1/messages/batches/{id}"
        return {
            "/v1/messages": {"POST": self._create},
            "/v1/messages/count_tokens": {"POST": self._count_tokens},
            "/v1/messages/batches": {"POST": self._create_batch, "GET": self._list_batches},
            batch: {"GET": self._retrieve_batch, "DELETE": self._delete_batch},
            f"{batch}/cancel": {"POST": self._retrieve_batch},  # it had ended before
            f"{batch}/results": {"GET": self._batch_results},
            "/v1/models": {"GET": self._models},
            "/v1/models/{path}": {"GET": self._model},
        }

    def key(self, exchange: Exchange) -> str:
        return exchange.header("x-api-key") or super().key(exchange)

    # ---- errors

    def identify(self, exchange: Exchange) -> None:
        exchange.common["request-id"] = f"req_{exchange.number:024x}"
        exchange.alive = PING

    def bad_key(self, given: str) -> ErrorAnswer:
        return ErrorAnswer(401, "invalid x-api-key")

    def refusal(self, model: str, lack: Lack) -> str:
        return (
            "This request would exceed the rate limit for your organization of "
            f"{lack.limit:,} {lack.what.replace('-', ' ')} per minute (model: {model}). For "
            "details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the "
            "response headers for current usage. Please reduce the prompt length or the maximum "
            "tokens requested, or try again later."
        )

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        tell_to_wait(exchange, error)
        if error.status == 429 and not isinstance(error, Crowded):
            made_up = 0.0 if isinstance(error, Refusal) else error.retry_after or 0.0
            self._tell_limits(exchange, made_up)
        exchange.common["x-should-retry"] = "true" if error.again else "false"
        return {**_error_value(error), "request_id": exchange.common["request-id"]}

    async def late_error(self, exchange: Exchange, error: ErrorAnswer) -> None:
        await exchange.event(self.error(exchange, error), "error")
        await exchange.end()

    def _tell_limits(self, exchange: Exchange, refused_for: float = 0.0) -> None:
        states = self.states(exchange)
        offset = self.settings.limit_clock_offset
        exchange.common.update(anthropic_limits(refused(states, refused_for), offset))

    # ---- models

    @staticmethod
    def _model_value(name: str) -> Value:
        return {
            "type": "model",
            "id": name,
            "display_name": name.replace("-", " ").title(),
            "created_at": "2025-01-01T00:00:00Z",
        }

    async def _models(self, exchange: Exchange) -> None:
        await exchange.json(_page([self._model_value(name) for name in self.names()]))

    async def _model(self, exchange: Exchange, name: str) -> None:
        if name not in self.names(name):
            raise self.no_model(name)
        await exchange.json(self._model_value(name))

    # ---- messages

    async def _create(self, exchange: Exchange) -> None:
        request = self.call(exchange)
        spoken = self._speak(request, exchange.number)
        size = spoken.answer.size
        self.admit(exchange, spoken.message["usage"]["input_tokens"], later=size)
        exchange.common["anthropic-organization-id"] = "00000000-0000-4000-8000-000000000000"
        if not request.get("stream"):
            await exchange.think(size)
            self._spend(exchange, size)
            self._tell_limits(exchange)
            await exchange.json(spoken.whole)
            return
        self._tell_limits(exchange)
        await exchange.start(SSE)
        produced = 0
        try:
            async for event in _events(exchange, spoken):
                produced += event.get("delta", {}).get("type") in COUNTED
                await exchange.event(event, event["type"])
        finally:  # also where the client leaves before
            self._spend(exchange, produced)
        await exchange.end()

    @staticmethod
    def _spend(exchange: Exchange, output_tokens: int) -> None:
        assert exchange.visit is not None
        exchange.visit.spend(output_tokens)

    async def _count_tokens(self, exchange: Exchange) -> None:
        request = self.read(exchange)
        await exchange.json({"input_tokens": _prompt(request, self.messages(request))})

    def _speak(self, request: Value, number: int) -> Spoken:
        maximum = request.get("max_tokens")
        if not isinstance(maximum, int):
            raise ErrorAnswer(400, "max_tokens: Field required")
        messages = self.messages(request)
        answer = self._answer(request, messages, maximum)
        content: List[Value] = []
        pieces: List[List[str]] = []
        if (request.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
            pieces.append(words(THOUGHTS))
            thoughts = "".join(pieces[-1])
            content.append({"type": "thinking", "thinking": thoughts, "signature": "bW9jaw=="})
        for index, call in enumerate(answer.calls):
            identity = {"id": f"toolu_{number:020x}{index:04x}", "name": call.name}
            arguments = value_of(call.schema or {"type": "object"})
            content.append({"type": "tool_use", **identity, "input": arguments})
            pieces.append(arguments_of(call))
        if not answer.calls:
            content.append({"type": "text", "text": answer.text})
            pieces.append(answer.tokens)
        reason = "tool_use" if answer.calls else "max_tokens" if answer.cut else "end_turn"
        return Spoken(_message(request, messages, number), content, pieces, answer, reason)

    def _answer(self, request: Value, messages: List[Any], maximum: int) -> Answer:
        choice = request.get("tool_choice") or {"type": "auto"}
        how = {"any": "required", "tool": choice.get("name")}.get(choice["type"], choice["type"])
        calls = calls_for(
            [
                Tool(tool["name"], tool["input_schema"])
                for tool in request.get("tools") or []
                if "input_schema" in tool
            ],
            [block["name"] for block in _blocks(messages) if block.get("type") == "tool_use"],
            any(block.get("type") == "tool_result" for block in _blocks(messages[-1:])),
            str(how),
            not choice.get("disable_parallel_tool_use"),
        )
        if calls:
            return Answer([], calls)
        form = (request.get("output_config") or {}).get("format") or {}
        return self.texts(request["model"], maximum, schema=form.get("schema"))

    # ---- batches: computed when they are made, and said to have ended when they are asked for

    async def _create_batch(self, exchange: Exchange) -> None:
        requests = self.messages(exchange.object(), "requests")
        batch: Value = {
            "id": f"msgbatch_{exchange.number:024x}",
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": _counts(processing=len(requests)),
            "created_at": instant(),
            "expires_at": instant(86_400),
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }
        results = [self._result(each, exchange.number) for each in requests]
        kinds = [each["result"]["type"] for each in results]
        counts = _counts(succeeded=kinds.count("succeeded"), errored=kinds.count("errored"))
        done = {"processing_status": "ended", "request_counts": counts, "ended_at": instant()}
        lines = b"".join(compact(each).encode() + b"\n" for each in results)
        self._batches.put(batch["id"], ({**batch, **done}, lines))
        await exchange.json(batch)

    def _result(self, request: Value, number: int) -> Value:
        params = request.get("params") or {}
        result: Value
        try:
            if not isinstance(params.get("model"), str):
                raise ErrorAnswer(400, "model: Field required")
            self.failures.by_name(params["model"])
            result = {"type": "succeeded", "message": self._speak(params, number).whole}
        except ErrorAnswer as error:
            result = {"type": "errored", "error": _error_value(error)}
        return {"custom_id": request.get("custom_id"), "result": result}

    def _batch(self, exchange: Exchange, identity: str) -> Tuple[Value, bytes]:
        found: Any = self._batches.get(identity)
        if found is None:
            raise ErrorAnswer(404, f"batch: {identity}")
        batch, lines = found
        url = f"{exchange.origin}/v1/messages/batches/{identity}/results"
        return {**batch, "results_url": url}, lines

    async def _retrieve_batch(self, exchange: Exchange, identity: str) -> None:
        await exchange.json(self._batch(exchange, identity)[0])

    async def _list_batches(self, exchange: Exchange) -> None:
        await exchange.json(_page([batch for batch, _ in self._batches.newest_first()]))

    async def _delete_batch(self, exchange: Exchange, identity: str) -> None:
        self._batch(exchange, identity)
        self._batches.take(identity)
        await exchange.json({"id": identity, "type": "message_batch_deleted"})

    async def _batch_results(self, exchange: Exchange, identity: str) -> None:
        await exchange.whole("application/x-jsonl", self._batch(exchange, identity)[1])


_DELTAS = {
    "text": ("text_delta", "text"),
    "tool_use": ("input_json_delta", "partial_json"),
    "thinking": ("thinking_delta", "thinking"),
}
_EMPTY: Value = {"text": "", "thinking": "", "signature": "", "input": {}}


async def _events(exchange: Exchange, spoken: Spoken) -> AsyncIterator[Value]:
    yield {"type": "message_start", "message": spoken.message}
    for index, (block, pieces) in enumerate(zip(spoken.content, spoken.pieces)):
        where = {"index": index}
        opened = {name: _EMPTY.get(name, value) for name, value in block.items()}
        yield {"type": "content_block_start", **where, "content_block": opened}
        if index == 0:
            yield {"type": "ping"}
            await exchange.think()
        kind, name = _DELTAS[block["type"]]
        async for piece in exchange.paced(pieces):
            yield {"type": "content_block_delta", **where, "delta": {"type": kind, name: piece}}
        if "signature" in block:
            delta = {"type": "signature_delta", "signature": block["signature"]}
            yield {"type": "content_block_delta", **where, "delta": delta}
        yield {"type": "content_block_stop", **where}
    end = {"stop_reason": spoken.reason, "stop_sequence": None}
    usage = {"output_tokens": spoken.answer.size}
    yield {"type": "message_delta", "delta": end, "usage": usage}
    yield {"type": "message_stop"}


def _message(request: Value, messages: List[Any], number: int) -> Value:
    """As a stream begins."""
    return {
        "id": f"msg_{number:024x}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _prompt(request, messages),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    }


def _error_value(error: ErrorAnswer) -> Value:
    kind = "api_error" if error.status >= 500 else "invalid_request_error"
    detail = {"type": KINDS.get(error.status, kind), "message": error.message}
    return {"type": "error", "error": detail}


def _blocks(messages: List[Any]) -> List[Value]:
    contents = [message.get("content") for message in messages]
    return [block for content in contents if isinstance(content, list) for block in content]


def _prompt(request: Value, messages: List[Any]) -> int:
    system = request.get("system")
    return tokens_in([*messages, *([system] if system else [])])


def _counts(**some: int) -> Dict[str, int]:
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    return {name: some.get(name, 0) for name in names}


def _page(data: List[Value]) -> Value:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}
