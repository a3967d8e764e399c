"""What the tests of OpenTelemetry share: an SDK in memory, and ways to call."""

import asyncio
import json
import re

import servers
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import llmpool

OURS = "llmpool"
HTTPX = "opentelemetry.instrumentation.httpx"
ANTHROPIC = "com.anthropic.sdk.python"


class Seen:
    """Spans that have ended, and metrics."""

    def __init__(self):
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def tracer(self, scope="test"):
        return self.tracers.get_tracer(scope)

    def spans(self, scope=OURS):
        """In the order in which they began."""
        found = [
            span
            for span in self._spans.get_finished_spans()
            if scope is None or span.instrumentation_scope.name == scope
        ]
        return sorted(found, key=lambda span: span.start_time)

    def span(self, scope=OURS):
        (found,) = self.spans(scope)
        return found

    def http_clients(self):
        """Those that stand for an attempt: anthropic's stands for a call."""
        return [
            span
            for span in self.spans(None)
            if span.kind is SpanKind.CLIENT and span.instrumentation_scope.name in (OURS, HTTPX)
        ]

    def points(self, name):
        """(attributes, point) of each series of a metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            (dict(point.attributes), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def events(span):
    return [event.name.partition("llmpool.")[2] for event in span.events]


def event(span, name):
    (found,) = [each for each in span.events if each.name == f"llmpool.{name}"]
    return found


def traceparents(head):
    """The ids of the spans that the headers of a request name."""
    return re.findall(rb"(?im)^traceparent:\s*00-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}\r?$", head)


def span_id(span):
    return b"%016x" % span.context.span_id


def body(model="any", **fields):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


class Caller:
    """One kind of client: what is done with it is done to its end in a call."""

    def __init__(self, client):
        self.client = client
        self.is_async = isinstance(client, llmpool.AsyncClient)

    def post(self, path, **arguments):
        answer = self.client.post(path, **arguments)
        return self._run(answer) if self.is_async else answer

    def stream(self, path, leave=False, **arguments):
        """The events of a streamed answer, or the first, after which it is left."""
        stream = self.client.stream("POST", path, **arguments)
        if not self.is_async:
            with stream as response:
                found = []
                for each in response.iter_sse(stop="[DONE]"):
                    found.append(each)
                    if leave:
                        break
                return found

        async def read():
            found = []
            async with stream as response:
                async for each in response.aiter_sse(stop="[DONE]"):
                    found.append(each)
                    if leave:
                        break
            return found

        return self._run(read())

    def _run(self, awaitable):
        async def limited():
            return await asyncio.wait_for(awaitable, 60)

        return asyncio.run(limited())


# ---- a server of Anthropic's API that keeps what it was sent

MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "any", "content": [],
    "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}  # fmt: skip
EVENTS = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
STREAM = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in EVENTS)


def answer_as_anthropic(heads):
    """A handler for servers.RawServer. A model called flaky fails first."""

    def handle(connection, _):
        rest = b""
        while True:
            head, sent, rest = servers.read_request(connection, rest)
            heads.append(head)
            asked = json.loads(sent) if sent else {}
            if asked.get("model") == "flaky" and len(heads) == 1:
                servers.answer(
                    connection, b"{}", b"retry-after-ms: 1\r\n", b"503 Service Unavailable"
                )
            elif asked.get("stream"):
                servers.answer(connection, STREAM.encode(), b"content-type: text/event-stream\r\n")
            else:
                servers.answer(
                    connection, json.dumps(MESSAGE).encode(), b"content-type: application/json\r\n"
                )

    return handle
