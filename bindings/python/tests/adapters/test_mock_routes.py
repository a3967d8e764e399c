"""llmpool.mock.Routes: answers in the place of the transports, and nothing reaches the network."""

import asyncio
import json
import re
import threading

import both
import pytest
import servers

import llmpool
from llmpool.mock import Routes, UnmatchedRequest

pytest.importorskip("httpx2")
URL = "https://api.example/v1/chat"
BROKEN = ["data: 1\n\n", b"data: 2\n\n"]


@pytest.fixture(params=both.NAMES)
def module(request):
    return both.Caller(request.param, "sync").httpx


@pytest.fixture
def server():
    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection, b"the network")

    with servers.RawServer(handle) as raw:
        yield raw


@pytest.fixture(params=["llmpool", "own", "installed"])
def reached(request, caller, install):
    """A caller whose clients are ours, httpx's own, and httpx's own under install()."""
    if request.param == "installed":
        install()
    if request.param != "llmpool":
        caller.ours = caller.httpx
    return caller


def failed(act, kind):
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


# ---- whose requests


def test_whole_answers(reached):
    with Routes() as routes:
        route = routes.post(URL).respond(201, json={"a": 1}, headers={"x-request-id": "7"})
        answer = reached.request("POST", URL, json={"b": 2}, headers={"authorization": "Bearer k"})
    assert isinstance(answer, reached.httpx.Response)
    assert (answer.status_code, answer.json(), answer.headers["x-request-id"]) == (
        201,
        {"a": 1},
        "7",
    )
    assert (
        answer.headers["content-type"] == "application/json" and answer.http_version == "HTTP/1.1"
    )
    assert route.called and route.call_count == 1 and routes.calls.last is route.calls[0]
    call = route.calls.last
    assert json.loads(call.request.content) == {"b": 2} and call.response is answer
    assert call.request.headers["authorization"] == "Bearer k"
    assert "Bearer" not in repr(call) and "201" in repr(call)


def test_streams(reached):
    events = ["one\ntwo", {"n": 3}, llmpool.Event("ping", "4"), b": comment\n\n"]
    with Routes() as routes:
        routes.get(URL).respond(sse=events, extensions={"http_version": b"HTTP/2"})
        for _ in range(2):
            response, pieces, error = reached.stream("GET", URL)
            assert error is None and response.headers["content-type"] == "text/event-stream"
            assert response.http_version == "HTTP/2"
            assert pieces == [
                b"data: one\ndata: two\n\n", b'data: {"n": 3}\n\n',
                b"event: ping\ndata: 4\n\n", b": comment\n\n",
            ]  # fmt: skip


def test_a_stream_that_breaks(reached):
    error = reached.httpx.ReadError
    with Routes() as routes:
        routes.get(URL).respond(stream=[*BROKEN, error]).respond(stream=[*BROKEN, error("cut")])
        for text in ("mocked", "cut", "cut"):
            _, pieces, raised = reached.stream("GET", URL)
            assert pieces == [b"data: 1\n\n", b"data: 2\n\n"]
            assert type(raised) is error and str(raised) == text
            assert raised.request.url == URL


def test_errors(reached):
    with Routes() as routes:
        routes.get(URL).fail(reached.httpx.ConnectTimeout)
        with pytest.raises(reached.httpx.ConnectTimeout) as caught:
            reached.request("GET", URL)
    assert caught.value.request.url == URL


def test_what_matches_nothing_is_not_sent(reached, server):
    with Routes() as routes:
        text = failed(lambda: reached.request("GET", server.url + "/?key=hush"), UnmatchedRequest)
        assert server.url in text and "hush" not in text
        assert [request.method for request in routes.unmatched] == ["GET"]
        routes.unmatched.clear()
    assert server.connections == 0
    assert reached.request("GET", server.url).content == b"the network"


def test_what_caught_it_hides_nothing(caller):
    with pytest.raises(UnmatchedRequest, match=URL), Routes():
        failed(lambda: caller.request("GET", URL), UnmatchedRequest)


def test_another_error_is_not_hidden_by_ours(caller):
    with pytest.raises(KeyError), Routes() as routes:
        routes.get(URL)
        failed(lambda: caller.request("GET", URL + "/other"), UnmatchedRequest)
        raise KeyError


def test_routes_that_were_not_called():
    with pytest.raises(AssertionError, match=r"never called: <Route GET /a>$"), Routes() as routes:
        routes.get("/a")
    with Routes(assert_all_called=False) as routes:
        assert not routes.get("/a").called


