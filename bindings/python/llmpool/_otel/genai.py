"""The metrics of the conventions for generative AI: of requests that name provider and model."""

from typing import Any, Dict, List, Mapping, Optional

from opentelemetry.metrics import Meter as MetricMeter

from .._http.answer import Answer
from .._http.budgets import Meter, model_of
from .._native.call import Call
from .outcome import Outcome
from .target import Attributes, Target, server_attributes

# Names of the conventions' list; a dot in front stands for all hosts that end so.
PROVIDERS: Dict[str, str] = {
    "api.openai.com": "openai",
    ".openai.azure.com": "azure.ai.openai",
    ".services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    ".aiplatform.googleapis.com": "gcp.vertex_ai",
    "-aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.mistral.ai": "mistral_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
_BEDROCK = ("bedrock-runtime.", ".amazonaws.com")
# By the end of a path, the longer ones first.
_OPERATIONS = (
    ("/chat/completions", "chat"),
    ("/messages", "chat"),
    ("/responses", "chat"),
    ("/chat", "chat"),
    ("/converse", "chat"),
    ("/converse-stream", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
    ("/embed", "embeddings"),
    (":embedContent", "embeddings"),
    (":batchEmbedContents", "embeddings"),
    (":generateContent", "generate_content"),
    (":streamGenerateContent", "generate_content"),
)
_SECONDS = [0.01 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]


def provider_of(host: str, others: Mapping[str, str]) -> str:
    """As the conventions name it; "": the host says none."""
    named = others.get(host) or PROVIDERS.get(host)
    if named:
        return named
    if host.startswith(_BEDROCK[0]) and host.endswith(_BEDROCK[1]):
        return "aws.bedrock"
    for end, name in PROVIDERS.items():
        if end[0] in ".-" and host.endswith(end):
            return name
    return ""


def operation_of(path: str) -> str:
    for end, name in _OPERATIONS:
        if path.endswith(end):
            return name
    return ""


class GenerationMetrics:
    """The instruments.

    Args:
        providers: of hosts that are no provider's own, as a gateway is.
    """

    def __init__(self, meter: MetricMeter, providers: Mapping[str, str]) -> None:
        self.providers = providers
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def generation(self, call: Call, target: Target) -> "Optional[Generation]":
        """What measures a request; None where it does not say what it is."""
        provider = provider_of(target.host, self.providers)
        operation = operation_of(target.path) if provider else ""
        model = model_of(call.body or b"", target.path) if operation else ""
        if not model:
            return None
        attributes: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            **server_attributes(target),
        }
        return Generation(self, attributes)


class Generation:
    """Measures one request."""

    __slots__ = ("_metrics", "_attributes", "_meter")

    def __init__(self, metrics: GenerationMetrics, attributes: Attributes) -> None:
        self._metrics = metrics
        self._attributes = attributes
        self._meter: Optional[Meter] = Meter()

    def note(self, items: List[Any], headers: bytes) -> None:
        if self._meter is not None:
            self._meter.note(items, headers)

    def settle(self, headers: bytes) -> None:
        """What the answer says it took, once; nothing where it does not."""
        meter, self._meter = self._meter, None
        usage = None if meter is None else meter.read(headers)
        if usage is None:
            return
        for kind, tokens in zip(("input", "output"), usage):
            if tokens:
                attributes = {**self._attributes, "gen_ai.token.type": kind}
                self._metrics.usage.record(tokens, attributes)

    def done(self, outcome: Outcome, answer: Answer, head: Optional[Answer]) -> None:
        attributes = dict(self._attributes)
        if outcome.error:
            attributes["error.type"] = outcome.error
        seconds = (outcome.end - outcome.began) / 1e9
        self._metrics.duration.record(max(seconds, 0.0), attributes)
        if head is not None and outcome.first_token:
            self._metrics.first_chunk.record(outcome.first_token, attributes)
        if head is None and not answer.status:  # all of it is here
            self.note([answer.data], answer.headers)
            self.settle(answer.headers)
