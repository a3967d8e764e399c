"""Pools at work on loopback: four that something is wrong with, and four that are well."""

import contextlib
import threading
import time

import servers
from callers import Load

import llmpool

FIRST_BYTE = 0.08  # seconds that a server takes
CALLERS = 12
LEAKED = 6
STALLED = 8


def answer(connection, _):
    """Answers each request after FIRST_BYTE; "/endless" without end, "/stall" with two events."""
    rest = b""
    while True:
        head, _, rest = servers.read_request(connection, rest)
        path = head.split(b" ")[1]
        if path == b"/endless":
            endless(connection)
        elif path == b"/stall":
            begin_events(connection)
            connection.sendall(b"data: one\n\ndata: two\n\n")
            connection.settimeout(None)
            connection.recv(1)  # until the client leaves
            return
        time.sleep(FIRST_BYTE)
        servers.answer(connection)


def begin_events(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")


def endless(connection):
    begin_events(connection)
    connection.settimeout(None)
    while True:
        connection.sendall(b"data: %s\n\n" % (b"x" * 1000))


def close_behind_each(connection, _):
    servers.read_request(connection)
    servers.answer(connection, headers=b"connection: close\r\n")


@contextlib.contextmanager
def pool_with(handle, options, loads):
    """A pool, its server, and the loads that loads(client) makes."""
    with servers.RawServer(handle) as server, contextlib.ExitStack() as stack:
        pool = llmpool.Pool(**options)
        client = llmpool.Client(base_url=server.url, pool=pool, timeout=60)
        running = [stack.enter_context(load) for load in loads(client)]
        try:
            yield pool
        finally:  # closed first, so that nobody waits for what never comes
            for load in running:
                load.stop()
            pool.close()


def limits(connections, keepalive=None):
    return {
        "limits": llmpool.Limits(
            max_connections=connections, max_keepalive_connections=keepalive or connections
        )
    }


def too_small():
    """CALLERS at once, and two connections."""
    return pool_with(answer, limits(2), lambda client: [Load(CALLERS, 0, lambda: client.get("/"))])


def dials_anew():
    return pool_with(
        close_behind_each, limits(20), lambda client: [Load(4, 0.15, lambda: client.get("/"))]
    )


def leaks():
    """LEAKED streams that nobody reads, beside calls that are well."""
    kept = []

    def loads(client):
        for _ in range(LEAKED):
            stream = client.stream("GET", "/endless")
            stream.__enter__()
            kept.append(stream)
        return [Load(4, 0.23, lambda: client.get("/"))]

    return pool_with(answer, limits(20), loads)


def stalls():
    """STALLED streams that stop behind their second event."""

    def stalled(client):
        with client.stream("GET", "/stall") as response:
            for _ in response.iter_sse():
                pass

    return pool_with(
        answer,
        limits(20),
        lambda client: [
            Load(STALLED, 0, lambda: stalled(client)),
            Load(4, 0.23, lambda: client.get("/")),
        ],
    )


SICK = {"too-small": too_small, "dials-anew": dials_anew, "leaks": leaks, "stalls": stalls}


def steady():
    """Twenty requests a second."""
    return pool_with(answer, limits(20), lambda client: [Load(4, 0.2, lambda: client.get("/"))])


def bursts():
    """Eighteen of twenty connections at once, every 0.9 seconds."""
    return pool_with(answer, limits(20), lambda client: [burst(client, 18)])


def burst(client, size, every=0.9):
    """Calls all at once, again and again: the threads wait for each other."""
    together = threading.Barrier(size)

    def call():
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(5)
        client.get("/")

    return Load(size, every, call)


@contextlib.contextmanager
def cold_start():
    """It begins within what is looked at, with 45 calls at once, to which it has no connection
    yet; they go on at a lower pace."""
    with pool_with(answer, limits(50), lambda client: [burst(client, 45, 2.0)]) as pool:
        yield pool


@contextlib.contextmanager
def restarted():
    """Its server closes all connections every three seconds, and is not there for a moment."""
    port = servers.free_port()
    over = threading.Event()

    def serve():
        while not over.is_set():
            with contextlib.suppress(OSError), servers.RawServer(answer, port=port):
                over.wait(3)
            over.wait(0.2)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    pool = llmpool.Pool(**limits(20))
    client = llmpool.Client(base_url=f"http://127.0.0.1:{port}", pool=pool, timeout=60)
    try:
        with Load(5, 0.23, lambda: client.get("/", retry=llmpool.Retry(sent=True))) as load:
            try:
                yield pool
            finally:
                load.stop()
                pool.close()
    finally:
        over.set()
        server.join(30)


HEALTHY = {"steady": steady, "bursts": bursts, "cold-start": cold_start, "restarted": restarted}


@contextlib.contextmanager
def running(kinds):
    """Pools of these kinds, by their names."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(start()) for name, start in kinds.items()}