def test_pass_through(reached, server):
    with Routes() as routes:
        through = routes.get(server.url + "/").pass_through()
        routes.get(URL)
        assert reached.request("GET", server.url).content == b"the network"
        assert reached.request("GET", URL).content == b""
        assert through.calls.last.response.status_code == 200
    assert server.connections == 1


def test_other_transports(caller):
    base = "BaseTransport" if caller.kind == "sync" else "AsyncBaseTransport"
    mine = type("Mine", (getattr(caller.httpx, base),), {})
    with Routes(transports=[mine]) as routes:
        routes.get(URL).respond(299)
        assert caller.request("GET", URL, client={"transport": mine()}).status_code == 299
    assert not set(vars(mine)) & {"handle_request", "handle_async_request"}
    with pytest.raises(TypeError, match="transports: expected classes of httpx2"):
        Routes(transports=[int]).__enter__()


# ---- which route


def matching(caller, *, body=b"", url=URL, method="POST", **headers):
    def act(**route):
        with Routes(assert_all_called=False) as routes:
            routes.route(**route)
            try:
                caller.request(method, url, content=body, headers=headers)
            except UnmatchedRequest as error:
                routes.unmatched.clear()
                return str(error).rpartition(": ")[2]
            return ""

    return act


def test_urls(caller):
    of = matching(caller, url="https://API.example:443/v1/chat?b=2&a=1")
    for url in (
        None, URL, "/v1/chat", "/v1/chat?a=1&b=2", URL + "?b=2&a=1",
        "https://api.example:443/v1/chat", re.compile(r"https://.*\.example/"), re.compile(".*a=1"),
    ):  # fmt: skip
        assert of(url=url) == "", url
    for url in (
        URL + "/", "/v1/chat?a=1", "/v1/chat?a=1&b=3", "http://api.example/v1/chat", "/v1",
        "/v1/Chat", "https://api.example:444/v1/chat", "https://other.example/v1/chat",
        re.compile("chat"),
    ):  # fmt: skip
        assert of(url=url) == "url", url
    with pytest.raises(ValueError, match="url: expected"):
        Routes().get("api.example/v1")


def test_a_base_url(caller):
    with Routes("https://api.example/v1/") as routes:
        route = routes.get("/models").respond(json={})
        assert repr(route) == "<Route GET https://api.example/v1/models>"
        caller.request("GET", "https://api.example/v1/models")
        failed(lambda: caller.request("GET", "https://other/v1/models"), UnmatchedRequest)
        routes.unmatched.clear()


def test_methods_headers_and_bodies(caller):
    of = matching(caller, body=b'{"model": "m", "n": 1}', **{"X-Key": "abc"})
    assert (
        of(method="post") == of(headers={"x-key": "abc"}) == of(json={"n": 1, "model": "m"}) == ""
    )
    assert of(headers={"x-key": re.compile("b")}) == of(content='{"model": "m", "n": 1}') == ""
    assert of(content=re.compile(b'"m"')) == of(match=lambda request: b"1" in request.content) == ""
    assert of(method="GET") == "method"
    assert of(headers={"x-key": "ab"}) == "header x-key"
    assert of(headers={"x-none": re.compile("")}) == "header x-none"
    assert of(content=b"{}") == of(content=re.compile(b"^n")) == "content"
    assert of(json={"n": 1}) == "json"
    assert matching(caller, body=b"{")(json={"n": 1}) == "json"
    assert of(match=lambda request: False) == "match"


def test_generators_are_read_before_they_are_matched(caller):
    with Routes() as routes:
        route = routes.post(URL, content=b"0123")
        caller.request("POST", URL, content=caller.body([b"01", b"23"]))
    assert route.calls.last.request.content == b"0123"


def test_the_first_of_two_routes(caller):
    with Routes(assert_all_called=False) as routes:
        first, second = routes.get(URL).respond(201), routes.route().respond(202)
        assert caller.request("GET", URL).status_code == 201
        assert caller.request("DELETE", URL).status_code == 202
    assert (first.call_count, second.call_count, len(routes.calls)) == (1, 1, 2)


# ---- which answer


def test_one_answer_after_another(caller):
    error = caller.httpx.ReadTimeout
    with Routes() as routes:
        routes.get(URL).respond(503).fail(error).respond(content="there")
        assert caller.request("GET", URL).status_code == 503
        failed(lambda: caller.request("GET", URL), error)
        assert [caller.request("GET", URL).text for _ in range(2)] == ["there"] * 2
    assert [call.response and call.response.status_code for call in routes.calls] == [
        503, None, 200, 200,
    ]  # fmt: skip


