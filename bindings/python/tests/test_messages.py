"""Messages of errors: each says what is wrong and what to write instead."""

import asyncio
import json
import pickle

import pytest
import servers

import llmpool

ERROR = b'{"error": {"message": "The model `x` does not exist", "type": "invalid_request_error"}}'


def says(function, kind=Exception):
    with pytest.raises(kind) as caught:
        function()
    return str(caught.value)


URL = "http://127.0.0.1:9/"
POOL = "llmpool.configure"


@pytest.mark.parametrize(
    "function, kind, parts",
    [
        (lambda: llmpool.Client(timeout="5"), TypeError,
         ["timeout is a number of seconds, None or a llmpool.Timeout, not str"]),
        (lambda: llmpool.get(URL, timeout=[1, 2]), TypeError, ["timeout is", "not list"]),
        (lambda: llmpool.Client(timeout=-1), ValueError, ["timeout is", "-1"]),
        (lambda: llmpool.Timeout((1, "2")), TypeError, ["read is", "not str"]),
        (lambda: llmpool.Client(base_url="api.openai.com/v1"), llmpool.UnsupportedProtocol,
         ["base_url 'api.openai.com/v1'", "'https://api.openai.com/v1'"]),
        (lambda: llmpool.Client(base_url="localhost:8000"), llmpool.UnsupportedProtocol,
         ["base_url", "'https://localhost:8000'", "http://"]),
        (lambda: llmpool.Client(base_url="/v1"), llmpool.UnsupportedProtocol, ["'/v1' is a path"]),
        (lambda: llmpool.get("/models"), llmpool.UnsupportedProtocol,
         ["'/models' has no 'http://' or 'https://'", "no base_url"]),
        (lambda: llmpool.Client(headers={"Authorization": None}), TypeError,
         ["'Authorization' is None", "environment variable"]),
        (lambda: llmpool.get(URL, headers={"x-n": 5}), TypeError, ["'x-n'", "str or bytes", "int"]),
        (lambda: llmpool.get(URL, headers={5: "x"}), TypeError, ["header's name", "not int"]),
        (lambda: llmpool.Client(cert="x"), TypeError,
         ["cert is called client_cert here", f"{POOL}(client_cert=...)"]),
        (lambda: llmpool.Client(verify=False), TypeError, [f"{POOL}(verify=...)", "Pool(verify"]),
        (lambda: llmpool.Client(limits=1), TypeError, [f"{POOL}(limits=...)"]),
        (lambda: llmpool.Client(proxies={}), TypeError, [f"{POOL}(proxy=...)"]),
        (lambda: llmpool.Client(auth=("u", "p")), TypeError, ["'auth'", "authorization", "Basic "]),
        (lambda: llmpool.Client(cookies={}), TypeError, ["'cookies'", "headers={'cookie'"]),
        (lambda: llmpool.Client(event_hooks={}), TypeError, ["'event_hooks'", "logger"]),
        (lambda: llmpool.Client(trust_env=False), TypeError, ["'trust_env'", "proxy=''"]),
        (lambda: llmpool.Client(transport=1), TypeError, ["'transport'", "llmpool.mock"]),
        (lambda: llmpool.Client(uds="/x"), TypeError, ["'uds'", "socat"]),
        (lambda: llmpool.Client(nonsense=1), TypeError, ["Client() has no argument 'nonsense'"]),
        (lambda: llmpool.AsyncClient(auth=1), TypeError, ["AsyncClient() has no argument 'auth'"]),
        (lambda: llmpool.get(URL, stream=True), TypeError, ["'stream'", "with client.stream("]),
        (lambda: llmpool.get(URL, allow_redirects=False), TypeError, ["follow_redirects="]),
        (lambda: llmpool.Client().post(URL, auth=1), TypeError, ["'auth'", "authorization"]),
        (lambda: llmpool.Client().post(URL, cookies=1), TypeError, ["'cookies'", "'cookie'"]),
        (lambda: llmpool.Client().post(URL, verify=False), TypeError, [f"{POOL}(verify=...)"]),
        (lambda: llmpool.stream("GET", URL, cert="x"), TypeError, [f"{POOL}(client_cert=...)"]),
        (lambda: llmpool.get(URL, nonsense=1), TypeError, ["no argument 'nonsense'"]),
        (lambda: asyncio.run(llmpool.AsyncClient().get(URL, stream=True)), TypeError, ["stream("]),
        (lambda: llmpool.AsyncClient().stream("GET", URL, auth=1), TypeError, ["authorization"]),
        (lambda: llmpool.stream("GET", URL).iter_lines(), AttributeError,
         ["'iter_lines'", "with client.stream(...) as response: response.iter_lines"]),
        (lambda: llmpool.AsyncClient().stream("GET", URL).aiter_sse, AttributeError,
         ["async with client.stream(...) as response: response.aiter_sse"]),
        (lambda: llmpool.Pool(client_cert=("a", "b", "secret")), ValueError,
         ["passphrase", "openssl pkey"]),
        (lambda: llmpool.Client().request(5, URL), TypeError, ["method is a str, not int"]),
        (lambda: llmpool.Event(data="[DONE]").json(), json.JSONDecodeError, ["begins '[DONE]'"]),
    ],
)  # fmt: skip
def test_says(function, kind, parts):
    message = says(function, kind)
    assert [part for part in parts if part not in message] == [], message
    assert "secret" not in message


