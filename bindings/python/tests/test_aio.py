"""AsyncClient on asyncio and uvloop: calls, streams, cancellation, loops that end, no leaks."""

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
import tracemalloc

import pytest
import servers

import llmpool
from llmpool._native import hub as hubs
from llmpool._native.call import Call

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WHOLE = {**BODY, "stream": False}
# Three tokens and then silence: it does not end before it is left, on however busy a machine.
ENDLESS = {**BODY, "model": "stall-3"}
LATE = {**WHOLE, "model": "slow-60"}  # the same of a whole answer
LONG = os.environ.get("LLMPOOL_LONG_TESTS") == "1"


def new_loop(kind):
    if kind == "uvloop":
        return pytest.importorskip("uvloop").new_event_loop()
    return asyncio.new_event_loop()


def run(kind, main, limit=60):
    """As asyncio.run(), with either loop, on every Python."""
    loop = new_loop(kind)
    try:
        return loop.run_until_complete(asyncio.wait_for(main, limit))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def idle(pool):
    now = pool.stats()
    return now.pending == now.active == now.backing_off == 0


@pytest.fixture(params=["asyncio", "uvloop"])
def kind(request):
    return request.param


@pytest.fixture
def make_client(tokens, open_pool):
    def make(server=tokens, **options):
        pool = open_pool(ca_file=server.ca_file, **options)
        return llmpool.AsyncClient(
            base_url=server.url, headers=server.headers, timeout=20.0, pool=pool
        )

    return make


@pytest.fixture(autouse=True)
def nothing_logged(caplog):
    yield
    assert [r for r in caplog.records if r.name == "asyncio" and r.levelname == "ERROR"] == []


async def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_calls(kind, mock, make_client):
    async def main():
        async with make_client(mock) as client:
            answer = await client.post(CHAT, json=WHOLE)
            assert answer.is_success and answer.http_version == "HTTP/2"
            assert answer.json()["choices"][0]["message"]["role"] == "assistant"
            assert answer.peer == mock.url[len("https://") :] and answer.attempts == 1
            assert 0 < answer.timings.first_byte <= answer.timings.done
            answers = await asyncio.gather(*(client.get("/v1/models") for _ in range(300)))
            assert {a.status_code for a in answers} == {200} and answers[5].reused
            assert (await client.get("/none")).status_code == 404
            now = client.pool.stats()
            assert (now.submitted, now.succeeded) == (302, 302) and now.opened <= 3
        with pytest.raises(RuntimeError):
            await client.get("/v1/models")

    run(kind, main())


def test_errors(kind, open_pool):
    async def main():
        client = llmpool.AsyncClient(pool=open_pool())
        with pytest.raises(llmpool.ConnectError):
            await client.get(f"http://127.0.0.1:{servers.free_port()}")
        with pytest.raises(llmpool.ConnectError):
            async with client.stream("GET", f"http://127.0.0.1:{servers.free_port()}"):
                pass
        with pytest.raises(llmpool.InvalidURL):
            await client.get("http://")
        with pytest.raises(TypeError, match=r"llmpool.AsyncClient\(pool"):
            llmpool.AsyncClient(limits=1)

    run(kind, main())


def test_large_answers(kind, nginx, open_pool):
    large = (nginx.directory / "www" / "large").read_bytes()

    async def main():
        client = llmpool.AsyncClient(base_url=nginx.url, pool=open_pool())
        answers = await asyncio.gather(*(client.get("/large") for _ in range(5)))
        assert {answer.content for answer in answers} == {large}
        async with client.stream("GET", "/large") as response:
            assert b"".join([part async for part in response.aiter_bytes()]) == large
        async with client.stream("GET", "/large") as response:
            assert await response.aread() == large == response.content
        async with client.stream("GET", "/gzip/text") as response:
            assert "the same words" in "".join([t async for t in response.aiter_text()])
        async with client.stream("GET", "/gzip/text") as response:
            assert len([line async for line in response.aiter_lines()]) == 1

    run(kind, main())


