"""Notices reach logging; metrics and repr say how a pool is."""

import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import servers

import llmpool


def messages(caplog, level):
    return [r for r in caplog.records if r.name == "llmpool" and r.levelno == level]


@pytest.fixture
def small(open_pool):
    """A server that holds answers back, and a client with two connections at most."""
    free = threading.Event()

    def handle(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            free.wait(10)
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        pool = open_pool(limits=llmpool.Limits(max_connections=2))
        client = llmpool.Client(base_url=server.url, pool=pool)
        client.free = free
        yield client
        free.set()


def test_a_warning_per_crossing(small, caplog):
    caplog.set_level(logging.INFO, "llmpool")
    with ThreadPoolExecutor(8) as executor:
        for _ in range(2):
            small.free.clear()
            futures = [executor.submit(small.get, "/") for _ in range(5)]
            assert servers.wait_until(lambda: small.pool.stats().pending == 3)
            time.sleep(0.05)
            small.free.set()
            assert all(future.result().is_success for future in futures)
            assert servers.wait_until(lambda: small.pool.stats().in_use == 0)
            time.sleep(0.05)
    warnings = messages(caplog, logging.WARNING)
    assert len(warnings) == 2
    text = warnings[0].getMessage()
    assert re.fullmatch(
        r"utilization 2/2 \(100 %\), \d waiting, longest \d+\.\d s: "
        "raise max_connections or lower the load",
        text,
    )
    assert warnings[0].llmpool["used"] == "2" and warnings[0].llmpool["limit"] == "2"
    infos = [record.getMessage() for record in messages(caplog, logging.INFO)]
    assert any("opened" in text for text in infos)
    assert any("utilization back to" in text for text in infos)
    small.pool.close()
    reason = re.compile(r"connection to http://127\.0\.0\.1:\d+ closed: pool-closed")
    assert servers.wait_until(
        lambda: any(reason.fullmatch(r.getMessage()) for r in messages(caplog, logging.INFO))
    )


def test_retries_are_debug_and_have_no_secrets(open_pool, caplog):
    caplog.set_level(logging.DEBUG, "llmpool")

    pytest.importorskip("h2")
    import h2.errors
    from test_http2 import OK, H2Server

    def script(server, connection, stream, sock):
        if len(server.requests) == 2:
            connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        else:
            connection.send_headers(stream, OK, end_stream=True)

    with H2Server(script) as server:
        pool = open_pool(http1=False)
        headers = {"authorization": "Bearer secret"}
        client = llmpool.Client(base_url=server.url, pool=pool, headers=headers)
        client.get("/")
        assert client.get("/").attempts == 2
        assert servers.wait_until(lambda: messages(caplog, logging.DEBUG))
    (record,) = messages(caplog, logging.DEBUG)
    assert "tried again" in record.getMessage() and server.url in record.getMessage()
    assert "secret" not in caplog.text


def test_one_thread_for_all_pools(open_client, nginx):
    clients = [open_client(nginx.url) for _ in range(5)]
    for client in clients:
        client.get("/small")
    assert [t.name for t in threading.enumerate()].count("llmpool-log") == 1


def test_no_thread_where_nobody_listens(run_python, nginx):
    script = """
import logging, sys, threading
logging.getLogger("llmpool").setLevel(logging.CRITICAL)
import llmpool
llmpool.get(sys.argv[1])
assert threading.active_count() == 1, threading.enumerate()
logging.getLogger("llmpool").setLevel(logging.INFO)
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
llmpool.Client(pool=llmpool.Pool()).get(sys.argv[1])
assert threading.active_count() == 2
import time; time.sleep(0.2)
"""
    done = run_python(script, nginx.url + "/small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"INFO connection to {nginx.url} opened")


def test_in_a_forked_child(run_python, nginx):
    script = """
import logging, os, sys, time
logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s", stream=sys.stdout)
import llmpool
client = llmpool.Client()
client.get(sys.argv[1])
child = os.fork()
client.get(sys.argv[1])
time.sleep(0.2)
sys.stdout.flush()
if child:
    os.waitpid(child, 0)
os._exit(0)
"""
    done = run_python(script, nginx.url + "/small")
    opened = [line.split()[0] for line in done.stdout.splitlines() if " opened " in line]
    assert len(set(opened)) == 2, done.stdout + done.stderr


def test_metrics_and_repr(open_client, nginx):
    client = open_client(nginx.url)
    for _ in range(3):
        client.get("/small")
    text = client.pool.metrics()
    assert "# TYPE llmpool_utilization_ratio gauge" in text and nginx.url in text
    assert isinstance(llmpool.metrics(), str)
    shown = repr(client.pool)
    assert "\n" not in shown and "1 idle" in shown and "0 pending" in shown
    assert "\n" not in repr(client) and "llmpool.Client" in repr(client)