def test_a_stream_that_was_not_entered_is_an_object_like_any():
    import copy

    stream = llmpool.stream("GET", URL)
    assert not hasattr(stream, "iter_lines") and "Stream" in repr(stream)
    with pytest.raises(AttributeError):
        stream.__wrapped__  # noqa: B018
    copy.copy(stream)


@pytest.mark.parametrize(
    "body, kind, message",
    [
        (ERROR, "application/json", ": The model `x` does not exist (x-request-id: req_1)"),
        (b'[{"error": {"message": "google"}}]', "application/json", ": google ("),
        (b'{"detail": [{"loc": ["a"], "msg": "field required"}]}', "application/json",
         ": field required ("),
        (b'{"error": "plain", "x": 1}', "application/json", ": plain ("),
        (b'{"error": {"code": 5}}', "application/json", ': {"error": {"code": 5}} ('),
        (b'{"message": "cut', "application/json", ': {"message": "cut ('),
        (b"no such page\n", "text/plain", ": no such page ("),
        (b"<html><title>502 Bad\n Gateway</title></html>", "text/html", ": 502 Bad Gateway ("),
        (b"<html>x</html>", "text/html", "' (x-request-id"),
        (b"\0\1\2", "application/octet-stream", "' (x-request-id"),
        (b"", "text/plain", "' (x-request-id"),
        (b"a\x1b[31mb\r\nc" + b"x" * 5000, "text/plain", ": a [31mb cxxx"),
    ],
)  # fmt: skip
def test_the_status_error_has_what_the_server_said(body, kind, message):
    headers = {"content-type": kind, "x-request-id": "req_1"}
    request = llmpool.Request("GET", "https://h/v1/x?model=a")
    answer = llmpool.Response(404, content=body, headers=headers, request=request)
    text = says(answer.raise_for_status, llmpool.HTTPStatusError)
    begin = "Client error '404 Not Found' for url 'https://h/v1/x?model=[secure]'"
    assert text.startswith(begin)
    assert message.lstrip("'") in text[len(begin) :] and "\n" not in text and len(text) < 700
    assert "\x1b" not in text


def test_the_status_error_on_streams(open_client):
    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            kind = head.split(b" ")[1][1:].replace(b"-", b"/", 1)
            line = b"content-type: %s\r\nrequest-id: req_2\r\n" % kind
            servers.answer(connection, ERROR, line, b"404 Not Found")

    async def asynchronously(url, path):
        async with llmpool.AsyncClient(base_url=url).stream("GET", path) as response:
            with pytest.raises(llmpool.HTTPStatusError) as caught:
                response.raise_for_status()
            assert json.loads(await response.aread()) == json.loads(ERROR)
            return str(caught.value)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        for path in ("/application-json", "/text-plain"):
            with client.stream("GET", path) as response:
                message = says(response.raise_for_status, llmpool.HTTPStatusError)
                assert response.read() == ERROR  # it is all there still
                assert says(response.raise_for_status) == message
            assert message.endswith(": The model `x` does not exist (request-id: req_2)")
            assert asyncio.run(asynchronously(server.url, path)) == message


