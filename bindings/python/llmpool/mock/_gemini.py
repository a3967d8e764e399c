"""Google's Gemini API: content, embeddings, counts of tokens, models."""

from typing import Any, AsyncIterator, Dict, List, Tuple

from ._exchange import SSE, Exchange, compact
from ._failures import ErrorAnswer
from ._limits import Lack
from ._provider import Handler, Provider, Refusal
from ._schemas import value_of
from ._text import Answer, Tool, calls_for, embed, tokens_in

EMBEDDING_DIMENSIONS = 256
VERSIONS = ("v1beta", "v1")
KEY = b"x-goog-api-key"  # the header of its clients

# Of google.rpc.Code, as its HTTP mapping has them.
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

RPC = "type.googleapis.com/google.rpc"
QUOTAS = {
    "requests": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    "input-tokens": (
        "generate_content_paid_tier_input_token_count",
        "GenerateContentPaidTierInputTokensPerModelPerMinute",
    ),
}

Value = Dict[str, Any]


class Gemini(Provider):
    models = ("gemini-mock", "gemini-embedding-mock")
    chance_statuses = (429, 500, 503)
    limited = ("requests", "input-tokens")

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        routes: Dict[str, Dict[str, Handler]] = {}
        for version in VERSIONS:
            model = f"/{version}/models/{{id}}"
            routes[f"{model}:generateContent"] = {"POST": self._generate}
            routes[f"{model}:streamGenerateContent"] = {"POST": self._stream}
            routes[f"{model}:countTokens"] = {"POST": self._count}
            routes[f"{model}:embedContent"] = {"POST": self._embed}
            routes[f"{model}:batchEmbedContents"] = {"POST": self._embed_many}
            routes[f"/{version}/models"] = {"GET": self._models}
            routes[model] = {"GET": self._model}
        return routes

    def key(self, exchange: Exchange) -> str:
        return exchange.header(KEY.decode()) or exchange.query("key") or super().key(exchange)

    # ---- errors

    def identify(self, exchange: Exchange) -> None:
        exchange.common["x-goog-request-id"] = f"req_{exchange.number:024x}"

    def bad_key(self, given: str) -> ErrorAnswer:
        # 400, not 401: so says the real one.
        return ErrorAnswer(400, "API key not valid. Please pass a valid API key.")

    def no_model(self, name: Any) -> ErrorAnswer:
        return ErrorAnswer(404, f"models/{name} is not found for API version v1beta.")

    def refusal(self, model: str, lack: Lack) -> str:
        metric, _ = QUOTAS[lack.what]
        return (
            "You exceeded your current quota, please check your plan and billing details. For more "
            "information on this error, head over to: "
            "https://ai.google.dev/gemini-api/docs/rate-limits.\n* Quota exceeded for metric: "
            f"generativelanguage.googleapis.com/{metric}, limit: {lack.limit}, model: {model}"
        )

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        """There are no headers: when to try again stands in the body."""
        message = error.message
        details: List[Value] = []
        if isinstance(error, Refusal):
            violations = [_violation(exchange.model, error.lack)]
            details.append({"@type": f"{RPC}.QuotaFailure", "violations": violations})
            message += "\n" if error.again else ""
        if error.retry_after is not None:
            delay = f"{error.retry_after:g}s"
            message += f" Please retry in {delay}."
            details.append({"@type": f"{RPC}.RetryInfo", "retryDelay": delay})
        status = STATUSES.get(error.status, "INTERNAL" if error.status >= 500 else "UNKNOWN")
        value: Value = {"code": error.status, "message": message, "status": status}
        return {"error": {**value, "details": details} if details else value}

    # ---- models

    @staticmethod
    def _model_value(name: str) -> Value:
        return {
            "name": f"models/{name}",
            "version": "001",
            "displayName": name.replace("-", " ").title(),
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
        }

    async def _models(self, exchange: Exchange) -> None:
        await exchange.json({"models": [self._model_value(name) for name in self.names()]})

    async def _model(self, exchange: Exchange, name: str) -> None:
        if name not in self.names(name):
            raise self.no_model(name)
        await exchange.json(self._model_value(name))

    # ---- content

    async def _generate(self, exchange: Exchange, model: str) -> None:
        request, answer = self._admitted(exchange, model)
        await exchange.think(answer.size)
        parts = _parts(answer) or [{"text": answer.text}]
        await exchange.json(_value(exchange, model, request, parts, answer))

    async def _stream(self, exchange: Exchange, model: str) -> None:
        """As events with alt=sse, else as one JSON list."""
        request, answer = self._admitted(exchange, model)
        values = self._values(exchange, model, request, answer)
        if exchange.query("alt") == "sse":
            await exchange.start(SSE)
            async for value in values:
                await exchange.event(value)
            await exchange.end()
            return
        await exchange.start("application/json")
        before = "["
        async for value in values:
            await exchange.piece(f"{before}{compact(value)}".encode())
            before = ",\r\n"
        await exchange.end(b"]")

    def _admitted(self, exchange: Exchange, model: str) -> Tuple[Value, Answer]:
        request = self.call(exchange, model)
        answer = self._answer(model, request)
        self.admit(exchange, tokens_in(request["contents"]))
        return request, answer

    async def _values(
        self, exchange: Exchange, model: str, request: Value, answer: Answer
    ) -> AsyncIterator[Value]:
        await exchange.think()
        parts = _parts(answer)
        if parts:
            yield _value(exchange, model, request, parts, answer)
            return
        spoken = 0
        async for token in exchange.paced(answer.tokens):
            spoken += 1
            last = answer if spoken == len(answer.tokens) else None
            yield _value(exchange, model, request, [{"text": token}], last)

    def _answer(self, model: str, request: Value) -> Answer:
        contents = self.messages(request, "contents")
        asked = (request.get("toolConfig") or {}).get("functionCallingConfig") or {}
        parts = [part for content in contents for part in content.get("parts") or []]
        allowed = asked.get("allowedFunctionNames") or []
        functions = [
            function
            for tool in request.get("tools") or []
            for function in tool.get("functionDeclarations") or []
            if not allowed or function["name"] in allowed
        ]
        calls = calls_for(
            [
                Tool(each["name"], each.get("parametersJsonSchema") or each.get("parameters"))
                for each in functions
            ],
            [part["functionCall"]["name"] for part in parts if "functionCall" in part],
            bool(parts) and "functionResponse" in parts[-1],
            {"NONE": "none", "ANY": "required"}.get(asked.get("mode", ""), "auto"),
        )
        if calls:
            return Answer([], calls)
        config = request.get("generationConfig") or {}
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        if schema is None and config.get("responseMimeType") == "application/json":
            schema = {"type": "object"}
        return self.texts(model, config.get("maxOutputTokens"), schema=schema)

    async def _count(self, exchange: Exchange, model: str) -> None:
        request = self.read(exchange, model)
        await exchange.json({"totalTokens": tokens_in(self.messages(request, "contents"))})

    # ---- embeddings

    async def _embed(self, exchange: Exchange, model: str) -> None:
        request = self.call(exchange, model)
        self.admit(exchange, tokens_in([request.get("content")]))
        await exchange.think()
        await exchange.json({"embedding": _embedding(request)})

    async def _embed_many(self, exchange: Exchange, model: str) -> None:
        requests = self.messages(self.call(exchange, model), "requests")
        self.admit(exchange, tokens_in([request.get("content") for request in requests]))
        await exchange.think()
        await exchange.json({"embeddings": [_embedding(request) for request in requests]})


