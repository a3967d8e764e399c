"""What requests and its users rely on in an adapter: ours, with requests' own beside it wherever
both behave alike. Where they differ a test says how."""

import contextlib
import copy
import gc
import gzip
import io
import json
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import RemoteDisconnected
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest
import servers

requests = pytest.importorskip("requests", "2.32")

import urllib3  # noqa: E402
from requests.adapters import HTTPAdapter  # noqa: E402
from urllib3.exceptions import (  # noqa: E402
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)

import llmpool  # noqa: E402
from llmpool import transport  # noqa: E402
from llmpool.requests import Adapter  # noqa: E402

KINDS = {"llmpool": Adapter, "urllib3": HTTPAdapter}


def mounted(adapter):
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


@pytest.fixture(params=KINDS)
def kind(request):
    """The class of an adapter."""
    return KINDS[request.param]


@pytest.fixture
def session(kind):
    with mounted(kind()) as opened:
        yield opened


def is_ours(session):
    return isinstance(session.get_adapter("https://"), Adapter)


@pytest.fixture
def ours():
    with mounted(Adapter()) as opened:
        yield opened


def read_any(connection, rest=b""):
    """(head, body as it was sent, rest)"""
    head, rest = servers.read_head(connection, rest)
    if b"transfer-encoding: chunked" in head.lower():
        while not rest.endswith(b"0\r\n\r\n"):
            rest += connection.recv(65536)
        return head, rest, b""
    size = servers.content_length(head)
    while len(rest) < size:
        rest += connection.recv(65536)
    return head, rest[:size], rest[size:]


def echo(connection, number):
    """Answers each request with its own bytes."""
    rest = b""
    while True:
        head, body, rest = read_any(connection, rest)
        servers.answer(connection, head + b"\r\n\r\n" + body)


@pytest.fixture(scope="module")
def echoing():
    with servers.RawServer(echo) as server:
        yield server


def sent(response):
    """(request line, header lines, body) of what an echo says."""
    head, _, body = response.content.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, lines, body


def answering(*answers):
    """A server whose connections answer their requests with these bytes, the last one for ever."""

    def handle(connection, number):
        rest = b""
        index = 0
        while True:
            _, _, rest = read_any(connection, rest)
            connection.sendall(answers[min(index, len(answers) - 1)])
            index += 1

    return servers.RawServer(handle)


def ending(payload, wait=None):
    """A server that answers with these bytes, and then closes its connection, or waits before."""

    def handle(connection, number):
        read_any(connection)
        connection.sendall(payload)
        if wait is not None:
            wait.wait(20)

    return servers.RawServer(handle)


# ---- requests


def test_headers_arrive_in_their_case_and_order(session, echoing):
    headers = {"X-Two": "1", "x-One": "caf\xe9", b"X-Three": b"\xff"}
    first, lines, _ = sent(session.get(echoing.url + "/a?b=c%20d#e", headers=headers))
    assert first == b"GET /a?b=c%20d HTTP/1.1"
    wanted = [b"X-Two: 1", b"x-One: caf\xe9", b"X-Three: \xff"]
    assert [line for line in lines if line.lower().startswith(b"x-")] == wanted
    for name in (b"host:", b"accept:", b"user-agent:", b"accept-encoding:"):
        assert sum(line.lower().startswith(name) for line in lines) == 1


def test_headers_that_urllib3_knows_by_itself(session, echoing):
    skip = urllib3.util.SKIP_HEADER
    _, lines, _ = sent(session.get(echoing.url, headers={"Accept-Encoding": None}))
    assert b"Accept-Encoding: identity" in lines
    _, lines, _ = sent(
        session.get(echoing.url, headers={"Accept-Encoding": skip, "User-Agent": skip})
    )
    assert not [x for x in lines if x.lower().startswith((b"accept-encoding", b"user-agent"))]
    _, lines, _ = sent(session.get(echoing.url, headers={"Host": "other.test"}))
    assert [x for x in lines if x.lower().startswith(b"host:")] == [b"Host: other.test"]


def test_user_agent_that_was_taken_away_is_not_sent(ours, echoing):
    """By urllib3 its own is sent instead."""
    _, lines, _ = sent(ours.get(echoing.url, headers={"User-Agent": None}))
    assert not [x for x in lines if x.lower().startswith(b"user-agent")]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", b"/"),
        ("?a=b", b"/?a=b"),
        ("/p\xe4th", b"/p%C3%A4th"),
        ("/a b?c d", b"/a%20b?c%20d"),
        ("/%7Ea%2Fb", b"/~a%2Fb"),
        ("/a/../b", b"/b"),
        ('/x|"', b"/x%7C%22"),
    ],
)
def test_targets(session, echoing, path, target):
    assert sent(session.get(echoing.url + path))[0] == b"GET " + target + b" HTTP/1.1"


def test_url_of_a_prepared_request_that_was_changed(session, echoing):
    prepared = requests.Request("GET", echoing.url).prepare()
    prepared.url = echoing.url + "/a/../\xe4?\xfc#x"
    assert sent(session.send(prepared))[0] == b"GET /a/../%C3%A4?%C3%BC HTTP/1.1"


def test_user_part_of_a_url_is_a_header(session, echoing):
    response = session.get(echoing.url.replace("//", "//us:p%40ss@") + "/x")
    first, lines, _ = sent(response)
    assert first == b"GET /x HTTP/1.1"
    assert b"Authorization: Basic dXM6cEBzcw==" in lines
    assert not any(b"@" in x for x in lines)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"bytes", b"bytes"),
        ("t\xe4xt", "t\xe4xt".encode()),
        ({"a": "b c"}, b"a=b+c"),
        (memoryview(b"view"), b"view"),
        (bytearray(b"array"), b"array"),
        (b"", b""),
        (None, b""),
    ],
)
def test_whole_bodies_say_their_length_once(session, echoing, data, wanted):
    _, lines, body = sent(session.post(echoing.url, data=data))
    found = [x for x in lines if x.lower().startswith((b"content-length", b"transfer-encoding"))]
    assert found == [b"Content-Length: %d" % len(wanted)]
    assert body == wanted