def test_redirects(kind, open_pool):
    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            if head.startswith(b"GET /end"):
                servers.answer(connection, b"end")
            else:
                servers.answer(connection, b"gone", b"location: /end\r\n", b"302 Found")

    async def main(url):
        client = llmpool.AsyncClient(base_url=url, pool=open_pool(), follow_redirects=True)
        answer = await client.post("/", content=b"x")
        assert answer.text == "end" and len(answer.history) == 1
        async with client.stream("POST", "/", content=b"x") as response:
            assert await response.aread() == b"end" and len(response.history) == 1

    with servers.RawServer(handle) as server:
        run(kind, main(server.url))


@pytest.mark.parametrize("version", ["h2", "h1"])
def test_200_streams_every_token_once(kind, version, tokens, tokens_plain, make_client):
    limits = llmpool.Limits(max_connections=250)

    async def main():
        client = make_client(tokens if version == "h2" else tokens_plain, limits=limits)

        async def one():
            words, identities = [], set()
            async with client.stream("POST", CHAT, json=BODY) as response:
                async for event in response.aiter_sse(stop="[DONE]"):
                    value = event.json()
                    identities.add(value["id"])
                    words.append(value["choices"][0]["delta"].get("content", ""))
            times = response.timings
            if times.done is not None:  # the end is awaited a little, and the machine may be busy
                assert 0 < times.time_to_first_token < times.done
                timed.append(times)
            return len(identities), tuple(words)

        timed = []
        results = await asyncio.gather(*(one() for _ in range(200)))
        assert len(timed) > 100
        assert len(set(results)) == 1 and results[0][0] == 1 and len(results[0][1]) == 52
        now = client.pool.stats()
        assert now.succeeded + now.cancelled == 200
        assert now.cancelled <= 200 - len(timed)  # those alone whose end was not awaited for longer
        assert now.opened <= (3 if version == "h2" else 200)

    run(kind, main())


async def no_pause():
    pass


def test_a_consumer_that_sleeps_holds_up_no_other(kind, open_pool):
    block = bytes(range(256)) * 256
    sent = {}

    def handle(connection, number):
        servers.read_request(connection)
        connection.settimeout(120)  # the others come first, on a busy machine slowly
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (512 * len(block)))
        for count in range(512):
            connection.sendall(block)
            sent[number] = count

    async def main(url):
        client = llmpool.AsyncClient(base_url=url, pool=open_pool(stream_window_bytes=1 << 16))
        begun, awake = asyncio.Event(), asyncio.Event()

        async def read(pause):
            parts = []
            async with client.stream("GET", "/") as response:
                async for part in response.aiter_bytes():
                    if not parts:
                        await pause()
                    parts.append(part)
            assert b"".join(parts) == block * 512

        async def sleep():
            begun.set()
            await awake.wait()

        slow = asyncio.ensure_future(read(sleep))
        await begun.wait()
        await asyncio.gather(*(read(no_pause) for _ in range(2)))
        assert not slow.done() and sent[1] < 400
        awake.set()
        await slow

    with servers.RawServer(handle) as server:
        run(kind, main(server.url))


def test_ctrl_c_right_after_a_submit(kind, nginx, open_pool):
    """Nothing that was submitted goes on, and nothing is lost or sent twice."""

    class Interrupted:
        def __init__(self, struct, after):
            self.struct = struct
            self.after = after

        def submit(self, *arguments):
            if self.after:
                self.struct.submit(*arguments)
            raise KeyboardInterrupt

    async def main(url):
        for after in (False, True):
            client = llmpool.AsyncClient(base_url=nginx.url, pool=open_pool())
            hub = hubs.current()
            with pytest.raises(KeyboardInterrupt):
                struct, hub._struct = hub._struct, Interrupted(hub._struct, after)
                try:
                    await client.get(url)
                finally:
                    hub._struct = struct
            await until(lambda client=client: idle(client.pool))
            await until(lambda hub=hub: not hub._waiting)
            now = client.pool.stats()
            assert (now.submitted, now.cancelled) == (int(after), int(after))
            assert (await client.get("/small")).is_success

    # A whole answer could be quicker than the cancel.
    with servers.RawServer(hold) as server:
        run(kind, main(server.url))


