"""What is no event stream: its bytes are there, and its events are an error, not none."""

import asyncio
import gzip
import pickle

import pytest
import servers

import llmpool

JSON = b'{"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}}'
STREAM = "text/event-stream; charset=utf-8"
EVENT = b"data: one\n\n"


def serving(status, kind, body, *lines):
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines]
    if kind:
        head.append(f"content-type: {kind}")

    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)

    return servers.RawServer(handle)


def events(way, url, pool, sse=True, then=None):
    if way == "blocking":
        client = llmpool.Client(pool=pool, timeout=10)
        with client.stream("POST", url, json={}, sse=sse) as response:
            return list(response.iter_sse()) if then is None else then(response)

    async def main():
        client = llmpool.AsyncClient(pool=pool, timeout=10)
        async with client.stream("POST", url, json={}, sse=sse) as response:
            return [event async for event in response.aiter_sse()]

    return asyncio.run(main())


WAYS = pytest.mark.parametrize("way", ["blocking", "asyncio"])
SSE = pytest.mark.parametrize("sse", [True, False])


@WAYS
@SSE
@pytest.mark.parametrize("kind", ["application/json", STREAM, None])
@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "500 Oops", "302 Found"])
def test_an_error_is_raised(status, kind, sse, way, open_pool):
    """A wrong key once printed nothing and exited with 0."""
    with serving(status, kind, JSON) as server:
        with pytest.raises(llmpool.HTTPStatusError, match=status) as caught:
            events(way, server.url, open_pool(), sse)
        error = caught.value
        assert error.response.status_code == int(status[:3])
        assert error.response.json()["error"]["type"] == "invalid_request_error"
        assert pickle.loads(pickle.dumps(error)).response.content == JSON
        if status != "302 Found":
            assert "Incorrect API key provided" in str(error)


@WAYS
@SSE
@pytest.mark.parametrize(
    "status, kind, body, shown",
    [
        ("200 OK", "application/json", JSON, ["status 200", "'application/json'", "Incorrect API"]),
        ("200 OK", "text/html", b"<html>Sign in", ["status 200", "'text/html'", "<html>Sign in"]),
        ("200 OK", None, b"hello", ["status 200", "no type", "it begins 'hello'"]),
        ("200 OK", "text/plain", EVENT, ["'text/plain'", "data: one"]),
        ("200 OK", "text/event-streams", EVENT, ["text/event-streams", "data: one"]),
        ("200 OK", "application/json", b"", ["status 200", "'application/json'"]),
        ("201 Created", STREAM, EVENT, ["status 201", "'text/event-stream; charset=utf-8'"]),
    ],
)
def test_a_success_that_is_something_else(status, kind, body, shown, sse, way, open_pool):
    refused = pytest.raises(llmpool.NotEventStream, match="is no event stream")
    with serving(status, kind, body, "x-request-id: r-7") as server, refused as caught:
        events(way, server.url, open_pool(), sse)
    message = str(caught.value)
    for part in (*shown, "r-7"):
        assert part in message, message
    assert ('"stream": true?' in message) == (kind == "application/json")
    assert caught.value.request.method == "POST"


@WAYS
@pytest.mark.parametrize("kind", ["text/event-stream", "TEXT/Event-Stream;a=b", STREAM])
def test_what_is_one(kind, way, open_pool):
    for sse in (True, False):
        with serving("200 OK", kind, EVENT) as server:
            (event,) = events(way, server.url, open_pool(), sse)
            assert event.data == "one"
    with serving("200 OK", kind, gzip.compress(EVENT), "content-encoding: gzip") as server:
        assert [event.data for event in events(way, server.url, open_pool())] == ["one"]


@WAYS
def test_the_beginning_is_decoded_and_has_no_key(way, open_pool):
    body = gzip.compress(b'{"error": "bad key sk-abcdefghijklmnop1234"}')
    refused = pytest.raises(llmpool.NotEventStream)
    coding = "content-encoding: gzip"
    with serving("200 OK", "application/json", body, coding) as server, refused as caught:
        events(way, server.url, open_pool())
    assert "bad key [secure]" in str(caught.value)


@WAYS
def test_a_body_that_does_not_come_is_not_waited_for(way, open_pool):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 99\r\n\r\n<html>"
        )
        connection.recv(1)  # until the client leaves

    refused = pytest.raises(llmpool.NotEventStream, match="<html>")
    with servers.RawServer(handle) as server, refused:
        events(way, server.url, open_pool())


def test_the_bytes_are_there(open_pool):
    """Before and after: asking for events takes nothing away."""

    def then(response):
        with pytest.raises(llmpool.NotEventStream):
            next(response.iter_sse())
        return response.read()

    with serving("200 OK", "application/json", JSON) as server:
        assert events("blocking", server.url, open_pool(), then=then) == JSON
        assert events("blocking", server.url, open_pool(), then=lambda r: r.read()) == JSON
        with pytest.raises(llmpool.StreamConsumed):
            events("blocking", server.url, open_pool(), then=lambda r: _twice(r))


def _twice(response):
    list(response.iter_bytes())
    next(response.iter_sse())


README = """
import llmpool, sys
client = llmpool.Client(base_url=sys.argv[1], headers={"authorization": "Bearer wrong"},
                        pool=llmpool.Pool(verify=False))
with client.stream("POST", "/v1/chat/completions", json={"model": "m", "stream": True,
                   "messages": [{"role": "user", "content": "hi"}]}) as response:
    for event in response.iter_sse(stop="[DONE]"):
        print(event.json()["choices"][0]["delta"].get("content", ""), end="")
"""


def test_the_readmes_stream_with_a_wrong_key(mock, run_python):
    done = run_python(README, mock.url)
    assert done.returncode == 1 and not done.stdout
    assert "llmpool.HTTPStatusError: Client error '401 Unauthorized'" in done.stderr, done.stderr
