"""What httpx relies on in a transport: bodies both ways, heads, errors, streams that are left."""

import asyncio
import contextlib
import gc
import importlib
import io
import threading
import time
from unittest.mock import patch

import processes
import pytest
import servers

import llmpool
from llmpool import transport

# ---- requests


def echo(connection, number):
    """Answers each request with its own bytes."""
    rest = b""
    while True:
        head, rest = servers.read_head(connection, rest)
        body = b""
        if b"transfer-encoding: chunked" in head.lower():
            while not rest.endswith(b"0\r\n\r\n"):
                rest += connection.recv(65536)
            body, rest = rest, b""
        else:
            size = servers.content_length(head)
            while len(rest) < size:
                rest += connection.recv(65536)
            body, rest = rest[:size], rest[size:]
        servers.answer(connection, head + b"\r\n\r\n" + body)


def lines(response):
    return response.content.partition(b"\r\n\r\n")[0].split(b"\r\n")


@pytest.fixture(scope="module")
def echoing():
    with servers.RawServer(echo) as server:
        yield server


def test_headers_arrive_in_their_case_and_order(caller, echoing):
    headers = [(b"X-Two", b"1"), (b"x-One", b"caf\xe9"), (b"X-Two", b"2")]
    response = caller.request("GET", echoing.url + "/a?b=c%20d", headers=headers)
    sent = lines(response)
    assert sent[0] == b"GET /a?b=c%20d HTTP/1.1"
    wanted = [b"X-Two: 1", b"x-One: caf\xe9", b"X-Two: 2"]
    assert [line for line in sent if line.lower().startswith((b"x-two", b"x-one"))] == wanted
    for name in (b"host:", b"accept:", b"user-agent:"):
        assert sum(line.lower().startswith(name) for line in sent) == 1


def test_own_host_is_sent_once(caller, echoing):
    response = caller.request("GET", echoing.url, headers={"Host": "other.test"})
    hosts = [line for line in lines(response) if line.lower().startswith(b"host:")]
    assert hosts == [b"Host: other.test"]


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [("POST", b"hello", b"5"), ("POST", b"", b"0"), ("PUT", "text", b"4"), ("GET", None, None)],
)
def test_whole_bodies_say_their_length_once(caller, echoing, method, content, length):
    response = caller.request(method, echoing.url, content=content)
    found = [line for line in lines(response) if line.lower().startswith(b"content-length:")]
    assert found == ([] if length is None else [b"Content-Length: " + length])
    assert not any(b"chunked" in line for line in lines(response))


@pytest.mark.parametrize("method", ["POST", "DELETE", "PROPFIND"])
def test_no_body_has_a_length_where_the_caller_says_so(caller, echoing, method):
    response = caller.request(method, echoing.url, headers={"Content-Length": "0"})
    assert lines(response).count(b"Content-Length: 0") == 1
    assert not any(b"chunked" in line for line in lines(response))


def test_generator_goes_in_chunks(caller, echoing):
    response = caller.request("POST", echoing.url, content=caller.body([b"one", b"two"]))
    sent = lines(response)
    assert b"Transfer-Encoding: chunked" in sent
    assert not any(line.lower().startswith(b"content-length:") for line in sent)
    body = response.content.partition(b"\r\n\r\n")[2]
    assert body.endswith(b"0\r\n\r\n")
    assert b"one" in body and b"two" in body


def test_generator_with_a_length_goes_without_chunks(caller, echoing):
    headers = {"Content-Length": "6"}
    response = caller.request(
        "POST", echoing.url, content=caller.body([b"one", b"two"]), headers=headers
    )
    assert [x for x in lines(response) if x.lower().startswith(b"content-length")]
    assert not any(b"chunked" in line for line in lines(response))
    assert response.content.endswith(b"\r\n\r\nonetwo")