def test_files(session, echoing, tmp_path):
    (tmp_path / "a").write_bytes(b"skipped" + b"x" * 300_000)
    with open(tmp_path / "a", "rb") as file:
        file.seek(7)
        _, lines, body = sent(session.post(echoing.url, data=file))
        assert not file.closed
    assert b"Content-Length: 300000" in lines and body == b"x" * 300_000
    files = {"file": ("a.bin", io.BytesIO(b"y" * 100_000), "application/x-a")}
    response = session.post(echoing.url, files=files, data={"b": "c"})
    assert b"y" * 100_000 in response.content and b"multipart/form-data" in response.content


def test_generators_go_in_chunks(session, echoing):
    def pieces():
        yield b"one"
        yield b""
        yield "tw\xf6"

    _, lines, body = sent(session.post(echoing.url, data=pieces()))
    assert [x for x in lines if b"chunked" in x] == [b"Transfer-Encoding: chunked"]
    assert b"".join(body.split(b"\r\n")[1::2]) == b"onetw\xc3\xb6"


def test_body_whose_length_was_taken_away_goes_in_chunks(session, echoing):
    prepared = requests.Request("POST", echoing.url, data=b"hello").prepare()
    del prepared.headers["Content-Length"]
    _, lines, body = sent(session.send(prepared))
    assert b"Transfer-Encoding: chunked" in lines
    assert body == b"5\r\nhello\r\n0\r\n\r\n"


def test_what_a_generator_raises_is_raised(session, echoing):
    def pieces():
        yield b"one"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        session.post(echoing.url, data=pieces())


def test_what_is_no_body(session, echoing):
    prepared = requests.Request("POST", echoing.url).prepare()
    prepared.body = 5
    del prepared.headers["Content-Length"]
    with pytest.raises(TypeError, match="bytes-like"):
        session.send(prepared)


def test_length_that_is_not_the_bodys(ours, echoing):
    """urllib3 sends it like that, and the next request on the connection is broken."""
    prepared = requests.Request("POST", echoing.url, data=b"hello").prepare()
    prepared.headers["Content-Length"] = "4"
    with pytest.raises(requests.exceptions.InvalidHeader, match="Content-Length") as caught:
        ours.send(prepared)
    assert caught.value.request is prepared


@pytest.mark.filterwarnings("ignore::requests.exceptions.FileModeWarning")
def test_text_files(ours, echoing, tmp_path):
    """They are UTF-8. Not every version of urllib3 sends as many bytes as were announced."""
    (tmp_path / "text").write_text("\xe4\xf6", encoding="utf-8")
    with open(tmp_path / "text", encoding="utf-8") as file:
        assert sent(ours.post(echoing.url, data=file))[2] == "\xe4\xf6".encode()


def test_text_that_requests_has_miscounted(ours, echoing):
    """It counts characters. By urllib3 the server gets half of it."""
    with pytest.raises(requests.exceptions.InvalidHeader, match="4 bytes"):
        ours.post(echoing.url, data=io.StringIO("\xe4\xf6"))


def test_upgrade_is_refused(ours, echoing):
    with pytest.raises(requests.exceptions.InvalidHeader, match="Upgrade"):
        ours.get(echoing.url, headers={"Upgrade": "websocket", "Connection": "Upgrade"})


# ---- answers


