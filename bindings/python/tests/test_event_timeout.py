"""The clock of events: a stream that is alive and says nothing ends; another does not."""

import asyncio
import logging
import os
import re
import time

import pytest
import servers

import llmpool

CHAT = "/v1/chat/completions"
QUICK, PATIENT = 0.4, 30.0
BEHIND = 1.5  # where something has to come before it
SAID = "no (event that says something|byte) came for"
LONG = bool(os.environ.get("LLMPOOL_LONG_TESTS"))
STALLS = ["stall-2", "stall-2-comments", "stall-2-pings", "stall-2-bytes"]


def mock_of(http):
    from llmpool.mock import MockServer

    return MockServer(http=http, tls=False, tokens=6, alive_interval=0.05)


@pytest.fixture(scope="module", params=["1", "2"], ids=["h1", "h2"])
def mock(request):
    with mock_of(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def plain():
    with mock_of("1") as server:
        yield server


@pytest.fixture
def url(mock):
    return mock.url + CHAT


@pytest.fixture
def pool(mock, open_pool, request):
    return open_pool(http1="h1" in request.node.name, http2="h2" in request.node.name)


def body(model):
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def timeouts(event):
    return llmpool.Timeout(event=event, read=None, total=PATIENT)


def seconds(text):
    """Of a message: "20 ms" or "1.5 s"."""
    number, unit = text.split()
    return float(number) / (1000 if unit == "ms" else 1)


@pytest.mark.parametrize("how", ["events", "bytes"])
def test_a_stream_that_stalls(url, mock, pool, how, at_once):
    client = llmpool.Client(pool=pool, headers=mock.headers, timeout=timeouts(BEHIND))

    def stall(number):
        with client.stream("POST", url, json=body(STALLS[number])) as response:
            taken = []
            with pytest.raises(llmpool.EventTimeout) as raised:
                for piece in response.iter_sse() if how == "events" else response.iter_bytes():
                    taken.append(piece)
        assert taken, STALLS[number]
        return raised.value

    began = time.monotonic()
    raised = at_once(stall, len(STALLS))
    assert time.monotonic() - began < PATIENT
    assert all(isinstance(error, llmpool.ReadTimeout) for error in raised)
    assert {error.status for error in raised} == {"LLMPOOL_E_EVENT_TIMEOUT"}
    silent, *alive = map(str, raised)
    found = re.search(  # neither bytes nor events
        r"fell silent: no byte came for 1\.5 s, its event timeout: its last event came (\S+ m?s) ",
        silent,
    )
    assert found and seconds(found[1]) >= BEHIND, silent
    for text in alive:
        found = re.search(
            r"is alive, but no event that says something came for 1\.5 s, its event timeout: the "
            r"last byte came (\S+ m?s) ago, the last one (\S+ m?s) ago; ",
            text,
        )
        assert found, text
        assert seconds(found[2]) >= BEHIND and seconds(found[1]) < seconds(found[2])


def test_asyncio_and_what_comes_whole(url, mock, pool):
    async def main():
        options = {"pool": pool, "headers": mock.headers, "timeout": timeouts(QUICK)}
        async with llmpool.AsyncClient(**options) as client:
            with pytest.raises(llmpool.EventTimeout):
                await client.post(url, json=body("stall-2-pings"))
            async with client.stream("POST", url, json=body("stall-0-comments")) as response:
                with pytest.raises(llmpool.EventTimeout):
                    async for _ in response.aiter_sse():
                        pass

    asyncio.run(main())


@pytest.mark.parametrize("model", ["think-1.2", "stall-2-bytes"])
def test_without_an_event_timeout_it_may_take_its_time(url, mock, pool, model):
    """Timeout(5) sets none: the total time ends what never ends."""
    timeout = llmpool.Timeout(5, total=PATIENT if model.startswith("think") else 1.5)
    assert timeout.event is llmpool.Timeout().event
    client = llmpool.Client(pool=pool, headers=mock.headers, timeout=timeout)
    with client.stream("POST", url, json=body(model)) as response:
        if model.startswith("think"):
            assert len(list(response.iter_sse())) > 6
        else:
            with pytest.raises(llmpool.TotalTimeout):
                list(response.iter_sse())


def test_a_model_that_thinks_has_to_say_something_in_time(url, mock, pool):
    client = llmpool.Client(pool=pool, headers=mock.headers)
    with client.stream("POST", url, json=body("think-1.2"), timeout=timeouts(PATIENT)) as response:
        assert len(list(response.iter_sse())) > 6
    quick = timeouts(QUICK)
    with (
        client.stream("POST", url, json=body("think-9"), timeout=quick) as response,
        pytest.raises(llmpool.EventTimeout, match="none has come yet"),
    ):
        list(response.iter_sse())


def test_which_events_are_quiet_the_pool_says(mock, url, pool):
    pool.configure(quiet_events=())  # now a ping says something
    client = llmpool.Client(pool=pool, headers=mock.headers)
    timeout = llmpool.Timeout(event=1, total=1.5)
    with (
        client.stream("POST", url, json=body("stall-2-pings"), timeout=timeout) as response,
        pytest.raises(llmpool.TotalTimeout),
    ):
        list(response.iter_bytes())
    for wrong in ("ping", 3, [1], ["a,b"], [""], [" a"], ["a\n"]):
        with pytest.raises((TypeError, ValueError), match="quiet_events"):
            pool.configure(quiet_events=wrong)


def test_the_application_may_take_its_time(open_pool):
    """While it does not read nothing is awaited of the server."""
    event = b"data: " + b"x" * 1000 + b"\n\n"

    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        for _ in range(2000):
            connection.sendall(event)

    with servers.RawServer(handle) as server:
        pool = open_pool(stream_window_bytes=1 << 16)
        client = llmpool.Client(pool=pool, timeout=timeouts(QUICK))
        with client.stream("GET", server.url) as response:
            size = 0
            for index, piece in enumerate(response.iter_bytes()):
                if index == 1:
                    time.sleep(3 * QUICK)
                size += len(piece)
    assert size == 2000 * len(event)


def test_a_stream_without_the_clock_is_counted_and_logged_once(open_pool, caplog):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )

    caplog.set_level(logging.INFO, logger="llmpool")
    with servers.RawServer(handle) as server:
        pool = open_pool()
        client = llmpool.Client(pool=pool, timeout=timeouts(QUICK))
        for _ in range(3):
            with client.stream("GET", server.url) as response:
                list(response.iter_raw())
    assert pool.stats().unwatched_streams == 3
    assert servers.wait_until(lambda: "event timeout does not run" in caplog.text)
    lines = [line for line in caplog.text.splitlines() if "event timeout" in line]
    assert len(lines) == 1 and "accept-encoding: identity" in lines[0]


