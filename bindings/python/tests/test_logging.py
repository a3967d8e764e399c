"""What happens in a pool reaches logging, in few lines; metrics and repr say how a pool is."""

import asyncio
import contextlib
import gc
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool._pool import leaks, lines
from llmpool._pool.limiter import Limiter


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


def said(caplog, level, part):
    """The records of a level whose message has this in it."""
    return [r for r in messages(caplog, level) if part in r.getMessage()]


def crowd(client, executor, count):
    """So many requests at once that the pool has its two connections in use, and the rest wait."""
    futures = [executor.submit(client.get, "/") for _ in range(count)]
    assert servers.wait_until(lambda: client.pool.stats().pending == count - 2)
    return futures


def test_levels_and_a_line_for_many_of_a_kind(small, caplog):
    """A short wait, however full the pool is, is no warning."""
    caplog.set_level(logging.DEBUG, "llmpool")
    with ThreadPoolExecutor(8) as executor:
        futures = crowd(small, executor, 5)
        assert servers.wait_until(lambda: said(caplog, logging.INFO, "utilization"))
        small.free.set()
        assert all(future.result().is_success for future in futures)
    (record,) = said(caplog, logging.INFO, "utilization 2/2")
    assert re.fullmatch(
        r"llmpool: utilization 2/2 \(100 %\), \d waiting, longest \d+\.\d s: "
        "raise max_connections or lower the load",
        record.getMessage(),
    )
    assert record.llmpool["used"] == "2" and record.llmpool["limit"] == "2"
    (record,) = said(caplog, logging.DEBUG, "opened")  # of two connections
    assert record.getMessage().startswith(f"llmpool: connection to {small.base_url}"[:-1])
    small.pool.close()
    assert servers.wait_until(lambda: said(caplog, logging.INFO, "closed: pool-closed"))
    assert len(said(caplog, logging.INFO, "closed: pool-closed")) == 1
    assert not messages(caplog, logging.WARNING)


def test_what_is_held_back_is_said_when_its_time_is_over(small, caplog, monkeypatch):
    monkeypatch.setattr(lines._state, "limiter", Limiter(0.5))
    caplog.set_level(logging.DEBUG, "llmpool")
    with ThreadPoolExecutor(8) as executor:
        futures = crowd(small, executor, 5)
        # Nothing else happens, so that it is the time alone which brings the line.
        assert servers.wait_until(lambda: len(said(caplog, logging.DEBUG, "opened")) == 2)
        small.free.set()
        assert all(future.result().is_success for future in futures)
    one, other = said(caplog, logging.DEBUG, "opened")
    assert "last of" not in one.getMessage() + other.getMessage()  # it stands for itself alone


@pytest.mark.parametrize("knob", ["max_connections", "max_connections_per_origin"])
def test_a_long_wait_for_a_connection(small, caplog, knob):
    if knob == "max_connections_per_origin":
        small.pool.configure(
            limits=llmpool.Limits(max_connections=None, max_connections_per_origin=2)
        )
    origin = small.base_url.origin
    with ThreadPoolExecutor(8) as executor:
        futures = crowd(small, executor, 5)
        assert servers.wait_until(lambda: messages(caplog, logging.WARNING), 30)
        small.free.set()
        assert all(future.result().is_success for future in futures)
    (record,) = messages(caplog, logging.WARNING)
    assert re.fullmatch(
        rf"llmpool: waiting for a connection to {origin} for \d+\.\d s, before sending: 2 in use, "
        rf"{knob} is 2, 3 requests wait: raise {knob} or lower the load \(3 of them\)",
        record.getMessage(),
    )
    fields = dict(record.llmpool)
    assert int(fields.pop("waited-ms")) >= 1000
    assert fields == {
        "origin": origin, "in-use": "2", "limit": "2", "waiting": "3", "knob": knob, "count": "3",
    }  # fmt: skip