def test_head_of_an_answer(session, kind):
    head = (
        b"HTTP/1.1 299 Quite  Fine\r\nX-A: 1\r\nx-a: 2\r\nX-B: caf\xe9\r\n"
        b"Content-Type: text/plain; charset=latin-1\r\nContent-Length: 1\r\n\r\n\xe4"
    )
    with answering(head) as server:
        response = session.get(server.url + "/x")
    assert (response.status_code, response.reason) == (299, "Quite  Fine")
    assert response.headers["X-A"] == "1, 2" and response.headers["x-b"] == "caf\xe9"
    raw = response.raw
    assert isinstance(raw, urllib3.HTTPResponse)
    assert raw.headers.getlist("x-a") == ["1", "2"]
    assert (raw.status, raw.version, raw.reason) == (299, 11, "Quite  Fine")
    assert raw._original_response.msg.get_all("X-A") == ["1", "2"]
    assert response.text == "\xe4"
    assert response.url == server.url + "/x"
    assert isinstance(response.connection, kind)
    assert response.connection is session.get_adapter(response.url)
    assert 0 < response.elapsed.total_seconds() < 20
    assert response.request.method == "GET"


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_http2(ours, mock):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": "Bearer mock-key"}
    response = ours.post(
        mock.url + "/v1/chat/completions", json=body, headers=headers, verify=False
    )
    assert (response.raw.version, response.raw.version_string) == (20, "HTTP/2")
    assert response.reason == "OK"  # by its number: HTTP/2 has no phrases
    assert response.json()["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_answers_without_a_body(session, method, head):
    with answering(head) as server:
        for _ in range(2):
            response = session.request(method, server.url, allow_redirects=False)
            assert response.content == b"" and response.raw.read() == b""
    assert server.connections == 1


def test_cookies_are_kept(session):
    answers = (
        b"HTTP/1.1 302 Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\n"
        b"Location: /next\r\nContent-Length: 0\r\n\r\n"
    )
    seen = []

    def handle(connection, number):
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            seen.append(head)
            if b"GET / " in head:
                connection.sendall(answers)
            else:
                servers.answer(connection, b"ok", b"set-cookie: c=3\r\n")

    with servers.RawServer(handle) as server:
        response = session.get(server.url)
        assert [x.status_code for x in response.history] == [302]
        assert dict(response.cookies) == {"c": "3"}
        assert dict(session.cookies) == {"a": "1", "b": "2", "c": "3"}
        session.get(server.url + "/again")
    assert b"Cookie: a=1; b=2" in seen[1] and b"Cookie: a=1; b=2; c=3" in seen[2]


def test_redirects(session, tmp_path):
    def handle(connection, number):
        rest = b""
        while True:
            head, body, rest = read_any(connection, rest)
            status = {b"/302": b"302 Found", b"/307": b"307 Temporary"}.get(head.split(b" ")[1])
            if status:
                servers.answer(connection, b"elsewhere", b"Location: /end\r\n", status)
            else:
                servers.answer(connection, head.split(b" ")[0] + b" " + body)

    with servers.RawServer(handle) as server:
        assert session.post(server.url + "/302", data=b"x").content == b"GET "
        assert session.post(server.url + "/307", data=b"x").content == b"POST x"
        assert session.post(server.url + "/307", data=io.BytesIO(b"file")).content == b"POST file"
        response = session.get(server.url + "/302", allow_redirects=False)
        assert response.is_redirect and response.content == b"elsewhere"
        assert response.next.url == server.url + "/end"


def test_digest_auth(session):
    """Its answer is sent by response.connection."""

    def handle(connection, number):
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            if b"Authorization: Digest " in head:
                servers.answer(connection, b"in")
            else:
                headers = b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
                servers.answer(connection, b"out", headers, b"401 Unauthorized")

    with servers.RawServer(handle) as server:
        auth = requests.auth.HTTPDigestAuth("u", "p")
        response = session.get(server.url, auth=auth)
        assert response.content == b"in" and len(response.history) == 1


def test_decoding(session):
    text = b"some text " * 1000
    packed = gzip.compress(text)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with answering(head + packed) as server:
        assert session.get(server.url).content == text
        with session.get(server.url, stream=True) as response:
            assert response.raw.read() == packed
        with session.get(server.url, stream=True) as response:
            assert response.raw.read(decode_content=True) == text
        with session.get(server.url, stream=True) as response:
            assert b"".join(response.iter_content(100)) == text
        with session.get(server.url, stream=True) as response:
            response.raw.decode_content = True
            with io.BytesIO() as file:
                shutil.copyfileobj(response.raw, file)
                assert file.getvalue() == text
    wrong = pytest.raises(requests.exceptions.ContentDecodingError)
    with answering(head + b"x" * len(packed)) as server, wrong:
        session.get(server.url)


# ---- streams

TOKENS = [b"data: token %d\n\n" % number for number in range(5)]
FRAMINGS = {
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "length": b"Content-Length: %d\r\n" % sum(map(len, TOKENS)),
    "close": b"Connection: close\r\n",
}


@contextlib.contextmanager
def dripping(framing, tokens=TOKENS, headers=b""):
    """A server that sends one token each time that it is asked to."""
    turn = threading.Semaphore(0)

    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + FRAMINGS[framing] + headers + b"\r\n")
        for token in tokens:
            if not turn.acquire(timeout=20):
                raise AssertionError("the token before was not seen")
            if framing == "chunked":
                token = b"%x\r\n%s\r\n" % (len(token), token)
            connection.sendall(token)
        if framing == "chunked":
            connection.sendall(b"0\r\n\r\n")

    with servers.RawServer(handle) as server:
        yield server, turn


def in_turn(pieces, turn):
    """The pieces, of which each is seen before the next is sent."""
    turn.release()
    seen = []
    for piece in pieces:
        seen.append(piece)
        turn.release()
    return seen


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_token_is_there_when_it_has_come(ours, framing):
    """With urllib3's own stream() it is there 512 bytes later, unless the answer is chunked."""
    with dripping(framing) as (server, turn), ours.get(server.url, stream=True) as response:
        seen = in_turn(filter(None, response.iter_lines()), turn)
    assert seen == [token.strip() for token in TOKENS]


def test_a_token_of_chunks(session):
    with dripping("chunked") as (server, turn), session.get(server.url, stream=True) as response:
        seen = in_turn(response.iter_content(None), turn)
    assert seen == TOKENS


def test_a_token_that_is_compressed(ours):
    packer = __import__("zlib").compressobj(wbits=31)
    tokens = [packer.compress(token) + packer.flush(2) for token in TOKENS]
    with (
        dripping("chunked", tokens, b"Content-Encoding: gzip\r\n") as (server, turn),
        ours.get(server.url, stream=True) as response,
    ):
        seen = in_turn(filter(None, response.iter_lines()), turn)
    assert seen == [token.strip() for token in TOKENS]


def test_sse_of_a_model(session, tokens_plain):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": "Bearer mock-key"}
    url = tokens_plain.url + "/v1/chat/completions"
    with session.post(url, json=body, headers=headers, stream=True) as response:
        lines = [line for line in response.iter_lines(decode_unicode=True) if line]
    assert lines[-1] == "data: [DONE]"
    assert len([json.loads(line[6:]) for line in lines[:-1]]) >= 50


BODY = bytes(range(256)) * 40


@pytest.fixture
def bodies():
    chunked = b"".join(b"400\r\n%s\r\n" % BODY[i : i + 1024] for i in range(0, len(BODY), 1024))
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY) as whole,
        answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n"
        ) as pieces,
    ):
        yield whole, pieces


@pytest.mark.parametrize("size", [1, 7, 1024, 100_000, None])
def test_iter_content(session, bodies, size):
    for server in bodies:
        with session.get(server.url, stream=True) as response:
            pieces = list(response.iter_content(size))
        assert b"".join(pieces) == BODY
        assert all(0 < len(piece) <= (size or len(BODY)) for piece in pieces)
        assert server.connections == 1 or size is not None
    assert [server.connections for server in bodies] == [1, 1]


def test_raw_is_a_file(session, bodies):
    for server in bodies:
        with session.get(server.url, stream=True) as response:
            raw = response.raw
            assert not raw.closed and raw.readable()
            assert raw.read(1000) == BODY[:1000]
            assert raw.read(0) == b""
            first = raw.read1(10)
            assert 0 < len(first) <= 10
            rest = raw.read()
            assert first + rest == BODY[1000:]
            assert raw.read() == raw.read(10) == b""
            assert raw.tell() == len(BODY)
            assert raw.closed
            raw.release_conn()
        with session.get(server.url, stream=True) as response, io.BytesIO() as file:
            shutil.copyfileobj(response.raw, file)
            assert file.getvalue() == BODY
        with session.get(server.url, stream=True) as response:
            assert b"".join(response.raw) == BODY
        with session.get(server.url, stream=True) as response:
            assert b"".join(response.raw.stream(333)) == BODY
        with session.get(server.url, stream=True) as response:
            buffer = bytearray(700)
            assert response.raw.readinto(buffer) == 700 and buffer == BODY[:700]
            response.raw.drain_conn()
        assert session.get(server.url, stream=True).raw.data == BODY
        assert server.connections == 1