def test_whole_body_in_chunks_where_the_caller_says_so(caller, echoing):
    headers = {"Transfer-Encoding": "chunked"}
    response = caller.request("POST", echoing.url, content=b"hello", headers=headers)
    assert b"Transfer-Encoding: chunked" in lines(response)
    assert b"5\r\nhello\r\n0\r\n\r\n" in response.content


def test_file_and_multipart(caller, echoing):
    if caller.kind == "sync":
        response = caller.request("POST", echoing.url, content=io.BytesIO(b"x" * 100_000))
        assert response.content.endswith(b"\r\n\r\n" + b"x" * 100_000)
    files = {"file": ("a.bin", io.BytesIO(b"y" * 300_000))}
    response = caller.request("POST", echoing.url, files=files, data={"a": "b"})
    assert b"y" * 300_000 in response.content
    assert b"multipart/form-data; boundary=" in response.content


def test_equal_lengths_are_one_and_others_an_error(caller, echoing):
    same = [("Content-Length", "2"), ("Content-Length", "2")]
    response = caller.request("POST", echoing.url, content=b"hi", headers=same)
    assert sum(x.lower().startswith(b"content-length") for x in lines(response)) == 1
    for wrong in (["2", "3"], ["3"], ["x"]):
        headers = [("Content-Length", value) for value in wrong]
        with pytest.raises(caller.httpx.LocalProtocolError) as caught:
            caller.request("POST", echoing.url, content=b"hi", headers=headers)
        assert caught.value.request.method == "POST"


@pytest.mark.parametrize("length", ["4", "8"])
def test_upload_of_another_length_than_it_said(caller, echoing, length):
    with pytest.raises(caller.httpx.LocalProtocolError):
        caller.request(
            "POST",
            echoing.url,
            content=caller.body([b"one", b"two"]),
            headers={"Content-Length": length},
        )


def test_expect_is_sent_and_the_100_read_over(caller):
    def handle(connection, number):
        head, _, _ = servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\na: b\r\n\r\n")
        servers.answer(connection, head)

    with servers.RawServer(handle) as server:
        headers = {"Expect": "100-continue"}
        response = caller.request("POST", server.url, content=b"x", headers=headers)
    assert response.status_code == 200
    assert b"Expect: 100-continue" in response.content


def test_upgrade_says_what_to_use(caller, echoing):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    with pytest.raises(caller.httpx.UnsupportedProtocol, match="pool"):
        caller.request("GET", echoing.url, headers=headers)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0"])
def test_header_cannot_begin_another(caller, echoing, value):
    with pytest.raises(caller.httpx.LocalProtocolError) as caught:
        caller.request("GET", echoing.url, headers={"x-key": value})
    assert value not in str(caught.value)


def test_target(caller, echoing):
    response = caller.request("GET", echoing.url, extensions={"target": b"/a/../b?^|"})
    assert lines(response)[0] == b"GET /a/../b?^| HTTP/1.1"
    response = caller.request("GET", echoing.url, extensions={"target": "/b"})
    assert lines(response)[0] == b"GET /b HTTP/1.1"
    for wrong in (b"*", "/\xff", b"http://other.test/", b"/a#b", b"/a b", b"/\xff"):
        with pytest.raises(caller.httpx.LocalProtocolError, match="target"):
            caller.request("GET", echoing.url, extensions={"target": wrong})


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/no/host", "ws://127.0.0.1/"])
def test_other_schemes(caller, url):
    with pytest.raises(caller.httpx.UnsupportedProtocol):
        caller.request("GET", url)


def test_what_a_generator_raises_is_raised(caller, echoing):
    class Own(Exception):
        pass

    def failing():
        yield b"one"
        raise Own

    async def afailing():
        yield b"one"
        raise Own

    with pytest.raises(Own):
        caller.request(
            "POST", echoing.url, content=failing() if caller.kind == "sync" else afailing()
        )


# ---- answers


def one_answer(raw, then=None):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(raw)
        if then is not None:
            then(connection)

    return handle