def test_a_busy_pool_a_cold_start_and_a_server_that_comes_back_warn_of_nothing(caplog, open_pool):
    """Each for as long as two looks."""

    def serve(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            time.sleep(0.02)
            servers.answer(connection)

    def for_looks(client, step):
        end = time.monotonic() + 2.2
        with ThreadPoolExecutor(9) as executor:
            while time.monotonic() < end:
                list(executor.map(lambda _: step(client), range(9)))

    def may_fail(client):
        with contextlib.suppress(llmpool.TransportError):
            client.get("/")
        time.sleep(0.05)

    pool = open_pool(limits=llmpool.Limits(max_connections=10), max_retries=5)
    with servers.RawServer(serve) as server:  # nine of ten connections, again and again
        client = llmpool.Client(base_url=server.url, pool=pool)
        for_looks(client, lambda client: client.get("/"))
        port = server.port
    for_looks(client, may_fail)
    with servers.RawServer(serve, port=port):
        assert servers.wait_until(lambda: client.get("/").is_success)
        for_looks(client, lambda client: client.get("/"))
    assert messages(caplog, logging.WARNING) == []


def asks(client):
    client.get("/")


def streams(client):
    with client.stream("GET", "/") as response:
        list(response.iter_raw())


def asks_on_a_loop(client):
    async def ask():
        await llmpool.AsyncClient(base_url=client.base_url, pool=client.pool).get("/")

    asyncio.run(ask())


def streams_on_a_loop(client):
    async def stream():
        other = llmpool.AsyncClient(base_url=client.base_url, pool=client.pool)
        async with other.stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                pass

    asyncio.run(stream())


def asks_by_httpx(client):
    pytest.importorskip("httpx2")
    import llmpool.httpx2

    with llmpool.httpx2.Client() as other:
        other.get(client.base_url)


WAYS = [asks, streams, asks_on_a_loop, streams_on_a_loop, asks_by_httpx]


@pytest.mark.parametrize("way", WAYS)
def test_requests_older_than_a_bound(way, small, caplog):
    """Each once, with the place that made it."""
    if way is asks_by_httpx:
        pytest.importorskip("httpx2")
    llmpool.debug(leaks=True, older_than=0.2)
    try:
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(way, small)
            assert servers.wait_until(lambda: messages(caplog, logging.WARNING))
            time.sleep(1.2)  # another look finds it again
            small.free.set()
            future.result()
    finally:
        llmpool.debug(leaks=False)
    (record,) = messages(caplog, logging.WARNING)
    first, *place = record.getMessage().splitlines()
    assert re.fullmatch(
        rf"llmpool: a request to {re.escape(small.base_url.origin)} is not over after \d+\.\d s: "
        r"waiting; made here:",
        first,
    )
    assert "test_logging.py" in place[-2] and way.__name__ in "".join(place)
    assert record.llmpool["phase"] == "waiting" and int(record.llmpool["age-ms"]) >= 200


def test_young_requests_are_not_old(small, caplog):
    llmpool.debug(leaks=True, older_than=600)
    try:
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(small.get, "/")
            time.sleep(2.2)
            small.free.set()
            assert future.result().is_success
        assert leaks._made
        # What is over is forgotten, after a while.
        leaks.forget_ended(set(), time.monotonic() + 60)
        assert not leaks._made
    finally:
        llmpool.debug(leaks=False)
    assert messages(caplog, logging.WARNING) == []


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"leaks": True, "older_than": 0}, ValueError, "older_than is a number of seconds above 0"),
        ({"leaks": True, "older_than": "1"}, TypeError, "older_than is a number of seconds"),
        ({"leaks": True, "older_than": -1}, ValueError, "older_than is a number of seconds"),
        ({"leaks": False, "older_than": 1}, ValueError, "older_than needs leaks=True"),
    ],
)
def test_bounds_that_are_none(arguments, error, message):
    with pytest.raises(error, match=message):
        llmpool.debug(**arguments)
    assert leaks.older_than() is None


def test_a_dropped_stream_is_said_with_the_servers_id(open_client, caplog):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nrequest-id: r9\r\ncontent-length: 9\r\n\r\nab")
        servers.read_head(connection)  # until it is closed

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        llmpool.debug(leaks=True)
        try:
            for _ in range(3):
                with pytest.warns(ResourceWarning, match=r"\(request-id: r9\) was dropped"):
                    client.stream("GET", "/").__enter__()
                    gc.collect()
        finally:
            llmpool.debug(leaks=False)
        assert servers.wait_until(lambda: messages(caplog, logging.WARNING))
        (record,) = messages(caplog, logging.WARNING)
        assert record.getMessage().startswith(
            "llmpool: <Response [200 OK]> (request-id: r9) was dropped without being read to its "
            "end or closed; made here:\n"
        )
        assert "test_logging.py" in record.getMessage()