def test_ways_of_reading_can_be_mixed(ours, bodies):
    """urllib3's own loses its place among chunks."""
    for server in bodies:
        with ours.get(server.url, stream=True) as response:
            pieces = response.raw.stream(333)
            begun = next(pieces) + response.raw.read1(50) + response.raw.read(100)
            assert begun + b"".join(pieces) == BODY
            assert response.raw.tell() == len(BODY)
        assert server.connections == 1


def test_raw_as_text(session):
    payload = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\none\ntwo\nend\n"
    with answering(payload) as server, session.get(server.url, stream=True) as response:
        response.raw.auto_close = False
        lines = list(io.TextIOWrapper(response.raw))
    assert lines == ["one\n", "two\n", "end\n"]


def test_raw_has_no_descriptor(ours, bodies):
    """As io says it, and not with a plain OSError: TextIOWrapper asks, before Python 3.10."""
    with ours.get(bodies[0].url, stream=True) as response, pytest.raises(io.UnsupportedOperation):
        response.raw.fileno()


def test_read_chunked(session, bodies):
    whole, pieces = bodies
    with session.get(pieces.url, stream=True) as response:
        assert response.raw.chunked
        assert b"".join(response.raw.read_chunked(100)) == BODY
    wrong = pytest.raises(urllib3.exceptions.ResponseNotChunked)
    with session.get(whole.url, stream=True) as response, wrong:
        list(response.raw.read_chunked())


def test_an_answer_that_is_read_to_its_last_byte_keeps_its_connection(session, bodies):
    """Also where it is closed before the end itself was seen."""
    whole, _ = bodies
    for _ in range(5):
        response = session.get(whole.url, stream=True)
        assert response.raw.read(len(BODY)) == BODY
        response.close()
        response = session.get(whole.url, stream=True)
        read = b""
        while len(read) < len(BODY):
            read += response.raw.read1(3000)
        response.close()
    assert whole.connections == 1


@pytest.mark.parametrize("how", ["close", "with", "raw", "dropped"])
def test_a_stream_that_is_left_ends_its_connection(session, how):
    gone = threading.Event()

    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        with contextlib.suppress(OSError):
            while connection.recv(10):
                pass
        gone.set()

    with servers.RawServer(handle) as server:
        response = session.get(server.url, stream=True)
        assert response.raw.read(2) == b"so"
        assert not gone.is_set()
        if how == "close":
            response.close()
            response.close()
        elif how == "with":
            with response:
                pass
        elif how == "raw":
            response.raw.close()
        del response
        gc.collect()
        assert gone.wait(20)


def test_a_closed_answer_gives_nothing_more(session):
    with ending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", threading.Event()) as server:
        response = session.get(server.url, stream=True)
        assert response.raw.read(4) == b"some"
        response.close()
        assert response.raw.closed
        assert response.raw.read() == b""
        assert list(response.iter_content(10)) == []


def test_another_thread_ends_a_stream(ours):
    waiting = threading.Event()
    with ending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", waiting) as server:
        response = ours.get(server.url, stream=True)
        assert response.raw.read(4) == b"some"
        timer = threading.Timer(0.2, response.raw.shutdown)
        timer.start()
        with pytest.raises(
            (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)
        ):
            list(response.iter_content(10))
        timer.join()
        waiting.set()


def test_a_stream_is_read_in_another_thread(session, bodies):
    for server in bodies:
        response = session.get(server.url, stream=True)
        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(lambda r=response: r.content).result(20) == BODY


def test_an_answer_is_pickled(session, bodies):
    response = session.get(bodies[0].url, stream=True)
    loaded = pickle.loads(pickle.dumps(response))
    assert loaded.content == BODY and loaded.status_code == 200 and loaded.reason == "OK"


# ---- what goes wrong in the call


def refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def failure(session, url, **arguments):
    """The exception and its exact class; its request is there."""
    with pytest.raises(requests.RequestException) as caught:
        session.get(url, **arguments)
    error = caught.value
    assert error.request is not None and error.request.url.startswith(url)
    return error, type(error)


def test_refused_and_unresolved(session):
    for url, kind in (
        (refused(), NewConnectionError),
        ("http://nowhere.invalid", urllib3.exceptions.NameResolutionError),
    ):
        error, exact = failure(session, url + "/x?y=secret")
        assert exact is requests.ConnectionError
        (cause,) = error.args
        assert isinstance(cause, MaxRetryError) and type(cause.reason) is kind
        # Of requests' own adapter every log has the keys that are in a query.
        target = "/x?y=[secure]" if is_ours(session) else "/x?y=secret"
        assert cause.url == target and cause.pool.host in url
        assert f"Max retries exceeded with url: {target} (Caused by" in str(error)


def test_how_often_to_connect_max_retries_says(echoing):
    with llmpool.Pool(retry_backoff=60) as pool:
        for retries in (0, 0, 2):
            session = mounted(Adapter(pool=pool, max_retries=retries))
            before = pool.stats().opened
            with pytest.raises(requests.ConnectionError):
                session.get(refused())
            assert (pool.stats().opened - before, pool.stats().retries) == (1 + retries, 0)


def test_connect_timeout(session):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        host, port = full.getsockname()
        queued = []
        for _ in range(4):  # so that a SYN is dropped
            queued.append(socket.socket())
            queued[-1].setblocking(False)
            queued[-1].connect_ex((host, port))
        try:
            error, exact = failure(session, f"http://{host}:{port}", timeout=(0.2, 20))
        finally:
            for one in queued:
                one.close()
    assert exact is requests.ConnectTimeout
    assert isinstance(error.args[0].reason, urllib3.exceptions.ConnectTimeoutError)


