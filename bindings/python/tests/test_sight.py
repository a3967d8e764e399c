"""Histograms, reasons and requests in flight."""

import copy
import pickle
import threading

import pytest
import servers

import llmpool
from llmpool._native import abi

KINDS = [
    "pool_wait",
    "budget_wait",
    "connect",
    "tls",
    "first_byte",
    "first_token",
    "event_gap",
    "total",
]


def test_histograms_of_the_pool_and_of_an_origin(open_client, nginx):
    client = open_client(nginx.url)
    for _ in range(3):
        client.get("/small")
    found = client.pool.histograms()
    assert list(found) == KINDS
    (origin,) = client.pool.origins()
    assert client.pool.histograms(origin) == found
    total = found["total"]
    assert total.count == 3 and 0 < total.max <= total.sum <= 3 * total.max
    assert 0 < total.percentile(50) <= total.percentile(100) == total.max
    assert found["connect"].count == 1 and found["first_token"].count == 0
    assert found["budget_wait"].max == found["budget_wait"].percentile(99) == 0
    with pytest.raises(KeyError):
        client.pool.histograms("http://nobody:1")


def test_histograms_are_merged_and_kept(open_client, nginx):
    client = open_client(nginx.url)
    client.get("/small")
    first = client.pool.histograms()["total"]
    client.get("/small")
    second = client.pool.histograms()["total"]
    both = first.merge(second)
    assert (first.count, second.count, both.count) == (1, 2, 3)
    assert both.sum == pytest.approx(first.sum + second.sum)
    assert both.max == max(first.max, second.max)
    assert first.merge(llmpool.Histogram()) == first != second
    assert pickle.loads(pickle.dumps(both)) == copy.copy(both) == both
    assert "3 durations" in repr(both)
    with pytest.raises(TypeError):
        first.merge(3)


def test_the_metrics_are_the_histograms(open_client, nginx):
    client = open_client(nginx.url)
    for _ in range(5):
        client.get("/small")
    (origin,) = client.pool.origins()
    text = client.pool.metrics()
    for name, metric in (("total", "request_duration"), ("connect", "connect")):
        histogram = client.pool.histograms(origin)[name]
        assert f'{metric}_seconds_count{{origin="{origin}"}} {histogram.count}\n' in text
        assert f'{metric}_seconds_sum{{origin="{origin}"}} {histogram.sum:.6f}\n' in text
        assert f'{metric}_seconds_bucket{{origin="{origin}",le="+Inf"}} {histogram.count}' in text
    assert "event_gap_seconds_bucket" not in text  # nothing was counted


def test_reasons(open_client):
    def handle(connection, number):
        servers.read_request(connection)
        if number == 1:
            servers.answer(connection, b"", b"retry-after-ms: 1\r\n", b"503 Busy")
        connection.close()

    with servers.RawServer(handle) as server:
        client = open_client(server.url, retry_backoff=0.001)
        with pytest.raises(llmpool.ReadError):
            client.get("/", retry=llmpool.Retry(status=True))
        assert servers.wait_until(lambda: client.pool.stats().idle == 0)
        reasons, stats = client.pool.reasons(), client.pool.stats()
        assert reasons.failed == {"read": 1}
        assert reasons.retried["status 503"] == 1
        (origin,) = client.pool.origins()
        assert client.pool.reasons(origin) == reasons
        text = client.pool.metrics()
        assert f'failure_reasons_total{{origin="{origin}",reason="read"}} 1\n' in text
        assert f'retry_reasons_total{{origin="{origin}",reason="status 503"}} 1\n' in text
    assert sum(reasons.closed.values()) == stats.closed
    assert sum(reasons.failed.values()) == stats.failed
    assert sum(reasons.retried.values()) == stats.retries


def test_requests_in_flight(open_client):
    free = threading.Event()

    def handle(connection, _):
        servers.read_request(connection)
        free.wait(20)
        servers.answer(connection)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        assert client.pool.requests() == []
        caller = threading.Thread(target=lambda: client.post("/", content=b"12345"))
        caller.start()
        assert servers.wait_until(
            lambda: [each.phase for each in client.pool.requests()] == ["waiting"]
        )
        (request,) = client.pool.requests()
        assert server.url.startswith(request.origin)
        assert (request.attempts, request.bytes_sent, request.bytes_received) == (1, 5, 0)
        assert request.age > 0 and request.id > 0
        free.set()
        caller.join()
        assert client.pool.requests() == []


def test_every_phase_has_a_word():
    from llmpool._pool import sight

    known = {getattr(abi, name) for name in dir(abi) if name.startswith("PHASE_")}
    assert set(sight.PHASES) == known