def _violation(model: str, lack: Lack) -> Value:
    metric, identity = QUOTAS[lack.what]
    return {
        "quotaMetric": f"generativelanguage.googleapis.com/{metric}",
        "quotaId": identity,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(lack.limit),
    }


def _embedding(request: Value) -> Value:
    parts = (request.get("content") or {}).get("parts") or []
    text = "".join(part.get("text", "") for part in parts)
    dimensions = request.get("outputDimensionality") or EMBEDDING_DIMENSIONS
    return {"values": embed(text, dimensions)}


def _parts(answer: Answer) -> List[Value]:
    """Those of the calls of tools."""
    return [
        {"functionCall": {"name": call.name, "args": value_of(call.schema or {"type": "object"})}}
        for call in answer.calls
    ]


def _value(exchange: Exchange, model: str, request: Value, parts: List[Value], done: Any) -> Value:
    """A piece of an answer; the last, or all of it, where done has the answer."""
    candidate: Value = {"content": {"role": "model", "parts": parts}, "index": 0}
    prompt = tokens_in(request["contents"])
    usage = {"promptTokenCount": prompt, "totalTokenCount": prompt}
    if done is not None:
        candidate["finishReason"] = "MAX_TOKENS" if done.cut else "STOP"
        spoken = {"candidatesTokenCount": done.size, "totalTokenCount": prompt + done.size}
        usage = {**usage, **spoken}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": f"{exchange.number:022x}",
    }
