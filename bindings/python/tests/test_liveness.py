"""How dead peers are noticed: TCP keepalive and TCP_USER_TIMEOUT, HTTP/2 PING; and warming."""

import contextlib
import os
import socket
import struct
import threading
import time

import pytest
import servers

import llmpool

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, HEADERS, DATA, GOAWAY = 4, 6, 1, 0, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4


def sockets_of_this_process(port):
    """Copies of the client's sockets that are connected to the port."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        if int(name) in [copy.fileno() for copy in found]:
            continue
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # it was closed meanwhile
            continue
        with contextlib.suppress(OSError):
            if copy.family == socket.AF_INET and copy.getpeername()[1] == port:
                found.append(copy)
                continue
        copy.close()
    return found


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "milliseconds, idle, interval, user_timeout",
    [(None, 15, 5, 30_000), (4000, 4, 2, 8_000), (500, 1, 1, 1_000), (0, None, None, 0)],
)
def test_socket_options(scheme, milliseconds, idle, interval, user_timeout, nginx, open_client):
    options = {} if milliseconds is None else {"tcp_keepalive": milliseconds / 1000}
    client = open_client(verify=False, **options)
    port = nginx.plain if scheme == "http" else nginx.tls
    client.get(f"{scheme}://127.0.0.1:{port}/small").raise_for_status()
    found = sockets_of_this_process(port)
    try:
        assert len(found) == 1
        get, tcp = found[0].getsockopt, socket.IPPROTO_TCP
        assert get(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == (0 if idle is None else 1)
        if idle is not None:
            assert get(tcp, socket.TCP_KEEPIDLE) == idle
            assert get(tcp, socket.TCP_KEEPINTVL) == interval
            assert get(tcp, socket.TCP_KEEPCNT) == 3
        assert get(tcp, socket.TCP_USER_TIMEOUT) == user_timeout
        assert get(tcp, socket.TCP_NODELAY) == 1
        assert os.get_inheritable(found[0].fileno()) is False
    finally:
        for copy in found:
            copy.close()


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Http2Server:
    """HTTP/2 by hand, so that it can keep quiet about PINGs. One connection."""

    def __init__(self, answers_pings=True, script=None):
        self.answers_pings, self.script = answers_pings, script
        self.pings, self.pongs, self.streams, self.closed_at = [], [], [], None
        self.server = servers.RawServer(self._handle)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        self.server.__exit__(*exception)

    def respond(self, stream):
        status_200 = b"\x88"
        self.connection.sendall(
            frame(HEADERS, END_HEADERS, stream, status_200) + frame(DATA, END_STREAM, stream, b"ok")
        )

    def _read(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _handle(self, connection, _):
        self.connection = connection
        try:
            assert self._read(len(PREFACE)) == PREFACE
            connection.sendall(frame(SETTINGS))
            while True:
                head = self._read(9)
                size = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                self._take(kind, flags, stream, self._read(size))
        finally:
            self.closed_at = time.monotonic()

    def _take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.connection.sendall(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == PING:
            self.pings.append(time.monotonic())
            if self.answers_pings:
                self.connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            self.streams.append(stream)
            (self.script or Http2Server.respond)(self, stream)


def test_a_server_that_does_not_answer_a_ping_is_given_up(open_client):
    with Http2Server(answers_pings=False, script=lambda *_: None) as server:
        client = open_client(server.server.url, http1=False, ping_interval=0.4, timeout=60)
        began = time.monotonic()
        with pytest.raises(llmpool.ReadError) as caught:
            client.post("/", content=b"x")
        assert 0.75 <= time.monotonic() - began < 20  # the interval, then as long for the answer
        assert caught.value.status == "LLMPOOL_E_READ" and not caught.value.unseen
        assert "PING" in str(caught.value)
        assert servers.wait_until(lambda: server.closed_at)
        assert len(server.pings) == 1 and len(server.streams) == 1
        assert client.pool.stats().closed == 1


def test_an_idle_connection_to_a_dead_server_is_given_up(open_client):
    with Http2Server(answers_pings=False) as server:
        client = open_client(server.server.url, http1=False, ping_interval=0.3)
        assert client.get("/").text == "ok"
        assert servers.wait_until(lambda: server.closed_at) and len(server.pings) == 1
        assert servers.wait_until(lambda: client.pool.stats().idle == 0)


def test_answered_pings_keep_a_long_answer_waiting(open_client):
    """They come in silence only, and never more often than the interval."""

    def think(server, stream):
        """As long as three pings take: this thread answers them meanwhile."""

        def think_then_respond():
            if servers.wait_until(lambda: len(server.pings) == 3, 60):
                server.respond(stream)

        threading.Thread(target=think_then_respond, daemon=True).start()

    with Http2Server(script=think) as server:
        client = open_client(server.server.url, http1=False, ping_interval=1, timeout=60)
        assert client.get("/").text == "ok"
        gaps = [after - before for before, after in zip(server.pings, server.pings[1:])]
        assert len(server.pings) == 3 and min(gaps) > 0.98, gaps


def test_no_ping_while_bytes_come_or_when_off(open_client):
    def trickle(server, stream):
        server.connection.sendall(frame(HEADERS, END_HEADERS, stream, b"\x88"))

        def send(left):
            last = left == 0
            server.connection.sendall(frame(DATA, END_STREAM if last else 0, stream, b"."))
            if not last:
                threading.Timer(0.1, send, (left - 1,)).start()

        send(35)

    with Http2Server(script=trickle) as server:
        client = open_client(server.server.url, http1=False, ping_interval=3)
        assert client.get("/").text == "." * 36 and server.pings == []

    def think(server, stream):
        threading.Timer(0.8, server.respond, (stream,)).start()

    with Http2Server(answers_pings=False, script=think) as server:
        client = open_client(server.server.url, http1=False, ping_interval=None)
        assert client.get("/").text == "ok" and server.pings == []


def test_the_servers_pings_are_answered(open_client):
    def ping_first(server, stream):
        for number in range(20):
            server.connection.sendall(frame(PING, 0, 0, b"%08d" % number))
        threading.Timer(0.3, server.respond, (stream,)).start()

    with Http2Server(script=ping_first) as server:
        assert open_client(server.server.url, http1=False).get("/").text == "ok"
        assert servers.wait_until(lambda: len(server.pongs) == 20)
        assert server.pongs == [b"%08d" % number for number in range(20)]


def test_warm(nginx, certificates, open_client):
    client = open_client(ca_file=certificates.ca_file)
    for number, url in enumerate((nginx.tls_url, nginx.url), 1):
        client.pool.warm(url)
        assert servers.wait_until(lambda wanted=number: client.pool.stats().idle == wanted)
        answer = client.get(url + "/small")
        assert answer.is_success and answer.reused and client.pool.stats().opened == number


def test_warm_opens_as_many_as_asked_and_allowed(nginx, open_client, at_once):
    client = open_client(limits=llmpool.Limits(max_connections=6, max_keepalive_connections=5))
    client.pool.warm(nginx.url, 4)
    assert servers.wait_until(lambda: client.pool.stats().idle == 4)
    client.pool.warm(nginx.url, 4)  # they are there
    client.pool.warm(nginx.url, 100)
    assert servers.wait_until(lambda: client.pool.stats().idle == 5)
    assert client.get(nginx.url + "/small").reused
    assert client.pool.stats().opened == 5 and servers.sockets_to(nginx.plain, ("01",)) >= 5
    with pytest.raises(ValueError, match="url"):
        client.pool.warm("no url")
    with pytest.raises(ValueError, match="connections"):
        client.pool.warm(nginx.url, -1)


def test_warm_where_nobody_listens(open_client):
    client = open_client()
    url = f"http://127.0.0.1:{servers.free_port()}"
    client.pool.warm(url, 3)
    assert servers.wait_until(lambda: client.pool.stats().connect_failures >= 1)
    assert client.pool.stats().opened == client.pool.stats().closed
    with pytest.raises(llmpool.ConnectError):
        client.get(url)


def test_warm_through_a_proxy_and_after_reconfiguration(nginx, open_client):
    client = open_client(proxy=f"http://127.0.0.1:{servers.free_port()}")
    client.pool.warm(nginx.url, 2)
    assert servers.wait_until(lambda: client.pool.stats().connect_failures >= 1)
    client.pool.configure(proxy="")
    client.pool.warm(nginx.url, 2)
    assert servers.wait_until(lambda: client.pool.stats().idle == 2)
    assert client.get(nginx.url + "/small").reused
