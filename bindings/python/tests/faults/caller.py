"""Submits requests through the C API from one thread and collects what becomes of them."""

import ctypes
import itertools
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import List

import servers

from llmpool._native import abi
from llmpool._native.failures import check
from llmpool._native.library import lib

_counter = itertools.count(1)
_EVENT_SIZE = ctypes.sizeof(abi.Event)


def nonce():
    return f"n{os.getpid()}-{next(_counter)}"


@dataclass
class Outcome:
    """A DONE event, and what came before it."""

    nonce: str
    status: str = ""
    http_status: int = 0
    attempts: int = 0
    unseen: bool = False
    message: str = ""
    data: bytes = b""
    headers: bytes = b""
    connection: int = 0
    seconds: float = 0.0  # as seen from here
    took: float = 0.0  # as the library measured it
    began: float = field(default_factory=time.monotonic)
    events: List[int] = field(default_factory=list)  # their kinds


def _text(status):
    return abi.STATUS_NAMES[status].replace("LLMPOOL_", "")


class Caller:
    """A queue, and the requests on it. Used by one thread."""

    def __init__(self, pool, keep=True):
        self.pool = pool
        self.keep = keep  # what comes of bodies
        self.outcomes = {}  # by user_data
        self.ids = {}
        self.waiting = set()
        self.held = []
        queue = ctypes.c_void_p()
        check(lib.queue_open(None, ctypes.byref(queue)))
        self.queue = queue.value

    def submit(
        self, url, *, method=None, body=b"", flags=0, timeout=None, max_response_bytes=0,
        priority=0, headers=b"",
    ):  # fmt: skip
        """Returns the key of the request. timeout: seconds by name, as in llmpool.Timeout."""
        key = next(_counter)
        outcome = Outcome(nonce())
        request = abi.Request()
        request.size = ctypes.sizeof(request)
        request.flags = flags
        request.priority = priority
        request.user_data = key
        request.method = method.encode() if method else None
        request.url = url.encode()
        headers = f"x-nonce: {outcome.nonce}\r\n".encode() + headers
        request.headers, request.headers_size = headers, len(headers)
        request.body, request.body_size = body, len(body)
        request.max_response_bytes = max_response_bytes
        for name, seconds in (timeout or {}).items():
            setattr(request, f"{name}_timeout_ms", int(seconds * 1000))
        self.outcomes[key] = outcome
        id = ctypes.c_uint64()
        check(lib.submit(self.pool._handle, ctypes.byref(request), self.queue, ctypes.byref(id)))
        self.ids[key] = id.value
        self.waiting.add(key)
        return key

    def cancel(self, key):
        lib.cancel(self.pool._handle, self.ids[key])

    def take(self, seconds, hold=False):
        """Takes the events that are there, waiting so long for the first."""
        events = (abi.Event * 64)()
        count = lib.queue_drain(self.queue, events, _EVENT_SIZE, 64, int(seconds * 1000))
        check(count)
        for event in events[:count]:
            self._take(event)
        if hold:
            self.held.append((events, count))
        elif count:
            lib.events_release(events, _EVENT_SIZE, count)
        return count

    def _take(self, event):
        outcome = self.outcomes[event.user_data]
        assert outcome.events[-1:] != [abi.EVENT_DONE], f"{outcome.nonce}: an event after DONE"
        outcome.events.append(event.kind)
        if event.data_size and self.keep:
            outcome.data += ctypes.string_at(event.data, event.data_size)
        if event.headers_size:
            outcome.headers = ctypes.string_at(event.headers, event.headers_size)
        if event.kind in (abi.EVENT_HEAD, abi.EVENT_DONE) and event.http_status:
            outcome.http_status = event.http_status
        if event.kind != abi.EVENT_DONE:
            return
        self.waiting.remove(event.user_data)
        outcome.status = _text(event.status)
        outcome.attempts = event.attempts
        outcome.unseen = bool(event.flags & abi.EVENT_UNSEEN)
        outcome.message = (event.message or b"").decode("utf-8", "replace")
        outcome.connection = event.connection_id
        outcome.took = event.timings.contents.done / 1e6
        outcome.seconds = time.monotonic() - outcome.began

    def wait(self, seconds, keys=None, hold=False):
        """Until the requests are done; returns their outcomes. AssertionError: not in time."""
        wanted = set(self.outcomes if keys is None else keys)
        deadline = time.monotonic() + seconds
        while wanted & self.waiting:
            left = deadline - time.monotonic()
            assert left > 0, (
                f"{len(wanted & self.waiting)} of {len(wanted)} not done in {seconds} s"
            )
            self.take(left, hold)
        return [self.outcomes[key] for key in sorted(wanted)]

    def release(self):
        for events, count in self.held:
            lib.events_release(events, _EVENT_SIZE, count)
        self.held.clear()

    def close(self):
        self.release()
        lib.queue_close(self.queue)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def sockets_of_this_process():
    """The remote port of each TCP socket that this process holds."""
    inodes = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    sockets = servers.tcp_sockets().values()
    return [servers.remote_port(fields) for fields in sockets if fields[9] in inodes]


def sockets_to(port):
    """How many sockets to this port the process holds, in whatever state."""
    return sockets_of_this_process().count(port)


class EngineClock:
    """The CPU time of the threads that a pool has started since this was made."""

    def __init__(self):
        self._before = set(os.listdir("/proc/self/task"))

    def seconds(self, python=()):
        """Of threads that Python does not know."""
        known = {str(thread.native_id) for thread in threading.enumerate()}
        total = 0
        for task in os.listdir("/proc/self/task"):
            if task in self._before or task in known:
                continue
            try:
                total += int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[0])
            except OSError:
                continue
        return total / 1e9
