import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import servers

import llmpool
from llmpool.mock import MockServer

try:
    import telemetry
except ImportError:  # without OpenTelemetry; what needs it skips
    telemetry = None


@pytest.fixture
def seen():
    """What was traced; nothing is when the test begins."""
    import llmpool.otel

    found = telemetry.Seen()
    yield found
    llmpool.otel.uninstrument()


@pytest.fixture
def traced(seen):
    """The same, under instrument()."""
    import llmpool.otel

    llmpool.otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    return seen


@pytest.fixture(scope="session")
def quick():
    """A mock whose errors may be tried again at once."""
    with MockServer(tls=False, http="1", retry_after=0.001, tokens=4) as server:
        yield server


@pytest.fixture
def client(quick, open_client):
    return open_client(quick.url + "/v1", headers=quick.headers)


@pytest.fixture(params=("sync", "async"))
def caller(request, client):
    """Both kinds of client of ours, called alike."""
    other = llmpool.AsyncClient(
        base_url=client.base_url, headers=client.headers, pool=client.pool, timeout=10.0
    )
    return telemetry.Caller(client if request.param == "sync" else other)


@pytest.fixture
def heads():
    """A server that keeps the heads of its requests, and answers as Anthropic does."""
    kept = []
    with servers.RawServer(telemetry.answer_as_anthropic(kept)) as server:
        server.heads = kept
        yield server
