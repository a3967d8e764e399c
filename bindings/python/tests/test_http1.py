"""HTTP/1.1: limits, idle connections, and what a broken connection means for a POST."""

import socket
import threading
import time
import uuid

import pytest
import servers

import llmpool


def test_a_thousand_on_at_most_eight_sockets(nginx, open_client, at_once):
    client = open_client(
        nginx.url, timeout=30, limits=llmpool.Limits(max_connections=8), http2=False
    )
    before = servers.sockets_to(nginx.plain)
    with servers.Watch(nginx.plain) as watch:
        results = at_once(lambda _: client.get("/small").content, 1000)
    assert set(results) == {b"x" * 200} and len(results) == 1000
    assert 1 <= watch.most - before <= 8
    stats = client.pool.stats()
    assert (stats.succeeded, stats.failed) == (1000, 0)
    assert stats.opened <= 8 and stats.pending == stats.active == 0
    assert stats.opened == stats.connecting + stats.in_use + stats.idle + stats.closed


def test_an_idle_connection_that_the_server_closes_is_gone(open_client):
    """At once and without another request: nothing else would notice for a long time."""
    close = threading.Event()

    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection)
        close.wait(10)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        client.get("/")
        assert client.pool.stats().idle == 1 and servers.sockets_to(server.port) == 1
        close.set()
        # CLOSE_WAIT (08) is the state of a descriptor that was not closed.
        assert servers.wait_until(lambda: servers.sockets_to(server.port) == 0, 5)
        assert servers.wait_until(lambda: client.pool.stats().idle == 0, 1)
        assert client.pool.stats().closed == 1


def close_after_reading_all(connection, buffer):
    servers.read_request(connection, buffer)
    return "closed"


def reset_after_reading_all(connection, buffer):
    servers.read_request(connection, buffer)
    time.sleep(0.005)
    servers.reset(connection)
    return "reset"


def reset_at_once(connection, buffer):
    servers.read_request(connection, buffer)
    servers.reset(connection)
    return "reset"


def close_with_half_unread(connection, buffer):
    head, buffer = servers.read_head(connection, buffer)
    half = servers.content_length(head) // 2
    while len(buffer) < half:
        buffer += connection.recv(min(65536, half - len(buffer)))
    return "half"


def die_within_the_head_of_the_answer(connection, buffer):
    servers.read_request(connection, buffer)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-le")
    return "head"


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize(
    "end",
    [close_after_reading_all, reset_after_reading_all, reset_at_once, close_with_half_unread,
     die_within_the_head_of_the_answer],
)  # fmt: skip
def test_a_post_on_a_reused_connection_is_sent_once(end, size, open_client):
    """A paid call must not be paid twice: counted by the nonce in its head."""
    seen = []

    def handle(connection, _):
        head, _, buffer = servers.read_request(connection)
        if b"/first" not in head.split(b"\r\n")[0]:  # the call came again, on another connection
            seen.append(head)
            servers.answer(connection)
            return
        servers.answer(connection)
        head, buffer = servers.read_head(connection, buffer)
        seen.append(head)
        end(connection, head + b"\r\n\r\n" + buffer)

    for _ in range(5):
        seen.clear()
        with servers.RawServer(handle) as server:
            client = open_client(server.url)
            client.get("/first")
            nonce = uuid.uuid4().hex
            with pytest.raises((llmpool.ReadError, llmpool.WriteError)) as caught:
                client.post("/call", content=b"x" * size, headers={"x-nonce": nonce})
            assert not caught.value.unseen
            time.sleep(0.05)
            assert sum(nonce.encode() in head for head in seen) == 1
            assert server.connections == 1


def test_an_answer_before_the_body_was_read(open_client):
    """413 and close while the client still sends: the answer arrives."""

    def handle(connection, _):
        servers.read_head(connection)
        servers.answer(connection, b"too much", b"connection: close\r\n", b"413 Too Large")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with servers.RawServer(handle) as server:
        answer = open_client(server.url).post("/", content=bytes(8_000_000))
        assert answer.status_code == 413 and answer.text == "too much"


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TRUNCATED = {
    "short of its content-length": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
    "chunked without its end": CHUNKED + b"5\r\nhello\r\n",
    "within a chunk": CHUNKED + b"5\r\nhel",
    "without the last line": CHUNKED + b"0\r\n",
    "within the head": b"HTTP/1.1 200 OK\r\ncontent-",
    "only an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_truncated_answer_is_never_success(name, end, open_client):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(TRUNCATED[name])
        if end == "reset":
            time.sleep(0.05)
            servers.reset(connection)

    with servers.RawServer(handle) as server:
        with pytest.raises((llmpool.ReadError, llmpool.RemoteProtocolError)) as caught:
            open_client(server.url).post("/", content=b"x")
        assert caught.value.status == "LLMPOOL_E_READ" and server.connections == 1


def test_until_close_is_complete_without_a_length(open_client):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    with servers.RawServer(handle) as server:
        assert open_client(server.url).get("/").text == "all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"junk\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
    ],
)
def test_broken_answers(answer, open_client):
    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(answer)
        connection.recv(1)

    with servers.RawServer(handle) as server, pytest.raises(llmpool.RemoteProtocolError) as caught:
        open_client(server.url).get("/")
    assert caught.value.status == "LLMPOOL_E_PROTOCOL"


def test_bytes_after_an_answer_close_the_connection(open_client):
    """They would be taken for the answer to the next request."""

    def handle(connection, number):
        servers.read_request(connection)
        servers.answer(connection, str(number).encode())
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        connection.recv(1)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        assert client.get("/").text == "1"
        assert servers.wait_until(lambda: client.pool.stats().idle == 0, 2)
        assert client.get("/").text == "2"
