"""The metrics: of requests as they end, of pools as they are collected, and gen_ai.client.*."""

import pytest

pytest.importorskip("opentelemetry.sdk")

from telemetry import body

import llmpool
import llmpool.otel
from llmpool._otel.counts import COUNTERS, GAUGES
from llmpool._otel.genai import operation_of, provider_of
from llmpool._otel.pool_metrics import ROWS

CHAT = "/chat/completions"
DURATION = "http.client.request.duration"
HOST = {"127.0.0.1": "openai"}  # the mock's, as a gateway's


def port_of(client):
    return int(str(client.base_url).split(":")[2].partition("/")[0])


def values(seen, name, client):
    """Of the pools' instruments: by the one attribute that is not the server's."""
    found = {}
    for attributes, point in seen.points(name):
        if attributes.pop("server.port") == port_of(client):
            assert attributes.pop("server.address") == "127.0.0.1"
            assert attributes.pop("url.scheme") == "http"
            found[next(iter(attributes.values()), "")] = point.value
    return found


# ---- requests


def test_the_duration_of_each_attempt(traced, caller):
    caller.post(CHAT, json=body())
    caller.stream(CHAT, json=body(stream=True))
    caller.post(CHAT, json=body(f"flaky-1-429-{caller.is_async}"), retry="status")
    caller.post(CHAT, json=body("error-500"))
    points = {
        attributes["http.response.status_code"]: (attributes, point)
        for attributes, point in traced.points(DURATION)
    }
    assert {status: point.count for status, (_, point) in points.items()} == {
        200: 3,
        429: 1,
        500: 1,
    }
    attributes, point = points[500]
    assert attributes == {
        "http.request.method": "POST", "server.address": "127.0.0.1",
        "server.port": port_of(caller.client), "http.response.status_code": 500,
        "network.protocol.version": "1.1", "error.type": "500",
    }  # fmt: skip
    assert point.explicit_bounds == (
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    )  # fmt: skip
    spans = [(span.end_time - span.start_time) / 1e9 for span in traced.spans()]
    total = sum(point.sum for _, point in points.values())
    assert total == pytest.approx(sum(spans), abs=1e-5)


def test_no_duration_beside_that_of_httpxs_instrumentation(traced, heads):
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")
    ours = pytest.importorskip("llmpool.httpx2")
    instrumentor = instrumentation.HTTPX2ClientInstrumentor()
    instrumentor.instrument(tracer_provider=traced.tracers)
    try:
        with ours.Client() as client:
            client.get(heads.url)
    finally:
        instrumentor.uninstrument()
    assert traced.points(DURATION) == []


# ---- pools


def test_what_pools_count(traced, client):
    names = ("llmpool.requests", "llmpool.retries", "llmpool.network.io")
    before = {name: values(traced, name, client) for name in names}  # of pools that are closed
    for _ in range(3):
        client.post(CHAT, json=body())
    client.post(CHAT, json=body("flaky-1-503-counted"), retry="status")
    (origin,) = client.pool.origins()
    stats = client.pool.stats(origin)
    since = {
        name: {
            kind: value - before[name].get(kind, 0)
            for kind, value in values(traced, name, client).items()
        }
        for name in names
    }
    assert since == {
        "llmpool.requests": {"succeeded": 4, "failed": 0, "cancelled": 0},
        "llmpool.retries": {"": 1},
        "llmpool.network.io": {"transmit": stats.bytes_sent, "receive": stats.bytes_received},
    }
    assert stats.succeeded == 4 and stats.bytes_sent > 0
    assert values(traced, "http.client.active_requests", client) == {"": 0}
    assert values(traced, "http.client.open_connections", client) == {"active": 0, "idle": 1}


def test_requests_in_flight(traced, client):
    with client.stream("POST", CHAT, json=body("stall-1", stream=True)):
        assert values(traced, "http.client.active_requests", client) == {"": 1}
        assert values(traced, "http.client.open_connections", client)["active"] == 1


def test_each_row_is_an_instrument_and_a_counter_of_the_pool(traced, client):
    client.post(CHAT, json=body())
    for row in ROWS:
        (point, *_) = [point for _, point in traced.points(row.name)]
        assert point is not None, row.name
        for names, _ in row.parts:
            assert set(names) <= set(COUNTERS if row.is_counter else GAUGES)
    assert set(COUNTERS + GAUGES) <= set(vars(llmpool.stats()))


def test_a_pool_that_is_closed_still_counts(traced, quick):
    url = quick.url + "/v1" + CHAT
    for number in (1, 2):
        with llmpool.Pool() as pool:
            client = llmpool.Client(base_url=quick.url, headers=quick.headers, pool=pool)
            before = values(traced, "llmpool.connections.opened", client).get("", 0)
            client.post(url, json=body())
            assert values(traced, "llmpool.connections.opened", client)[""] == before + 1, number
            assert values(traced, "http.client.open_connections", client)["idle"] == 1
        assert values(traced, "llmpool.connections.opened", client)[""] == before + 1
        assert values(traced, "http.client.open_connections", client) == {"active": 0, "idle": 0}


