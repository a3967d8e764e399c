"""Pools of this process as a process serves them: a Unix socket PID.sock in a directory, and one
JSON document for whoever connects. Made of what the pools' own functions say."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import llmpool

SHOWN = 200  # requests
MICRO = 1_000_000


def document(pools, name="python3", pid=None):
    """`pools`: by their names."""
    return {
        "schema": 1,
        "version": llmpool.__version__,
        "pid": pid or os.getpid(),
        "name": name,
        "monotonic_us": time.monotonic_ns() // 1000,
        "pools": [pool_document(name, pool) for name, pool in pools.items()],
    }


def pool_document(name, pool):
    options = pool._options()
    requests = pool.requests()
    return {
        "name": name,
        "options": {
            field: getattr(options, field)
            for field in (
                "max_connections",
                "max_connections_per_origin",
                "max_keepalive_connections",
                "max_pending_requests",
            )
        },
        **part(pool, None),
        "origins": [{"origin": each, **part(pool, each)} for each in pool.origins()],
        "budgets": [budget(name, state) for name, state in pool.budgets().items()],
        "requests": [request(each) for each in requests[:SHOWN]],
        "requests_left_out": max(0, len(requests) - SHOWN),
    }


def part(pool, origin):
    stats = pool.stats(origin)
    reasons = pool.reasons(origin)
    return {
        "stats": {name: getattr(stats, name) for name in stats.__annotations__},
        "histograms": {
            name: histogram(each) for name, each in pool.histograms(origin).items() if each.count
        },
        "reasons": {kind: getattr(reasons, kind) for kind in ("closed", "failed", "retried")},
    }


def histogram(found):
    count, total, longest, buckets = found.__getstate__()
    filled = [[index, value] for index, value in enumerate(buckets) if value]
    return {"count": count, "sum_us": total, "max_us": longest, "buckets": filled}


def budget(name, state):
    return {
        "name": name,
        "in_flight": state.in_flight,
        "waiting": state.waiting,
        "stopped_us": round(state.stopped_for * MICRO),
        "refusals": state.refusals,
        "limits": [
            {
                "unit": limit.unit,
                "limit": limit.amount,
                "remaining": limit.remaining,
                "window_us": round(limit.window * MICRO),
                "told": limit.told,
            }
            for limit in state.limits
        ],
    }


def request(state):
    return {
        "id": state.id,
        "origin": state.origin,
        "phase": state.phase,
        "age_us": round(state.age * MICRO),
        "attempts": state.attempts,
        "sent": state.bytes_sent,
        "received": state.bytes_received,
    }


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


def serving_pools(directory, pools, **more):
    return serving(directory, lambda: document(pools, **more), more.get("pid"))
