"""Which timeout counts, and what a request that it ended says."""

import contextlib
import re
import socket
import time

import pytest
import servers

import llmpool


def silent(connection, _):
    while connection.recv(65536):
        pass


@contextlib.contextmanager
def full_port():
    """A port whose backlog is full: what connects to it hears nothing."""
    with socket.socket() as listener, contextlib.ExitStack() as others:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def check_own_connect_timeout(client, url):
    """Of a request: it counts where it is longer than the pool's, and where it is shorter."""
    for seconds, shown in ((1.2, "within 1.2 s"), (0.05, "within 50 ms")):
        started = time.monotonic()
        with pytest.raises(llmpool.ConnectTimeout, match=shown):
            client.get(url, timeout=llmpool.Timeout(10, connect=seconds))
        assert time.monotonic() - started > seconds - 0.02


def test_connect_timeout_of_a_request_over_tcp(open_client):
    with full_port() as port:
        client = open_client(timeout=llmpool.Timeout(10, connect=0.3))
        client.pool.configure(timeout=llmpool.Timeout(10, connect=0.3))
        check_own_connect_timeout(client, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_connect_timeout_of_a_request_through_a_proxy(scheme, open_client):
    with servers.RawServer(silent) as proxy:
        client = open_client(proxy=f"{scheme}://127.0.0.1:{proxy.port}")
        client.pool.configure(timeout=llmpool.Timeout(10, connect=0.3))
        check_own_connect_timeout(client, "https://192.0.2.1/")


def test_connect_timeout_of_a_request_over_tls(open_client):
    with servers.RawServer(silent) as server:
        client = open_client()
        client.pool.configure(timeout=llmpool.Timeout(10, connect=0.3))
        check_own_connect_timeout(client, f"https://127.0.0.1:{server.port}/")


def test_silence_says_how_long_it_was(open_client):
    """Not after how many seconds the request ended, to a tenth."""

    def handle(connection, _):
        connection.recv(65536)
        time.sleep(0.1)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        silent(connection, _)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        with pytest.raises(llmpool.ReadTimeout) as caught:
            client.get("/", timeout=llmpool.Timeout(10, read=0.15))
        assert "sent nothing for 150 ms, its read timeout; " in str(caught.value)
        with pytest.raises(llmpool.ReadTimeout) as caught:
            client.get("/", timeout=llmpool.Timeout(10, read=1.5))
        found = re.search(r"for 1\.5 s, its read timeout; (\d+\.\d) s after", str(caught.value))
        assert found and 1.6 <= float(found[1]) < 5, str(caught.value)
        with pytest.raises(llmpool.TimeoutException) as caught:
            client.get("/", timeout=llmpool.Timeout(10, total=0.12))
        assert "took longer than 120 ms, its total timeout" in str(caught.value)


@pytest.mark.parametrize("answers", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>400</html>", b""])
def test_prior_knowledge_of_a_server_that_has_none(answers, open_client):
    def handle(connection, _):
        connection.recv(65536)
        connection.sendall(answers)

    with servers.RawServer(handle) as server:
        client = open_client(server.url, http1=False, max_retries=0)
        with pytest.raises(llmpool.TransportError, match=r"not said a word of HTTP/2.*http1=False"):
            client.get("/")