def test_reason_version_and_headers_are_exact(caller):
    raw = (
        b"HTTP/1.0 299 Quite  Odd \xe9\r\nX-A: 1\r\nx-a: 2\r\nX-B:caf\xe9\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    with servers.RawServer(one_answer(raw)) as server:
        response = caller.request("GET", server.url)
    assert response.status_code == 299
    assert response.extensions["reason_phrase"] == b"Quite  Odd \xe9"
    assert response.http_version == "HTTP/1.0"
    assert response.headers.raw[:3] == [(b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"caf\xe9")]


def test_http2_has_its_version_and_no_reason(caller, mock):
    client = {"verify": mock.ca_file, "headers": mock.headers}
    response = caller.request("GET", mock.url + "/v1/models", client=client)
    assert (response.http_version, response.reason_phrase) == ("HTTP/2", "OK")
    assert response.extensions["http_version"] == b"HTTP/2"
    assert response.elapsed.total_seconds() > 0
    raw = response.extensions["llmpool"]
    assert raw.peer.startswith("127.0.0.1:") and raw.timings.done > 0 and raw.attempts == 1


def test_http1_alone_where_http2_is_off(caller, mock):
    client = {"verify": mock.ca_file, "headers": mock.headers, "http2": False}
    response = caller.request("GET", mock.url + "/v1/models", client=client)
    assert (response.http_version, response.reason_phrase) == ("HTTP/1.1", "OK")


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"200 OK\r\nContent-Length: 1000\r\n"),
        ("GET", b"204 No Content\r\n"),
        ("GET", b"304 Not Modified\r\nContent-Length: 1000\r\n"),
    ],
)
def test_answers_without_a_body(caller, method, head):
    with servers.RawServer(one_answer(b"HTTP/1.1 " + head + b"\r\n")) as server:
        response = caller.request(method, server.url)
    assert response.content == b""


def test_bytes_pass_unchanged_and_httpx_decodes(caller, nginx):
    headers = {"Accept-Encoding": "gzip"}
    response, pieces, _ = caller.stream("GET", nginx.url + "/gzip/text", headers=headers)
    assert response.headers["content-encoding"] == "gzip"
    assert b"".join(pieces).startswith(b"\x1f\x8b")
    whole = caller.request("GET", nginx.url + "/gzip/text", headers=headers)
    assert whole.text == "the same words again and again " * 100


def test_redirects_cookies_and_auth_stay_with_httpx(caller):
    def handle(connection, number):
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            if head.startswith(b"POST /old"):
                headers = b"location: /new\r\nset-cookie: a=b\r\n"
                servers.answer(connection, b"", headers, b"303 See Other")
            else:
                servers.answer(connection, head)

    with servers.RawServer(handle) as server:
        client = {"follow_redirects": True, "auth": ("me", "secret")}
        response = caller.request("POST", server.url + "/old", content=b"x", client=client)
    assert [r.status_code for r in response.history] == [303]
    assert response.content.startswith(b"GET /new ")
    assert b"cookie: a=b" in response.content.lower()
    assert b"authorization: basic" in response.content.lower()


def test_status_is_never_retried_here(caller):
    seen = []

    def handle(connection, number):
        rest = b""
        while True:
            seen.append(servers.read_request(connection, rest)[0])
            servers.answer(connection, b"busy", b"retry-after: 0\r\n", b"503 Busy")

    with servers.RawServer(handle) as server:
        response = caller.request("POST", server.url, content=b"x")
    assert response.status_code == 503
    assert len(seen) == 1


# ---- errors


def close_at_once(connection, number):
    servers.read_request(connection)


def reset_at_once(connection, number):
    servers.read_request(connection)
    servers.reset(connection)


def not_http(connection, number):
    servers.read_request(connection)
    connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")


def silent(connection, number):
    with contextlib.suppress(EOFError):
        while connection.recv(65536):
            pass


