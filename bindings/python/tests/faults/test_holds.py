"""What must hold of the pool as a whole, under callers and servers that come and go.

LLMPOOL_LONG_TESTS=1 runs the full numbers.
"""

import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import servers

pytest.importorskip("h2")
from caller import Caller, sockets_to
from server import FaultServer, Script

import llmpool
from llmpool._native import abi

LONG = bool(os.environ.get("LLMPOOL_LONG_TESTS"))
THREADS = 8


def open_pool(certificates, **options):
    options.setdefault("limits", llmpool.Limits(max_connections=20))
    return llmpool.Pool(
        timeout=llmpool.Timeout(connect=5, read=10, write=10, pool=20),
        ca_file=options.pop("ca_file", certificates.ca_file),
        proxy="",
        retry_backoff=0.02,
        retry_backoff_max=0.1,
        **options,
    )


def nothing_left(pool):
    def idle():
        now = pool.stats()
        return not (now.pending or now.active or now.backing_off or now.in_use or now.connecting)

    assert servers.wait_until(idle, 5), pool.stats()
    now = pool.stats()
    assert now.submitted == now.succeeded + now.failed + now.cancelled
    assert now.opened == now.idle + now.closed
    return now


def cancel_at_random(pool, urls, count, seed, results):
    """Keeps 20 requests in flight and cancels half of them at some moment of their lives."""
    chance = random.Random(seed)
    with Caller(pool, keep=False) as caller:
        doomed = []
        for _ in range(count):
            key = caller.submit(
                chance.choice(urls),
                body=b"x" * chance.choice((0, 0, 100, 100_000)),
                method="POST" if chance.random() < 0.2 else "GET",
                flags=abi.REQUEST_STREAM if chance.random() < 0.5 else 0,
            )
            if chance.random() < 0.1:
                caller.cancel(key)  # before anything else can happen to it
            elif chance.random() < 0.45:
                doomed.append(key)
            while len(caller.waiting) >= 20:
                if doomed and chance.random() < 0.7:
                    caller.cancel(doomed.pop(chance.randrange(len(doomed))))
                caller.take(0.001)
        results.extend((o.status, o.message) for o in caller.wait(60))
        assert all(o.events.count(abi.EVENT_DONE) == 1 for o in caller.outcomes.values())


