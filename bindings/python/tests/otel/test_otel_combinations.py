"""Ours, httpx's instrumentation and anthropic's own spans, together in every order: one CLIENT span
for each attempt, one traceparent."""

import asyncio
import importlib
import importlib.util
from itertools import permutations

import pytest

pytest.importorskip("opentelemetry.sdk")
instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")

from opentelemetry.instrumentation import utils  # noqa: E402
from opentelemetry.trace import SpanKind  # noqa: E402
from telemetry import ANTHROPIC, HTTPX, OURS, events, span_id, traceparents  # noqa: E402

import llmpool  # noqa: E402
import llmpool.otel  # noqa: E402

INSTRUMENTORS = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
GENERATIONS = [name for name in INSTRUMENTORS if importlib.util.find_spec(name)]
STEPS = ("ours", "theirs", "install")
ORDERS = [order for length in range(4) for order in permutations(STEPS, length)]


@pytest.fixture
def take(seen):
    """Takes steps of an order, for one generation of httpx."""
    instrumentors = []

    def take_steps(order, generation):
        for step in order:
            if step == "ours":
                llmpool.otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
            elif step == "install":
                llmpool.install()
            else:
                instrumentors.append(getattr(instrumentation, INSTRUMENTORS[generation])())
                instrumentors[-1].instrument(tracer_provider=seen.tracers)

    yield take_steps
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    llmpool.uninstall()


def expect(seen, order, heads, call_spans=()):
    """One span for each attempt, which the server was told of once."""
    clients = seen.http_clients()
    carried = "theirs" in order or "ours" in order
    assert len(clients) == (len(heads) if carried else 0)
    assert len(seen.spans(OURS)) == (0 if "theirs" in order else len(clients))
    told = clients if "theirs" in order else call_spans or clients
    for number, head in enumerate(heads):
        (span,) = told[number : number + 1] or told[-1:] or [None]
        assert traceparents(head) == ([] if span is None else [span_id(span)])
    for span in clients:
        if call_spans:
            assert span.parent.span_id == call_spans[0].context.span_id
        names = events(span)
        if "ours" not in order:
            assert names == []
        elif "theirs" in order:
            # It ends with the head, and the pool's times come with the end of the answer.
            assert names[0] == "queued" and {"head", "first_byte"} & set(names)
        else:
            assert names[0] == "queued" and "admitted" in names


# ---- httpx and httpx2 by themselves


def client_of(generation, order, is_async):
    """Of httpx itself where install() puts the pool below it."""
    name = generation if "install" in order else f"llmpool.{generation}"
    return getattr(importlib.import_module(name), "AsyncClient" if is_async else "Client")()


def get(client, url, is_streamed):
    if not hasattr(client, "aclose"):
        with client, client.stream("GET", url) as response:
            response.read()
            return response

    async def main():
        async with client, client.stream("GET", url) as response:
            await response.aread()
            return response

    return asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_httpx(seen, take, heads, generation, order, is_async):
    take(order, generation)
    response = get(client_of(generation, order, is_async), heads.url, True)
    assert response.status_code == 200 and "llmpool" in response.extensions
    expect(seen, order, heads.heads)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")], ids="-".join)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_one_client_that_is_instrumented(seen, take, heads, generation, order, is_async):
    client = client_of(generation, order, is_async)
    instrumentor = getattr(instrumentation, INSTRUMENTORS[generation])
    for step in order:
        if step == "ours":
            take(("ours",), generation)
        else:
            instrumentor.instrument_client(client, tracer_provider=seen.tracers)
    get(client, heads.url, False)
    expect(seen, order, heads.heads)


def test_what_an_instrumented_client_calls_has_spans_of_its_own(seen, take, heads, open_client):
    """The span of httpx's that is current stands for its own request, and for no other."""
    httpx2 = pytest.importorskip("httpx2")
    take(("ours",), "httpx2")
    within = open_client(heads.url)

    def handle(request):
        within.get("/within")
        return httpx2.Response(200)

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    instrumentation.HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=seen.tracers)
    client.get("http://h.example/")
    (theirs,) = seen.spans(HTTPX)
    ours = seen.span()
    assert ours.parent.span_id == theirs.context.span_id and events(theirs) == []
    assert traceparents(heads.heads[0]) == [span_id(ours)]


# ---- Anthropic's SDK, which has a span for each call