def test_a_request_waits_for_no_task_that_computes(kind, open_pool):
    """Two tasks are woken by one read: what the first submits is sent while the second computes."""
    seen = {}

    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            path = head.split(b" ")[1].decode()
            seen[path] = time.monotonic()
            both.wait(10) if path.startswith("/begin") else None
            servers.answer(connection)

    both = threading.Barrier(2)

    async def main(url):
        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        going, computed = [], []

        async def first():
            await client.get("/begin1")
            going.append(1)
            return await client.get("/next")

        async def second():
            await client.get("/begin2")
            begin = time.monotonic()
            while going and "/next" not in seen and time.monotonic() < begin + 3:
                sum(range(1000))
            if going and time.monotonic() > begin + 0.0005:
                computed.append(time.monotonic() - begin)

        for _ in range(200):  # until the first was woken first five times, which may be rare
            seen.clear()
            going.clear()
            both.reset()
            await asyncio.gather(first(), second())
            assert "/next" in seen
            if len(computed) == 5:
                break
        assert computed and max(computed) < 2, computed

    with servers.RawServer(handle) as server:
        run(kind, main(server.url))


def test_requests_that_are_refused_at_once(kind, nginx, open_pool):
    async def main():
        client = llmpool.AsyncClient(base_url=nginx.url, pool=open_pool())
        calls = [
            client.request("NOT ALLOWED", "/small"),
            client.stream("NOT ALLOWED", "/small").__aenter__(),
        ]
        refused = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in refused] == [llmpool.LocalProtocolError] * 2

        async def several():
            for _ in range(5):
                assert (await client.get("/small")).is_success

        await asyncio.gather(*(several() for _ in range(50)))
        hub = hubs.current()
        assert not hub._waiting

        task = asyncio.ensure_future(client.get("/large"))
        await asyncio.sleep(0)
        hub.close()
        with pytest.raises(llmpool.PoolClosed):
            await task

    run(kind, main())


def test_a_consumer_that_sleeps_on_a_shared_connection(kind, nghttpd, certificates, open_pool):
    """Over HTTP/2 its answer alone is held back, to the window of its stream."""
    large = (nghttpd.directory / "large").read_bytes()

    async def main():
        pool = open_pool(ca_file=certificates.ca_file, stream_window_bytes=1 << 16)
        client = llmpool.AsyncClient(base_url=nghttpd.url, pool=pool)
        asleep, awake = asyncio.Event(), asyncio.Event()

        async def read(sleeps=False):
            parts = []
            async with client.stream("GET", "/large") as response:
                async for part in response.aiter_bytes():
                    parts.append(part)
                    if sleeps and not asleep.is_set():
                        asleep.set()
                        await awake.wait()
            assert b"".join(parts) == large

        slow = asyncio.ensure_future(read(sleeps=True))
        await asleep.wait()
        if LONG:
            await asyncio.sleep(10)
        for _ in range(5):
            await asyncio.gather(*(read() for _ in range(4)))
        received = pool.stats().bytes_received
        assert not slow.done() and 0 < received - 20 * len(large) < len(large) // 2
        await asyncio.sleep(0.2)
        assert pool.stats().bytes_received == received
        awake.set()
        await slow
        now = pool.stats()
        assert now.bytes_received > 21 * len(large) and (now.opened, now.succeeded) == (1, 21)

    run(kind, main())


# ---- ends