def test_read_timeout(session):
    waiting = threading.Event()
    with ending(b"", waiting) as server:
        for timeout in (0.2, (20, 0.2), urllib3.Timeout(20, read=0.2), urllib3.Timeout(total=0.2)):
            error, exact = failure(session, server.url, timeout=timeout)
            assert exact is requests.ReadTimeout
            assert isinstance(error.args[0], ReadTimeoutError)
            assert f"port={server.port}" in str(error) and "Read timed out." in str(error)
        waiting.set()


@pytest.mark.parametrize("timeout", [0, -1, "x", True, (1, 2, 3), (1,), (0, 1), (1, -5)])
def test_timeouts_that_cannot_be_meant(session, echoing, timeout):
    with pytest.raises(ValueError):
        session.get(echoing.url, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 5, 5.5, (5, None), (None, 5), urllib3.Timeout(5, 5)])
def test_timeouts_that_are_not_reached(session, echoing, timeout):
    assert session.get(echoing.url, timeout=timeout).ok


def test_ends_before_an_answer(session):
    with ending(b"") as server:
        error, exact = failure(session, server.url)
    assert exact is requests.ConnectionError
    assert isinstance(error.args[0], urllib3.exceptions.ProtocolError)
    assert isinstance(error.args[0].args[1], RemoteDisconnected)


def test_ends_within_a_head(ours):
    """Which http.client takes for its end, and the answer for a whole one."""
    with ending(b"HTTP/1.1 200 OK\r\nA: b\r\n") as server:
        assert failure(ours, server.url)[1] is requests.ConnectionError


def test_reset_before_an_answer(session):
    def handle(connection, number):
        servers.read_request(connection)
        servers.reset(connection)

    with servers.RawServer(handle) as server:
        error, exact = failure(session, server.url)
    assert exact is requests.ConnectionError
    assert isinstance(error.args[0].args[1], ConnectionResetError)


def test_no_http(session):
    with ending(b"SSH-2.0-OpenSSH\r\n\r\n") as server:
        error, exact = failure(session, server.url)
    assert exact is requests.ConnectionError
    assert isinstance(error.args[0], urllib3.exceptions.ProtocolError)


def test_tls(session, certificates):
    with servers.RawServer(echo, certificates.context("good")) as server:
        error, exact = failure(session, server.url)
        assert exact is requests.exceptions.SSLError
        assert isinstance(error.args[0], MaxRetryError)
        assert "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed" in str(error)
        assert isinstance(error.args[0].reason.args[0], ssl.SSLCertVerificationError)
    with servers.RawServer(lambda connection, _: servers.answer(connection)) as server:
        _, exact = failure(session, server.url.replace("http://", "https://"), timeout=5)
        assert exact is requests.exceptions.SSLError


@pytest.mark.parametrize("url", ["http://h:99999/", "http:///x", "ftp://127.0.0.1/", "http://[x/"])
def test_urls_that_lead_nowhere(kind, url):
    if "[" in url and kind is HTTPAdapter:
        return  # a plain ValueError, which InvalidURL is as well
    prepared = requests.Request("GET", "http://127.0.0.1/").prepare()
    prepared.url = url
    with pytest.raises(requests.exceptions.InvalidURL):
        kind().send(prepared)


def test_header_that_cannot_be_sent(ours, echoing):
    """http.client says ValueError, which this is."""
    prepared = requests.Request("GET", echoing.url).prepare()
    prepared.headers["X-A"] = "b\r\nC: d"
    with pytest.raises(ValueError):
        ours.send(prepared)


# ---- and while the body is read

