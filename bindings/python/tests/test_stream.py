"""Streamed answers and uploads of the blocking client."""

import gc
import gzip
import io
import os
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import servers

import llmpool

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
# Three tokens and then silence: it does not end before it is left.
ENDLESS = {**BODY, "model": "stall-3"}


def idle(pool):
    now = pool.stats()
    return now.pending == now.active == now.backing_off == 0


@pytest.fixture(params=["h2", "h1"])
def client(request, tokens, tokens_plain, open_client):
    server = tokens if request.param == "h2" else tokens_plain
    client = open_client(server.url, headers=server.headers, ca_file=server.ca_file)
    client.server = server
    yield client
    assert servers.wait_until(lambda: idle(client.pool))


def test_events(client):
    begin = time.monotonic()
    with client.stream("POST", CHAT, json=BODY) as response:
        assert response.status_code == 200 and not response.is_closed
        assert response.headers["content-type"].startswith("text/event-stream")
        events, seen = [], []
        for event in response.iter_sse():  # to the end: behind stop= it is not awaited for long
            events.append(event)
            seen.append(time.monotonic() - begin)
        assert response.is_closed
    assert len(events) == 53 and events[0].event == "message" and events[0].id == ""
    assert events.pop().data == "[DONE]"
    text = "".join(event.json()["choices"][0]["delta"].get("content", "") for event in events)
    assert text.startswith("The pool keeps one connection open")
    times = response.timings
    assert 0 < times.first_byte <= times.time_to_first_token < times.done
    assert times.time_to_first_token < seen[0] + 0.05 and times.done > 0.2  # clocks are coarse
    assert client.pool.stats().cancelled == 0


def test_events_come_before_the_end(client):
    with client.stream("POST", CHAT, json=ENDLESS) as response:
        events = response.iter_sse()
        assert [next(events).json()["object"] for _ in range(4)] == ["chat.completion.chunk"] * 4
        assert not response.is_closed
    assert client.pool.stats().cancelled == 1


def test_bytes_text_and_lines(client):
    def read(method, **more):
        with client.stream("POST", CHAT, json=BODY, **more) as response:
            return list(getattr(response, method)())

    own = b"".join(read("iter_bytes", sse=False))
    assert own.count(b"data: ") == 53 and own.endswith(b"data: [DONE]\n\n")
    anew = b"".join(read("iter_bytes"))
    assert anew.count(b"data: ") == 53 and len(anew) == len(own)
    assert "".join(read("iter_text")).endswith("data: [DONE]\n\n")
    for more in ({}, {"sse": False}):
        lines = read("iter_lines", **more)
        assert len(lines) == 106 and lines[-2:] == ["data: [DONE]", ""]
    assert len(read("iter_sse", sse=False)) == 53
    assert b"".join(read("iter_raw")).endswith(b"data: [DONE]\n\n")


def test_anthropic(client):
    body = {"model": "claude-mock", "max_tokens": 5, "stream": True, "messages": BODY["messages"]}
    with client.stream("POST", "/v1/messages", json=body) as response:
        kinds = [event.event for event in response.iter_sse()]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert kinds.count("content_block_delta") == 5


def test_read_and_errors(client):
    with client.stream("POST", CHAT, json={}) as response:
        assert response.status_code == 400
        with pytest.raises(llmpool.HTTPStatusError):
            response.raise_for_status()
        with pytest.raises(llmpool.ResponseNotRead):
            response.json()
        assert response.read() == response.content == response.read()
        assert "model" in response.json()["error"]["message"]
        with pytest.raises(llmpool.StreamConsumed):
            list(response.iter_bytes())
    with client.stream("POST", CHAT, json=BODY) as response:
        pass
    with pytest.raises(llmpool.StreamClosed):
        next(response.iter_bytes())
    with pytest.raises(RuntimeError):
        _twice(client)


def _twice(client):
    stream = client.stream("POST", CHAT, json=BODY)
    with stream, stream:
        pass


def test_leaving_early_cancels(client):
    left = client.server.stats()["left"]
    with client.stream("POST", CHAT, json=ENDLESS) as response:
        assert next(response.iter_sse()).data
    assert client.pool.stats().cancelled == 1
    assert servers.wait_until(lambda: client.server.stats()["left"] >= left + 1)
    assert servers.wait_until(lambda: client.server.stats()["streams"] == 0)


