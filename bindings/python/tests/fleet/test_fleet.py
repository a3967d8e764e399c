"""Many processes keep one limit: what a provider sees of them."""

import os
import subprocess
import time
from pathlib import Path

import asking
import pytest
from fleets import (
    BY_REQUESTS,
    BY_TOKENS,
    LIMITS,
    LONG,
    MEMBERS,
    OVER,
    REQUESTS,
    SECONDS,
    TOKENS,
    USED,
    overdraft,
    used,
)  # fmt: skip
from processes import wait_until
from stores import SCRIPT_PATH, needs_redis

from llmpool.fleet import Redis

pytest.importorskip("redis")
pytestmark = needs_redis


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
    fleet.start([wait + 8, 40, BY_REQUESTS, 0], waits=True)
    for _ in range(MEMBERS - 1):
        fleet.start([wait, 0, BY_REQUESTS, 0], [8, 40, BY_REQUESTS, 0], waits=True)
    fleet.go()
    fleet.end()
    calls = fleet.calls
    first = calls[0][0]
    assert used(calls, first + 2, first + wait - 1) >= USED
    woke = min(at for at, worker, _ in calls if worker != "w0")

    def shares(start, end):
        """Of each, as part of what is fair."""
        fair = REQUESTS / 60 * (end - start) / MEMBERS
        within = [name for at, name, _ in calls if woke + start <= at < woke + end]
        return [within.count(f"w{number}") / fair for number in range(MEMBERS)]

    # A member that stands still for a while spoils one of the short spans, or two.
    spans = [(2, 6)] if LONG else [(1.5, 4.5), (3, 6), (4.5, 7.5)]
    found = [shares(*span) for span in spans]
    assert any(min(each) >= 0.6 and max(each) <= 1.5 for each in found), found


def test_one_with_large_requests_has_its_share(start_fleet):
    """A member saves up for each of them, while the others take whatever comes."""
    window = 60 if LONG else 10
    large = TOKENS // 4 if LONG else TOKENS // 20
    seconds = 420 if LONG else 36
    fleet = start_fleet(limits="count", limit_window=window)
    fleet.start([seconds, 2, large, 0], burst=window)  # so that none waits until it is aged
    for _ in range(MEMBERS - 1):
        fleet.start([seconds, 40, BY_TOKENS, 0], burst=window)
    fleet.end()
    calls = fleet.calls
    first = calls[0][0]
    tokens = sum(tokens for _, worker, tokens in calls if worker == "w0")
    fair = TOKENS / 60 * seconds / MEMBERS
    assert fair - 1.2 * large <= tokens <= fair + 1.2 * large
    assert used(calls, first + 2, first + seconds - 2) >= min(USED, 0.9)
    assert overdraft(calls, window, since=fleet.since) <= OVER


def test_high_of_one_goes_before_low_of_the_others(start_fleet):
    fleet = start_fleet(limits="count")
    fleet.start([3, 0, BY_REQUESTS, 0], [7, 60, BY_REQUESTS, 5], waits=True)
    for _ in range(MEMBERS - 1):
        fleet.start([10, 40, BY_REQUESTS, -5], waits=True)
    fleet.go()
    fleet.end()
    calls = fleet.calls
    woke = min(at for at, worker, _ in calls if worker == "w0")
    later = [worker for at, worker, _ in calls if woke + 2 <= at < woke + 6]
    assert later.count("w0") >= 0.85 * len(later)


def test_members_ask_at_most_four_times_a_second(start_fleet, redis_server):
    import redis

    fleet = start_fleet(limits="count")
    for _ in range(MEMBERS):
        fleet.start([10, 40, BY_REQUESTS, 0], waits=True)
    fleet.go()
    client = redis.Redis(port=redis_server.port)
    assert wait_until(fleet.all_have_asked, 60)

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


def test_a_program_in_c_is_a_member(start_fleet, redis_server):
    """examples/fleet.c, a connector of its own."""
    library = os.environ.get("LLMPOOL_DEMO_CLIENT") or pytest.skip("LLMPOOL_DEMO_CLIENT is not set")
    program = Path(library).with_name("fleet")
    if not program.exists():
        pytest.skip("examples/fleet.c was not built: there is no hiredis")
    fleet = start_fleet(limits="count")
    fleet.start([14, 40, BY_REQUESTS, 0])
    assert wait_until(lambda: len(fleet.calls) > 20, 20)
    url, count = fleet.server.url + "/v1/models", "30"
    command = [program, "127.0.0.1", str(redis_server.port), SCRIPT_PATH, "fleet", url, count]
    began = time.monotonic()
    key = {**os.environ, "OPENAI_API_KEY": fleet.key}
    result = subprocess.run(command, env=key, capture_output=True, text=True, timeout=60)
    ended = time.monotonic()
    assert result.returncode == 0, result.stderr
    assert "30 of 30 requests" in result.stdout
    fleet.end()
    own = 30 / (ended - began) * 60 / REQUESTS
    assert own >= 0.1  # it wants one at a time
    assert USED <= own + used(fleet.calls, began, ended) <= 1.2