BROKEN = {
    "length": b"Content-Length: 10\r\n\r\nsome",
    "chunk": b"Transfer-Encoding: chunked\r\n\r\n9\r\nsome",
    "between": b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    "no-chunk": b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nxyz\r\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_answers_that_break_off(session, how):
    with ending(b"HTTP/1.1 200 OK\r\n" + BROKEN[how]) as server:
        with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
            session.get(server.url)
        assert isinstance(caught.value.args[0], urllib3.exceptions.ProtocolError)
        with session.get(server.url, stream=True) as response:
            pieces = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                for piece in response.iter_content(2):
                    pieces.append(piece)
            assert b"some".startswith(b"".join(pieces))
        wrong = pytest.raises(urllib3.exceptions.ProtocolError)
        with session.get(server.url, stream=True) as response, wrong:
            response.raw.read()


def test_reset_while_it_is_read(session):
    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")
        go.wait(20)
        servers.reset(connection)

    go = threading.Event()
    with servers.RawServer(handle) as server, session.get(server.url, stream=True) as response:
        assert response.raw.read(4) == b"some"
        go.set()
        with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
            list(response.iter_content(4))
        assert isinstance(caught.value.args[0].args[1], ConnectionResetError)


def test_silence_while_it_is_read(session):
    waiting = threading.Event()
    with ending(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome", waiting) as server:
        with pytest.raises(requests.ConnectionError) as caught:
            session.get(server.url, timeout=(20, 1.5))
        assert isinstance(caught.value.args[0], ReadTimeoutError)
        assert not isinstance(caught.value, requests.Timeout)
        waiting.set()


# ---- max_retries


def counting(statuses, headers=b""):
    """A server that answers its requests with these statuses in turn, the last one for ever; 0
    closes instead, -1 waits until somebody else does. Its attribute bodies has what it was sent."""

    def handle(connection, number):
        rest = b""
        while True:
            _, body, rest = read_any(connection, rest)
            index = min(len(server.bodies), len(statuses) - 1)
            server.bodies.append(body)
            if statuses[index] <= 0:
                connection.recv(1 if statuses[index] else 0)
                return
            servers.answer(connection, b"ok", headers, b"%d Status" % statuses[index])

    server = servers.RawServer(handle)
    server.bodies = []
    return server


RETRY = urllib3.Retry(total=2, status_forcelist=[500])


def test_max_retries_as_people_read_it(kind):
    assert kind().max_retries.total == 0 and kind().max_retries.read is False
    assert kind(max_retries=3).max_retries.total == 3
    assert kind(max_retries=RETRY).max_retries is RETRY
    assert isinstance(kind(), HTTPAdapter)


def test_nothing_is_retried_by_default(session):
    with counting([500]) as server:
        assert session.get(server.url).status_code == 500
        assert len(server.bodies) == 1
    with counting([0]) as server:
        failure(session, server.url)
        assert len(server.bodies) == 1


def test_statuses(kind):
    session = mounted(kind(max_retries=RETRY))
    with counting([500, 500, 200]) as server:
        response = session.put(server.url, data=b"x")
        assert response.status_code == 200 and server.bodies == [b"x"] * 3
        history = response.raw.retries.history
        assert [(x.method, x.url, x.status) for x in history] == [("PUT", "/", 500)] * 2
    with counting([500]) as server:
        error, exact = failure(session, server.url)
        assert exact is requests.exceptions.RetryError and len(server.bodies) == 3
        assert "too many 500 error responses" in str(error)
    with counting([500]) as server:
        assert session.post(server.url).status_code == 500
        assert len(server.bodies) == 1
    session = mounted(kind(max_retries=RETRY.new(raise_on_status=False, allowed_methods=None)))
    with counting([500]) as server:
        response = session.post(server.url, data=io.BytesIO(b"file"))
        assert response.content == b"ok" and server.bodies == [b"file"] * 3


def test_retry_after(kind):
    session = mounted(kind(max_retries=1))
    with counting([503, 200], b"Retry-After: 1\r\n") as server:
        begun = time.monotonic()
        assert session.get(server.url).status_code == 200
        assert time.monotonic() - begun >= 1
    with counting([503], b"Retry-After: 0\r\n") as server:
        assert session.get(server.url).status_code == 503 and len(server.bodies) == 2


def test_errors(kind):
    session = mounted(kind(max_retries=2))
    with counting([0, 0, 200]) as server:
        assert session.get(server.url).status_code == 200 and len(server.bodies) == 3
    with counting([0, 200]) as server:
        with pytest.raises(requests.ConnectionError):
            session.post(server.url, data=b"x")
        assert len(server.bodies) == 1
    with counting([0]) as server:
        error, _ = failure(session, server.url)
        assert isinstance(error.args[0], MaxRetryError) and len(server.bodies) == 3
    with counting([-1, 200]) as server:
        assert session.get(server.url, timeout=(20, 0.5)).status_code == 200
    with counting([-1]) as server:
        error, exact = failure(session, server.url, timeout=(20, 0.1))
        assert exact is requests.ConnectionError
        # The last is given up when it was sent, whether or not it has been read.
        assert servers.wait_until(lambda: len(server.bodies) == 3)
        assert isinstance(error.args[0].reason, ReadTimeoutError)
    error, _ = failure(session, refused())
    assert isinstance(error.args[0].reason, NewConnectionError)


def test_a_number_that_was_set(kind):
    adapter = kind()
    adapter.max_retries = 1
    with counting([0, 200]) as server:
        assert mounted(adapter).get(server.url).status_code == 200


def test_an_iterator_is_sent_once():
    """urllib3 would send the second time what is left of it, which is nothing."""
    session = mounted(Adapter(max_retries=RETRY.new(allowed_methods=None)))
    with counting([500]) as server:
        assert session.post(server.url, data=iter([b"x"])).status_code == 500
        assert len(server.bodies) == 1
    with counting([0]) as server:
        with pytest.raises(requests.ConnectionError):
            session.post(server.url, data=iter([b"x"]))
        assert len(server.bodies) == 1


# ---- proxies


def was_proxied(response):
    return response.content.startswith(b"GET http://")


def test_explicit_proxy_and_its_credentials(session, proxied):
    response = session.get("http://a.test/x", proxies={"http": proxied.url})
    assert response.content.startswith(b"GET http://a.test/x HTTP/1.1\r\n")
    bare = proxied.url[len("http://") :]
    for url in (f"http://us%40er:p%3Ass@{bare}", f"us%40er:p%3Ass@{bare}"):
        response = session.get("http://a.test/x", proxies={"http://a.test": url})
        assert response.content.count(b"Proxy-Authorization: Basic dXNAZXI6cDpzcw==") == 1
        assert not was_proxied(session.get(proxied.url, proxies={"http://a.test": url}))
    assert b"Proxy-Auth" not in session.get("http://a.test/", proxies={"all": bare}).content


NO_PROXY = ["", "*", "127.0.0.1", "127.0.0.0/8", "localhost", "a.test", ".test", "b.test:80"]


@pytest.mark.parametrize("no_proxy", NO_PROXY)
def test_proxies_of_the_environment(monkeypatch, kind, proxied, no_proxy):
    """requests reads it, and what it calls direct is."""
    monkeypatch.setenv("http_proxy", proxied.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    session = mounted(kind())
    with servers.RawServer(servers.answer_heads) as direct:
        assert not was_proxied(session.get(direct.url))
        session.trust_env = True
        wanted = not requests.utils.should_bypass_proxies(direct.url, None)
        assert was_proxied(session.get(direct.url)) == wanted
    if not requests.utils.should_bypass_proxies("http://www.a.test/", None):
        assert was_proxied(session.get("http://www.a.test/"))


def test_proxies_that_fail(session):
    for url in ("http://a.test", "https://a.test"):
        error, exact = failure(session, url, proxies={"all": refused()})
        assert exact is requests.exceptions.ProxyError
        assert isinstance(error.args[0].reason, urllib3.exceptions.ProxyError)

    def refuse(connection, number):
        servers.read_request(connection)
        servers.answer(connection, b"", b"", b"407 Proxy Authentication Required")

    with servers.RawServer(refuse) as server:
        error, exact = failure(session, "https://a.test", proxies={"https": server.url})
        assert exact is requests.exceptions.ProxyError and "407" in str(error)


def test_proxies_that_cannot_be(session, ours):
    with pytest.raises(requests.exceptions.InvalidProxyURL):
        session.get("http://a.test", proxies={"http": "http://"})
    with pytest.raises(requests.exceptions.InvalidProxyURL) as caught:
        ours.get("http://a.test", proxies={"http": "http://u:secret@[x"})
    assert "secret" not in str(caught.value)
    for url in ("https://127.0.0.1:1", "socks4://127.0.0.1:1"):  # urllib3 has both
        with pytest.raises(requests.exceptions.InvalidSchema, match="socks5h"):
            ours.get("http://a.test", proxies={"http": url})


def test_socks(ours, echoing, tmp_path):
    """Which needs no PySocks."""
    if shutil.which("microsocks") is None:
        pytest.skip("microsocks is not installed")
    port = servers.free_port()
    with servers.running(["microsocks", "-i", "127.0.0.1", "-p", str(port)], port, tmp_path):
        response = ours.get(echoing.url, proxies={"http": f"socks5h://127.0.0.1:{port}"})
        assert response.content.startswith(b"GET / ")


# ---- TLS


@pytest.fixture(scope="module")
def good(certificates):
    with servers.RawServer(echo, certificates.context("good")) as server:
        yield server


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_each_form_of_verify(session, certificates, good, tmp_path):
    (tmp_path / "ca.pem").write_bytes(Path(certificates.ca_file).read_bytes())
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    for verify in (certificates.ca_file, str(tmp_path), False):
        assert session.get(good.url, verify=verify).ok
    for verify in (True, None, str(certificates.directory / "unknown-ca.pem")):
        if verify is not None or is_ours(session):
            with pytest.raises(requests.exceptions.SSLError):
                session.get(good.url, verify=verify)
    for arguments in ({"verify": "/nowhere.pem"}, {"cert": "/nowhere.pem"}):
        with pytest.raises(OSError, match=r"/nowhere\.pem"):
            session.get(good.url, **arguments)
    key = certificates.pair("good")[1]
    with pytest.raises(requests.exceptions.SSLError):
        session.get(good.url, verify=key)
    session.verify = certificates.ca_file
    assert session.get(good.url).ok


def test_verify_is_nothing_to_plain_http(session, echoing):
    assert session.get(echoing.url, verify="/nowhere.pem").ok


def test_who_verifies_nobody_is_warned(session, good):
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning, match=r"127\.0\.0\.1"):
        session.get(good.url, verify=False)


def test_client_certificate(session, certificates):
    context = certificates.context("good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    with servers.RawServer(echo, context) as server:
        session.verify = certificates.ca_file
        assert session.get(server.url, cert=certificates.pair("good")).ok
        if is_ours(session):  # the other one needs a tuple
            assert session.get(server.url, cert=list(certificates.pair("good"))).ok
        with pytest.raises(requests.ConnectionError):
            session.get(server.url)


def test_ca_bundle_of_the_environment(monkeypatch, kind, certificates, good):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca_file)
    session = mounted(kind())
    with pytest.raises(requests.exceptions.SSLError):
        session.get(good.url)
    session.trust_env = True
    assert session.get(good.url).ok


def test_context_of_a_subclass(kind, certificates, good):
    class Own(kind):
        def init_poolmanager(self, *arguments, **options):
            options["ssl_context"] = ssl.create_default_context(cafile=certificates.ca_file)
            super().init_poolmanager(*arguments, **options)

    assert mounted(Own()).get(good.url).ok
    assert mounted(copy.copy(Own())).get(good.url).ok


def test_what_has_no_counterpart_is_refused():
    class Source(Adapter):
        def init_poolmanager(self, *arguments, **options):
            super().init_poolmanager(*arguments, source_address=("127.0.0.1", 0), **options)

    with pytest.raises(TypeError, match="source_address"):
        Source()
    for name in ("cert_verify", "get_connection_with_tls_context", "proxy_headers"):
        with pytest.raises(TypeError, match=name):
            type("Own", (Adapter,), {name: lambda self, *_: None})


def test_hooks_of_a_subclass(kind, echoing):
    class Own(kind):
        def add_headers(self, request, **arguments):
            request.headers["X-Own"] = str(arguments["timeout"])

        def build_response(self, request, raw):
            response = super().build_response(request, raw)
            response.own = raw.status
            return response

    response = mounted(Own()).get(echoing.url, timeout=7)
    assert b"X-Own: 7" in response.content and response.own == 200


# ---- pools


def test_adapters_share_the_pool_of_the_process():
    with counting([200]) as server:
        for _ in range(3):
            with mounted(Adapter()) as session:
                session.get(server.url)
        assert llmpool.get(server.url).status_code == 200
        assert server.connections == 1
        with mounted(Adapter(isolated=True)) as session:
            session.get(server.url)
        assert server.connections == 2


def test_a_pool_of_ones_own(open_pool, echoing):
    pool = open_pool()
    before = pool.stats().submitted
    with mounted(Adapter(pool=pool)) as session:
        session.get(echoing.url)
    assert pool.stats().submitted == before + 1
    with pytest.raises(TypeError, match="pool"):
        pickle.dumps(Adapter(pool=pool))


def test_pool_block(at_once):
    def handle(connection, number):
        rest = b""
        while True:
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        session = mounted(Adapter(pool_maxsize=2, pool_block=True))
        assert all(at_once(lambda _: session.get(server.url).ok, 40, 10))
        assert server.connections <= 2


def test_options_beside_a_call(ours, echoing, open_pool):
    waiting = threading.Event()
    with ending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", waiting) as server:
        with llmpool.options(total=1.5):
            with pytest.raises(requests.ConnectionError) as caught:
                ours.get(server.url)
            assert isinstance(caught.value.args[0], ReadTimeoutError)
        waiting.set()
    with ending(b"", threading.Event()) as server, llmpool.options(first_byte=0.2):
        assert failure(ours, server.url)[1] is requests.ReadTimeout
    with counting([500, 200]) as server, llmpool.options(retry="status"):
        assert ours.get(server.url).status_code == 200
        assert len(server.bodies) == 2


def test_close_ends_own_requests_alone():
    waiting = threading.Event()
    with ending(b"", waiting) as server:
        adapter, other = Adapter(), Adapter()
        with ThreadPoolExecutor(2) as executor:
            mine = executor.submit(mounted(adapter).get, server.url, timeout=20)
            others = executor.submit(mounted(other).get, server.url, timeout=20)
            while server.connections < 2:
                time.sleep(0.01)
            adapter.close()
            with pytest.raises(requests.ConnectionError):
                mine.result(20)
            assert not others.done()
            other.close()
            with pytest.raises(requests.ConnectionError):
                others.result(20)
        waiting.set()


def test_an_answer_outlives_its_session(kind):
    """As requests.get(stream=True) needs it."""
    for options in ({}, {"isolated": True}):
        if options and kind is not Adapter:
            continue
        with dripping("chunked") as (server, turn):
            with mounted(kind(**options)) as session:
                response = session.get(server.url, stream=True)
            del session
            gc.collect()
            turn.release(len(TOKENS))
            assert response.content == b"".join(TOKENS)


def test_a_closed_adapter_can_be_used_again(session, echoing):
    session.close()
    assert session.get(echoing.url).ok


def test_sessions_are_pickled(kind, echoing):
    adapter = kind(max_retries=urllib3.Retry(5), pool_maxsize=3)
    session = pickle.loads(pickle.dumps(mounted(adapter)))
    loaded = session.get_adapter("https://a.test")
    assert type(loaded) is kind and loaded.max_retries.total == 5 and loaded._pool_maxsize == 3
    assert session.get(echoing.url).ok
    assert mounted(copy.deepcopy(adapter)).get(echoing.url).ok


def test_what_adapters_keep_is_pickled():
    adapter = pickle.loads(pickle.dumps(Adapter(http2=False, isolated=True, trust_env=False)))
    assert {k: v for k, v in adapter._options.items() if v is not None} == {
        "http1": True, "http2": False, "isolated": True, "trust_env": False,
    }  # fmt: skip


def test_many_threads(session, echoing, at_once):
    def call(number):
        response = session.post(echoing.url, data=b"%d" % number)
        return sent(response)[2] == b"%d" % number

    assert all(at_once(call, 400, 20))


def test_ways_do_not_grow_without_end(ours, proxied):
    for number in range(70):
        url = proxied.url.replace("//", f"//u{number}:p@")
        assert ours.get("http://a.test/", proxies={"http": url}).ok
    assert len(ours.get_adapter("http://")._leases) <= 64
    assert transport.way(proxy=proxied.url).key != transport.way().key


# ---- mocks


def test_responses(echoing):
    responses = pytest.importorskip("responses")
    session = mounted(Adapter())
    with responses.RequestsMock() as mock:
        mock.get(echoing.url + "/x", body=b"mocked")
        assert session.get(echoing.url + "/x").content == b"mocked"
        with pytest.raises(requests.ConnectionError):
            session.get(echoing.url + "/y")
        mock.add_passthru(echoing.url + "/z")
        assert session.get(echoing.url + "/z").content.startswith(b"GET /z ")
    response = session.get(echoing.url + "/x")
    assert response.content.startswith(b"GET /x ") and hasattr(response.raw, "llmpool")


def test_what_is_in_the_place_of_urllib3_s_pools(ours, echoing):
    def urlopen(self, method, url, **_):
        return urllib3.HTTPResponse(io.BytesIO(b"mocked"), status=299, preload_content=False)

    assert hasattr(ours.get(echoing.url).raw, "llmpool")
    for mock in (urlopen, MagicMock(return_value=urlopen(None, "", ""))):
        with patch.object(urllib3.HTTPConnectionPool, "urlopen", mock):
            answer = ours.get(echoing.url)
        assert (answer.status_code, answer.content) == (299, b"mocked")
        assert hasattr(ours.get(echoing.url).raw, "llmpool")


def test_requests_mock(ours, echoing):
    requests_mock = pytest.importorskip("requests_mock")
    with requests_mock.Mocker(session=ours) as mock:
        mock.get(echoing.url, text="mocked")
        assert ours.get(echoing.url).text == "mocked"
    assert ours.get(echoing.url).text != "mocked"


def test_vcr(ours, tmp_path):
    vcr = pytest.importorskip("vcr")
    with counting([200]) as server:
        for _ in range(2):
            with vcr.use_cassette(str(tmp_path / "tape.yaml")):
                assert ours.get(server.url).content == b"ok"
        assert len(server.bodies) == 1
        assert hasattr(ours.get(server.url).raw, "llmpool")


MOCKED_IMPORT = """
import requests, responses, sys
with responses.RequestsMock() as mock:
    import llmpool.requests
    session = requests.Session()
    session.mount("http://", llmpool.requests.Adapter())
    mock.get(sys.argv[1], body=b"mocked")
    assert session.get(sys.argv[1]).content == b"mocked"
response = session.get(sys.argv[1])
assert response.content.startswith(b"GET / ") and response.raw.llmpool
"""


def test_import_within_a_mock(run_python, echoing):
    pytest.importorskip("responses")
    done = run_python(MOCKED_IMPORT, echoing.url)
    assert done.returncode == 0, done.stderr


# ---- processes

FORK = """
import os, sys, requests
from llmpool.requests import Adapter
session = requests.Session()
session.mount("http://", Adapter())
proxies = {"http": sys.argv[2]}
for _ in range(2):
    assert session.get(sys.argv[1]).ok and session.get("http://a.test/", proxies=proxies).ok
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
assert session.get(sys.argv[1]).ok and session.get("http://a.test/", proxies=proxies).ok
print("well")
"""


def test_fork(run_python, echoing, proxied):
    done = run_python(FORK, echoing.url, proxied.url)
    assert done.returncode == 0 and done.stdout.splitlines().count("well") == 4, done.stderr


def test_import_of_the_package_leaves_requests_alone(run_python):
    script = """
import sys, llmpool
assert not {"requests", "urllib3"} & set(sys.modules)
import llmpool.requests
assert sys.modules["requests"] is not llmpool.requests
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr


def test_import_without_requests_says_what_to_install(run_python):
    script = "import sys; sys.modules['requests'] = None; import llmpool.requests"
    done = run_python(script)
    assert "pip install 'libllmpool[requests]'" in done.stderr
    assert os.path.basename(done.stderr.strip().splitlines()[-1]).startswith("ImportError")
