"""What carries calls and streams: lanes of threads and hubs of event loops, at their edges."""

import asyncio
import contextlib
import ctypes
import gc
import importlib.util
import os
import threading
import time

import pytest
import servers

import llmpool
from llmpool._native import abi, lane, record
from llmpool._native import hub as hubs
from llmpool._native.library import lib

CHUNK = b"5\r\nhello\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def endless(connection, _):
    """An answer of which nothing comes after its first piece."""
    servers.read_request(connection)
    connection.sendall(HEAD + CHUNK)
    with contextlib.suppress(OSError):
        connection.recv(1)


@pytest.fixture
def silent():
    with servers.RawServer(endless) as server:
        yield server


def idle(pool):
    now = pool.stats()
    return now.pending == now.active == now.backing_off == 0


# ---- who owns a lane


def in_a_cycle(client):
    """A generator that holds a stream's block, and is reachable from itself alone."""

    def read():
        with client.stream("GET", "/") as response:
            for piece in response.iter_raw():
                yield piece, me

    me = []
    generator = read()
    assert next(generator)[0] == b"hello"
    me.append(generator)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_collected_stream_leaves_no_closed_lane_behind(silent, nginx, open_client):
    """A later call, which has nothing to do with it, once failed with "queue: it is closed"."""
    client, other = open_client(silent.url), open_client(nginx.url)
    gc.disable()
    try:
        for _ in range(50):
            in_a_cycle(client)
            gc.collect()
            assert other.get("/small").is_success
            assert all(each.is_open for each in lane._free)
    finally:
        gc.enable()
    assert servers.wait_until(lambda: idle(client.pool))


class Finalised:
    """Runs a function when it is finalised."""

    def __init__(self, function):
        self.function = function

    def __del__(self):
        self.function()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", ["close", "dropped"])
def test_finalised_in_both_orders(first, silent, nginx, open_client):
    """The collector calls the finalisers of a cycle in the order in which its parts were made."""
    client, other = open_client(silent.url), open_client(nginx.url)
    calls = []

    def cycle():
        holder = []
        if first == "close":  # before those of the response and what it has
            holder.append(Finalised(lambda: (response[0].close(), calls.append("close"))))
        response = [client.stream("GET", "/").__enter__()]
        if first == "dropped":
            holder.append(Finalised(lambda: (response[0].close(), calls.append("close"))))
        holder += [response, holder]

    gc.disable()
    try:
        for number in range(20):
            cycle()
            gc.collect()
            assert len(calls) == number + 1
            assert other.get("/small").is_success
    finally:
        gc.enable()
    assert servers.wait_until(lambda: idle(client.pool))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_collected_at_every_step_of_a_stream(tokens, open_client):
    client = open_client(tokens.url, headers=tokens.headers, ca_file=tokens.ca_file)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    body["max_tokens"] = 5

    def generate(steps):
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            for number, event in enumerate(response.iter_sse()):
                if number == steps:
                    raise ZeroDivisionError
                yield event
                gc.collect()

    for steps in range(8):
        generator = generate(steps)
        cycle = [generator]
        cycle.append(cycle)
        with contextlib.suppress(ZeroDivisionError):
            for _ in generator:
                gc.collect()
        del generator, cycle
        gc.collect()
        dropped = generate(99)
        for _ in range(steps):
            next(dropped, None)
            gc.collect()
        del dropped
        gc.collect()
        assert all(each.is_open for each in lane._free)
        assert client.get("/v1/models").is_success
    assert servers.wait_until(lambda: idle(client.pool))


def test_lanes_that_are_dropped_are_closed():
    before, known = servers.count_descriptors(), len(lane._queues)
    lanes = [lane.Lane() for _ in range(10)]
    files = [lib.queue_fd(each.queue) for each in lanes]
    assert all(os.fstat(file) for file in files) and len(lane._queues) == known + 10
    lanes[0].close()
    lanes[0].close()
    lane.give_back(lanes[0], True)
    assert lanes[0] not in lane._free
    del lanes
    assert servers.wait_until(lambda: servers.count_descriptors() <= before)
    assert len(lane._queues) == known