def test_an_exception_cancels(client):
    with pytest.raises(ZeroDivisionError), client.stream("POST", CHAT, json=ENDLESS) as response:
        for _ in response.iter_sse():
            raise ZeroDivisionError
    assert idle(client.pool) and client.pool.stats().cancelled == 1


def test_another_thread_for_each_step(client):
    with client.stream("POST", CHAT, json=BODY) as response:
        iterator = response.iter_sse(stop="[DONE]")
        count = 0
        while True:
            with ThreadPoolExecutor(1) as executor:
                if executor.submit(next, iterator, None).result() is None:
                    break
            count += 1
    assert count == 52


def test_an_abandoned_response(client, caplog):
    def abandon():
        response = client.stream("POST", CHAT, json=ENDLESS).__enter__()
        next(response.iter_sse())

    with pytest.warns(ResourceWarning, match="says where"):
        abandon()
        gc.collect()
    assert servers.wait_until(lambda: idle(client.pool))
    llmpool.debug(leaks=True)
    try:
        with pytest.warns(ResourceWarning, match=r"test_stream.py.*\n.*__enter__"):
            abandon()
            gc.collect()
    finally:
        llmpool.debug(leaks=False)
    assert "test_stream.py" in caplog.text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with client.stream("POST", CHAT, json=BODY) as response:
            next(response.iter_sse())
        del response
        gc.collect()


def test_many_threads_every_token_once(client, at_once):
    def one(_):
        with client.stream("POST", CHAT, json=BODY) as response:
            events = [event.json() for event in response.iter_sse(stop="[DONE]")]
        identity = {event["id"] for event in events}
        words = [event["choices"][0]["delta"].get("content", "") for event in events]
        return len(identity), "".join(words)

    results = at_once(one, 100, 50)
    assert len(set(results)) == 1 and results[0][0] == 1
    assert client.pool.stats().failed == 0


# ---- bodies from raw sockets


def serve(*pieces, headers=b"", pause=0.0):
    def handle(connection, _):
        servers.read_request(connection)
        size = sum(map(len, pieces))
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n"
        connection.sendall(head % (size, headers))
        for piece in pieces:
            time.sleep(pause)
            connection.sendall(piece)

    return servers.RawServer(handle)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare", "gzip, deflate"])
def test_decoded_as_it_comes(coding, open_client):
    text = os.urandom(50_000).hex().encode()
    bare = zlib.compressobj(wbits=-15)
    body = {
        "gzip": gzip.compress(text[:1000]) + gzip.compress(text[1000:]) + b"\0\0",
        "deflate": zlib.compress(text),
        "bare": bare.compress(text) + bare.flush(),
        "gzip, deflate": zlib.compress(gzip.compress(text)),
    }[coding]
    name = b"deflate" if coding == "bare" else coding.encode()
    pieces = [body[i : i + 9999] for i in range(0, len(body), 9999)]
    with serve(*pieces, headers=b"content-encoding: %s\r\n" % name) as server:
        client = open_client(server.url)
        with client.stream("GET", "/") as response:
            assert b"".join(response.iter_bytes()) == text
        with client.stream("GET", "/") as response:
            assert b"".join(response.iter_raw()) == body
        with client.stream("GET", "/") as response:
            chunks = list(response.iter_bytes(1024))
        assert {len(chunk) for chunk in chunks[:-1]} == {1024} and b"".join(chunks) == text
    with serve(*pieces[:-1], headers=b"content-encoding: %s\r\n" % name) as server:
        client = open_client(server.url)
        with client.stream("GET", "/") as response, pytest.raises(llmpool.DecodingError) as caught:
            list(response.iter_bytes())
        assert caught.value.request.url == server.url + "/"


def test_a_bomb_is_decoded_in_pieces(open_client):
    with serve(gzip.compress(bytes(50 << 20)), headers=b"content-encoding: gzip\r\n") as server:
        client = open_client(server.url)
        with client.stream("GET", "/") as response:
            assert max(map(len, response.iter_bytes())) <= 1 << 20
        client.max_response_bytes = 1000
        with client.stream("GET", "/") as response, pytest.raises(llmpool.ResponseTooLarge):
            response.read()


