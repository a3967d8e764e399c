"""The seam for adapters: requests and answers as bytes, without any HTTP library above."""

import asyncio
import gc
import threading
import time

import pytest
import servers

import llmpool
from llmpool import transport
from llmpool._http.raw import _LINES, _lines, header_lines


def echo(connection, number):
    rest = b""
    while True:
        head, body, rest = servers.read_request(connection, rest)
        servers.answer(connection, head + b"\n" + body, b"X-A: 1\r\nx-a: 2\r\n")


@pytest.fixture
def echoing():
    with servers.RawServer(echo) as server:
        yield server


def get(server, **options):
    url = server.url.encode() + b"/"
    return transport.RawRequest(b"GET", url, [(b"X-Key", b"v")], **options)


def test_answer_has_what_was_sent(open_pool, echoing):
    pool = open_pool()
    url = echoing.url.encode() + b"/a"
    headers = [(b"B", b"2"), (b"a", b"\xff"), (b"B", b"3"), (b"content-length", b"2")]
    with transport.send(pool, transport.RawRequest(b"POST", url, headers, b"hi")) as response:
        body = b"".join(response)
    assert body.startswith(b"POST /a HTTP/1.1\r\n") and body.endswith(b"\nhi")
    assert b"B: 2\r\na: \xff\r\nB: 3\r\n" in body
    assert (response.status, response.http_version, response.reason) == (200, b"HTTP/1.1", b"OK")
    assert response.headers[1:] == [(b"X-A", b"1"), (b"x-a", b"2")]
    assert (response.attempts, response.reused) == (1, False)
    assert response.peer == f"127.0.0.1:{echoing.port}" and response.connection_id > 0
    assert 0 < response.timings.sent <= response.timings.done


def test_same_on_a_loop(open_pool, echoing):
    pool = open_pool()

    async def act():
        async with await transport.asend(pool, get(echoing)) as response:
            return response.status, b"".join([piece async for piece in response])

    status, body = asyncio.run(act())
    assert status == 200 and body.startswith(b"GET / HTTP/1.1")


def test_read_is_what_the_iteration_has_not_given(open_pool):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n")
        for digit in range(10 if number == 1 else 5):
            connection.sendall(b"%d" % digit)
            time.sleep(0.01)

    def sync(pool, server):
        with transport.send(pool, get(server)) as response:
            assert next(iter(response)) + response.read() == b"0123456789"
            assert response.read() == b"" and list(response) == []
        with (
            transport.send(pool, get(server)) as response,
            pytest.raises(llmpool.ReadError),
        ):
            response.read()
        with pytest.raises(llmpool.StreamClosed):
            response.read()

    async def act(pool, server):
        async with await transport.asend(pool, get(server)) as response:
            first = await response.__aiter__().__anext__()
            assert first + await response.read() == b"0123456789"
            assert await response.read() == b""
        async with await transport.asend(pool, get(server)) as response:
            with pytest.raises(llmpool.ReadError):
                await response.read()
        with pytest.raises(llmpool.StreamClosed):
            await response.read()

    for run in (sync, lambda *arguments: asyncio.run(act(*arguments))):
        with servers.RawServer(handle) as server:
            run(open_pool(), server)


def said(response):
    return b"".join(response).split(b"\r\n")[0]


def test_a_request_may_be_sent_again(open_pool, echoing):
    pool, request = open_pool(), get(echoing)
    client = llmpool.Client(base_url=echoing.url, pool=pool)
    for number in range(3):
        with transport.send(pool, request) as response:
            assert said(response) == b"GET / HTTP/1.1"
        for path in (f"/{number}a", f"/{number}b"):  # on the lanes that it had
            assert client.get(path).text.startswith(f"GET {path} ")

    async def act():
        for _ in range(3):
            async with await transport.asend(pool, request) as response:
                assert [piece async for piece in response]

    asyncio.run(act())
    with transport.send(pool, request) as first, transport.send(pool, request) as second:
        assert said(first) == said(second) == b"GET / HTTP/1.1"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_that_could_not_be_entered_may_be_entered_again(open_pool, kind):
    pool = open_pool(max_retries=0)
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}/"

    def sync():
        client = llmpool.Client(pool=pool)
        stream = client.stream("GET", url)
        with pytest.raises(llmpool.ConnectError), stream:
            pass
        with servers.RawServer(echo, port=port):
            with stream as response:
                assert response.read().startswith(b"GET / ")
            assert client.get(url + "b").text.startswith("GET /b ")

    async def on_a_loop():
        stream = llmpool.AsyncClient(pool=pool).stream("GET", url)
        with pytest.raises(llmpool.ConnectError):
            async with stream:
                pass
        with servers.RawServer(echo, port=port):
            async with stream as response:
                assert (await response.aread()).startswith(b"GET / ")

    sync() if kind == "sync" else asyncio.run(on_a_loop())