@pytest.mark.parametrize("when", ["waiting", "between"])
def test_close_from_another_thread(when, silent, open_client):
    """As the asyncio class has it: whoever reads gets StreamClosed, and the lane is kept."""
    client = open_client(silent.url)
    for _ in range(5):
        response = client.stream("GET", "/").__enter__()
        iterator = response.iter_raw()
        assert next(iterator) == b"hello"
        errors = []

        def read(iterator=iterator, errors=errors):
            try:
                next(iterator)
            except BaseException as caught:
                errors.append(caught)

        thread = threading.Thread(target=read)
        if when == "waiting":
            thread.start()
            assert servers.wait_until(lambda response=response: not response._lane)
            time.sleep(0.01)
            response.close()
        else:
            response.close()
            thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert [type(error) for error in errors] == [llmpool.StreamClosed]
        response.close()
        assert servers.wait_until(lambda: idle(client.pool))
    assert all(each.is_open for each in lane._free)
    assert client.pool.stats().cancelled == 5


def test_close_while_threads_read_many(tokens, open_client, at_once):
    """Closed at any moment: no error but StreamClosed, and nothing of one stream in another."""
    client = open_client(tokens.url, headers=tokens.headers, ca_file=tokens.ca_file)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}

    def one(number):
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            timer = threading.Timer(0.002 * (number % 40), response.close)
            timer.start()
            count = 0
            try:
                for _ in response.iter_sse():
                    count += 1
            except llmpool.StreamClosed:
                timer.join()
                return 0
            timer.join()
            return count

    counts = at_once(one, 160, threads=16)
    assert set(counts) <= {0, 53} and 0 in counts
    assert servers.wait_until(lambda: idle(client.pool))


# ---- at the end of the process


@pytest.mark.parametrize("kind", ["response", "generator", "cycle", "asyncio"])
def test_exit_with_an_open_stream_is_silent(kind, silent, run_python):
    script = """
import asyncio, sys, llmpool
url, kind = sys.argv[1:]
client = llmpool.Client(base_url=url)
def read():
    with client.stream("GET", "/") as response:
        yield from response.iter_raw()
if kind == "response":
    response = client.stream("GET", "/").__enter__()
    sys.modules["json"].kept = response  # until the very last modules go
elif kind == "generator":
    kept = read(); next(kept)
    sys.kept = kept
elif kind == "cycle":
    kept = [read()]; next(kept[0]); kept.append(kept)
else:
    async def main():
        return await llmpool.AsyncClient(base_url=url).stream("GET", "/").__aenter__()
    loop = asyncio.new_event_loop()
    kept = loop.run_until_complete(main())
    sys.kept = kept
print("done")
"""
    for options in ({}, {"PYTHONWARNINGS": "always"}):
        done = run_python("import json\n" + script, silent.url, kind, **options)
        noise = [line for line in done.stderr.splitlines() if "event loop" not in line]
        assert done.returncode == 0 and done.stdout == "done\n", done.stderr
        assert not [line for line in noise if "xception" in line or "Error" in line], done.stderr


# ---- under other people's loops