def test_two_pools_of_one_origin_are_one_sum(traced, quick, open_client):
    clients = [open_client(quick.url + "/v1", headers=quick.headers) for _ in range(2)]
    before = values(traced, "llmpool.requests", clients[0]).get("succeeded", 0)
    for client in clients:
        client.post(CHAT, json=body())
    assert values(traced, "llmpool.requests", clients[0])["succeeded"] == before + 2


def test_nothing_is_shown_twice_or_afterwards(traced, client):
    client.post(CHAT, json=body())
    llmpool.otel.instrument(tracer_provider=traced.tracers, meter_provider=traced.meters)
    series = [
        tuple(sorted(map(str, each.items()))) for each, _ in traced.points("llmpool.requests")
    ]
    assert series and len(series) == len(set(series))
    llmpool.otel.uninstrument()
    assert traced.points("llmpool.requests") == []


# ---- generative AI


@pytest.fixture
def generating(seen):
    llmpool.otel.instrument(
        tracer_provider=seen.tracers, meter_provider=seen.meters, gen_ai=HOST, stall_after=5
    )
    return seen


def test_they_are_off(traced, client):
    client.post(CHAT, json=body())
    for name in ("operation.duration", "token.usage", "operation.time_to_first_chunk"):
        assert traced.points(f"gen_ai.client.{name}") == []


def expected(client, **more):
    return {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "any", "server.address": "127.0.0.1",
        "server.port": port_of(client), **more,
    }  # fmt: skip


def usage(seen):
    return {
        attributes.pop("gen_ai.token.type"): (attributes, point.count, point.sum)
        for attributes, point in seen.points("gen_ai.client.token.usage")
    }


def test_a_whole_answer(generating, caller):
    answer = caller.post(CHAT, json=body())
    ((attributes, point),) = generating.points("gen_ai.client.operation.duration")
    assert attributes == expected(caller.client) and point.count == 1
    assert point.sum == pytest.approx(answer.elapsed.total_seconds(), abs=1e-5)
    assert point.explicit_bounds[:3] == (0.01, 0.02, 0.04) and point.explicit_bounds[-1] == 81.92
    told = answer.json()["usage"]
    assert usage(generating) == {
        "input": (expected(caller.client), 1, told["prompt_tokens"]),
        "output": (expected(caller.client), 1, told["completion_tokens"]),
    }
    assert generating.points("gen_ai.client.operation.time_to_first_chunk") == []


def test_a_stream(generating, caller):
    caller.stream(CHAT, json=body(stream=True, stream_options={"include_usage": True}))
    ((attributes, point),) = generating.points("gen_ai.client.operation.time_to_first_chunk")
    assert attributes == expected(caller.client) and point.count == 1
    assert {kind: count for kind, (_, count, _) in usage(generating).items()} == {
        "input": 1, "output": 1,
    }  # fmt: skip
    ((_, whole),) = generating.points("gen_ai.client.operation.duration")
    assert whole.sum >= point.sum


def test_an_sdk(generating, heads):
    anthropic = pytest.importorskip("anthropic", minversion="2")
    ours = pytest.importorskip("llmpool.httpx2")
    client = anthropic.Anthropic(
        api_key="k", base_url=heads.url, http_client=ours.Client(), open_telemetry=False
    )
    with client:
        list(
            client.messages.create(
                model="any", max_tokens=5, stream=True, messages=[{"role": "user", "content": "hi"}]
            )
        )
    told = {kind: total for kind, (_, _, total) in usage(generating).items()}
    assert told == {"input": 3, "output": 2}


def test_what_goes_wrong_has_its_type(generating, client):
    client.post(CHAT, json=body("error-500"))
    ((attributes, point),) = generating.points("gen_ai.client.operation.duration")
    assert attributes["error.type"] == "500" and point.count == 1 and usage(generating) == {}


def test_a_request_that_names_no_model_or_goes_elsewhere(generating, client, seen):
    client.get("/models")
    client.post(CHAT, json={"messages": []})
    client.post("/unknown", json=body())
    llmpool.otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters, gen_ai=True)
    client.post(CHAT, json=body())  # 127.0.0.1 is nobody's
    assert generating.points("gen_ai.client.operation.duration") == []


@pytest.mark.parametrize(
    "host, provider",
    [
        ("api.openai.com", "openai"), ("x.openai.azure.com", "azure.ai.openai"),
        ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "aws.bedrock"), ("api.x.ai", "x_ai"),
        ("openai.com.evil.example", ""), ("h.example", "mine"), ("s3.amazonaws.com", ""),
    ],
)  # fmt: skip
def test_providers(host, provider):
    assert provider_of(host, {"h.example": "mine"}) == provider


@pytest.mark.parametrize(
    "path, operation",
    [
        ("/v1/chat/completions", "chat"), ("/v1/completions", "text_completion"),
        ("/v1/messages", "chat"), ("/v1/messages/count_tokens", ""),
        ("/v1/embeddings", "embeddings"),
        ("/v1beta/models/g:streamGenerateContent", "generate_content"), ("/v1/models", ""),
    ],
)  # fmt: skip
def test_operations(path, operation):
    assert operation_of(path) == operation
