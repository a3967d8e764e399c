"""Every script of misbehaviour, over TCP and TLS, against the library as it ships.

After each: every request ended once, in time, as promised; none arrived twice without permission;
nothing of the pool is left in use; and the pool goes on serving good servers at full speed.
"""

import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import servers

pytest.importorskip("h2")
import scripts_h1  # noqa: F401
import scripts_h2  # noqa: F401
from caller import Caller, EngineClock, sockets_to
from server import SCRIPTS, FaultServer

import llmpool
from llmpool._native import abi

# For slow machines and tools; nothing that a script expects depends on it.
SLACK = 12.0
LONG = bool(os.environ.get("LLMPOOL_LONG_TESTS"))
GOOD_REQUESTS = 50


# The read and write timeouts: short where they are what is waited for. The others are below the
# PATIENCE of the servers, whose silence is then no end of the connection.
SHORT, PATIENT = 0.2, 5.0


def timeouts(script, number):
    """Of the request that is submitted so many behind the first; `expect` has their order."""
    expect = script.expect
    if isinstance(expect, dict):
        expect = [status for status, count in expect.items() for _ in range(count)][number]
    seconds = SHORT if "TIMEOUT" in expect else PATIENT
    return {"read": seconds, "write": seconds, **script.timeout}


class Run:
    """One script played: the pool, the server and what became of the requests."""

    def __init__(self, script, tls, certificates):
        self.script = script
        alpn = ("h2",) if script.h2 else ("http/1.1",)
        context = certificates.context("good", alpn) if tls else None
        self.server = FaultServer(script, context)
        options = dict(script.pool)
        self.pool = llmpool.Pool(
            limits=llmpool.Limits(
                max_connections=options.pop("connections", 10),
                max_streams_per_connection=options.pop("streams", 100),
            ),
            timeout=llmpool.Timeout(
                PATIENT,
                connect=options.pop("connect", PATIENT),
                pool=options.pop("wait", 3),
            ),
            ca_file=certificates.ca_file,
            http1=tls or not script.h2,  # without TLS h2 is spoken by prior knowledge, or not
            retry_backoff=0.02,
            retry_backoff_max=0.05,
            proxy="",
            **options,
        )
        self.outcomes = []
        self._submitted = 0

    def submit(self, caller, count=1):
        script = self.script
        for number in range(self._submitted, self._submitted + count):
            caller.submit(
                self.server.url + "/v1/chat",
                method=script.method,
                body=script.body,
                flags=abi.REQUEST_STREAM if script.stream or script.hold else 0,
                timeout=timeouts(script, number),
                max_response_bytes=script.max_response_bytes,
            )
        self._submitted += count

    def play(self):
        script = self.script
        if script.warm:
            with Caller(self.pool) as caller:
                caller.submit(self.server.url + "/warm")
                assert caller.wait(SLACK)[0].status == "OK"
        for number in range(script.rounds):
            if number and script.pause:
                time.sleep(script.pause)
            with Caller(self.pool) as caller:
                self.submit(caller, script.requests)
                self.outcomes += caller.wait(script.seconds + SLACK, hold=script.hold)

    def recover(self):
        """The origin itself, once its server is good again."""
        self.server.heal()
        port = self.server.port
        closed = servers.wait_until(lambda: sockets_to(port) == 0, step=0.02)
        assert closed, "sockets that the server had closed"
        with Caller(self.pool) as caller:
            for _ in range(5):
                caller.submit(self.server.url + "/again", timeout={"read": 5, "pool": 5})
            assert {outcome.status for outcome in caller.wait(10)} == {"OK"}


def check_statuses(expect, outcomes):
    if isinstance(expect, str):
        expect = {expect: len(outcomes)}
    left = Counter(outcome.status for outcome in outcomes)
    for allowed, count in expect.items():
        for _ in range(count):
            found = next((status for status in allowed.split(" or ") if left[status] > 0), None)
            assert found, f"expected {expect}, got {describe(outcomes)}"
            left[found] -= 1


def describe(outcomes):
    return [f"{o.status} ({o.http_status}, {o.attempts} attempts): {o.message}" for o in outcomes]


def check_outcomes(script, outcomes):
    check_statuses(script.expect, outcomes)
    for outcome in outcomes:
        assert outcome.events.count(abi.EVENT_DONE) == 1
        if outcome.status != "OK":
            assert outcome.message
            assert outcome.http_status == 0 or script.stream or script.hold
            continue
        if not script.answers:
            continue
        assert outcome.http_status in (script.answers, 204)
        if script.method != "HEAD" and outcome.http_status != 204:
            assert outcome.data == outcome.nonce.encode(), "somebody else's answer"


def check_nothing_left(pool):
    def idle():
        now = pool.stats()
        return now.pending == now.active == now.backing_off == now.in_use == now.connecting == 0

    assert servers.wait_until(idle, 3), f"left in use: {pool.stats()}"
    now = pool.stats()
    assert now.submitted == now.succeeded + now.failed + now.cancelled
    assert now.opened == now.idle + now.closed


def check_good(pool, *urls):
    """At speed: 20 ms are usual, and what waits for a timeout takes longer than the bound."""
    for url in urls:
        with Caller(pool) as caller:
            for _ in range(GOOD_REQUESTS):
                caller.submit(url + "/small", timeout={"read": 10})
            started = time.monotonic()
            outcomes = caller.wait(10)
            seconds = time.monotonic() - started
        assert {(o.status, o.http_status, len(o.data)) for o in outcomes} == {("OK", 200, 200)}
        assert seconds < 5, f"{GOOD_REQUESTS} requests to a good server took {seconds:.2f} s"


def variants():
    found = []
    for script in SCRIPTS:
        once = script.parsing and not LONG
        for tls in (script.h2,) if once else script.tls:
            version = "h2" if script.h2 else "h1"
            name = f"{version}-{'tls' if tls else 'tcp'}-{script.name}"
            found.append(pytest.param(script, tls, id=name))
    return found


@pytest.mark.parametrize(("script", "tls"), variants())
def test_script(script, tls, certificates, nginx):
    run = Run(script, tls, certificates)
    clock = EngineClock()
    with run.server:
        try:
            run.play()
            engine_seconds = clock.seconds()
            assert not run.server.errors, run.server.errors
            assert not run.server.findings, run.server.findings
            check_outcomes(script, run.outcomes)
            check_nothing_left(run.pool)
            if script.cpu:
                assert engine_seconds < script.cpu, f"{engine_seconds:.3f} s of CPU"
            assert script.also is None or script.also(run), "also"
            speaks_h1 = tls or not script.h2
            check_good(run.pool, nginx.tls_url, *([nginx.url] if speaks_h1 else []))
            run.recover()
            check_nothing_left(run.pool)
            assert run.server.twice() == [] or script.permitted
            assert not run.server.findings and not run.server.errors
        finally:
            run.pool.close()
        assert sockets_to(run.server.port) == 0
        assert sockets_to(nginx.plain) == sockets_to(nginx.tls) == 0


def test_names_are_unique():
    names = Counter(re.sub("-.*", "", script.name) + str(script.h2) for script in SCRIPTS)
    assert max(names.values()) == 1
