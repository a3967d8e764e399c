"""Processes that share a budget through a real store, at a mock that counts: its log judges."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asking
import pytest
from processes import wait_until
from stores import needs_redis

from llmpool.fleet import Redis
from llmpool.mock import MockServer

pytest.importorskip("redis")
pytestmark = needs_redis

WORKER = Path(__file__).with_name("worker.py")
LONG = asking.LONG
MEMBERS = 8 if LONG else 4
SECONDS = 120 if LONG else 10
BURST = 10
# A short run is on a machine that has other work.
USED, OVER = (0.95, 0.01) if LONG else (0.75, 0.02)
REQUESTS, TOKENS = 1200, 200_000
LIMITS = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}
COUNTED = {"tls": False, "http": "1", "limits_start": "empty", "limit_window": BURST, **LIMITS}
BY_REQUESTS, BY_TOKENS = 60, 200  # tokens of a request


class Fleet:
    """Workers, and the log of the mock that they ask."""

    def __init__(self, server, store, limits=None):
        self.server, self.store = server, store
        self.limits = LIMITS if limits is None else limits
        self.workers = []
        self.began = asking.start_of(server)

    def start(self, *steps, count=MEMBERS):
        key = self.server.headers["authorization"].split()[1]
        plan = {
            "store": self.store.url, "url": self.server.url + asking.CHAT, "key": key,
            "count": count, "limits": self.limits, "burst": BURST,
            "name": f"w{len(self.workers)}", "steps": steps,
        }  # fmt: skip
        command = [sys.executable, str(WORKER), json.dumps(plan)]
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.workers.append(worker)
        return worker

    def end(self):
        """What each of them says, in their order. None of them has had an error."""
        said = []
        for worker in self.workers:
            out, err = worker.communicate(timeout=300)
            assert worker.returncode == 0, err
            said.append(json.loads(out))
        assert [each["errors"] for each in said] == [[] for _ in said]
        return said

    def kill(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    @property
    def calls(self):
        """Those that were admitted: [seconds by the clock of the machine, worker, tokens]."""
        calls = (asking.Call(*each) for each in self.server.calls())
        served = [call for call in calls if call.model == "gpt-mock" and call.tokens]
        return sorted((call.at + self.began, call.name.split()[0], call.tokens) for call in served)


@pytest.fixture
def start_fleet(redis_server):
    servers, fleets = [], []

    def start(budget=None, **options):
        server = MockServer(**{**COUNTED, **options})
        servers.append(server)
        server.__enter__()
        fleets.append(Fleet(server, redis_server, budget))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.kill()
    for server in servers:
        server.__exit__(None, None, None)


def used(calls, start, end):
    """The part of the refill that was taken, of the limit that binds."""
    within = [call for call in calls if start <= call[0] < end]
    tokens = sum(call[2] for call in within)
    minutes = (end - start) / 60
    return max(len(within) / (REQUESTS * minutes), tokens / (TOKENS * minutes))


def overdraft(calls, burst=BURST):
    """How far the buckets of a provider would have been overdrawn at most, as part of a minute."""
    worst = 0.0
    for amount, cost in ((REQUESTS, lambda call: 1), (TOKENS, lambda call: call[2])):
        level, last = 0.0, calls[0][0]
        for call in calls:
            level = min(amount / 60 * burst, level + (call[0] - last) * amount / 60) - cost(call)
            last = call[0]
            worst = max(worst, -level / amount)
    return worst


@pytest.mark.parametrize("told", ["configured", "learned"])
@pytest.mark.parametrize("size", [BY_REQUESTS, BY_TOKENS], ids=["requests", "tokens"])
def test_all_keep_one_limit_and_use_it(start_fleet, told, size):
    """With uneven demand, that changes."""
    fleet = start_fleet(LIMITS if told == "configured" else {}, limits="count")
    half = SECONDS / 2
    for number in range(MEMBERS):
        many, few = (40, 2) if number % 2 else (2, 40)
        fleet.start([half, many, size, 0], [half, few, size, 0])
    fleet.end()
    calls = fleet.calls
    first = calls[0][0]
    # What is learned is learned within the first seconds.
    begin = first + (2 if told == "learned" else 1)
    assert used(calls, begin, first + SECONDS - 1) >= USED
    assert overdraft(calls) <= OVER


def test_hardly_any_is_refused(start_fleet):
    fleet = start_fleet(limits="enforce")
    for _ in range(MEMBERS):
        fleet.start([SECONDS, 20, BY_TOKENS, 0])
    fleet.end()
    calls = [asking.Call(*each) for each in fleet.server.calls()]
    begin = min(call.at for call in calls if call.model == "gpt-mock") + 1
    calls = [call for call in calls if call.at >= begin]  # the mock's buckets begin with the first
    assert sum(call.status == 429 for call in calls) <= max(4, 0.005 * len(calls))


def test_one_has_all_while_others_idle_and_all_the_same_when_they_wake(start_fleet):
    fleet = start_fleet(limits="count")
    wait = 6
    fleet.start([wait + 8, 40, BY_REQUESTS, 0])
    for _ in range(MEMBERS - 1):
        fleet.start([wait, 0, BY_REQUESTS, 0], [8, 40, BY_REQUESTS, 0])
    fleet.end()
    calls = fleet.calls
    first = calls[0][0]
    assert used(calls, first + 2, first + wait - 1) >= USED
    woke = min(at for at, worker, _ in calls if worker != "w0")
    shares = [
        sum(1 for at, name, _ in calls if name == f"w{n}" and woke + 2 <= at < woke + 6)
        for n in range(MEMBERS)
    ]
    fair = REQUESTS / 60 * 4 / MEMBERS
    assert min(shares) >= 0.6 * fair and max(shares) <= 1.5 * fair


def test_high_of_one_goes_before_low_of_the_others(start_fleet):
    fleet = start_fleet(limits="count")
    fleet.start([3, 0, BY_REQUESTS, 0], [7, 60, BY_REQUESTS, 5])
    for _ in range(MEMBERS - 1):
        fleet.start([10, 40, BY_REQUESTS, -5])
    fleet.end()
    calls = fleet.calls
    woke = min(at for at, worker, _ in calls if worker == "w0")
    later = [worker for at, worker, _ in calls if woke + 2 <= at < woke + 6]
    assert later.count("w0") >= 0.85 * len(later)


def test_the_store_goes_and_comes_back_empty(start_fleet, redis_server):
    away = 20 if LONG else 5
    fleet = start_fleet(limits="count")
    for _ in range(MEMBERS):
        fleet.start([away + 14, 30, BY_REQUESTS, 0])
    assert wait_until(lambda: len(fleet.calls) > 60, 20)
    redis_server.stop()
    went = time.monotonic()
    time.sleep(away)
    redis_server.start()
    back = time.monotonic()
    fleet.end()
    calls = fleet.calls
    assert used(calls, went + 3, back) >= min(USED, 0.8)
    assert used(calls, back + 3, back + 7) >= USED
    # The limit, and what was lent at the moment at which the store went.
    assert overdraft(calls) <= 0.05


def test_a_frozen_member_holds_nothing_when_it_goes_on(start_fleet):
    frozen = 30 if LONG else 5
    fleet = start_fleet(limits="count")
    workers = [fleet.start([frozen + 10, 30, BY_REQUESTS, 0]) for _ in range(MEMBERS)]
    assert wait_until(lambda: len({call[1] for call in fleet.calls}) == MEMBERS, 20)
    time.sleep(2)
    os.kill(workers[0].pid, signal.SIGSTOP)
    stopped = time.monotonic()
    time.sleep(frozen)
    went_on = time.monotonic()
    os.kill(workers[0].pid, signal.SIGCONT)
    fleet.end()
    calls = fleet.calls
    assert used(calls, stopped + 3, went_on) >= USED
    assert overdraft(calls) <= OVER


def test_members_ask_at_most_four_times_a_second(start_fleet, redis_server):
    import redis

    fleet = start_fleet(limits="count")
    for _ in range(MEMBERS):
        fleet.start([10, 40, BY_REQUESTS, 0])
    client = redis.Redis(port=redis_server.port)
    assert wait_until(lambda: len({call[1] for call in fleet.calls}) == MEMBERS, 20)

    def asked():
        return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)

    before, start = asked(), time.monotonic()
    time.sleep(5)
    rate = (asked() - before) / (time.monotonic() - start) / MEMBERS
    fleet.end()
    assert 0.5 <= rate <= 4


def test_who_leaves_is_a_member_no_more(start_fleet, redis_server):
    fleet = start_fleet(limits="count")
    fleet.start([1, 5, BY_REQUESTS, 0])
    fleet.end()
    (budget,) = Redis(redis_server.url).status()
    assert budget["label"] == "fleet" and budget["members"] == []