@pytest.mark.parametrize("model", STALLS)
def test_under_httpx2(plain, model):
    httpx2 = pytest.importorskip("httpx2")
    import llmpool.httpx2

    with (
        llmpool.httpx2.Client(headers=plain.headers, timeout=PATIENT) as client,
        llmpool.options(event=QUICK, total=PATIENT),
        client.stream("POST", plain.url + CHAT, json=body(model)) as response,
        pytest.raises(httpx2.ReadTimeout, match=SAID),
    ):
        list(response.iter_lines())


def test_under_requests(plain):
    requests = pytest.importorskip("requests")
    import llmpool.requests

    with requests.Session() as session:
        session.mount("http://", llmpool.requests.Adapter())
        with llmpool.options(event=QUICK, total=PATIENT):
            model = body("stall-2-comments")
            answer = session.post(
                plain.url + CHAT, json=model, headers=plain.headers, stream=True, timeout=PATIENT
            )
            with pytest.raises(requests.exceptions.ConnectionError, match=SAID):
                list(answer.iter_lines())


def test_under_the_sdk_of_openai(plain, at_once):
    openai = pytest.importorskip("openai")
    httpx2 = pytest.importorskip("httpx2")
    import llmpool.httpx2

    with llmpool.httpx2.Client() as http:
        client = openai.OpenAI(base_url=plain.url + "/v1", api_key=plain.api_key, http_client=http)

        def stall(number):
            chunks = []
            with (
                llmpool.options(event=BEHIND, total=PATIENT),
                pytest.raises((httpx2.ReadTimeout, openai.APITimeoutError)) as raised,
            ):
                for chunk in client.chat.completions.create(**body(STALLS[number])):
                    chunks.append(chunk)
            assert chunks, STALLS[number]
            assert re.search(SAID, f"{raised.value} {raised.value.__cause__}")

        at_once(stall, len(STALLS))
        # One that thinks is left to think, if its time is not over.
        with llmpool.options(event=PATIENT, total=PATIENT):
            assert len(list(client.chat.completions.create(**body("think-0.6")))) > 6


@pytest.mark.parametrize("model", STALLS)
def test_under_the_sdk_of_anthropic(plain, model):
    anthropic = pytest.importorskip("anthropic")
    httpx2 = pytest.importorskip("httpx2")
    import llmpool.httpx2

    messages = [{"role": "user", "content": "hi"}]
    with llmpool.httpx2.Client() as http, llmpool.options(event=QUICK, total=PATIENT):
        client = anthropic.Anthropic(base_url=plain.url, api_key=plain.api_key, http_client=http)
        with (
            pytest.raises((httpx2.ReadTimeout, anthropic.APITimeoutError)) as raised,
            client.messages.stream(model=model, max_tokens=9, messages=messages) as stream,
        ):
            list(stream.text_stream)
        assert re.search(SAID, f"{raised.value} {raised.value.__cause__}")
        with llmpool.options(event=PATIENT):
            thinking = "think-0.6"
            with client.messages.stream(model=thinking, max_tokens=9, messages=messages) as stream:
                assert list(stream.text_stream)


@pytest.mark.skipif(not LONG, reason="LLMPOOL_LONG_TESTS")
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_model_that_thinks_for_long_and_answers(sdk):
    """It says that it is alive every second, for longer than the read timeout, and then speaks."""
    made = pytest.importorskip(sdk)
    pytest.importorskip("httpx2")
    import llmpool.httpx2
    from llmpool.mock import MockServer

    with MockServer(alive_interval=1) as server, llmpool.httpx2.Client(verify=False) as http:
        options = {"api_key": server.api_key, "http_client": http, "timeout": 10, "max_retries": 0}
        with llmpool.options(event=180, total=300):
            if sdk == "openai":
                client = made.OpenAI(base_url=server.url + "/v1", **options)
                pieces = [
                    chunk.choices[0].delta.content or ""
                    for chunk in client.chat.completions.create(**body("think-90"))
                    if chunk.choices
                ]
            else:
                client = made.Anthropic(base_url=server.url, **options)
                asked = {"model": "think-90", "max_tokens": 99, "messages": body("")["messages"]}
                with client.messages.stream(**asked) as stream:
                    pieces = list(stream.text_stream)
    assert "".join(pieces).startswith("The pool keeps one connection open")
