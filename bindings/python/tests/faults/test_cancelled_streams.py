"""What becomes of streams that the application gives up."""

import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import servers

pytest.importorskip("h2")
from caller import Caller
from hyperframe.frame import (
    Frame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from server import FaultServer, Script

import llmpool


def frames(peer):
    """The frames of the client as they come; neither read further nor answered than asked for."""
    peer.read(24)
    peer.buffer = peer.buffer[24:]
    while True:
        peer.read(9)
        frame, length = Frame.parse_frame_header(memoryview(peer.buffer[:9]))
        peer.read(9 + length)
        frame.parse_body(memoryview(peer.buffer[9 : 9 + length]))
        peer.buffer = peer.buffer[9 + length :]
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            peer.frame(SettingsFrame(0, flags=["ACK"]))
        yield frame


def open_pool(**options):
    return llmpool.Pool(timeout=llmpool.Timeout(60, connect=5), proxy="", http1=False, **options)


def test_resets_go_on_without_the_answer_to_a_ping():
    """A server that answers no PING had 10 resets, and the rest of its streams for ever."""
    requests, resets = [], []

    def play(peer):
        peer.frame(SettingsFrame(0))
        for frame in frames(peer):
            if isinstance(frame, HeadersFrame):
                requests.append(frame.stream_id)
            if isinstance(frame, RstStreamFrame):
                resets.append(frame.stream_id)

    script = Script("silent", play, "E_CANCELLED", True)
    with FaultServer(script) as server, open_pool() as pool, Caller(pool) as caller:
        keys = [caller.submit(server.url) for _ in range(45)]
        assert servers.wait_until(lambda: len(requests) == 45)
        for key in keys:
            caller.cancel(key)
        assert {o.status for o in caller.wait(5)} == {"E_CANCELLED"}
        assert servers.wait_until(lambda: len(resets) == 10)
        assert servers.wait_until(lambda: len(resets) >= 30, 20)
        assert len(set(resets)) == len(resets)


def test_what_is_not_sent_yet_is_not_sent():
    """Requests went out after their DONE, where the server had not read."""
    go = threading.Event()
    requests = []

    def play(peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        peer.frame(SettingsFrame(0))
        go.wait(20)
        for frame in frames(peer):
            if isinstance(frame, HeadersFrame):
                requests.append(frame.stream_id)

    script = Script("busy", play, "E_CANCELLED", True)
    limits = llmpool.Limits(max_streams_per_connection=400)
    with FaultServer(script) as server, open_pool(limits=limits) as pool, Caller(pool) as caller:
        # More than the buffers of both sockets hold, in no table of HPACK's.
        heads = [b"x-large: %s\r\n" % os.urandom(30_000).hex().encode() for _ in range(300)]
        keys = [caller.submit(server.url, headers=head) for head in heads]
        assert servers.wait_until(lambda: pool.stats().active == 300)
        time.sleep(0.2)
        for key in keys:
            caller.cancel(key)
        caller.wait(5)
        last = caller.submit(server.url + "/last")
        go.set()
        assert servers.wait_until(lambda: 601 in requests)
        caller.cancel(last)
        assert len(requests) < 270, "sent after they were over"


def test_a_cancelled_request_is_free():
    """Without the answer to a PING each kept its body: 190 MiB for 200."""

    def play(peer):
        peer.frame(SettingsFrame(0), WindowUpdateFrame(0, window_increment=1 << 30))
        for _ in frames(peer):
            pass

    script = Script("silent", play, "E_CANCELLED", True)
    body = bytes(2 << 20)
    with FaultServer(script) as server, open_pool() as pool, Caller(pool) as caller:

        def batch():
            keys = [caller.submit(server.url, body=body) for _ in range(20)]
            assert servers.wait_until(lambda: pool.stats().active == 20)
            time.sleep(0.02)
            for key in keys:
                caller.cancel(key)
            assert {o.status for o in caller.wait(5, keys)} == {"E_CANCELLED"}

        batch()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(15):
            batch()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 150_000, f"{grown} KiB for 600 MiB of cancelled requests"