def ways_to_leave(client):
    def stream():
        return client.stream("POST", CHAT, json=ENDLESS)

    async def break_off():
        async with stream() as response:
            async for _ in response.aiter_sse():
                break

    async def raises():
        with contextlib.suppress(ZeroDivisionError):
            async with stream() as response:
                async for _ in response.aiter_sse():
                    raise ZeroDivisionError

    async def times_out():
        async def read():
            async with stream() as response:
                async for _ in response.aiter_sse():
                    pass

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.1)

    async def cancelled():
        async def read():
            async with stream() as response:
                async for _ in response.aiter_sse():
                    pass

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def abandoned():
        response = await stream().__aenter__()
        iterator = response.aiter_sse()
        await iterator.__anext__()
        with pytest.warns(ResourceWarning):
            del response, iterator
            await asyncio.sleep(0.01)  # an async generator is closed by its loop
            gc.collect()
            await asyncio.sleep(0.01)

    async def closed():
        response = await stream().__aenter__()
        await response.aclose()
        await response.aclose()
        with pytest.raises(llmpool.StreamClosed):
            await response.aread()

    async def closed_while_it_is_read():
        response = await stream().__aenter__()
        reading = asyncio.ensure_future(response.aread())
        await asyncio.sleep(0.05)
        await response.aclose()
        with pytest.raises(llmpool.StreamClosed):
            await reading

    async def call_cancelled():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.post(CHAT, json=LATE), 0.05)

    return (break_off, raises, times_out, cancelled, abandoned, closed,
            closed_while_it_is_read, call_cancelled)  # fmt: skip


@pytest.mark.parametrize("version", ["h2", "h1"])
def test_every_way_to_leave_ends_the_request(kind, version, tokens, tokens_plain, make_client):
    server = tokens if version == "h2" else tokens_plain

    async def main():
        client = make_client(server)
        for number, way in enumerate(ways_to_leave(client), 1):
            await way()
            await until(lambda: idle(client.pool))
            assert client.pool.stats().cancelled == number, way
            await until(lambda: server.stats()["streams"] == 0)
        hub = hubs.current()
        await until(lambda: not hub._waiting)

    run(kind, main())


def test_an_abandoned_stream_says_where_it_was_made(kind, make_client, caplog):
    async def main():
        client = make_client()

        async def abandon():
            response = await client.stream("POST", CHAT, json=ENDLESS).__aenter__()
            await response.aiter_sse().__anext__()

        with pytest.warns(ResourceWarning, match=r"test_aio.py.*\n.*__aenter__"):
            await abandon()
            await asyncio.sleep(0.01)  # an async generator is closed by its loop
            gc.collect()
            await asyncio.sleep(0.01)
        await until(lambda: idle(client.pool))
        assert client.pool.stats().cancelled == 1

    llmpool.debug(leaks=True)
    try:
        run(kind, main())
    finally:
        llmpool.debug(leaks=False)
    assert [r.levelname for r in caplog.records if "test_aio.py" in r.getMessage()] == ["WARNING"]


def test_asyncio_timeout(kind, make_client):
    timeout = getattr(asyncio, "timeout", None) or pytest.skip("needs Python 3.11")

    async def main():
        client = make_client()
        with pytest.raises(TimeoutError):
            async with timeout(0.1), client.stream("POST", CHAT, json=ENDLESS) as response:
                async for _ in response.aiter_sse():
                    pass
        await until(lambda: idle(client.pool))

    run(kind, main())


def left_behind():
    """How many objects of each kind there are that belong to a stream."""
    kinds = ("Call", "Answer", "AsyncStream", "AsyncStreamResponse", "async_generator")
    found = {}
    for each in gc.get_objects():
        name = type(each).__name__
        if name in kinds:
            found[name] = found.get(name, 0) + 1
    found["async_generator"] -= 1  # the hub's sentinel
    return {name: count for name, count in found.items() if count}