def test_answers_of_a_function(caller):
    def double(request):
        return caller.httpx.Response(200, json=2 * json.loads(request.content))

    async def later(request):
        await asyncio.sleep(0)
        return double(request)

    with Routes() as routes:
        routes.post(URL).reply(double).reply(later).reply(lambda request: 5)
        assert caller.request("POST", URL, json=21).json() == 42
        if caller.kind == "async":
            assert caller.request("POST", URL, json=4).json() == 8
        else:
            assert "coroutine" in failed(lambda: caller.request("POST", URL, json=4), TypeError)
        assert "not a builtins.int" in failed(lambda: caller.request("POST", URL), TypeError)


def test_bodies_are_decoded_and_redirects_followed(caller):
    import gzip

    headers = {"content-encoding": "gzip"}
    with Routes() as routes:
        routes.get("/from").respond(302, headers={"location": URL, "set-cookie": "a=b"})
        last = routes.get(URL).respond(content=gzip.compress(b"plain"), headers=headers)
        answer = caller.request("GET", "https://api.example/from", follow_redirects=True)
        assert answer.text == "plain" and last.calls.last.request.headers["cookie"] == "a=b"
        _, pieces, _ = caller.stream("GET", URL)
        assert gzip.decompress(b"".join(pieces)) == b"plain"


def test_iterators(caller):
    async def pieces():
        yield b"0"
        yield "1"

    with Routes() as routes:
        routes.get(URL).respond(stream=(piece for piece in "01")).respond(stream=pieces())
        assert caller.request("GET", URL).content == b"01"
        if caller.kind == "async":
            assert caller.request("GET", URL).content == b"01"
        else:
            failed(lambda: caller.request("GET", URL), TypeError)


def test_only_one_body():
    with pytest.raises(ValueError, match="content, json, stream, sse"):
        Routes().get(URL).respond(json={}, content=b"")


# ---- blocks


def test_the_inner_block_comes_first(caller):
    with Routes(assert_all_called=False) as outer:
        outer.get(URL).respond(201)
        outer.post(URL).respond(202)
        with Routes() as inner:
            inner.get(URL).respond(203)
            assert caller.request("GET", URL).status_code == 203
            assert caller.request("POST", URL).status_code == 202
            failed(lambda: caller.request("PUT", URL), UnmatchedRequest)
            assert len(inner.unmatched) == 1 and not outer.unmatched
            inner.unmatched.clear()
        assert caller.request("GET", URL).status_code == 201
        assert (len(inner.calls), len(outer.calls)) == (1, 2)


def state(module):
    ours = both.Caller(module.__name__, "sync").ours
    kinds = (module.HTTPTransport, module.AsyncHTTPTransport, ours.Transport, ours.AsyncTransport)
    return [dict(vars(kind)) for kind in kinds]


def test_blocks_that_end_out_of_order(module):
    before = state(module)
    first, second = Routes(), Routes()
    first.get(URL).respond(201)
    second.get(URL).respond(202)
    with pytest.raises(RuntimeError, match="block already"), Routes() as routes:
        routes.__enter__()
    assert state(module) == before
    first.__enter__()
    assert module.get(URL).status_code == 201
    second.__enter__()
    assert module.get(URL).status_code == 202
    first.__exit__(None, None, None)
    assert module.get(URL).status_code == 202
    second.__exit__(None, None, None)
    assert state(module) == before


def test_a_second_block_of_the_same_begins_anew(module):
    routes = Routes()
    route = routes.get(URL).respond(201).respond(202)
    for _ in range(2):
        with routes:
            assert module.get(URL).status_code == 201
        assert route.call_count == len(routes.calls) == 1


def test_somebody_else_s_patch_stays(module, server, monkeypatch):
    """One that is put in within the block and taken away behind it."""
    with Routes() as routes:
        routes.get(URL).respond(201)
        ours = module.HTTPTransport.handle_request
        monkeypatch.setattr(
            module.HTTPTransport, "handle_request", lambda self, request: ours(self, request)
        )
        assert module.get(URL).status_code == 201
    assert module.get(server.url).content == b"the network"
    with Routes() as routes:
        routes.get(URL).respond(202)
        assert module.get(URL).status_code == 202 and routes.calls.last.request.url == URL
    monkeypatch.undo()
    assert module.get(server.url).content == b"the network"