@pytest.mark.parametrize("patched", ["before", "after"])
def test_eventlet(patched, nginx, silent, run_python):
    """eventlet takes select.poll away, before the first call or between two."""
    if importlib.util.find_spec("eventlet") is None:
        pytest.skip("eventlet is not installed")
    script = """
import sys
url, silent, patched = sys.argv[1:]
import llmpool
client = llmpool.Client(base_url=url, timeout=20)
if patched == "after":
    client.get("/small")
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import time
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic()); eventlet.sleep(0.005)
eventlet.spawn(tick)
assert len(client.get("/large").content) > 1000
jobs = [eventlet.spawn(client.get, "/small") for _ in range(50)]
assert all(job.wait().is_success for job in jobs)
assert client.post("/small", content=iter([b"a", b"b"])).status_code
with client.stream("GET", "/large") as response:
    assert sum(map(len, response.iter_bytes())) > 1000
try:
    llmpool.get(silent, timeout=0.3)
    raise SystemExit("it ended")
except llmpool.ReadTimeout:
    pass
waiting = eventlet.spawn(llmpool.get, silent, timeout=20)
eventlet.sleep(0)
before = len(ticks)
while len(ticks) - before <= 10:
    eventlet.sleep(0.005)
assert not waiting.dead, "others ran while it waited"
print("done")
"""
    done = run_python(
        script, nginx.url, silent.url, patched, EVENTLET_NO_GREENDNS="yes", EVENTLET_HUB="poll"
    )
    assert done.stdout == "done\n", done.stderr


# ---- what fails on the way from the library


def test_bytes_of_any_size():
    """ctypes.string_at() took a C int: nothing of 2 GiB, and five bytes of 4 GiB and five."""
    size = (4 << 30) + 5
    if os.environ.get("LLMPOOL_LONG_TESTS") == "1":
        buffer = bytearray(size)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(buffer))
        assert len(record._bytes_at(address, size)) == size
    else:
        assert record._bytes_at.__class__._argtypes_ == (ctypes.c_void_p, ctypes.c_ssize_t)
        assert ctypes.c_ssize_t(size).value == size
    assert record._bytes_at(ctypes.addressof(ctypes.create_string_buffer(b"a\0b")), 3) == b"a\0b"


@pytest.mark.skipif(os.environ.get("LLMPOOL_LONG_TESTS") != "1", reason="LLMPOOL_LONG_TESTS")
@pytest.mark.parametrize("size", [(2 << 30) + 5, (4 << 30) + 5])
def test_an_answer_of_gigabytes(size, run_python):
    """In a process of its own, which has the memory to itself."""
    script = """
import sys, llmpool
size = int(sys.argv[2])
client = llmpool.Client(timeout=None, max_response_bytes=size)
answer = client.get(sys.argv[1])
assert len(answer.content) == size, len(answer.content)
assert answer.content[:3] == b"yyy" and answer.content[-3:] == b"yyy"
print("done")
"""

    def serve(connection, _):
        servers.read_request(connection)
        connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        block, left = b"y" * (1 << 20), size
        while left:
            left -= connection.send(block[: min(left, len(block))])

    with servers.RawServer(serve) as server:
        done = run_python(script, server.url, size, timeout=300)
    assert done.stdout == "done\n", done.stderr


class Broken(Exception):
    pass


def break_copy(monkeypatch):
    class Fails:
        def unpack_from(self, *_):
            raise Broken

    monkeypatch.setattr(record, "_END", Fails())


def break_read(monkeypatch):
    real = lib.queue_read

    def fails(*arguments):
        if threading.current_thread().name == "llmpool-log":
            return real(*arguments)
        return abi.E_INTERNAL

    monkeypatch.setattr(lib, "queue_read", fails)


def break_answer(monkeypatch):
    def fails(*_):
        raise Broken

    monkeypatch.setattr(record, "answer_of", fails)
    monkeypatch.setattr(lane, "answer_of", fails)


def break_large(monkeypatch):
    def fails(*_):
        raise Broken

    monkeypatch.setattr(record, "_bytes_at", fails)


def break_interrupted(monkeypatch):
    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(record, "answer_of", fails)
    monkeypatch.setattr(lane, "answer_of", fails)


BREAKS = {
    "copy": (break_copy, Broken),
    "read": (break_read, llmpool.InternalError),
    "answer": (break_answer, Broken),
    "large": (break_large, Broken),
    "interrupted": (break_interrupted, KeyboardInterrupt),
}


