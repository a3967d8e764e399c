"""Who waits at an origin that is down is told, and why."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import servers

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from caller import Caller

import llmpool


def statuses(pool, url, count, **options):
    with Caller(pool) as caller:
        started = time.monotonic()
        for _ in range(count):
            caller.submit(url, **options)
        outcomes = caller.wait(30)
        return outcomes, time.monotonic() - started


@pytest.mark.parametrize(
    ("scheme", "count", "options"),
    [
        ("http", 64, {"limits": llmpool.Limits(max_connections=4)}),
        ("https", 64, {"limits": llmpool.Limits(max_connections=4)}),
        ("http", 64, {"limits": llmpool.Limits(max_connections=1)}),
        ("http", 64, {"limits": llmpool.Limits(max_connections=4), "http1": False}),
        ("https", 64, {"limits": llmpool.Limits(max_connections=4), "http2": False}),
        ("http", 1_000, {}),
    ],
    ids=["http", "https", "one-place", "h2c", "https-h1", "thousand"],
)
def test_all_are_told(scheme, count, options):
    url = f"{scheme}://127.0.0.1:{servers.free_port()}/"
    with llmpool.Pool(proxy="", **options) as pool:
        outcomes, took = statuses(pool, url, count)
        assert Counter(o.status for o in outcomes) == {"E_CONNECT": count}
        assert all("refused" in o.message.lower() for o in outcomes)
        assert took < 9


@pytest.mark.parametrize("count", [64])
def test_a_dead_proxy(count):
    limits = llmpool.Limits(max_connections=4)
    with llmpool.Pool(proxy=f"http://127.0.0.1:{servers.free_port()}", limits=limits) as pool:
        outcomes, took = statuses(pool, "https://origin.invalid/", count)
        assert {o.status for o in outcomes} <= {"E_PROXY", "E_CONNECT"}
        assert took < 9


def test_an_origin_that_spoke_http1_and_died(tmp_path, certificates):
    server = servers.Nginx(tmp_path, certificates)
    limits = llmpool.Limits(max_connections=4)
    with llmpool.Pool(proxy="", limits=limits, http2=False, ca_file=certificates.ca_file) as pool:
        with server.run():
            assert statuses(pool, server.tls_url + "/small", 1)[0][0].status == "OK"
        outcomes, took = statuses(pool, server.tls_url + "/small", 64)
        assert Counter(o.status for o in outcomes) == {"E_CONNECT": 64}
        assert took < 9


def test_a_black_hole(certificates):
    """A listener whose backlog is full takes no connection."""
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    time.sleep(0.1)
    limits = llmpool.Limits(max_connections=2)
    timeout = llmpool.Timeout(5, connect=1, pool=1.5)
    with llmpool.Pool(proxy="", limits=limits, timeout=timeout) as pool:
        outcomes, took = statuses(pool, f"http://127.0.0.1:{port}/", 30)
        assert Counter(o.status for o in outcomes) == {"E_CONNECT_TIMEOUT": 30}
        assert took < 9
    for filler in [*fillers, listener]:
        filler.close()


@pytest.mark.parametrize("which", ["total", "pool"])
def test_a_backoff_beyond_the_end_is_not_begun(which):
    """It was told of its own timeout then, not of the refusal."""
    url = f"http://127.0.0.1:{servers.free_port()}/"
    with llmpool.Pool(proxy="", retry_backoff=600, retry_backoff_max=600) as pool:
        outcomes, _ = statuses(pool, url, 5, timeout={which: 0.5})
        assert {o.status for o in outcomes} == {"E_CONNECT"}