def endless_head(connection, _):
    servers.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (100 << 10) + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (close_at_once, "RemoteProtocolError"),
        (reset_at_once, "ReadError"),
        (not_http, "RemoteProtocolError"),
        (silent, "ReadTimeout"),
        (endless_head, "RemoteProtocolError"),
    ],
)
def test_errors_in_the_call(caller, handle, error):
    timeout = caller.httpx.Timeout(10, read=0.3 if error == "ReadTimeout" else 10)
    with servers.RawServer(handle) as server, pytest.raises(caller.httpx.HTTPError) as caught:
        caller.request("POST", server.url, content=b"x", client={"timeout": timeout})
    assert type(caught.value) is getattr(caller.httpx, error), repr(caught.value)
    assert caught.value.request.url == server.url
    assert isinstance(caught.value.__cause__, llmpool.TransportError)


BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"


@pytest.mark.parametrize(
    ("raw", "then", "error"),
    [
        (BEGUN, None, "RemoteProtocolError"),
        (BEGUN, servers.reset, "ReadError"),
        (BEGUN, lambda connection: connection.recv(1), "ReadTimeout"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\nnonsense\r\n",
            None,
            "RemoteProtocolError",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n", None,
         "RemoteProtocolError"),
    ],
)  # fmt: skip
def test_errors_while_the_body_comes(caller, raw, then, error):
    begun = threading.Event()

    def held(connection):
        begun.wait(10)  # a reset drops what was not read
        then(connection)

    timeout = caller.httpx.Timeout(10, read=1 if error == "ReadTimeout" else 10)
    with servers.RawServer(one_answer(raw, held if then else None)) as server:
        _, pieces, raised = caller.stream(
            "GET", server.url, client={"timeout": timeout}, begun=begun.set
        )
    assert b"".join(pieces) == b"begun"
    assert type(raised) is getattr(caller.httpx, error), repr(raised)
    assert raised.request.url == server.url


def test_connect_errors(caller, certificates):
    refused = f"http://127.0.0.1:{processes.free_port()}"
    with pytest.raises(caller.httpx.ConnectError):
        caller.request("GET", refused)
    with pytest.raises(caller.httpx.ConnectError):
        caller.request("GET", "http://name.invalid/")
    for impossible in ("http://127.0.0.1:0/", "http://a..b/"):
        with pytest.raises(caller.httpx.ConnectError):
            caller.request("GET", impossible)
    client = {"verify": certificates.ca_file}
    unknown = servers.RawServer(echo, certificates.context("unknown"))
    with unknown as server, pytest.raises(caller.httpx.ConnectError, match="certificate"):
        caller.request("GET", server.url, client=client)


def fail_to_connect(caller, url, pool, retries):
    """How many dials it took, by how many retries of the pool."""
    before = pool.stats()
    below = caller.transport_class(pool=pool, **retries)
    with pytest.raises(caller.httpx.ConnectError):
        caller.request("GET", url, client={"transport": below})
    after = pool.stats()
    assert after.opened - before.opened == after.connect_failures - before.connect_failures
    return after.opened - before.opened, after.retries - before.retries