def test_text_and_lines_across_pieces(open_client):
    text = "ä\r\nb\rc\u2028d\n\n…e"
    raw = text.encode()
    pieces = [raw[i : i + 1] for i in range(len(raw))]
    with serve(*pieces, pause=0.005) as server:
        client = open_client(server.url)
        with client.stream("GET", "/") as response:
            assert "".join(response.iter_text()) == text
        with client.stream("GET", "/") as response:
            assert list(response.iter_lines()) == ["ä", "b", "c\u2028d", "", "…e"]
        with client.stream("GET", "/") as response:
            assert list(response.iter_text(4)) == [text[i : i + 4] for i in range(0, len(text), 4)]


def test_stop_waits_a_little_for_the_end(open_client, monkeypatch):
    """The usual end follows at once and saves the connection; another is not waited for long."""

    def handle(connection, number):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
                b"17\r\ndata: 1\n\ndata: [DONE]\n\n\r\n"
            )
            if b"/open" in head:
                return connection.recv(1)
            time.sleep(0.02)
            connection.sendall(b"0\r\n\r\n")

    with servers.RawServer(handle) as server:
        client = open_client(server.url)

        def took(path):
            begin = time.monotonic()
            with client.stream("GET", path) as response:
                assert [event.data for event in response.iter_sse(stop="[DONE]")] == ["1"]
            assert response.is_closed
            return time.monotonic() - begin

        with monkeypatch.context() as patch:  # the server may be slow; the end is waited for alone
            patch.setattr("llmpool._client.stream.LINGER", 8)
            assert took("/") < 7 and took("/") < 7
        not_ended = [took("/open")]
        assert server.connections == 1
        not_ended += [took("/open") for _ in range(2)]
        assert 0.05 < min(not_ended) < 0.5, not_ended
        now = client.pool.stats()
        assert (now.succeeded, now.cancelled) == (2, 3)


def test_a_truncated_answer(open_client):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    with servers.RawServer(handle) as server:
        got = []
        client = open_client(server.url)
        with client.stream("POST", "/") as response, pytest.raises(llmpool.ReadError):
            got.extend(response.iter_bytes())
        assert got == [b"half"]


def test_timeouts_of_a_stream(open_client):
    def handle(connection, number):
        servers.read_request(connection)
        if number > 1:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        connection.recv(1)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        timeout = llmpool.Timeout(first_byte=0.2, read=0.3)
        with pytest.raises(llmpool.FirstByteTimeout):
            client.stream("GET", "/", timeout=timeout).__enter__()
        with (
            client.stream("GET", "/", timeout=timeout) as response,
            pytest.raises(llmpool.ReadTimeout),
        ):
            list(response.iter_bytes())
        with pytest.raises(llmpool.ConnectError):
            client.stream("GET", f"http://127.0.0.1:{servers.free_port()}").__enter__()


def test_a_slow_reader_holds_the_server_back_and_loses_nothing(open_client):
    sent = []
    block = bytes(range(256)) * 256

    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (512 * len(block)))
        for _ in range(512):
            connection.sendall(block)
            sent.append(len(block))

    with servers.RawServer(handle) as server:
        client = open_client(server.url, stream_window_bytes=65536)
        with client.stream("GET", "/") as response:
            chunks = response.iter_bytes()
            first = next(chunks)
            time.sleep(0.7)
            held = sum(sent)
            assert held < 20 << 20  # of 32 MiB; the rest is the kernel's buffers
            time.sleep(0.2)
            assert sum(sent) == held
            assert first + b"".join(chunks) == block * 512


def test_redirects_of_a_stream(open_client):
    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            if head.startswith(b"GET /end"):
                servers.answer(connection, b"end")
            else:
                servers.answer(connection, b"gone", b"location: /end\r\n", b"302 Found")

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        with client.stream("POST", "/", content=b"x", follow_redirects=True) as response:
            assert response.read() == b"end" and len(response.history) == 1
        with client.stream("GET", "/") as response:
            assert response.status_code == 302
        assert server.connections == 1


# ---- uploads