def breaks_off(connection, _):
    """Answers with an id, and closes before the body is complete."""
    servers.read_request(connection)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nx-request-id: req_3\r\ncontent-type: text/event-stream\r\n"
        b"content-length: 100\r\n\r\ndata: 1\n\n"
    )


def test_the_servers_id_of_a_request(open_client):
    def handle(connection, number):
        servers.read_request(connection)
        servers.answer(connection, ERROR, b"request-id: req_2\r\n", b"404 Not Found")

    with servers.RawServer(handle) as server:
        answer = open_client(server.url).get("/")
    assert answer.request_id == "req_2"
    with pytest.raises(llmpool.HTTPStatusError) as caught:
        answer.raise_for_status()
    assert caught.value.request_id == "req_2"
    assert llmpool.Response(200).request_id == ""
    both = {"cf-ray": "abc-FRA", "x-request-id": "req_1"}
    assert llmpool.Response(200, headers=both).request_id == "req_1"


def test_a_stream_that_breaks_off_has_the_servers_id(open_client):
    async def asynchronously(url):
        async with llmpool.AsyncClient(base_url=url).stream("GET", "/") as response:
            with pytest.raises(llmpool.ReadError) as caught:
                await response.aread()
            return caught.value

    with servers.RawServer(breaks_off) as server:
        with (
            open_client(server.url).stream("GET", "/") as response,
            pytest.raises(llmpool.ReadError) as caught,
        ):
            list(response.iter_sse())
        for error in (caught.value, asyncio.run(asynchronously(server.url))):
            assert error.request_id == "req_3" and str(error).endswith(" (x-request-id: req_3)")
            again = pickle.loads(pickle.dumps(error))
            assert again.request_id == "req_3" and str(again) == str(error)


def test_a_body_that_cannot_be_decoded_has_the_servers_id(open_client):
    def handle(connection, number):
        servers.read_request(connection)
        servers.answer(connection, b"none", b"content-encoding: gzip\r\nrequest-id: req_4\r\n")

    with servers.RawServer(handle) as server:
        answer = open_client(server.url).get("/")
        with pytest.raises(llmpool.DecodingError) as caught:
            answer.content  # noqa: B018
        assert caught.value.request_id == "req_4"
        with open_client(server.url).stream("GET", "/") as response:
            with pytest.raises(llmpool.DecodingError) as caught:
                response.read()
            assert caught.value.request_id == "req_4"


def test_httpx_is_told_the_servers_id():
    httpx2 = pytest.importorskip("httpx2")
    import llmpool.httpx2

    with (
        servers.RawServer(breaks_off) as server,
        llmpool.httpx2.Client() as client,
        pytest.raises(httpx2.TransportError, match=r"\(x-request-id: req_3\)"),
        client.stream("GET", server.url) as response,
    ):
        assert response.extensions["llmpool"].request_id == "req_3"
        response.read()


def test_an_error_that_comes_slowly_is_not_waited_for(open_client):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\nbegin")
        servers.read_head(connection)  # until it is closed

    async def asynchronously(url):
        async with llmpool.AsyncClient(base_url=url).stream("GET", "/") as response:
            return says(response.raise_for_status, llmpool.HTTPStatusError)

    with servers.RawServer(handle) as server:
        with open_client(server.url).stream("GET", "/") as response:
            assert says(response.raise_for_status).endswith(": begin")
        assert asyncio.run(asynchronously(server.url)).endswith(": begin")


@pytest.mark.parametrize("loads", [None, lambda text: int("no number")])
def test_json_of_what_is_none(loads):
    html = llmpool.Response(
        502, html="<html><body>Bad\n<b>Gateway</b></body></html>", headers={"cf-ray": "abc-FRA"}
    )
    llmpool.use_json(loads=loads)
    try:
        text = says(html.json, json.JSONDecodeError)
        assert (
            "the answer is not JSON (status 502, content-type 'text/html; charset=utf-8', it "
            in text
        )
        assert "begins '<html><body>Bad <b>Gateway</b></body></html>') (cf-ray: abc-FRA): " in text
        assert "the answer has no body (status 204, no type)" in says(llmpool.Response(204).json)
        long = llmpool.Response(200, text="x" * 1_000_000)
        assert len(says(long.json)) < 400
    finally:
        llmpool.use_json()