def test_errors_are_the_packages_own_or_what_is_made_of_them(open_pool):
    pool = open_pool(max_retries=0)
    refused = f"http://127.0.0.1:{servers.free_port()}/".encode()
    with pytest.raises(llmpool.ConnectError) as caught:
        transport.send(pool, transport.RawRequest(b"GET", refused, [(b"a", b"b")]))
    assert caught.value.request.url == refused.decode()
    assert caught.value.request.headers["a"] == "b"

    class Own(Exception):
        pass

    request = transport.RawRequest(b"GET", refused, [], translate=lambda error: Own(str(error)))
    with pytest.raises(Own, match="refused") as caught:
        transport.send(pool, request)
    assert isinstance(caught.value.__cause__, llmpool.ConnectError)
    for url in (b"ftp://a/", b"nonsense", b"http://a b/"):
        with pytest.raises(llmpool.InvalidURL):
            transport.send(pool, transport.RawRequest(b"GET", url, []))


@pytest.mark.parametrize(
    ("headers", "body", "error"),
    [
        ([(b"a b", b"c")], None, llmpool.LocalProtocolError),
        ([(b"", b"c")], None, llmpool.LocalProtocolError),
        ([(b"a:", b"c")], None, llmpool.LocalProtocolError),
        ([(b"a", b"b\r\nc: d")], None, llmpool.LocalProtocolError),
        ([(b"Content-Length", b"1")], None, llmpool.LocalProtocolError),
        ([(b"Content-Length", b"1, 2")], b"x", llmpool.LocalProtocolError),
        ([(b"Content-Length", b"-1")], b"x", llmpool.LocalProtocolError),
        ([(b"Transfer-Encoding", b"gzip")], b"x", llmpool.LocalProtocolError),
        ([(b"Upgrade", b"h2c")], None, llmpool.UnsupportedProtocol),
        ([("a", "b")], None, TypeError),
    ],
)
def test_what_cannot_be_sent_is_refused(headers, body, error):
    with pytest.raises(error):
        transport.RawRequest(b"GET", b"http://127.0.0.1/", headers, body)


def test_lengths_that_agree_are_one():
    for pairs in ([(b"Content-Length", b"2")] * 2, [(b"content-length", b"2, 2")]):
        lines, framing = header_lines(pairs)
        assert (lines, framing.length, framing.chunked) == ([], 2, False)
    request = transport.RawRequest(
        b"POST",
        b"http://127.0.0.1/",
        [(b"Content-Length", b"9"), (b"Transfer-Encoding", b"Chunked")],
        iter([b"x"]),
    )
    assert request.block == b"" and request.upload is not None


def test_lines_that_are_kept_are_bounded():
    for number in range(3 * _LINES):
        header_lines([(b"x-request-id", b"%d" % number)])
    header_lines([(b"x", b"y" * 100_000)])
    assert len(_lines) <= _LINES
    assert max(map(len, _lines.values())) < 10_000


def test_group_ends_its_own(open_pool):
    def silent(connection, number):
        while connection.recv(65536):
            pass

    pool = open_pool()
    group, other = transport.Group(), transport.Group()
    ended = []

    def wait(which):
        try:
            transport.send(pool, get(server), which)
        except llmpool.Cancelled:
            ended.append(which)

    with servers.RawServer(silent) as server:
        threads = [threading.Thread(target=wait, args=(each,)) for each in (group, other)]
        for thread in threads:
            thread.start()
        assert servers.wait_until(lambda: len(group) == len(other) == 1 and server.connections == 2)
        group.cancel()
        threads[0].join(10)
        assert ended == [group] and len(group) == 0 and len(other) == 1
        other.cancel()
        threads[1].join(10)
    assert ended == [group, other]


def test_answer_is_left_in_each_way(open_pool, tokens_plain):
    pool = open_pool()
    group = transport.Group()
    url = (tokens_plain.url + "/v1/chat/completions").encode()
    headers = [(name.encode(), value.encode()) for name, value in tokens_plain.headers.items()]

    def begin(model=b"stall-1"):  # which does not end before it is left
        body = b'{"model": "%s", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
        request = transport.RawRequest(b"POST", url, headers, body % model)
        return transport.send(pool, request, group)

    response = begin()
    first = next(iter(response))
    assert first.startswith(b"data: ") and len(group) == 1
    response.close()
    response.close()
    with pytest.raises(llmpool.StreamClosed):
        next(iter(response))
    begin()
    gc.collect()
    response = begin(b"m")
    assert b"".join(response).endswith(b"data: [DONE]\n\n")
    assert list(response) == []
    assert servers.wait_until(lambda: pool.stats().active == 0)
    assert len(group) == 0
    assert (pool.stats().succeeded, pool.stats().cancelled) == (1, 2)


def test_loop_of_another_thread_is_refused(open_pool, tokens_plain):
    pool = open_pool()
    url = (tokens_plain.url + "/v1/chat/completions").encode()
    headers = [(name.encode(), value.encode()) for name, value in tokens_plain.headers.items()]
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
    loop = asyncio.new_event_loop()
    request = transport.RawRequest(b"POST", url, headers, body)
    response = loop.run_until_complete(transport.asend(pool, request))

    async def read():
        return [piece async for piece in response]

    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(read())
    asyncio.run(response.aclose())
    loop.close()
    assert servers.wait_until(lambda: pool.stats().active == 0)


def test_names_are_all_there():
    for name in transport.__all__:
        assert getattr(transport, name) is not None
    assert set(transport.__all__) <= set(dir(transport))
    assert transport.RawRequest.__module__ == transport.asend.__module__ == "llmpool.transport"