class Collect:
    """Answers with what the body was."""

    def __init__(self, pause=0.0):
        self.heads, self.bodies, self.pause = [], [], pause

    def __call__(self, connection, _):
        head, rest = servers.read_head(connection)
        self.heads.append(head.lower())
        if b"transfer-encoding: chunked" not in self.heads[-1]:
            size = servers.content_length(head)
            parts = [rest]
            while size > sum(map(len, parts)):
                time.sleep(self.pause)
                parts.append(connection.recv(1 << 20))
            self.bodies.append(b"".join(parts))
        else:
            body, file = b"", _File(connection, rest)
            while True:
                size = int(file.line(), 16)
                piece = file.exactly(size + 2)
                body += piece[:-2]
                if not size:
                    break
                time.sleep(self.pause)
            self.bodies.append(body)
        servers.answer(connection, str(len(self.bodies[-1])).encode(), b"connection: close\r\n")


class _File:
    def __init__(self, connection, rest):
        self.connection, self.rest = connection, rest

    def exactly(self, size):
        while len(self.rest) < size:
            self.rest += self.connection.recv(1 << 20)
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def line(self):
        while b"\r\n" not in self.rest:
            self.rest += self.connection.recv(1 << 20)
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line


def test_uploads(open_client, tmp_path):
    server_of = Collect()
    large = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(large)
    with servers.RawServer(server_of) as server:
        client = open_client(server.url)
        for content, body, line in (
            (iter([b"a", b"", b"bc"]), b"abc", b"chunked"),
            ((bytes([i]) * 1000 for i in range(5)), b"".join(bytes([i]) * 1000 for i in range(5)),
             b"chunked"),
            ([large, memoryview(large)], large * 2, b"chunked"),
            (io.BytesIO(large), large, b"content-length: 3145728"),
            (open(tmp_path / "file", "rb"), large, b"content-length: 3145728"),  # noqa: SIM115
            (iter([]), b"", b"chunked"),
        ):  # fmt: skip
            assert client.post("/", content=content).text == str(len(body))
            assert server_of.bodies[-1] == body and line in server_of.heads[-1]
        with client.stream("PUT", "/", content=iter([large])) as response:
            assert response.read() == b"3145728"
        given = client.post("/", content=iter([b"ab"]), headers={"content-length": "2"})
        assert given.text == "2" and b"content-length: 2" in server_of.heads[-1]
        with pytest.raises(llmpool.LocalProtocolError, match="content-length"):
            client.post("/", content=iter([b"ab"]), headers={"content-length": "1"})
        with pytest.raises(TypeError, match="AsyncClient"):
            client.post("/", content=_async_pieces())


async def _async_pieces():
    yield b"x"


def test_an_upload_waits_for_the_server(open_client):
    made = []

    def produce():
        for _ in range(200):
            made.append(1)
            yield bytes(100_000)

    server_of = Collect(pause=0.003)
    with servers.RawServer(server_of) as server:
        client = open_client(server.url)
        thread = threading.Thread(target=lambda: client.post("/", content=produce()))
        thread.start()
        most = 0
        while thread.is_alive():
            taken = client.pool.stats().bytes_sent
            most = max(most, len(made) * 100_000 - taken)
            time.sleep(0.005)
        thread.join()
        assert len(server_of.bodies[0]) == 20_000_000 and most < 3 << 20


UPLOADS = """
import asyncio, resource, sys, llmpool
how, path, url = sys.argv[1:]
SIZE, PIECE = 200 << 20, bytes(64 << 10)

def pieces():
    for _ in range(SIZE // len(PIECE)):
        yield PIECE

async def async_pieces():
    for piece in pieces():
        yield piece

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

def arguments(iterator, file):
    return {
        "iterator": {"content": iterator()},
        "file": {"content": file},
        "multipart": {"files": {"a": ("name", file)}, "data": {"b": "c"}},
    }[how.split("-")[-1]]

async def main(file):
    async with llmpool.AsyncClient(base_url=url, timeout=60) as client:
        await client.post("/", content=[PIECE] * 100)
        before = peak()
        answer = await client.post("/", **arguments(async_pieces, file))
        return before, answer

def blocking(file):
    client = llmpool.Client(base_url=url, timeout=60)
    client.post("/", content=[PIECE] * 100)
    before = peak()
    return before, client.post("/", **arguments(pieces, file))

with open(path, "rb") as file:
    before, answer = asyncio.run(main(file)) if how.startswith("async") else blocking(file)
print(answer.raise_for_status().text, peak() - before)
"""


