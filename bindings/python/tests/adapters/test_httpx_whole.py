"""Whole answers are read past httpx's generators: nothing of the response tells it."""

import asyncio
import copy
import pickle
import threading

import both
import pytest
import servers

LARGE = bytes(range(256)) * 12_000  # several windows of a stream


def handle(connection, number):
    rest = b""
    while True:
        head, _, rest = servers.read_request(connection, rest)
        if head.startswith(b"GET /large "):
            servers.answer(connection, LARGE)
        elif head.startswith(b"GET /cut "):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
            return
        else:
            line = head.split(b"\r\n")[0]
            servers.answer(connection, line, b"X-A: caf\xe9\r\n" if b"/beyond" in line else b"")


@pytest.fixture(scope="module")
def serving():
    with servers.RawServer(handle) as server:
        yield server


def within(caller, url, act, asynchronous):
    """What act() makes of a streamed response, or the coroutine of asynchronous()."""
    if caller.kind == "sync":
        with caller.client_class(trust_env=False) as client, client.stream("GET", url) as response:
            return act(response)

    async def run():
        async with (
            caller.client_class(trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            return await asynchronous(response)

    return caller.run(run)


@pytest.mark.parametrize("path", ["/small", "/beyond", "/large"])
def test_a_response_is_as_httpx_has_it(caller, serving, path):
    def state(client_class):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(caller.ours, "Client", client_class)
            patch.setattr(caller.ours, "AsyncClient", client_class)
            response = caller.request("GET", serving.url + path, client={"http2": False})
        assert response.elapsed.total_seconds() > 0
        assert response.headers.encoding == encoding
        known = ("stream", "extensions", "_request", "_decoder", "_elapsed", "headers")
        return {name: value for name, value in vars(response).items() if name not in known}, (
            list(response.headers.raw), response.num_bytes_downloaded, response.http_version,
            response.reason_phrase, response.content, repr(response),
        )  # fmt: skip

    encoding = "iso-8859-1" if path == "/beyond" else "ascii"
    theirs = caller.httpx.Client if caller.kind == "sync" else caller.httpx.AsyncClient
    assert state(caller.client_class) == state(theirs)


def test_it_is_read_once_and_pickled_as_httpx_s_own(caller, serving):
    response = caller.request("GET", serving.url + "/small")
    assert isinstance(response, caller.httpx.Response)
    assert response.is_closed and response.is_stream_consumed
    if caller.kind == "sync":
        assert response.read() == b"".join(response.iter_bytes()) == response.content
        with pytest.raises(caller.httpx.StreamConsumed):
            next(response.iter_raw())
    for again in (
        *(pickle.loads(pickle.dumps(response, protocol)) for protocol in range(6)),
        copy.copy(response),
    ):
        assert type(again) is caller.httpx.Response
        assert (again.content, again.headers) == (response.content, response.headers)
        assert again.is_closed and again.request.url == response.request.url


def test_streamed_responses_are_read_on_demand(caller, serving):
    def act(response):
        assert not hasattr(response, "_content")
        assert response.read() == response.read() == LARGE

    async def asynchronous(response):
        assert await response.aread() == await response.aread() == LARGE

    within(caller, serving.url + "/large", act, asynchronous)


def test_what_was_begun_or_closed_is_not_read(caller, serving):
    def begun(response):
        assert next(response.iter_raw())
        with pytest.raises(caller.httpx.StreamConsumed):
            response.read()

    async def abegun(response):
        assert await response.aiter_raw().__anext__()
        with pytest.raises(caller.httpx.StreamConsumed):
            await response.aread()

    def closed(response):
        response.close()
        with pytest.raises(caller.httpx.StreamClosed):
            response.read()

    async def aclosed(response):
        await response.aclose()
        with pytest.raises(caller.httpx.StreamClosed):
            await response.aread()

    within(caller, serving.url + "/large", begun, abegun)
    within(caller, serving.url + "/large", closed, aclosed)


def test_an_answer_that_is_cut_short(caller, serving):
    with pytest.raises(caller.httpx.RemoteProtocolError) as raised:
        caller.request("GET", serving.url + "/cut")
    assert raised.value.request.url == serving.url + "/cut"

    def act(response):
        with pytest.raises(caller.httpx.RemoteProtocolError):
            response.read()
        assert response.is_closed and not hasattr(response, "_content")

    async def asynchronous(response):
        with pytest.raises(caller.httpx.RemoteProtocolError):
            await response.aread()
        assert response.is_closed and not hasattr(response, "_content")

    within(caller, serving.url + "/cut", act, asynchronous)


def test_a_task_that_is_cancelled_while_it_reads(serving, name):
    caller = both.Caller(name, "async")
    held = threading.Event()

    def half(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
        held.wait(10)

    async def act(url):
        async with caller.client_class(trust_env=False) as client:
            async with client.stream("GET", url) as response:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(response.aread(), 0.2)
                assert response.is_closed
            assert len(client._transport._carrier.group) == 0

    with servers.RawServer(half) as server:
        try:
            caller.run(act, server.url)
        finally:
            held.set()


@pytest.mark.parametrize("where", ["bytes", "raw"])
@pytest.mark.parametrize("place", ["class", "instance"])
def test_who_patches_the_reading_is_called(caller, serving, monkeypatch, where, place):
    seen = []
    name = f"iter_{where}" if caller.kind == "sync" else f"aiter_{where}"
    own = getattr(caller.httpx.Response, name)

    def patched(self, *arguments):
        seen.append(self)
        return own(self, *arguments)

    def hook(response):
        monkeypatch.setattr(response, name, lambda *a: patched(response, *a), raising=False)

    async def ahook(response):
        hook(response)

    client = {}
    if place == "class":
        monkeypatch.setattr(caller.httpx.Response, name, patched)
    else:
        client = {"event_hooks": {"response": [hook if caller.kind == "sync" else ahook]}}
    response = caller.request("GET", serving.url + "/small", client=client)
    assert response.content.startswith(b"GET /small ") and len(seen) == 1
    monkeypatch.undo()
    seen.clear()
    assert caller.request("GET", serving.url + "/small").content and not seen


def test_who_puts_a_stream_around_ours_sees_the_bytes(caller, serving):
    seen = []

    class Sync(caller.httpx.SyncByteStream):
        def __init__(self, stream):
            self.stream = stream

        def __iter__(self):
            for piece in self.stream:
                seen.append(piece)
                yield piece.upper()

        def close(self):
            self.stream.close()

    class Async(caller.httpx.AsyncByteStream):
        def __init__(self, stream):
            self.stream = stream

        async def __aiter__(self):
            async for piece in self.stream:
                seen.append(piece)
                yield piece.upper()

        async def aclose(self):
            await self.stream.aclose()

    def hook(response):
        response.stream = Sync(response.stream)

    async def ahook(response):
        response.stream = Async(response.stream)

    hooks = {"response": [hook if caller.kind == "sync" else ahook]}
    response = caller.request("GET", serving.url + "/small", client={"event_hooks": hooks})
    assert b"".join(seen).upper() == response.content and b"GET /SMALL " in response.content


def test_urls_are_those_of_httpx(caller, serving):
    client = caller.client_class(base_url="http://example.test/base", params={"a": "b"})
    plain = getattr(caller.httpx, client_name(caller))(
        base_url="http://example.test/base", params={"a": "b"}
    )
    for url in (
        "x",
        "/x?c=d",
        "http://other.test/\xe4 b",
        "https://example.test:443/",
        "",
        "//h/p",
    ):
        for _ in range(2):
            ours, theirs = client.build_request("GET", url), plain.build_request("GET", url)
            assert ours.url == theirs.url and str(ours.url) == str(theirs.url)
            assert ours.headers["host"] == theirs.headers["host"]
    for wrong in ("http://a:b/", "https://exam\nple.test/"):
        for _ in range(2):
            with pytest.raises(caller.httpx.InvalidURL):
                client.build_request("GET", wrong)
    with pytest.raises(TypeError):
        client.build_request("GET", b"http://example.test/")
    for number in range(1000):
        client.build_request("GET", f"http://example.test/{number}")
    client.build_request("GET", "http://example.test/" + "x" * 2000)
    urls = caller.ours._KIT._urls
    assert len(urls) <= 256 and max(map(len, urls)) <= 1024


def client_name(caller):
    return "Client" if caller.kind == "sync" else "AsyncClient"