def test_streams_cancelled_at_random(kind, tokens, make_client):
    """None leaks: not in the engine, not at the server, not in Python."""
    choice = random.Random(1)
    waves = 50 if LONG else 5

    async def main():
        client = make_client(limits=llmpool.Limits(max_streams_per_connection=1000))

        loop = asyncio.get_running_loop()

        async def at_some_moment():
            # From here, as a task that is cancelled before it began submits nothing.
            timer = loop.call_later(choice.random() * 0.25, asyncio.current_task().cancel)
            try:
                async with client.stream("POST", CHAT, json=BODY) as response:
                    async for _ in response.aiter_sse(stop="[DONE]"):
                        pass
            finally:
                timer.cancel()  # it would hold its task

        async def at_some_event():
            last = choice.randrange(4)
            async with client.stream("POST", CHAT, json=ENDLESS) as response:
                async for _ in response.aiter_sse():
                    last -= 1
                    if last <= 0:
                        asyncio.current_task().cancel()

        async def wave(count):
            ways = [at_some_moment, at_some_event]
            tasks = [asyncio.ensure_future(ways[n % 2]()) for n in range(count)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            others = [r for r in results if r is not None and not isinstance(
                r, asyncio.CancelledError)]  # fmt: skip
            assert others == []
            await until(lambda: idle(client.pool))

        traced = []
        tracemalloc.start()
        for _ in range(waves):
            await wave(200)
            await until(lambda: not hubs.current()._waiting)
            await asyncio.sleep(0.01)  # a task holds what it awaited last until it waits anew
            gc.collect()
            assert left_behind() == {}
            traced.append(tracemalloc.get_traced_memory()[0])
        now = client.pool.stats()
        assert now.submitted == 200 * waves
        assert now.submitted == now.succeeded + now.cancelled and now.cancelled >= 100 * waves
        await until(lambda: tokens.stats()["streams"] == 0)
        # The first wave fills caches.
        assert min(traced[-2:]) - min(traced[1:3]) < 100_000, traced

    try:
        run(kind, main(), 600)
    finally:
        tracemalloc.stop()


# One process: two event loops, four threads, and a C library that knows nothing of Python.
TOGETHER = """
import asyncio, ctypes, sys, threading, llmpool, uvloop
url, ca_file, key, library, total = sys.argv[1:]
total = int(total)
body = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
llmpool.configure(ca_file=ca_file, limits=llmpool.Limits(max_streams_per_connection=1000))
options = {"base_url": url, "headers": {"authorization": "Bearer " + key}, "timeout": 60}
client, blocking = llmpool.AsyncClient(**options), llmpool.Client(**options)
blocking.get("/v1/models")
counts, errors = [], []

async def many(count):
    async def one(number):
        if number % 2:
            assert (await client.get("/v1/models")).is_success
        else:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                assert len([e async for e in response.aiter_sse()]) == 19  # to the end

    for begin in range(0, count, 50):
        await asyncio.gather(*(one(n) for n in range(begin, min(begin + 50, count))))
    counts.append(count)

def loop(new_loop, count):
    loop = new_loop()
    loop.run_until_complete(many(count))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

def threaded(count):
    for number in range(count):
        if number % 2:
            assert blocking.get("/v1/models").is_success
        else:
            with blocking.stream("POST", "/v1/chat/completions", json=body) as response:
                assert len(list(response.iter_sse())) == 19
    counts.append(count)

def in_c(count):
    report = ctypes.create_string_buffer(1000)
    run = ctypes.CDLL(library).demo_run
    address = (url + "/v1/chat/completions").encode()
    failed = run(address, ca_file.encode(), key.encode(), count, 32, report, len(report))
    assert failed == 0, report.value.decode()
    counts.append(count)

def guarded(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        errors.append(repr(error))

jobs = [(loop, asyncio.new_event_loop, total // 5), (loop, uvloop.new_event_loop, total // 5)]
jobs += [(threaded, total // 20)] * 4 + [(in_c, total - 2 * (total // 5) - 4 * (total // 20))]
threads = [threading.Thread(target=guarded, args=job) for job in jobs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
now = llmpool.stats()
assert not errors and sum(counts) == total, (errors, counts)
assert (now.submitted, now.succeeded) == (total + 1, total + 1), now
assert now.failed == now.cancelled == now.pending == now.active == now.backing_off == 0, now
assert (now.opened, now.reused) == (1, total), now
print("done")
"""


def test_loops_threads_and_c_on_one_pool(mock, run_python):
    """One connection carries them all, and the sums are right on both sides."""
    pytest.importorskip("uvloop")
    library = os.environ.get("LLMPOOL_DEMO_CLIENT") or pytest.skip(
        "LLMPOOL_DEMO_CLIENT does not name libdemo_client.so"
    )
    total = 10_000 if LONG else 2_000
    before = mock.stats()["calls"]
    done = run_python(TOGETHER, mock.url, mock.ca_file, mock.api_key, library, total, timeout=300)
    assert done.stdout == "done\n", done.stderr
    assert mock.stats()["calls"] == before + total + 1


# ---- loops that end

ENDING = """
import asyncio, gc, sys, time, llmpool
kind, how, url, ca_file, key = sys.argv[1:]
if kind == "uvloop":
    import uvloop
    new_loop, run = uvloop.new_event_loop, uvloop.run
else:
    new_loop, run = asyncio.new_event_loop, asyncio.run
body = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
pool = llmpool.Pool(ca_file=ca_file)
client = llmpool.AsyncClient(base_url=url, headers={"authorization": "Bearer " + key}, pool=pool)

async def one(started):
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for event in response.aiter_sse():
            started.append(1)

async def main():
    started = []
    tasks = [asyncio.ensure_future(one(started)) for _ in range(20)]
    while len(started) < 40:
        await asyncio.sleep(0.01)
    return tasks if how == "bare" else None

def idle():
    deadline = time.monotonic() + 20
    while pool.stats().active:
        assert time.monotonic() < deadline, pool.stats()
        time.sleep(0.005)

for turn in range(2):
    if how == "run":
        run(main())
    else:
        loop = new_loop()
        tasks = loop.run_until_complete(main())
        if how == "shutdown":
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        if how == "bare":  # its tasks are still held: the queue ends with the loop all the same
            idle()
            for task in tasks:
                task._log_destroy_pending = False
            del tasks, loop
        gc.collect()
    idle()
    hubs = [hub() for hub in llmpool._native.hub._hubs.values()]
    assert not [hub for hub in hubs if hub and hub.is_open]
print("done")
"""


@pytest.mark.parametrize("how", ["run", "bare", "shutdown"])
def test_a_loop_that_is_closed_ends_its_requests(kind, how, tokens, run_python):
    pytest.importorskip(kind)
    done = run_python(ENDING, kind, how, tokens.url, tokens.ca_file, tokens.api_key)
    assert done.stdout == "done\n", done.stderr
    errors = done.stderr
    if how == "shutdown":  # whoever destroys a loop with tasks hears of it from asyncio itself
        assert "Event loop is closed" not in errors
    else:
        assert errors == ""
    assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)


