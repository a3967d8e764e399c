"""What calls cost while a server is down: with a breaker, and without.

    PYTHONPATH=bindings/python python Benchmarks/python/outage.py

The server is an address on loopback where nobody accepts, and the queue is full, as a host that is
gone. The first call pays its connect timeout of 0.5 s; of the next 100 the median and the longest
are told, then how long after the server's return the first call succeeds.
"""

import socket
import statistics
import threading
import time

import llmpool


def dead():
    """A port where connections hang, and what must be closed to bring it back."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    return listener, socket.create_connection(listener.getsockname())


def call(client):
    started = time.perf_counter()
    try:
        client.post("/", json={})
    except llmpool.TransportError as error:
        return (time.perf_counter() - started) * 1000, type(error).__name__
    return (time.perf_counter() - started) * 1000, "answered"


def answer(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection):
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


def measure(breaker, calls):
    listener, filler = dead()
    pool = llmpool.Pool(timeout=llmpool.Timeout(connect=0.5), proxy="", breaker=breaker)
    client = llmpool.Client(base_url="http://{}:{}".format(*listener.getsockname()), pool=pool)
    first, name = call(client)
    took = sorted(call(client)[0] for _ in range(calls))
    print(f"{'with' if breaker else 'without'} a breaker: the first {first:.0f} ms ({name})")
    print(f"  the next {calls}: median {statistics.median(took):.3f} ms, longest {took[-1]:.3f} ms")
    listener.listen(64)
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    back = time.perf_counter()
    tries = 1
    while call(client)[1] != "answered":
        tries += 1
        time.sleep(0.01)
    print(f"  back for {(time.perf_counter() - back) * 1000:.0f} ms when call {tries} was answered")
    pool.close()
    listener.close()
    filler.close()


measure(llmpool.Breaker(1), 100)
measure(None, 5)