BARE = """
import time
from llmpool._pool import lines, monitor
from llmpool._pool.limiter import Limiter
lines._state.bare = Limiter(0.5)
for number in range(3):
    monitor.log(1 << 6, b"budget: b%d" % number, b"budget b%d stops" % number)
    monitor.log(1, b"", b"utilization is no warning")
while lines.next_due() is not None:
    time.sleep(0.01)
    lines.flush()
"""


def test_without_logging_configured_there_is_a_warning_in_a_minute(run_python):
    done = run_python(BARE)
    first, second = done.stderr.splitlines()
    assert first == "llmpool: budget b0 stops"
    assert re.fullmatch(r"llmpool: budget b2 stops \(the last of 2 warnings in \d+\.\d s\)", second)
    # The minute itself: the second is not even said at exit.
    one, *others = run_python(
        BARE.replace("Limiter(0.5)", "Limiter(60)").split("while")[0]
    ).stderr.splitlines()
    assert one == "llmpool: budget b0 stops" and others == []
    assert lines._State().bare._seconds == 60 and lines._State().limiter._seconds == 10


def test_the_line_of_the_docs_silences_it(run_python):
    docs = Path(__file__).resolve().parents[3] / "docs" / "monitoring.md"
    (line,) = re.findall(r"^logging\.getLogger.*setLevel.*$", docs.read_text(), re.M)
    done = run_python(f"import logging\n{line}\n{BARE}")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_held_back_is_said_at_exit(run_python):
    script = """
import logging, sys
from llmpool._pool import monitor
logging.basicConfig(format="%(name)s %(message)s", stream=sys.stdout)
for number in range(4):
    monitor.log(1 << 6, b"budget: b", b"budget b stops, %d" % number)
"""
    first, second = run_python(script).stdout.splitlines()
    assert first == "llmpool llmpool: budget b stops, 0"
    assert re.fullmatch(
        r"llmpool llmpool: budget b stops, 3 \(the last of 3 in \d+\.\d s\)", second
    )


@contextlib.contextmanager
def handled_by(handler):
    logger = logging.getLogger("llmpool")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_a_line_from_within_a_handler_waits_for_no_lock(caplog):
    """As one of a response that the garbage collector drops there."""

    class Handler(logging.Handler):
        def emit(self, record):
            if "outer" in record.getMessage():
                lines.say("inner", lines.Line(lines.WARNING, "inner", {}))
                seen.append("returned")

    seen = []
    with handled_by(Handler()):
        lines.say("outer", lines.Line(lines.WARNING, "outer", {}))
    assert seen == ["returned"]
    assert sorted(r.getMessage() for r in caplog.records) == ["llmpool: inner", "llmpool: outer"]


def test_lines_that_are_lost_behind_a_slow_handler_are_counted(caplog, monkeypatch):
    """The log says how many: 1,024 wait, of 1,500 that come meanwhile."""

    class Handler(logging.Handler):
        def emit(self, record):
            if "slow" in record.getMessage():
                for number in range(1500):
                    lines.say(number, lines.Line(lines.WARNING, f"number {number}", {}))

    monkeypatch.setattr(lines, "_state", lines._State())
    with handled_by(Handler()):
        lines.say("slow", lines.Line(lines.WARNING, "slow", {}))
    numbers = [r.getMessage() for r in said(caplog, logging.WARNING, "number")]
    assert numbers == [f"llmpool: number {number}" for number in range(476, 1500)]
    (lost,) = said(caplog, logging.WARNING, "lost")
    assert lost.getMessage() == (
        "llmpool: a line of this log was lost: a handler of the logger took so long that more than "
        "1,024 waited (476 of them)"
    )
    assert lost.llmpool == {"count": "476"}
    caplog.clear()
    lines.say("next", lines.Line(lines.WARNING, "next", {}))
    lines._end()
    assert [r.getMessage() for r in messages(caplog, logging.WARNING)] == ["llmpool: next"]