@pytest.mark.parametrize("kind", ["iterator", "file", "multipart"])
@pytest.mark.parametrize("client", ["sync", "async"])
def test_a_large_upload_takes_little_memory(client, kind, tmp_path, run_python):
    """200 MiB, of which at no time more than a few are in the process."""
    size = 200 << 20

    def handle(connection, _):
        buffer = b""
        while True:
            head, buffer = servers.read_head(connection, buffer)
            count, length = len(buffer), servers.content_length(head)
            tail = buffer[-5:]
            while count < length if length else tail != b"0\r\n\r\n":
                piece = connection.recv(1 << 20)
                if not piece:
                    raise EOFError
                count += len(piece)
                tail = (tail + piece)[-5:]
            buffer = b""  # the client awaits the answer before it sends more
            servers.answer(connection, str(count).encode())

    with open(tmp_path / "file", "wb") as file:
        file.truncate(size)  # of which the disk holds nothing
    with servers.RawServer(handle) as server:
        done = run_python(UPLOADS, f"{client}-{kind}", tmp_path / "file", server.url)
    assert done.returncode == 0, done.stderr
    count, growth = map(int, done.stdout.split())
    assert size <= count < size + (1 << 20)  # with what chunks and parts are framed by
    assert growth < 16 << 20


def test_an_upload_that_fails(open_client):
    def broken():
        yield b"x"
        raise ZeroDivisionError

    with servers.RawServer(Collect()) as server:
        client = open_client(server.url)
        with pytest.raises(ZeroDivisionError):
            client.post("/", content=broken())
        # The counters are of the engine's last turn: before it took the request it was idle too.
        assert servers.wait_until(lambda: client.pool.stats().cancelled == 1)
        assert idle(client.pool)


def test_an_early_refusal_ends_an_upload(open_client):
    def handle(connection, _):
        servers.read_head(connection)
        servers.answer(connection, b"no", status=b"413 Too Large")
        time.sleep(1)

    pulled = []

    def endless():
        while True:
            pulled.append(1)
            yield bytes(100_000)

    with servers.RawServer(handle) as server:
        answer = open_client(server.url).post("/", content=endless())
        assert answer.status_code == 413 and answer.text == "no" and len(pulled) < 1000


def test_multipart_as_httpx_has_it(open_client, tmp_path):
    httpx = pytest.importorskip("httpx")
    (tmp_path / "a.txt").write_bytes(b"file")
    server_of = Collect()
    headers = {"content-type": "multipart/form-data; boundary=abc"}
    with servers.RawServer(server_of) as server:
        client = open_client(server.url)

        def cases():
            file = open(tmp_path / "a.txt", "rb")  # noqa: SIM115
            yield {"files": {"a": file}}
            yield {"files": {"a": b"x"}, "data": {"b": "1", "c": ["2", "3"], "d": 4, "e": True}}
            yield {"files": [("a", ('näme".json', b"{}")), ("a", (None, "text"))]}
            yield {"files": {"a": ("n", b"x", "text/x", {"X-One": "1"})}}
            yield {"files": {"a": ("n", io.BytesIO(bytes(2 << 20)))}}

        for ours, theirs in zip(cases(), cases()):
            client.post("/", headers=headers, **ours)
            request = httpx.Request("POST", server.url, headers=headers, **theirs)
            assert server_of.bodies[-1] == request.read()
            assert (
                f"content-length: {request.headers['content-length']}".encode()
                in (server_of.heads[-1])
            )
        client.post("/", files={"a": b"x"})
        assert b"content-type: multipart/form-data; boundary=" in server_of.heads[-1]


