"""Pools at work, each healthy or sick in one way: what their series look like is what alerts are
made for."""

import contextlib
import socket
import threading

import servers
from callers import Load

import llmpool

CHAT = "/v1/chat/completions"
PIECE = b"data: %s\n\n" % (b"x" * 1000)


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


class Running:
    """A pool, and what happens ahead of its samples."""

    def __init__(self, pool, before=None):
        self.pool = pool
        self.before = before


@contextlib.contextmanager
def client_of(url, connections, headers=None, budget=None, **options):
    limits = llmpool.Limits(max_connections=connections)
    with llmpool.Pool(limits=limits, **options) as pool:
        yield llmpool.Client(base_url=url, headers=headers, pool=pool, budget=budget)


@contextlib.contextmanager
def under_load(client, load, before=None):
    """The pool is closed first, so that nobody waits for what never comes."""
    with load:
        try:
            yield Running(client.pool, before)
        finally:
            load.stop()
            client.pool.close()


# ---- sick


@contextlib.contextmanager
def too_small(mock):
    """Ten that ask, and connections for two."""
    with client_of(mock.url, 2, mock.headers) as client:

        def call():
            client.post(CHAT, json=chat("gpt-mock-lasts-0.4"))

        with under_load(client, Load(10, 0.01, call)) as running:
            yield running


@contextlib.contextmanager
def dialing_anew(mock):
    """A server that ends the connection with each answer, and says so."""

    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection, headers=b"connection: close\r\n")

    with (
        servers.RawServer(handle) as server,
        client_of(server.url, 10) as client,
        under_load(client, Load(4, 0.1, lambda: client.get("/"))) as running,
    ):
        yield running


@contextlib.contextmanager
def _leaking(connections, most):
    """Each third stream is kept, up to so many, and no more of it is read than its beginning."""

    def handle(connection, _):
        connection.settimeout(None)  # a stream that nobody reads stays open
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            if head.startswith(b"GET /short"):
                servers.answer(connection, PIECE, b"content-type: text/event-stream\r\n")
                continue
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            while True:
                connection.sendall(PIECE)

    kept = []
    turns = iter(range(1, 1_000_000))
    with (
        servers.RawServer(handle) as server,
        client_of(
            server.url,
            connections,
            stream_window_bytes=65536,
            timeout=llmpool.Timeout(pool=0.3, read=0.5),
        ) as client,
    ):

        def call():
            if next(turns) % 3 or len(kept) >= most:
                with client.stream("GET", "/short") as response:
                    response.read()
                return
            stream = client.stream("GET", "/endless")
            response = stream.__enter__()
            pieces = response.iter_bytes()  # the stream would be closed with it
            kept.append((stream, pieces, next(pieces)))

        with under_load(client, Load(4, 0.05, call)) as running:
            yield running


def leaking(mock):
    """An application that keeps streams until there are no connections for others."""
    return _leaking(6, 6)


def leaking_some(mock):
    """One that keeps half of them: others go on."""
    return _leaking(12, 6)


@contextlib.contextmanager
def stalled(mock):
    """A provider that begins to answer and falls silent."""
    timeout = llmpool.Timeout(read=0.3)
    with client_of(mock.url, 20, mock.headers, timeout=timeout) as client:

        def call():
            body = chat("gpt-mock-stall-3", stream=True)
            with client.stream("POST", CHAT, json=body) as response:
                response.read()

        with under_load(client, Load(6, 0.05, call)) as running:
            yield running


@contextlib.contextmanager
def refused(mock):
    """A provider that answers 429, each time, with a Retry-After."""
    with client_of(mock.url, 10, mock.headers, budget="spent") as client:

        def call():
            client.post(CHAT, json=chat("gpt-mock-error-429"))

        with under_load(client, Load(3, 0.01, call)) as running:
            yield running


@contextlib.contextmanager
def without_server(mock):
    """Nobody listens there."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    with (
        client_of(url, 10, max_retries=0) as client,
        under_load(client, Load(3, 0.02, lambda: client.get("/"))) as running,
    ):
        yield running


# Each with the alert that it is to set off.
SICK = {
    too_small: "LLMPoolExhausted",
    dialing_anew: "LLMPoolDialChurn",
    leaking: "LLMPoolStreamsHeld",
    leaking_some: "LLMPoolStreamsHeld",
    stalled: "LLMPoolProviderStalls",
    refused: "LLMPoolBudgetStopped",
    without_server: "LLMPoolOriginDown",
}

# ---- healthy


@contextlib.contextmanager
def bursts(mock):
    """Nine calls at once, again and again, where there are connections for ten."""
    together = threading.Barrier(9)

    with client_of(mock.url, 10, mock.headers) as client:

        def call():
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(30)
            client.post(CHAT, json=chat("gpt-mock-lasts-0.2"))

        with under_load(client, Load(9, 1.0, call)) as running:
            try:
                yield running
            finally:
                together.abort()


@contextlib.contextmanager
def cold_start(mock):
    """Most of its connections dialled at once, ahead of a small load."""
    with (
        servers.RawServer(servers.answer_heads) as server,
        client_of(server.url, 50) as client,
        under_load(client, Load(45, 1.0, lambda: client.get("/"))) as running,
    ):
        yield running


@contextlib.contextmanager
def restarted(mock):
    """The server is away for two samples."""
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        server = first.enter_context(servers.RawServer(servers.answer_heads))

        def before(number):
            if number == 20:
                first.close()
            if number == 22:
                again = servers.RawServer(servers.answer_heads, port=server.port)
                second.enter_context(again)

        with (
            client_of(server.url, 10, retry_backoff=0.05) as client,
            under_load(client, Load(4, 0.1, lambda: client.get("/")), before) as running,
        ):
            yield running


@contextlib.contextmanager
def recycling(mock):
    """A server that ends each connection after its fifth answer."""

    def handle(connection, _):
        rest = b""
        for left in range(4, -1, -1):
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection, headers=b"" if left else b"connection: close\r\n")

    with (
        servers.RawServer(handle) as server,
        client_of(server.url, 10) as client,
        under_load(client, Load(6, 0.1, lambda: client.get("/"))) as running,
    ):
        yield running


@contextlib.contextmanager
def steady(mock):
    """Twenty requests a second."""
    with client_of(mock.url, 10, mock.headers) as client:

        def call():
            client.post(CHAT, json=chat("gpt-mock"))

        with under_load(client, Load(4, 0.2, call)) as running:
            yield running


HEALTHY = (bursts, cold_start, restarted, recycling, steady)
