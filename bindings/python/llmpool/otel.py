"""OpenTelemetry: a span for each attempt of a request, and metrics.

    import llmpool.otel

    llmpool.otel.instrument()

Every request of the package is traced from then on: of its clients, of the adapters for httpx and
requests, and of the SDKs under install(). Spans follow the conventions for HTTP clients; the trace
goes to the server by the propagator of the process. docs/opentelemetry.md says what they have.
"""

import threading
from typing import TYPE_CHECKING, Mapping, Optional, Union

try:
    import opentelemetry.trace  # noqa: F401
except ImportError as error:
    raise ImportError(
        "llmpool.otel needs opentelemetry-api: pip install 'libllmpool[otel]'"
    ) from error

from ._otel.instrumentation import Instrumentation

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "uninstrument"]

_lock = threading.Lock()
_instrumentation: Optional[Instrumentation] = None


def instrument(
    *,
    tracer_provider: "Optional[TracerProvider]" = None,
    meter_provider: "Optional[MeterProvider]" = None,
    stall_after: float = 10.0,
    gen_ai: Union[bool, Mapping[str, str]] = False,
) -> None:
    """Traces every request from now on. A second call changes how.

    Where the instrumentation of httpx or requests has a span for the request, or
    suppress_http_instrumentation() is set, there is none of ours: the events go onto the current
    one. Within suppress_instrumentation() nothing is traced.

    Args:
        tracer_provider, meter_provider: None: the global ones.
        stall_after: seconds of silence of a streamed answer that are an event of its span.
        gen_ai: the metrics gen_ai.client.*, of requests that name a model and go to a host that is
            a provider's; a mapping names the providers of other hosts, as of a gateway:
            {"llm.example.com": "openai"}.

    Raises:
        ValueError: stall_after is not above 0.
        TypeError: an argument is something else.
    """
    global _instrumentation
    if isinstance(stall_after, bool) or not isinstance(stall_after, (int, float)):
        raise TypeError(f"stall_after is a number of seconds, not {type(stall_after).__name__}")
    if not 0 < stall_after < 1e9:
        raise ValueError(f"stall_after is a number of seconds above 0, not {stall_after}")
    if not isinstance(gen_ai, (bool, Mapping)):
        raise TypeError(f"gen_ai is True, False or a mapping, not {type(gen_ai).__name__}")
    with _lock:
        made = Instrumentation(tracer_provider, meter_provider, stall_after, gen_ai)
        if _instrumentation is not None:
            _instrumentation.end()
        _instrumentation = made
        _instrumentation.begin()


def uninstrument() -> None:
    """Traces no more requests; those in flight are traced to their end. Without instrument() it
    does nothing."""
    global _instrumentation
    with _lock:
        ended, _instrumentation = _instrumentation, None
        if ended is not None:
            ended.end()