def test_priority(open_client):
    order = []
    free = threading.Event()

    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            path = head.split(b" ")[1].decode()
            order.append(path)
            if path == "/first":
                free.wait(10)
            servers.answer(connection)

    with servers.RawServer(handle) as server, ThreadPoolExecutor(8) as executor:
        client = open_client(server.url, limits=llmpool.Limits(max_connections=1))
        futures = [executor.submit(client.get, "/first")]
        assert servers.wait_until(lambda: order)
        for priority in (0, -1, 5):
            futures.append(executor.submit(client.get, f"/{priority}", priority=priority))
            waiting = len(futures) - 1
            assert servers.wait_until(lambda n=waiting: client.pool.stats().pending == n)
        free.set()
        assert all(future.result().is_success for future in futures)
        assert order == ["/first", "/5", "/0", "/-1"]
        with pytest.raises(ValueError):
            client.get("/", priority=1 << 31)
        for wrong in ("1", 1.5, None, True):
            for _ in range(2):
                with pytest.raises(TypeError, match="priority is a whole number, not"):
                    client.get("/", priority=wrong)


# ---- interrupted


@pytest.mark.parametrize("kind", ["call", "stream", "upload"])
def test_an_interrupt_between_submit_and_wait(kind, client, monkeypatch):
    """Nothing that was submitted goes on being paid for, as early as the interrupt may come."""
    from llmpool._native.library import lib

    submit, submitted = lib.submit, []

    def interrupted(*arguments):
        submitted.append(submit(*arguments))
        raise KeyboardInterrupt

    before = client.server.stats()["calls"]
    monkeypatch.setattr(lib, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if kind == "call":
            client.post(CHAT, json={**BODY, "model": "slow-60", "stream": False})
        elif kind == "stream":
            client.stream("POST", CHAT, json=ENDLESS).__enter__()
        else:
            client.post(CHAT, content=iter([b"{", b"}"]))
    monkeypatch.undo()
    assert submitted == [0]
    assert servers.wait_until(lambda: client.pool.stats().cancelled == 1)
    assert idle(client.pool)
    assert servers.wait_until(lambda: client.server.stats()["streams"] == 0)
    assert client.server.stats()["calls"] <= before + 1
    assert client.get("/v1/models").is_success


# ---- in a process of its own


def test_ctrl_c_anywhere_in_a_stream(tokens, run_python):
    script = """
import os, signal, sys, threading, time, llmpool
url, ca_file, key = sys.argv[1:]
body = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
pool = llmpool.Pool(ca_file=ca_file)
client = llmpool.Client(base_url=url, headers={"authorization": "Bearer " + key}, pool=pool)
def idle():
    deadline = time.monotonic() + 20
    while True:
        now = pool.stats()
        if now.active == now.pending == 0:
            return
        assert time.monotonic() < deadline, now
        time.sleep(0.001)
for turn in range(60):
    response = None
    try:
        threading.Timer(0.0005 * turn, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                for event in response.iter_sse(stop="[DONE]"):
                    pass
    except KeyboardInterrupt:
        pass
    del response
    idle()
with client.stream("POST", "/v1/chat/completions", json=body) as response:
    assert len(list(response.iter_sse(stop="[DONE]"))) == 52
print("done")
"""
    done = run_python(script, tokens.url, tokens.ca_file, tokens.api_key)
    assert done.stdout == "done\n", done.stderr
    assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)


def test_greenlets(tokens, run_python):
    """Under gevent's monkey patching a stream that waits blocks no other greenlet."""
    pytest.importorskip("gevent")
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time, llmpool
url, ca_file, key = sys.argv[1:]
body = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}
pool = llmpool.Pool(ca_file=ca_file)
client = llmpool.Client(base_url=url, headers={"authorization": "Bearer " + key}, pool=pool)
body["model"] = "lasts-1.5"
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic()); gevent.sleep(0.005)
def one():
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        return len(list(response.iter_sse(stop="[DONE]")))
ticking = gevent.spawn(tick)
begin = time.monotonic()
jobs = [gevent.spawn(one) for _ in range(20)]
gevent.joinall(jobs, raise_error=True)
ticking.kill()
assert [job.value for job in jobs] == [52] * 20
assert time.monotonic() - begin < 15, "one after the other it would be 30 s"
assert len(ticks) > 50, "others ran while they waited"
print("done")
"""
    done = run_python(script, tokens.url, tokens.ca_file, tokens.api_key)
    assert done.stdout == "done\n", done.stderr