@pytest.mark.parametrize("name", ["nginx-h1", "nginx-h2", "nghttpd", "granian"])
def test_random_cancels_from_eight_threads(name, nginx, nghttpd, mock, certificates):
    urls = {
        "nginx-h1": [nginx.url + "/small", nginx.url + "/large"],
        "nginx-h2": [nginx.tls_url + "/small", nginx.tls_url + "/large"],
        "nghttpd": [nghttpd.url + "/small", nghttpd.url + "/large"],
        "granian": [mock.url + "/v1/models"],
    }[name]
    ca = {"ca_file": mock.ca_file} if name == "granian" else {}
    count = (25_000 if LONG else 400) // THREADS
    results = []
    with open_pool(certificates, **ca) as pool:
        threads = [
            threading.Thread(target=cancel_at_random, args=(pool, urls, count, seed, results))
            for seed in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = Counter(status for status, _ in results)
        assert sum(statuses.values()) == count * THREADS
        assert statuses["OK"] > 0 and statuses["E_CANCELLED"] > 0
        lost = [m for status, m in results if status in ("E_READ", "E_WRITE")]
        assert len(lost) <= count * THREADS // 100, Counter(results).most_common(10)
        assert set(statuses) <= {"OK", "E_CANCELLED", "E_READ", "E_WRITE"}, statuses
        nothing_left(pool)
        with Caller(pool) as caller:
            caller.submit(urls[0])
            assert caller.wait(5)[0].status == "OK"


def burst(pool, url, count=500):
    with Caller(pool) as caller:
        for _ in range(count):
            caller.submit(url)
        outcomes = caller.wait(20)
    assert {(o.status, o.http_status) for o in outcomes} == {("OK", 200)}
    return nothing_left(pool)


def test_cold_burst_to_an_h2_origin(tmp_path, certificates):
    server = servers.Nghttpd(tmp_path, certificates, "--max-concurrent-streams=1000")
    limits = llmpool.Limits(max_streams_per_connection=1000)
    with server.run(), open_pool(certificates, limits=limits) as pool:
        now = burst(pool, f"https://localhost:{server.port}/small")
        assert (now.opened, now.dns_lookups, now.tls_handshakes) == (1, 1, 1)


def test_cold_burst_to_an_h1_origin(nginx, certificates):
    with open_pool(certificates) as pool:
        now = burst(pool, f"http://localhost:{nginx.plain}/small")
        assert now.dns_lookups == 1
        assert 1 < now.opened <= 20


def test_a_stalled_stream_holds_back_itself_alone(nghttpd, certificates):
    window = 65_536
    with open_pool(certificates, stream_window_bytes=window) as pool:
        with Caller(pool) as stalled, Caller(pool) as others:
            key = stalled.submit(nghttpd.url + "/large", flags=abi.REQUEST_STREAM)
            while len(stalled.outcomes[key].data) < window // 2:
                assert stalled.take(5, hold=True)
            for _ in range(99):
                others.submit(nghttpd.url + "/large", flags=abi.REQUEST_STREAM)
            done = others.wait(20)
            assert {(o.status, len(o.data)) for o in done} == {("OK", 1 << 20)}
            assert {o.connection for o in done} == {done[0].connection}
            while stalled.take(0.05, hold=True):
                pass
            assert len(stalled.outcomes[key].data) <= window + 65_536
            stalled.release()
            outcome = stalled.wait(10)[0]
            assert outcome.status == "OK" and len(outcome.data) == 1 << 20
        assert nothing_left(pool).opened == 1


def test_a_cancelled_stream_leaves_its_connection_to_the_others(certificates):
    def play(peer):
        streams = peer.start().requests(10)
        while len(peer.resets) < 5:
            peer.pump()
        for stream in streams:
            if stream not in peer.resets:
                peer.answer(stream)
        peer.serve()

    script = Script("cancel", play, "OK", True)
    with FaultServer(script) as server, open_pool(certificates, http1=False) as pool:
        with Caller(pool) as caller:
            keys = [caller.submit(server.url) for _ in range(10)]
            assert servers.wait_until(lambda: len(server._arrivals) == 10)
            for key in keys[::2]:
                caller.cancel(key)
            assert [o.status for o in caller.wait(5)] == ["E_CANCELLED", "OK"] * 5
            caller.submit(server.url)
            assert caller.wait(5)[-1].status == "OK"
        assert nothing_left(pool).opened == 1


@pytest.mark.parametrize("tls", [False, True], ids=["h1", "h2"])
def test_a_server_that_is_restarted_all_the_time(tls, tmp_path, certificates):
    server = servers.Nginx(tmp_path, certificates)
    stop = threading.Event()

    def restart():
        while not stop.is_set():
            with server.run():
                stop.wait(1.0 if LONG else 0.3)

    url = (server.tls_url if tls else server.url) + "/small"
    limit = 2.0
    restarting = threading.Thread(target=restart)
    with open_pool(certificates) as pool, Caller(pool) as caller:
        restarting.start()
        deadline = time.monotonic() + (60 if LONG else 3)
        while time.monotonic() < deadline:
            while len(caller.waiting) < 50:
                caller.submit(url, timeout={"total": limit})
            caller.take(0.05)
        stop.set()
        restarting.join()
        outcomes = caller.wait(20)
        assert max(o.took for o in outcomes) < limit + 3
        statuses = Counter(o.status for o in outcomes)
        assert statuses["OK"] > len(outcomes) // 2, statuses
        assert set(statuses) <= {"OK", "E_READ", "E_WRITE", "E_CONNECT", "E_TOTAL_TIMEOUT", "E_TLS"}
        nothing_left(pool)
        with server.run():
            began = time.monotonic()
            key = caller.submit(url, timeout={"total": 30})
            assert caller.wait(40, [key])[0].status == "OK"
            assert time.monotonic() - began < 6  # backoffs of dials, each below 1 s
        pool.close()
        assert sockets_to(server.plain) == sockets_to(server.tls) == 0


def how_late(caller, url):
    """By how many seconds each of 1,000 requests that are not sent ends after its patience."""
    patience = {}
    for i in range(1000):
        seconds = 0.2 + i % 100 / 200
        patience[caller.submit(url, timeout={"pool": seconds})] = seconds
    late = []
    for key, outcome in zip(patience, caller.wait(20, patience)):
        assert outcome.status == "E_POOL_TIMEOUT"
        late.append(outcome.seconds - patience[key])
    return sorted(late)


def test_pool_timeouts_are_on_time(certificates):
    """1,000 requests that wait for one connection, each with its own patience."""

    def play(peer):
        peer.request()
        peer.silence()

    script = Script("hold", play, "OK", False)
    limits = llmpool.Limits(max_connections=1)
    with FaultServer(script) as server, open_pool(certificates, limits=limits) as pool:
        with Caller(pool) as holder, Caller(pool) as caller:
            held = holder.submit(server.url, timeout={"read": 30})
            assert servers.wait_until(lambda: pool.stats().active == 1)
            for _ in range(3):  # the best of three
                late = how_late(caller, server.url)
                assert late[0] > -0.01  # whole milliseconds, of a clock that moves every 4 ms
                if late[500] < 0.02 and late[-1] < 0.2:
                    break
            # 20 ms of the pool's; the rest is Python's that reads 1,000 events.
            assert late[500] < 0.02 and late[-1] < 0.2, (late[500], late[-1])
            holder.cancel(held)
            assert holder.wait(5)[0].status == "E_CANCELLED"
        nothing_left(pool)