class Kit:
    """A client of the SDK, sync or async, with its own spans or without."""

    def __init__(self, seen, order, url, is_async, has_spans, **options):
        anthropic = pytest.importorskip("anthropic", minversion="2")
        self.is_async = is_async
        kind = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
        self.client = kind(
            api_key="k", base_url=url, http_client=client_of("httpx2", order, is_async),
            open_telemetry={"tracer_provider": seen.tracers} if has_spans else False,
            **{"max_retries": 0, **options},
        )  # fmt: skip

    def create(self, model, is_streamed):
        arguments = {
            "model": model, "max_tokens": 5, "stream": is_streamed,
            "messages": [{"role": "user", "content": "hi"}],
        }  # fmt: skip
        if not self.is_async:
            with self.client as client:
                answer = client.messages.create(**arguments)
                return list(answer) if is_streamed else answer

        async def main():
            async with self.client as client:
                answer = await client.messages.create(**arguments)
                return [each async for each in answer] if is_streamed else answer

        return asyncio.run(main())


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("has_spans", [False, True], ids=["without-its-own", "its-own"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_anthropic(seen, take, heads, order, has_spans, is_async, is_streamed):
    take(order, "httpx2")
    Kit(seen, order, heads.url, is_async, has_spans).create("any", is_streamed)
    calls = seen.spans(ANTHROPIC)
    assert len(calls) == has_spans and all(span.kind is SpanKind.CLIENT for span in calls)
    assert len(heads.heads) == 1
    expect(seen, order, heads.heads, calls)
    if "ours" in order and "theirs" not in order and is_streamed:
        assert "first_token" in events(seen.span())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("has_spans", [False, True], ids=["without-its-own", "its-own"])
@pytest.mark.parametrize(
    "order", [("ours",), ("ours", "theirs"), ("theirs", "ours", "install")], ids="-".join
)
def test_anthropic_tries_again(seen, take, heads, order, has_spans, is_async):
    take(order, "httpx2")
    Kit(seen, order, heads.url, is_async, has_spans, max_retries=1).create("flaky", False)
    assert len(heads.heads) == 2 and len(seen.spans(ANTHROPIC)) == has_spans
    expect(seen, order, heads.heads, seen.spans(ANTHROPIC))
    if order == ("ours",):
        failed, answered = seen.spans()
        assert failed.attributes["error.type"] == "503"
        assert "http.request.resend_count" not in failed.attributes
        assert answered.attributes["http.request.resend_count"] == 1


# ---- who wants no span


def call_of(kind, heads, open_client):
    client = open_client(heads.url)
    if kind == "whole":
        return lambda: client.get("/")

    def streamed():
        with client.stream("POST", "/", json={"stream": True}) as response:
            return list(response.iter_sse())

    return streamed


@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_http_instrumentation_is_suppressed(seen, take, heads, open_client, kind):
    take(("ours",), "httpx2")
    call = call_of(kind, heads, open_client)
    with seen.tracer().start_as_current_span("above"), utils.suppress_http_instrumentation():
        assert call()
    above = seen.span("test")
    assert seen.spans() == [] and traceparents(heads.heads[0]) == []
    assert events(above)[:4] == ["queued", "connected", "admitted", "sent"]
    assert ("first_token" in events(above)) == (kind == "streamed")
    assert seen.points("http.client.request.duration") == []


def test_http_instrumentation_is_suppressed_and_no_span_is_there(seen, take, heads, open_client):
    take(("ours",), "httpx2")
    with utils.suppress_http_instrumentation():
        open_client(heads.url).get("/")
    assert seen.spans(None) == [] and traceparents(heads.heads[0]) == []


@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_all_instrumentation_is_suppressed(seen, take, heads, open_client, kind):
    """As whoever exports spans by HTTP does, which would have no end."""
    take(("ours",), "httpx2")
    call = call_of(kind, heads, open_client)
    with seen.tracer().start_as_current_span("above"), utils.suppress_instrumentation():
        assert call()
    assert events(seen.span("test")) == [] and seen.spans() == []
    assert seen.points("http.client.request.duration") == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_requests(seen, take, heads, is_whole):
    """Its instrumentation sets suppress_http_instrumentation, within its own span."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
    requests = pytest.importorskip("requests")
    from llmpool.requests import Adapter

    take(("ours",), "httpx2")
    with requests.Session() as session:
        session.mount("http://", Adapter())
        session.get(heads.url)
        assert len(seen.spans()) == 1 and traceparents(heads.heads[0]) == [span_id(seen.span())]
        instrumentation.RequestsInstrumentor().instrument(tracer_provider=seen.tracers)
        try:
            session.get(heads.url, stream=not is_whole).content  # noqa: B018
        finally:
            instrumentation.RequestsInstrumentor().uninstrument()
    (theirs,) = seen.spans("opentelemetry.instrumentation.requests")
    assert len(seen.spans()) == 1 and traceparents(heads.heads[1]) == [span_id(theirs)]
    assert events(theirs)[0] == "queued"
