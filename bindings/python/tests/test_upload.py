"""Bodies that are sent piece by piece: what the server says meanwhile is heard (RFC 9112 9.5)."""

import asyncio
import threading
import time

import pytest
import servers

import llmpool
from llmpool._native import lane

REFUSED = (
    b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    b"connection: close\r\n\r\n{}"
)


def run(main):
    return asyncio.run(asyncio.wait_for(main, 20))


class Source:
    """An async generator that has one piece, then nothing for a minute."""

    def __init__(self):
        self.closed = 0

    async def pieces(self):
        try:
            yield b"first"
            await asyncio.sleep(60)
            yield b"second"
        finally:
            await asyncio.sleep(0)  # as one that closes a connection
            self.closed += 1


def refuse(connection, _):
    connection.recv(65536)
    connection.sendall(REFUSED)
    time.sleep(0.2)


def silent(connection, _):
    while connection.recv(65536):
        pass


@pytest.fixture
def source():
    source = Source()
    yield source
    assert source.closed == 1


@pytest.mark.parametrize("way", ["request", "stream"])
def test_an_answer_while_the_source_has_nothing(way, source, open_pool):
    async def main(url):
        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        if way == "request":
            answer = await client.post("/", content=source.pieces())
            assert answer.status_code == 401 and answer.json() == {}
        else:
            async with client.stream("POST", "/", content=source.pieces()) as response:
                assert response.status_code == 401
                assert await response.aread() == b"{}"
        return client.pool

    with servers.RawServer(refuse) as server:
        run(main(server.url))


@pytest.mark.parametrize("way", ["request", "stream"])
@pytest.mark.parametrize("error", [llmpool.ConnectError, llmpool.TotalTimeout])
def test_an_error_while_the_source_has_nothing(error, way, source, open_pool):
    async def main(url):
        timeout = llmpool.Timeout(connect=5, total=0.3 if error is llmpool.TotalTimeout else 10)
        client = llmpool.AsyncClient(base_url=url, pool=open_pool(), timeout=timeout)
        with pytest.raises(error):
            if way == "request":
                await client.post("/", content=source.pieces())
            else:
                async with client.stream("POST", "/", content=source.pieces()):
                    pass
        assert client.pool.stats().active == 0

    if error is llmpool.ConnectError:
        run(main(f"http://127.0.0.1:{servers.free_port()}"))
    else:
        with servers.RawServer(silent) as server:
            run(main(server.url))


def test_both_ways_at_once(open_pool):
    """The answer is read while its request is written: each piece is answered before the next."""

    def echo(connection, _):
        buffer = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        buffer = buffer.partition(b"\r\n\r\n")[2]
        while True:
            size, separator, rest = buffer.partition(b"\r\n")
            length = int(size, 16) if separator else 0
            if len(rest) >= length + 2:
                connection.sendall(buffer[: len(size) + length + 4])
                buffer = rest[length + 2 :]
                if not length:
                    return
            else:
                buffer += connection.recv(65536)

    async def main(url):
        heard = asyncio.Event()

        async def pieces():
            for number in range(5):
                yield b"%d" % number
                await heard.wait()
                heard.clear()

        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        got = []
        async with client.stream("POST", "/", content=pieces()) as response:
            async for piece in response.aiter_raw():
                got.append(piece)
                heard.set()
        assert got == [b"0", b"1", b"2", b"3", b"4"]

    with servers.RawServer(echo) as server:
        run(main(server.url))


@pytest.mark.parametrize("way", ["leave", "cancel", "drop"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_leaving_a_stream_ends_its_upload(way, source, open_pool):
    def early(connection, _):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        silent(connection, _)

    async def main(url):
        tasks = asyncio.all_tasks()
        client = llmpool.AsyncClient(base_url=url, pool=open_pool())

        async def one():
            async with client.stream("POST", "/", content=source.pieces()) as response:
                assert await response.aiter_raw().__anext__() == b"x"
                if way == "cancel":
                    await asyncio.sleep(60)

        if way == "leave":
            await one()
            assert source.closed
        elif way == "cancel":
            task = asyncio.ensure_future(one())
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert source.closed
        else:
            response = await client.stream("POST", "/", content=source.pieces()).__aenter__()
            del response
            while not source.closed:
                await asyncio.sleep(0.005)
        assert asyncio.all_tasks() == tasks
        while client.pool.stats().active:
            await asyncio.sleep(0.005)

    with servers.RawServer(early) as server:
        run(main(server.url))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_source_that_fails(where, open_pool):
    """Its error is the request's, also where the answer has begun."""

    def early(connection, _):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        silent(connection, _)

    async def main(url):
        begun = asyncio.Event()

        async def pieces():
            yield b"first"
            if where == "after":
                await begun.wait()
            raise ZeroDivisionError("no more")

        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        with pytest.raises(ZeroDivisionError):
            if where == "before":
                await client.post("/", content=pieces())
            else:
                async with client.stream("POST", "/", content=pieces()) as response:
                    async for _ in response.aiter_raw():
                        begun.set()
        while client.pool.stats().active:
            await asyncio.sleep(0.005)

    with servers.RawServer(early if where == "after" else silent) as server:
        run(main(server.url))


def test_the_task_of_the_source(open_pool):
    """All of it runs in one task, with the caller's context: scopes and locks stay whole."""
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    async def main(url):
        tasks = set()

        async def pieces():
            async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else asyncio.Lock():
                for _ in range(3):
                    tasks.add(asyncio.current_task())
                    assert variable.get() == 7
                    yield b"x"
                    await asyncio.sleep(0)

        variable.set(7)
        client = llmpool.AsyncClient(base_url=url, pool=open_pool())
        assert (await client.post("/", content=pieces())).is_success
        assert len(tasks) == 1

    def take(connection, _):
        data = b""
        while b"0\r\n\r\n" not in data:
            data += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with servers.RawServer(take) as server:
        run(main(server.url))


# ---- blocking


def test_a_blocking_upload_hears_the_answer_between_two_pieces(open_client):
    """The head of a stream is there though the body has no end, and its source is closed."""
    closed = []

    def pieces():
        try:
            while True:
                yield b"x" * 100
                time.sleep(0.005)
        finally:
            closed.append(threading.get_ident())

    def early(connection, _):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        silent(connection, _)

    with servers.RawServer(early) as server:
        client = open_client(server.url)
        with client.stream("POST", "/", content=pieces()) as response:
            assert next(response.iter_raw()) == b"x" and not closed
        assert closed == [threading.get_ident()]
        assert all(each.is_open for each in lane._free)
    with servers.RawServer(refuse) as server:
        client = open_client(server.url)
        assert client.post("/", content=pieces()).status_code == 401
        assert len(closed) == 2
        with client.stream("POST", "/", content=pieces()) as response:
            assert response.status_code == 401 and response.read() == b"{}"
        assert len(closed) == 3


def test_a_blocking_upload_that_the_server_does_not_read(open_client):
    """A 401 is heard though most of the body has no room anywhere."""

    def deaf(connection, _):
        connection.recv(1000)
        connection.sendall(REFUSED.replace(b"connection: close\r\n", b""))
        done.wait(20)

    done = threading.Event()
    with servers.RawServer(deaf) as server:
        client = open_client(server.url)
        content = iter([b"x" * (64 << 10)] * 2000)
        with client.stream("POST", "/", content=content) as response:
            assert response.status_code == 401
        done.set()