def test_exit_with_streams_in_flight(kind, tokens, run_python):
    script = ENDING.replace("for turn in range(2):", "new_loop().run_until_complete(main())\nif 0:")
    done = run_python(script, kind, "exit", tokens.url, tokens.ca_file, tokens.api_key)
    assert done.returncode == 0 and "done" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr or "never retrieved" not in done.stderr


def test_a_fork_in_a_loop(tokens, make_client):
    async def main(client):
        assert (await client.get("/v1/models")).is_success

    client = make_client()
    run("asyncio", main(client))
    child = os.fork()
    if child == 0:
        try:
            run("asyncio", main(llmpool.AsyncClient(
                base_url=tokens.url, headers=tokens.headers,
                pool=llmpool.Pool(ca_file=tokens.ca_file))))  # fmt: skip
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    run("asyncio", main(client))


def test_not_outside_of_a_loop(make_client):
    with pytest.raises(RuntimeError, match="no running event loop"):
        make_client().get("/v1/models").send(None)


# ---- uploads


def test_uploads(kind, tmp_path, open_pool):
    from test_stream import Collect

    server_of = Collect()
    large = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(large)

    async def produce():
        for begin in range(0, len(large), 50_000):
            yield large[begin : begin + 50_000]
            await asyncio.sleep(0)

    async def broken():
        yield b"x"
        raise ZeroDivisionError

    async def main(url):
        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        assert (await client.post("/", content=produce())).text == "3145728"
        assert server_of.bodies[-1] == large and b"chunked" in server_of.heads[-1]
        await client.post("/", content=[b"a", b"b"])
        assert server_of.bodies[-1] == b"ab"
        with open(tmp_path / "file", "rb") as file:
            await client.post("/", files={"a": ("n", file)})
        assert large in server_of.bodies[-1]
        async with client.stream("POST", "/", content=produce()) as response:
            assert await response.aread() == b"3145728"
        with pytest.raises(ZeroDivisionError):
            await client.post("/", content=broken())
        await until(lambda: idle(client.pool))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.post("/", content=endless()), 0.2)
        await until(lambda: idle(client.pool))

    async def endless():
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with servers.RawServer(server_of) as server:
        run(kind, main(server.url))