def test_refused_connections(caller):
    """They fail at once and each by a dial of its own: trying again is the SDK's."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    with llmpool.Pool(retry_backoff=60) as pool:
        for _ in range(4):
            assert fail_to_connect(caller, url, pool, {}) == (1, 0)
    with llmpool.Pool(retry_backoff=0.001) as pool:
        assert fail_to_connect(caller, url, pool, {"retries": 2}) == (3, 2)
        with llmpool.options(retry=llmpool.Retry(max_retries=1)):
            assert fail_to_connect(caller, url, pool, {}) == (2, 1)


def test_proxy_errors(caller):
    def refuse(connection, number):
        servers.read_head(connection)
        servers.answer(connection, b"", b"", b"407 Proxy Authentication Required")

    with servers.RawServer(refuse) as proxy, pytest.raises(caller.httpx.ProxyError):
        caller.request("GET", "https://name.invalid/", client={"proxy": proxy.url})


def test_every_exception_has_its_counterpart(name):
    """None of the package's own reaches who knows httpx's alone."""
    import importlib

    theirs = importlib.import_module(name)
    kit = importlib.import_module(f"llmpool.{name}")._KIT
    from llmpool._http import exceptions

    for known in exceptions.__all__:
        kind = getattr(llmpool, known)
        if issubclass(kind, llmpool.TransportError):
            error = kit.translate(kind("text"))
            assert isinstance(error, theirs.TransportError), known
            # Never a vaguer class than there is.
            if hasattr(theirs, known) and known != "ReadError":
                assert type(error) is getattr(theirs, known)
    own = KeyError("x")
    assert kit.translate(own) is own


# ---- timeouts


def test_timeouts_are_not_summed_and_none_is_none(name):
    import importlib

    kit = importlib.import_module(f"llmpool.{name}")._KIT
    given = {"connect": 1.0, "read": 2.0, "write": None, "pool": 0.0001}
    timeout = kit._timeout(given, transport.NONE_GIVEN)
    assert (timeout.connect, timeout.read, timeout.write) == (1.0, 2.0, None)
    wanted = llmpool.Timeout(connect=1.0, read=2.0, write=None, pool=0.001)
    assert timeout == wanted  # less than a millisecond is one, and never none


def test_slow_stream_outlives_all_its_timeouts_together(caller):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            time.sleep(0.2)
            connection.sendall(b"x")

    with servers.RawServer(handle) as server:
        _, pieces, raised = caller.stream("GET", server.url, client={"timeout": 2.0})
    assert raised is None
    assert b"".join(pieces) == b"x" * 12


def test_pool_timeout(caller, echoing):
    hold = threading.Event()

    def held(connection, number):
        servers.read_request(connection)
        hold.wait(10)
        servers.answer(connection)

    limits = caller.httpx.Limits(max_connections=1, max_keepalive_connections=1)
    timeout = caller.httpx.Timeout(10, pool=0.2)
    options = {"limits": limits, "timeout": timeout, "trust_env": False}

    def sync(url):
        with caller.ours.Client(**options) as client:
            thread = threading.Thread(target=client.get, args=(url,))
            thread.start()
            assert servers.wait_until(lambda: server.connections == 1)
            try:
                with pytest.raises(caller.httpx.PoolTimeout):
                    client.get(url)
            finally:
                hold.set()
                thread.join()

    async def asynchronous(url):
        async with caller.ours.AsyncClient(**options) as client:
            task = asyncio.ensure_future(client.get(url))
            await asyncio.sleep(0.1)
            try:
                with pytest.raises(caller.httpx.PoolTimeout):
                    await client.get(url)
            finally:
                hold.set()
                await task

    with servers.RawServer(held) as server:
        caller.run(sync if caller.kind == "sync" else asynchronous, server.url)


# ---- streams that are left


def endless(left):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"5\r\ntoken\r\n")
                time.sleep(0.005)
        except OSError:
            left.set()

    return handle


def test_stream_left_early_is_cancelled_at_once(caller):
    left = threading.Event()

    def sync(client, url):
        with client, client.stream("GET", url) as response:
            pieces = response.iter_raw()
            next(pieces)
            group = client._transport._carrier.group
            assert len(group) == 1
        assert len(group) == 0
        assert left.wait(5)

    async def asynchronous(client, url):
        async with client, client.stream("GET", url) as response:
            pieces = response.aiter_raw()
            await pieces.__anext__()
            group = client._transport._carrier.group
            assert len(group) == 1
        assert len(group) == 0
        assert await asyncio.get_running_loop().run_in_executor(None, left.wait, 5)

    with servers.RawServer(endless(left)) as server:
        client = caller.client_class(trust_env=False)
        caller.run(sync if caller.kind == "sync" else asynchronous, client, server.url)


def test_stream_that_nobody_has_any_more_is_cancelled(caller):
    left = threading.Event()

    def sync(client, url):
        client.send(client.build_request("GET", url), stream=True)
        gc.collect()
        assert left.wait(5)

    async def asynchronous(client, url):
        await client.send(client.build_request("GET", url), stream=True)
        gc.collect()
        assert await asyncio.get_running_loop().run_in_executor(None, left.wait, 5)

    with servers.RawServer(endless(left)) as server:
        client = caller.client_class(trust_env=False)
        caller.run(sync if caller.kind == "sync" else asynchronous, client, server.url)
        assert len(client._transport._carrier.group) == 0


def test_stream_closed_twice_and_read_after_it(caller, mock_plain):
    client = {"headers": mock_plain.headers}
    response, pieces, raised = caller.stream("GET", mock_plain.url + "/v1/models", client=client)
    assert pieces and raised is None
    stream = response.stream

    def sync():
        response.close()
        stream.close()
        with pytest.raises(caller.httpx.StreamConsumed):
            next(response.iter_raw())

    async def asynchronous():
        await response.aclose()
        await stream.aclose()
        with pytest.raises(caller.httpx.StreamConsumed):
            await response.aiter_raw().__anext__()

    caller.run(sync if caller.kind == "sync" else asynchronous)


def test_iteration_goes_on_where_another_stopped(caller):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for number in range(10):
            connection.sendall(b"%d" % number)
            time.sleep(0.01)

    def sync(url):
        with caller.ours.Transport() as own:
            answer = own.handle_request(caller.httpx.Request("GET", url))
            first = next(iter(answer.stream))
            rest = b"".join(answer.stream)
            assert list(answer.stream) == []
            answer.close()
        return first + rest

    async def asynchronous(url):
        async with caller.ours.AsyncTransport() as own:
            answer = await own.handle_async_request(caller.httpx.Request("GET", url))
            piece = await answer.stream.__aiter__().__anext__()
            rest = [each async for each in answer.stream]
            assert [each async for each in answer.stream] == []
            await answer.aclose()
        return piece + b"".join(rest)

    with servers.RawServer(handle) as server:
        whole = caller.run(sync if caller.kind == "sync" else asynchronous, server.url)
    assert whole == b"0123456789"


@pytest.mark.parametrize("where", ["before the head", "in the body"])
@pytest.mark.parametrize("name", ["httpx2"])
def test_cancelled_tasks_leave_nothing(name, where):
    both = pytest.importorskip("both")
    caller = both.Caller(name, "async")
    left = threading.Event()
    handle = silent if where == "before the head" else endless(left)

    async def read(client, url):
        async with client.stream("GET", url) as response:
            async for _ in response.aiter_raw():
                pass

    async def act(url):
        async with caller.ours.AsyncClient(trust_env=False, isolated=True) as client:
            pool = client._transport.pool
            tasks = [asyncio.ensure_future(read(client, url)) for _ in range(20)]
            await asyncio.sleep(0.3)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(200):
                if pool.stats().active == 0:
                    break
                await asyncio.sleep(0.01)
            assert pool.stats().active == pool.stats().pending == 0
            assert len(client._transport._carrier.group) == 0

    with servers.RawServer(handle) as server:
        caller.run(act, server.url)


def test_close_ends_its_own_requests_alone(caller):
    def sync(url):
        ended = []

        def read(client):
            try:
                client.get(url)
            except Exception as error:
                ended.append(error)

        mine, other = (caller.ours.Client(trust_env=False, timeout=20) for _ in range(2))
        assert mine._transport.pool is other._transport.pool
        threads = [threading.Thread(target=read, args=(client,)) for client in (mine, other)]
        for thread in threads:
            thread.start()
        assert servers.wait_until(lambda: server.connections == 2)
        mine.close()
        threads[0].join(5)
        assert type(ended[0]) is caller.httpx.ReadError and len(ended) == 1
        other.close()
        threads[1].join(5)
        assert len(ended) == 2

    async def asynchronous(url):
        mine, other = (caller.ours.AsyncClient(trust_env=False, timeout=20) for _ in range(2))
        tasks = [asyncio.ensure_future(client.get(url)) for client in (mine, other)]
        while server.connections < 2:
            await asyncio.sleep(0.01)
        await mine.aclose()
        await asyncio.wait(tasks[:1], timeout=5)
        assert type(tasks[0].exception()) is caller.httpx.ReadError
        assert not tasks[1].done()
        await other.aclose()
        with pytest.raises(caller.httpx.ReadError):
            await tasks[1]

    with servers.RawServer(silent) as server:
        caller.run(sync if caller.kind == "sync" else asynchronous, server.url)


def test_transport_is_of_use_after_close(caller, echoing):
    own = caller.transport_class()
    for _ in range(2):
        assert caller.request("GET", echoing.url, client={"transport": own}).status_code == 200


def test_async_client_in_many_loops(name, echoing):
    both = pytest.importorskip("both")
    caller = both.Caller(name, "async")
    client = caller.ours.AsyncClient(trust_env=False)
    for _ in range(3):
        assert caller.run(client.get, echoing.url).status_code == 200


def test_trio_is_told(name, echoing):
    trio = pytest.importorskip("trio")
    both = pytest.importorskip("both")
    client = both.Caller(name, "async").ours.AsyncClient(trust_env=False)
    with pytest.raises(RuntimeError, match=r"asyncio.*not in trio"):
        trio.run(client.get, echoing.url)


# ---- what SDKs cannot say


def test_options_hold_in_their_block(caller):
    with servers.RawServer(silent) as server:
        for scope in ("context", "extension"):
            context = llmpool.options(total=0.2) if scope == "context" else contextlib.nullcontext()
            extensions = {"llmpool": {"total": 0.2}} if scope == "extension" else {}
            with context, pytest.raises(caller.httpx.TimeoutException, match="total timeout"):
                caller.request("GET", server.url, extensions=extensions)
        with llmpool.options(total=20), pytest.raises(caller.httpx.ReadTimeout, match="first byte"):
            caller.request("GET", server.url, extensions={"llmpool": {"first_byte": 0.1}})


def test_options_are_checked(caller, echoing):
    for wrong in ({"priority": "high"}, {"retry": "always"}, {"first_byte": "soon"}):
        with pytest.raises(TypeError):
            llmpool.options(**wrong)
    with pytest.raises(ValueError):
        llmpool.options(total=-1)
    for extension in ({"unknown": 1}, "priority", {"priority": 1.5}):
        with pytest.raises(TypeError):
            caller.request("GET", echoing.url, extensions={"llmpool": extension})


def test_options_nest():
    from llmpool.transport import current_options

    with llmpool.options(priority=3, total=10):
        with llmpool.options(total=None, retry="sent"):
            inner = current_options({"priority": 5})
        outer = current_options()
    assert (inner.priority, inner.total, inner.retry) == (5, None, "sent")
    assert (outer.priority, outer.total) == (3, 10)
    assert current_options() is transport.NONE_GIVEN


# ---- trace


def test_trace_tells_the_documented_events(caller, echoing):
    told = []

    def trace(name, info):
        told.append((name, info))

    async def atrace(name, info):
        told.append((name, info))

    extensions = {"trace": trace if caller.kind == "sync" else atrace}
    caller.request("GET", echoing.url, client={"isolated": True}, extensions=extensions)
    parts = ("connection.connect_tcp", "http11.send_request_headers", "http11.send_request_body",
             "http11.receive_response_headers", "http11.receive_response_body",
             "http11.response_closed")  # fmt: skip
    wanted = [f"{part}.{end}" for part in parts for end in ("started", "complete")]
    assert [name for name, _ in told] == wanted
    value = dict(told)["http11.receive_response_headers.complete"]["return_value"]
    assert value[:3] == (b"HTTP/1.1", 200, b"OK")
    told.clear()
    refused = f"http://127.0.0.1:{processes.free_port()}"
    with pytest.raises(caller.httpx.ConnectError):
        caller.request("GET", refused, extensions=extensions)
    assert told[-1][0] == "connection.connect_tcp.failed"
    assert isinstance(told[-1][1]["exception"], caller.httpx.ConnectError)


# ---- what others patch


def patches_of(caller):
    """Places that mocks replace, by their names, and what is there then."""
    core = importlib.import_module({"httpx": "httpcore", "httpx2": "httpcore2"}[caller.name])
    prefix, name = ("", "handle_request") if caller.kind == "sync" else ("Async", "")
    name = name or "handle_async_request"

    def answering(response):
        def handle_request(self, request):
            return response(299)

        async def handle_async_request(self, request):
            return response(299)

        return handle_request if caller.kind == "sync" else handle_async_request

    yield getattr(caller.httpx, f"{prefix}HTTPTransport"), name, answering(caller.httpx.Response)
    for kind in ("ConnectionPool", "HTTPConnection"):
        yield getattr(core, prefix + kind), name, answering(core.Response)


def test_ours_in_the_place_of_theirs(caller, echoing, monkeypatch):
    """Who puts our classes into the module has patched nothing."""
    for name in ("HTTPTransport", "AsyncHTTPTransport"):
        ours = caller.ours.Transport if name == "HTTPTransport" else caller.ours.AsyncTransport
        monkeypatch.setattr(caller.httpx, name, ours)
    assert "llmpool" in caller.request("GET", echoing.url).extensions


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("installed", [False, True])
def test_mocked_call_never_reaches_the_network(caller, echoing, which, installed):
    if installed:
        llmpool.install()
    try:
        count = echoing.connections
        with patch.object(*list(patches_of(caller))[which]):
            assert caller.request("GET", echoing.url).status_code == 299
        assert echoing.connections == count
        response = caller.request("GET", echoing.url)
        assert response.status_code == 200 and "llmpool" in response.extensions
        assert not llmpool.installed()
    finally:
        llmpool.uninstall()


def test_what_instruments_httpx_sees_the_pool_s_requests(caller, certificates):
    kind, name, _ = next(patches_of(caller))
    before = getattr(kind, name)
    seen = []

    def handle_request(self, request):
        seen.append(request.url)
        return before(self, request)

    def serve(connection, number):
        rest = b""
        while True:
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection)

    context = certificates.context("good")
    client = {"verify": certificates.ca_file}
    with servers.RawServer(serve, context) as server, patch.object(kind, name, handle_request):
        response = caller.request("POST", server.url, content=b"x", client=client)
        assert response.status_code == 200 and "llmpool" in response.extensions
        assert seen == [server.url]
        _, pieces, error = caller.stream("GET", server.url, client=client)
        assert error is None and b"".join(pieces) == b"ok"
        with pytest.raises(caller.httpx.ConnectError):
            caller.request("GET", f"http://127.0.0.1:{processes.free_port()}/")


def test_nothing_of_httpcore_is_imported_before_it_is_asked_for(run_python, name):
    core = {"httpx": "httpcore", "httpx2": "httpcore2"}[name]
    script = f"""
import sys, llmpool.{name} as ours
with ours.Client(trust_env=False) as client:
    try: client.get("http://127.0.0.1:{processes.free_port()}/")
    except Exception as error: print(type(error).__name__)
print({core!r} in sys.modules)
"""
    done = run_python(script)
    assert done.stdout == "ConnectError\nFalse\n", done.stderr
