"""What decides how each request is traced."""

import logging
from typing import List, Mapping, Optional, Tuple, Union

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, MeterProvider, get_meter
from opentelemetry.trace import (
    Span,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from .._native import tracing
from .._native.call import Call
from .._version import __version__
from .counts import pool_counts
from .genai import GenerationMetrics
from .notices import notices
from .pool_metrics import PoolMetrics
from .propagation import Headers
from .target import target_of
from .trace import RequestTrace, end_dropped

logger = logging.getLogger("llmpool.otel")

SCOPE = "llmpool"
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
# Whose spans stand for the request that is about to be sent.
_HTTP_SCOPES = frozenset(
    f"opentelemetry.instrumentation.{name}" for name in ("httpx", "requests", "urllib3")
)
# How the instrumentations tell each other to leave requests alone; the API has no public name yet.
_NOTHING = ("_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
_NO_HTTP = ("_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
# Of the SDKs of OpenAI and Anthropic: which of their tries it is.
_RETRY_COUNT = b"x-stainless-retry-count"
# Of the conventions for HTTP.
_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


def _is_set(context: Context, names: Tuple[str, str]) -> bool:
    key = getattr(contexts, names[0], names[1])
    return bool(contexts.get_value(key, context) or contexts.get_value(names[1], context))


class Instrumentation:
    """The settings of instrument(), as requests are traced by them.

    Attributes:
        stall_after: nanoseconds of silence in a stream.
    """

    def __init__(
        self,
        tracer_provider: Optional[TracerProvider],
        meter_provider: Optional[MeterProvider],
        stall_after: float,
        gen_ai: Union[bool, Mapping[str, str]],
    ) -> None:
        self.tracer = get_tracer(SCOPE, __version__, tracer_provider, _SCHEMA)
        meter = get_meter(SCOPE, __version__, meter_provider, _SCHEMA)
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.stall_after = int(stall_after * 1e9)
        self._pool_metrics = _pool_metrics(meter_provider, meter)
        self._generations: Optional[GenerationMetrics] = None
        if gen_ai is not False:
            providers = {} if gen_ai is True else dict(gen_ai)
            self._generations = GenerationMetrics(meter, providers)

    def begin(self) -> None:
        self._pool_metrics.is_on = True
        tracing.begin = self._begin

    def end(self) -> None:
        """What is in flight is traced to its end."""
        tracing.begin = None
        self._pool_metrics.is_on = False
        notices().end()
        end_dropped()

    def _begin(self, call: Call) -> None:
        try:
            end_dropped()
            call.trace = self._trace(call)
        except Exception:  # the request is worth more than its trace
            logger.debug("a request was not traced", exc_info=True)
            call.trace = None

    def _trace(self, call: Call) -> Optional[RequestTrace]:
        context = contexts.get_current()
        if _is_set(context, _NOTHING):
            return None
        target = target_of(call.url)
        headers = Headers(call.block)
        lender, is_for_head = self._lender(context, headers)
        before = call.trace
        resends = headers.number(_RETRY_COUNT)
        if isinstance(before, RequestTrace):
            resends = before.sent
        generation = None
        if self._generations is not None:
            generation = self._generations.generation(call, target)
        notices().watch(call.pool)
        pool_counts().pools.add(call.pool)
        trace = RequestTrace(self, call, target, context, resends, lender, is_for_head, generation)
        if lender is None:
            _ = call.request  # is what the application made
            call.block = headers.injected(set_span_in_context(trace.span, context))
        return trace

    def _lender(self, context: Context, headers: Headers) -> Tuple[Optional[Span], bool]:
        """A span of somebody above that stands for this request, and whether it is one that ends
        with the head of the answer."""
        span = get_current_span(context)
        scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
        # What it has sent its context with is the request that it is of.
        is_http = scope in _HTTP_SCOPES and headers.are_propagated()
        if is_http or _is_set(context, _NO_HTTP):
            return span, is_http
        return None, False


# An instrument cannot be taken away, and a second of its name would count twice.
_known: List[Tuple[Optional[MeterProvider], PoolMetrics]] = []


def _pool_metrics(provider: Optional[MeterProvider], meter: Meter) -> PoolMetrics:
    for known, metrics in _known:
        if known is provider:
            return metrics
    _known.append((provider, PoolMetrics(meter)))
    return _known[-1][1]