@pytest.mark.parametrize("order", ["before", "inside"])
@pytest.mark.parametrize("end", ["inside", "after"])
def test_install_in_every_order(module, install, server, order, end):
    before = state(module)
    client = module.Client()  # one that is there all the time
    if order == "before":
        install()
        assert "llmpool" in client.get(server.url).extensions
    count = server.connections
    with Routes() as routes:
        routes.get(server.url + "/").respond(299)
        assert client.get(server.url).status_code == 299
        if order == "inside":
            install()
        for mine in (client, module.Client()):
            assert mine.get(server.url).status_code == 299
        if end == "inside":
            llmpool.uninstall()
            assert module.get(server.url).status_code == 299
    assert server.connections == count
    if end == "after":
        assert "llmpool" in client.get(server.url).extensions
        llmpool.uninstall()
    assert "llmpool" not in client.get(server.url).extensions
    assert state(module) == before


def test_many_threads(module):
    with Routes() as routes:
        numbers = iter(range(1000))
        route = routes.get(URL).reply(lambda request: module.Response(200, json=next(numbers)))
        client, found = module.Client(), []

        def work():
            for _ in range(25):
                found.append(client.get(URL).json())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(found) == list(range(200)) and route.call_count == 200


# ---- the SDKs


@pytest.mark.parametrize("below", ["own", "llmpool", "installed"])
def test_openai(below, install):
    openai = pytest.importorskip("openai", "3")
    if below == "installed":
        install()
    options = {"api_key": "k", "max_retries": 2}
    if below == "llmpool":
        import llmpool.httpx2

        options["http_client"] = llmpool.httpx2.Client()
    client = openai.OpenAI(**options)
    chat = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "hi"}}],
    }  # fmt: skip
    chunks = [
        {**chat, "object": "chat.completion.chunk",
         "choices": [{"index": 0, "delta": {"content": token}}]}
        for token in ("a", "b")
    ]  # fmt: skip
    say = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    path = "/v1/chat/completions"
    with Routes("https://api.openai.com") as routes:
        streamed = routes.post(path, content=re.compile(b'"stream":true'))
        streamed.respond(sse=[*chunks, "[DONE]"])
        whole = routes.post(path).respond(429, headers={"retry-after-ms": "1"}).respond(json=chat)
        answer = client.chat.completions.create(**say)
        assert answer.choices[0].message.content == "hi" and whole.call_count == 2
        stream = client.chat.completions.create(**say, stream=True)
        assert [chunk.choices[0].delta.content for chunk in stream] == ["a", "b"]
        with pytest.raises((UnmatchedRequest, openai.APIConnectionError)):
            client.models.list()
        routes.unmatched.clear()


def test_anthropic():
    anthropic = pytest.importorskip("anthropic", "2")
    message = {
        "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}, "content": [],
    }  # fmt: skip
    deltas = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
    ]
    events = [{"type": "message_start", "message": message}, *deltas, {"type": "message_stop"}]

    async def main():
        async with (
            anthropic.AsyncAnthropic(api_key="k") as client,
            client.messages.stream(
                model="m", max_tokens=5, messages=[{"role": "user", "content": "?"}]
            ) as stream,
        ):
            return [text async for text in stream.text_stream]

    with Routes() as routes:
        route = routes.post(
            "https://api.anthropic.com/v1/messages", headers={"authorization": "Bearer k"}
        )
        route.respond(sse=[llmpool.Event(each["type"], json.dumps(each)) for each in events])
        assert asyncio.run(main()) == ["hi"]


# ---- imports, pytest


def test_nothing_is_imported_before_it_is_needed(run_python):
    done = run_python(
        "import sys, llmpool.mock\n"
        "names = ('httpx', 'httpx2', 'pytest', 'asyncio', 'llmpool.mock._routes')\n"
        "assert not [name for name in names if name in sys.modules]\n"
        "assert 'Routes' in dir(llmpool.mock)\n"
        "routes = llmpool.mock.Routes()\n"
        "assert 'httpx2' not in sys.modules and 'pytest' not in sys.modules\n"
        "with routes:\n"
        "    assert 'httpx2' in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


PYTEST = """
import httpx2, pytest
from llmpool.mock.pytest import llmpool_routes

def test_it(llmpool_routes):
    llmpool_routes.get("/").respond(299)
    assert httpx2.get("http://127.0.0.1:1/").status_code == 299

def test_afterwards():
    with pytest.raises(httpx2.ConnectError):
        httpx2.get("http://127.0.0.1:1/")

def test_fails(llmpool_routes):
    with pytest.raises(AssertionError):
        httpx2.get("http://127.0.0.1:1/")
"""


def test_the_fixture_for_pytest(tmp_path, run_python):
    (tmp_path / "test_mocked.py").write_text(PYTEST)
    done = run_python(
        "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[1]]))",
        tmp_path,
    )
    assert "3 passed, 1 error" in done.stdout and "matches no route" in done.stdout, done.stdout