def test_anyio_on_asyncio(make_client):
    anyio = pytest.importorskip("anyio")
    client = make_client()

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.get, "/v1/models")
        response = await client.stream("POST", CHAT, json=ENDLESS).__aenter__()
        with anyio.move_on_after(0.1) as scope:
            async with response:
                async for _ in response.aiter_sse():
                    pass
        assert scope.cancel_called and response.is_closed
        await until(lambda: idle(client.pool))

    anyio.run(main)
    assert (client.pool.stats().succeeded, client.pool.stats().cancelled) == (5, 1)


def test_not_on_trio(make_client):
    trio = pytest.importorskip("trio")
    with pytest.raises(RuntimeError, match="trio"):
        trio.run(make_client().get, "/v1/models")


def hold(connection, _):
    """Sends an event, then nothing until the client has gone."""
    servers.read_request(connection)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\n"
        b"data: x\n\n"
    )
    while connection.recv(65536):
        pass


def test_a_response_is_read_in_its_own_loop_and_closed_in_any(open_pool):
    with servers.RawServer(hold) as server:
        client = llmpool.AsyncClient(base_url=server.url, pool=open_pool())
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        response = asyncio.run_coroutine_threadsafe(client.stream("GET", "/").__aenter__(), loop)
        response = response.result(20)
        for read in (response.aread, response.aiter_sse().__anext__):
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(read())
        reader = asyncio.run_coroutine_threadsafe(response.aread(), loop)
        while response._call.waiter is None:
            time.sleep(0.001)
        asyncio.run(response.aclose())
        with pytest.raises(llmpool.StreamClosed):
            reader.result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_upload_is_ended_from_another_loop(open_pool):
    ended = threading.Event()
    with servers.RawServer(hold_chunked) as server:
        client = llmpool.AsyncClient(base_url=server.url, pool=open_pool())
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        stream = client.stream("POST", "/", content=endless(ended))
        response = asyncio.run_coroutine_threadsafe(stream.__aenter__(), loop).result(20)
        run("asyncio", response.aclose())
        assert ended.wait(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def endless(ended, closes_for=0):
    """The body of an upload that says when it is ended, and takes so long for it."""
    try:
        yield b"x"
        await asyncio.sleep(60)
    finally:
        ended.set()
        await asyncio.sleep(closes_for)


def hold_chunked(connection, _):
    """Answers before the upload's end."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nx")
    while connection.recv(65536):
        pass


def test_what_was_taken_is_said_before_the_upload_is_closed(open_pool, monkeypatch):
    said = []
    monkeypatch.setattr(Call, "settle_whole", lambda call: said.append(call.done.http_status))

    def answer(connection, number):
        connection.recv(65536)
        servers.answer(connection, b"x")
        while connection.recv(65536):
            pass

    async def main(url):
        closing = asyncio.Event()
        client = llmpool.AsyncClient(pool=open_pool())
        task = asyncio.ensure_future(client.post(url, content=endless(closing, 30)))
        await asyncio.wait_for(closing.wait(), 20)
        await until(lambda: said == [200])  # the upload may hear of the end a moment earlier
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with servers.RawServer(answer) as server:
        asyncio.run(main(server.url))
