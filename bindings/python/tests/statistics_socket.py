"""Pools as processes serve them: in a directory, each process at a Unix socket of its own."""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import llmpool

_one = threading.Lock()  # a process shows its pools in one directory


def document(pools, name="python3", pid=None):
    """What a process of that name and id would say of these pools, which have the names."""
    found = {"schema": 1, "version": llmpool.__version__, "pools": []}
    if pools:
        found = _asked(pools.values())
    return {
        "monotonic_us": time.monotonic_ns() // 1000,
        **found,
        "name": name,
        "pid": pid or os.getpid(),
        "pools": [{**each, "name": name} for name, each in zip(pools, found["pools"])],
    }


def _asked(pools):
    directory = tempfile.TemporaryDirectory()
    with _one, directory as place, serving_pools(place, pools):
        return ask(place)


def ask(directory):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(Path(directory) / f"{os.getpid()}.sock"))
        return json.load(client.makefile("rb"))


@contextlib.contextmanager
def serving_pools(directory, pools):
    """By the pools themselves."""
    pools = list(pools)
    for pool in pools:
        pool.serve_stats(directory)
    try:
        yield
    finally:
        for pool in pools:
            pool.serve_stats(None)


@contextlib.contextmanager
def serving(directory, say, pid=None):
    """Serves what say() returns, a document or bytes, to each who connects."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(Path(directory) / f"{pid or os.getpid()}.sock"))
    listener.listen(64)

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                said = say()
                connection.sendall(said if isinstance(said, bytes) else json.dumps(said).encode())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def process_of(directory, pools, pid=None, name="app"):
    """Serves as a process of that name and id what the pools, by their names, say of themselves."""
    return serving(directory, lambda: document(pools, name, pid), pid)
