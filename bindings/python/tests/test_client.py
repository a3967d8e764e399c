"""The client against the mock, nginx and raw sockets: what an application sees."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest
import servers

import llmpool
from llmpool._http.config import UNSET
from llmpool._native import lane

HI = [{"role": "user", "content": "hi"}]


def test_a_call(mock, open_client):
    client = open_client(mock.url + "/v1", headers=mock.headers, ca_file=mock.ca_file)
    answer = client.post("/chat/completions", json={"model": "gpt-mock", "messages": HI})
    assert answer.status_code == 200 and answer.is_success and answer.reason_phrase == "OK"
    assert answer.http_version == "HTTP/2"
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.url == mock.url + "/v1/chat/completions" == answer.request.url
    assert answer.request.method == "POST" and b'"gpt-mock"' in answer.request.content
    assert answer.request.headers["content-type"] == "application/json"
    assert answer.attempts == 1 and not answer.reused and answer.connection_id > 0
    assert answer.peer == mock.url[len("https://") :]
    times = answer.timings
    assert 0 < times.connected <= times.secured <= times.admitted <= times.sent
    assert times.sent <= times.first_byte <= times.first_data <= times.done < 10
    assert answer.elapsed.total_seconds() == pytest.approx(times.done, abs=1e-5)

    again = client.get("/models")
    assert again.reused and again.connection_id == answer.connection_id
    assert again.timings.connected is None


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ODD"]
)
def test_methods(method, open_client):
    seen = []

    def handle(connection, _):
        buffer = b""
        while True:
            head, body, buffer = servers.read_request(connection, buffer)
            seen.append((head, body))
            if head.startswith(b"HEAD"):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
            else:
                servers.answer(connection, b"hello")

    with servers.RawServer(handle) as server:
        client = open_client(server.url, headers={"x-own": "1"})
        function = getattr(client, method.lower(), None) or (
            lambda url, **more: client.request(method, url, **more)
        )
        answer = function("/p", params={"q": "a b"}, headers={"x-more": "2"})
        assert answer.content == (b"" if method == "HEAD" else b"hello")
        head = seen[0][0]
        assert head.startswith(f"{method} /p?q=a+b HTTP/1.1\r\n".encode())
        lines = head.lower().split(b"\r\n")
        assert f"host: 127.0.0.1:{server.port}".encode() in lines
        assert b"x-own: 1" in lines and b"x-more: 2" in lines and b"accept: */*" in lines
        if method in ("POST", "PUT", "PATCH"):
            assert b"content-length: 0" in lines
            function("/p", content=b"body")
            assert seen[1][1] == b"body"


def test_no_body_and_large_answers(nginx, open_client):
    large = (nginx.directory / "www" / "large").read_bytes()
    for base, pool in (
        (nginx.url, {}),
        (nginx.tls_url, {"verify": False}),
    ):
        client = open_client(base, **pool)
        assert client.get("/large").content == large
        assert client.get("/small").content == b"x" * 200
        assert client.head("/large").content == b""
        assert client.get("/none").status_code == 404


def test_gzip_from_nginx(nginx, open_client):
    text = (nginx.directory / "www" / "text").read_text()
    client = open_client(nginx.url)
    answer = client.get("/gzip/text")
    assert answer.headers["content-encoding"] == "gzip" and len(answer.raw_content) < 1000
    assert answer.text == text
    plain = client.get("/gzip/text", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == text


def test_max_response_bytes(nginx, open_pool):
    client = llmpool.Client(base_url=nginx.url, pool=open_pool(), max_response_bytes=1000)
    assert len(client.get("/small").content) == 200
    with pytest.raises(llmpool.ResponseTooLarge):
        client.get("/large")
    bomb = client.get("/gzip/text")
    with pytest.raises(llmpool.ResponseTooLarge):
        bomb.content  # noqa: B018


def test_threads_on_one_client(mock, open_client, at_once):
    client = open_client(mock.url, headers=mock.headers, ca_file=mock.ca_file)

    def call(number):
        dimensions = 8 + number % 20
        body = {"model": "text-embedding-mock", "input": str(number), "dimensions": dimensions}
        answer = client.post("/v1/embeddings", json=body, headers={"x-number": str(number)})
        assert answer.request.headers["x-number"] == str(number)
        assert len(answer.json()["data"][0]["embedding"]) == dimensions
        return answer.json()["data"][0]["embedding"][0]

    results = at_once(call, 300, 32)
    assert len(set(results)) == 300  # each got its own answer
    stats = client.pool.stats()
    assert stats.succeeded == 300 and stats.opened == 1 and stats.active == 0


def test_shared_pool_and_module_functions(mock_plain):
    llmpool.configure(timeout=llmpool.Timeout(20))
    origin = llmpool.URL(mock_plain.url).origin
    shared = llmpool.shared()
    before = llmpool.stats().submitted
    before_there = llmpool.stats(origin).submitted if origin in shared.origins() else 0
    assert llmpool.get(mock_plain.url + "/v1/models", headers=mock_plain.headers).is_success
    assert llmpool.post(mock_plain.url + "/v1/none", headers=mock_plain.headers).is_error
    with llmpool.Client(base_url=mock_plain.url, headers=mock_plain.headers) as client:
        client.get("/v1/models").raise_for_status()
    assert client.is_closed
    with pytest.raises(RuntimeError):
        client.get("/v1/models")
    assert llmpool.stats().submitted == before + 3
    assert origin in shared.origins()
    assert llmpool.stats(origin).submitted == before_there + 3


def test_connection_refused(open_client):
    client = open_client(f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(llmpool.ConnectError) as caught:
        client.get("/")
    assert caught.value.status == "LLMPOOL_E_CONNECT" and caught.value.unseen
    assert caught.value.request.url.startswith("http://127.0.0.1")


def test_name_that_does_not_exist(open_client):
    with pytest.raises((llmpool.ResolveError, llmpool.ConnectTimeout)) as caught:
        open_client().get("http://no-such-host.invalid/")
    assert caught.value.unseen


def silent(connection, _):
    servers.read_request(connection)
    time.sleep(10)


@pytest.mark.parametrize(
    "timeout, error",
    [
        (llmpool.Timeout(read=0.2), llmpool.ReadTimeout),
        (0.2, llmpool.ReadTimeout),
        (llmpool.Timeout(first_byte=0.2), llmpool.FirstByteTimeout),
        (llmpool.Timeout(total=0.2), llmpool.TotalTimeout),
    ],
)
def test_timeouts(timeout, error, open_client):
    with servers.RawServer(silent) as server:
        client = open_client(server.url, timeout=30)
        began = time.monotonic()
        with pytest.raises(error) as caught:
            client.post("/", content="x", timeout=timeout)
        assert 0.15 < time.monotonic() - began < 5
        assert type(caught.value) is error and not caught.value.unseen
        assert server.connections == 1


def test_pool_timeout_and_queue_full(open_client):
    with servers.RawServer(silent) as server:
        client = open_client(
            server.url, limits=llmpool.Limits(max_connections=1, max_pending_requests=1)
        )

        def until_closed():
            with contextlib.suppress(llmpool.PoolClosed):
                client.get("/")

        waiting = threading.Thread(target=until_closed)
        waiting.start()
        assert servers.wait_until(lambda: client.pool.stats().active == 1)
        with pytest.raises(llmpool.PoolTimeout) as caught:
            client.get("/", timeout=llmpool.Timeout(pool=0.2))
        assert caught.value.unseen
        second = threading.Thread(target=until_closed)
        second.start()
        assert servers.wait_until(lambda: client.pool.stats().pending == 1)
        with pytest.raises(llmpool.QueueFull):
            client.get("/")
        client.pool.configure(limits=llmpool.Limits(max_connections=2))
        assert servers.wait_until(lambda: client.pool.stats().active == 2)
        client.pool.close()
        waiting.join(10)
        second.join(10)
        assert not waiting.is_alive() and not second.is_alive()


def test_close_with_requests_in_flight(open_client, at_once):
    with servers.RawServer(silent) as server:
        client = open_client(server.url)
        errors = []

        def call():
            try:
                client.get("/")
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=call) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert servers.wait_until(lambda: client.pool.stats().active == 20)
        client.pool.close()
        for thread in threads:
            thread.join(10)
        assert [type(error) for error in errors] == [llmpool.PoolClosed] * 20
        client.pool.close()
        with pytest.raises(llmpool.PoolClosed):
            client.get("/")
        with pytest.raises(llmpool.PoolClosed):
            client.pool.stats()
        with pytest.raises(llmpool.PoolClosed):
            client.pool.configure(timeout=5)
        assert servers.wait_until(lambda: servers.sockets_to(server.port) == 0)


def test_a_pool_that_is_dropped_is_closed(nginx, open_pool):
    import gc

    pool = open_pool()
    before = servers.count_threads()
    other = llmpool.Pool()
    assert llmpool.Client(base_url=nginx.url, pool=other).get("/small").is_success
    del other
    gc.collect()
    assert servers.wait_until(lambda: servers.count_threads() <= before)
    assert pool.stats().submitted == 0


# ---- redirects


class Redirects:
    def __init__(self, elsewhere=""):
        self.elsewhere = elsewhere
        self.seen = []

    def __call__(self, connection, _):
        buffer = b""
        while True:
            head, body, buffer = servers.read_request(connection, buffer)
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.seen.append((method, target, head.lower(), body))
            kind, _, rest = target[1:].partition("/")
            location = {
                "loop": "/loop",
                "away": f"{self.elsewhere}/end",
                "end": "",
            }.get(kind, f"/{rest}")
            status = kind if kind.isdigit() else "302"
            body = b"" if method == "HEAD" else b"end"
            if kind == "end":
                servers.answer(connection, body)
            else:
                line = f"location: {location}\r\n".encode()
                servers.answer(connection, body, line, f"{status} X".encode())


@pytest.mark.parametrize(
    "code, method, after",
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (307, "POST", "POST"),
        (308, "POST", "POST"), (301, "PUT", "PUT"), (303, "PUT", "GET"), (302, "HEAD", "HEAD"),
    ],
)  # fmt: skip
def test_redirects(code, method, after, open_client):
    server_of = Redirects()
    with servers.RawServer(server_of) as server:
        client = open_client(server.url, headers={"authorization": "Bearer secret"})
        body = None if method == "HEAD" else b"body"
        plain = client.request(method, f"/{code}/end", content=body)
        assert plain.status_code == code and plain.has_redirect_location
        answer = client.request(method, f"/{code}/end", content=body, follow_redirects=True)
        assert answer.text == ("" if after == "HEAD" else "end")
        assert answer.url == server.url + "/end"
        assert [r.status_code for r in answer.history] == [code]
        last = server_of.seen[-1]
        assert last[0] == after
        assert last[3] == (body if body and after == method else b"")
        assert b"authorization: bearer secret" in last[2]


def test_redirect_to_another_origin_sends_no_secret(open_client):
    other = Redirects()
    with servers.RawServer(other) as elsewhere:
        first = Redirects(elsewhere.url)
        with servers.RawServer(first) as server:
            secrets = {"authorization": "Bearer secret", "x-api-key": "secret", "cookie": "secret"}
            client = open_client(server.url, headers={**secrets, "x-other": "kept"})
            assert client.get("/away", follow_redirects=True).text == "end"
    assert b"secret" in first.seen[0][2]
    assert b"secret" not in other.seen[0][2] and b"x-other: kept" in other.seen[0][2]


@pytest.mark.parametrize(
    "before, after, kept",
    [
        ("http://h/a", "https://h/b", True),  # the same host made secure
        ("http://h:80/a", "https://H:443/b", True),
        ("http://h/a", "https://h:8443/b", False),
        ("http://h:8080/a", "https://h/b", False),
        ("http://h/a", "https://other/b", False),
        ("https://h/a", "http://h/b", False),
        ("https://h/a", "https://h:444/b", False),
    ],
)
def test_which_credentials_follow_a_redirect(before, after, kept):
    client = llmpool.Client(
        headers={
            "authorization": "s1", "x-api-key": "s2", "Cookie": "s3", "x-auth-token": "s4",
            "ocp-apim-subscription-key": "s5", "Proxy-Authorization": "p", "x-other": "o",
            "idempotency-key": "i",
        }
    )  # fmt: skip
    call = client._prepare("POST", before, b"x", None, None, None, None, None, UNSET, 0, None, None)
    answer = llmpool.Response(307, headers={"location": after}, request=call.request)
    sent = client._redirected(answer, call, []).request.headers
    names = ("authorization", "x-api-key", "cookie", "x-auth-token", "ocp-apim-subscription-key")
    assert [name in sent for name in names] == [kept] * 5
    assert "proxy-authorization" not in sent
    assert sent["x-other"] == "o" and sent["idempotency-key"] == "i"
    same = llmpool.Response(307, headers={"location": "/c"}, request=call.request)
    assert "proxy-authorization" in client._redirected(same, call, []).request.headers


# Each text that reaches the library, with a NUL in it.
@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.request("GET\0", "/"),
        lambda client: client.request("GE\ud800T", "/"),
        lambda client: client.request("GET /\r\nx", "/"),
        lambda client: client.stream("G\0ET", "/").__enter__(),
        lambda client: client.get("/a\0b"),
        lambda client: client.get("/", headers={"a\0": "b"}),
        lambda client: client.get("/", headers={"a": "b\0"}),
        lambda client: client.get("/", headers={"a": b"b\0"}),
        lambda client: client.pool.warm("http://127.0.0.1:9/\0"),
        lambda client: client.pool.warm("http://127.0.0.1:9\0.example/"),
        lambda client: client.pool.stats("http://127.0.0.1:9\0"),
        lambda client: client.pool.stats("\ud800"),
        lambda client: client.pool.configure(proxy="http://127.0.0.1:9\0"),
        lambda client: client.pool.configure(no_proxy="a\0b"),
        lambda client: client.pool.configure(ca_file="/a\0b"),
        lambda client: client.pool.configure(client_cert="/a\0b"),
        lambda client: client.pool.configure(client_cert=("/a", "/a\0b")),
        lambda client: llmpool.Client(base_url="http://h/\0"),
        lambda client: client.get("/", server_name="a\0b"),
        lambda client: llmpool.Client(server_name="a\0b"),
    ],
)
def test_a_nul_is_refused(use, open_client):
    client = open_client("http://127.0.0.1:9")
    with pytest.raises((ValueError, llmpool.LocalProtocolError, llmpool.InvalidURL)):
        use(client)
    assert client.pool.stats().submitted == 0


def test_redirects_end(open_client):
    server_of = Redirects()
    with servers.RawServer(server_of) as server:
        client = open_client(server.url)
        with pytest.raises(llmpool.TooManyRedirects):
            client.get("/loop", follow_redirects=True)
        assert len(server_of.seen) == 21


@pytest.mark.parametrize(
    "location, kind, said",
    [
        ("http://[::1", llmpool.RemoteProtocolError, "cannot be parsed"),
        ("http://h:99999/", llmpool.RemoteProtocolError, "port"),
        ("http://user:secret@h/", llmpool.RemoteProtocolError, "user name"),
        ("http://ex ample/", llmpool.RemoteProtocolError, "url:"),  # the library's words
        ("//%zz/", llmpool.RemoteProtocolError, "url:"),
        ("ftp://h/", llmpool.UnsupportedProtocol, "'ftp'"),
    ],
)
def test_a_redirect_that_cannot_be_followed_is_the_servers_error(location, kind, said, open_client):
    """The caller wrote no such URL: as every error of an answer it is an HTTPError."""

    def handle(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection, b"", f"location: {location}\r\n".encode(), b"302 Found")

    async def call(client, use_stream):
        if not use_stream:
            return await client.get("/a", follow_redirects=True)
        async with client.stream("GET", "/a", follow_redirects=True) as response:
            return response

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        other = llmpool.AsyncClient(base_url=server.url, pool=client.pool)
        for use in (
            lambda: client.get("/a", follow_redirects=True),
            lambda: client.stream("GET", "/a", follow_redirects=True).__enter__(),
            lambda: asyncio.run(call(other, False)),
            lambda: asyncio.run(call(other, True)),
        ):
            with pytest.raises(kind, match=f"redirected to where.*{said}") as caught:
                use()
            assert caught.value.request.url == f"{server.url}/a"
            assert "secret" not in str(caught.value)
        assert client.pool.stats().active == 0


def test_a_response_that_is_kept_keeps_nothing_of_its_upload(open_client, nginx):
    class Source:
        def __iter__(self):
            return iter((b"a", b"b"))

    async def on_a_loop(client, source):
        return await client.post(nginx.url + "/small", content=source)

    client = open_client(nginx.url)
    sources = [Source(), Source()]
    kept = [client.post("/small", content=sources[0])]
    asynchronous = llmpool.AsyncClient(pool=client.pool)
    kept.append(asyncio.run(on_a_loop(asynchronous, sources[1])))
    left = [weakref.ref(source) for source in sources]
    del sources
    gc.collect()
    assert [each() for each in left] == [None, None] and len(kept) == 2


def test_a_stream_that_is_refused_leaves_nothing_in_its_lane(open_client, nginx):
    client = open_client(nginx.url)
    refused = client.stream("POST", "http://127.0.0.1:0/", content=b"x" * 100)
    with pytest.raises(llmpool.InvalidURL), refused:
        pass
    assert all(not each._waiting for each in lane._free)


def test_methods_that_are_no_text(open_client, nginx):
    for method in ([], b"GET", None):
        with pytest.raises(TypeError, match="method is a str, not"):
            open_client(nginx.url).request(method, "/small")