@pytest.mark.parametrize("way", ["get", "stream", "upload"])
@pytest.mark.parametrize("step", BREAKS)
def test_whatever_fails_ends_the_call(step, way, nginx, open_client, monkeypatch):
    break_, error = BREAKS[step]
    if step == "large" and way != "get":
        pytest.skip("streams have no events of that size")
    client = open_client(nginx.url)
    client.get("/small")
    with monkeypatch.context() as context:
        break_(context)
        with pytest.raises(error):
            if way == "get":
                client.get("/small" if step == "copy" else "/large")
            elif way == "stream":
                with client.stream("GET", "/large") as response:
                    response.read()
            else:
                client.post("/small", content=iter([b"a"]))
    assert all(each.is_open for each in lane._free)
    for _ in range(3):
        assert client.get("/small").content == b"x" * 200
    assert servers.wait_until(lambda: idle(client.pool))


@pytest.mark.parametrize("step", ["copy", "read", "answer", "large"])
def test_whatever_fails_strands_no_task(step, nginx, open_pool, monkeypatch):
    """Each of the requests in flight ends with the error, whatever it waits for."""
    break_, error = BREAKS[step]

    async def stream(client):
        async with client.stream("GET", "/large") as response:
            await response.aread()

    async def upload(client):
        async def pieces():
            yield b"a"
            await asyncio.sleep(60)

        await client.post("/small", content=pieces())

    async def main():
        client = llmpool.AsyncClient(base_url=nginx.url, pool=open_pool(), timeout=20)
        await client.get("/small")
        with monkeypatch.context() as context:
            break_(context)
            calls = [client.get("/small" if step == "copy" else "/large") for _ in range(3)]
            if step in ("copy", "read", "answer"):
                calls += [stream(client), client.get("/small")]
            if step == "read":
                calls += [upload(client)]
            tasks = [asyncio.ensure_future(call) for call in calls]
            _, pending = await asyncio.wait(tasks, timeout=10)
            assert not pending
            assert [type(task.exception()) for task in tasks] == [error] * len(tasks)
        assert (await client.get("/small")).content == b"x" * 200
        hub = hubs.current()
        deadline = time.monotonic() + 5
        while hub._waiting or not idle(client.pool):
            assert time.monotonic() < deadline, (hub._waiting, client.pool)
            await asyncio.sleep(0.005)

    asyncio.run(main())


def test_ctrl_c_while_a_hub_reads(nginx, open_pool, monkeypatch):
    """It comes out of the loop, and none of the other requests that were read is lost."""
    real, calls = record.answer_of, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    loop = asyncio.new_event_loop()
    try:
        client = llmpool.AsyncClient(base_url=nginx.url, pool=open_pool(), timeout=20)

        async def begin():
            await client.get("/small")
            monkeypatch.setattr(record, "answer_of", interrupted)
            return [asyncio.ensure_future(client.get("/small")) for _ in range(8)]

        tasks = loop.run_until_complete(begin())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait(tasks, timeout=10))
        _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=10))
        assert not pending
        results = [task.exception() for task in tasks]
        assert results.count(None) == 7
        assert [type(each) for each in results if each] == [KeyboardInterrupt]
    finally:
        loop.close()


def test_a_hub_that_cannot_be_made_leaks_nothing(monkeypatch):
    async def main(broken):
        gc.collect()
        before = servers.count_descriptors()
        with monkeypatch.context() as context:
            broken(context)
            for _ in range(20):
                with pytest.raises((llmpool.InternalError, OSError)):
                    hubs.Hub(asyncio.get_running_loop())
        gc.collect()
        assert servers.wait_until(lambda: servers.count_descriptors() <= before)

    def no_fd(context):
        context.setattr(lib, "queue_fd", lambda _: abi.E_INTERNAL)

    def no_reader(context):
        def fails(*_):
            raise OSError

        context.setattr(asyncio.get_running_loop(), "add_reader", fails)

    for broken in (no_fd, no_reader):
        asyncio.run(main(broken))