def test_lines_of_many_threads_are_all_counted(caplog, monkeypatch):
    monkeypatch.setattr(lines._state, "limiter", Limiter(0.01))
    with ThreadPoolExecutor(8) as executor:
        for _ in range(1000):  # fewer than may wait
            executor.submit(lines.say, "kind", lines.Line(lines.WARNING, "line", {}))
    lines._end()
    counts = [int(r.llmpool.get("count", 1)) for r in messages(caplog, logging.WARNING)]
    assert sum(counts) == 1000 and len(counts) < 1000


def test_retries_are_info_and_have_no_secrets(open_pool, caplog):
    caplog.set_level(logging.INFO, "llmpool")

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
        assert servers.wait_until(lambda: said(caplog, logging.INFO, "tried again"))
    (record,) = said(caplog, logging.INFO, "tried again")
    assert record.getMessage().startswith(f"llmpool: request to {server.url}")
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "sent, shown", [("req_1", "req_1"), ("sk-proj-Abcdef0123456789", "[secure]")]
)
def test_the_servers_id_of_an_answer_that_is_not_the_last(sent, shown, open_client, caplog):
    caplog.set_level(logging.INFO, "llmpool")

    def handle(connection, _):
        rest = b""
        for status in (b"429 X", b"200 OK"):
            _, _, rest = servers.read_request(connection, rest)
            headers = f"retry-after-ms: 1\r\nx-request-id: {sent}\r\n"
            servers.answer(connection, b"", headers.encode(), status)

    def lines_of_it():
        retries = said(caplog, logging.INFO, "tried again")
        return retries + said(caplog, logging.WARNING, "asked for it")

    with servers.RawServer(handle) as server:
        open_client(server.url).get("/", retry="status", budget=f"told-{len(sent)}")
        assert servers.wait_until(lambda: len(lines_of_it()) == 2)
    for record in lines_of_it():
        assert f"(request id {shown})" in record.getMessage()
        assert record.llmpool["request-id"] == shown


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
logging.getLogger("llmpool").setLevel(logging.DEBUG)
said = threading.Event()
class Telling(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        said.set()
logging.basicConfig(
    level=logging.INFO, format="%(levelname)s %(message)s", handlers=[Telling(sys.stdout)])
llmpool.Client(pool=llmpool.Pool()).get(sys.argv[1])
assert threading.active_count() == 2
assert said.wait(20)
"""
    done = run_python(script, nginx.url + "/small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"DEBUG llmpool: connection to {nginx.url} opened")


def test_in_a_forked_child(run_python, nginx):
    script = """
import logging, os, sys, threading
opened = threading.Event()
class Telling(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        if " opened " in record.getMessage():
            opened.set()
logging.basicConfig(
    level=logging.DEBUG, format="%(process)d %(message)s", handlers=[Telling(sys.stdout)])
import llmpool
client = llmpool.Client()
client.get(sys.argv[1])
child = os.fork()
if not child:
    opened = threading.Event()  # of a line of its own: the other may have been set before
client.get(sys.argv[1])
opened.wait(8)  # not the 10 s that a line is held back behind another of its kind
sys.stdout.flush()
if child:
    os.waitpid(child, 0)
os._exit(0)
"""
    # The buffer of stdout has a lock, which Python 3.14 leaves taken if a fork finds it so.
    done = run_python(script, nginx.url + "/small", PYTHONUNBUFFERED="1")
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


def test_a_handler_that_always_raises_ends_no_thread(run_python, nginx):
    script = """
import logging, sys, threading, time, llmpool
class Broken(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no line today")
logging.basicConfig(level=logging.DEBUG, handlers=[Broken()])
client = llmpool.Client()
for _ in range(3):
    client.get(sys.argv[1], headers={"connection": "close"})
    time.sleep(0.1)
print([thread.name for thread in threading.enumerate() if thread.name == "llmpool-log"])
"""
    done = run_python(script, nginx.url + "/small")
    assert (done.stdout, done.stderr) == ("['llmpool-log']\n", "")
