"""What fails around a fleet: the store, its members, and the network between them."""

import os
import shutil
import signal
import subprocess
import time
from urllib.parse import urlsplit

import asking
import pytest
from fleets import BY_REQUESTS, LONG, MEMBERS, OVER, USED, overdraft, used
from processes import redis_server, wait_until
from roads import Road
from stores import needs_redis

pytest.importorskip("redis")
pytestmark = needs_redis

LEASE = 2
STEADY = 4  # seconds in which members are lent what they need
AWAY = 12 if LONG else 5


@pytest.fixture
def roads():
    """Roads to stores, which end with the test."""
    laid = []

    def lay(target):
        laid.append(Road(target))
        return laid[-1]

    yield lay
    for road in laid:
        road.end()


@pytest.fixture
def pauses():
    """When the machine stood still."""
    with asking.Pauses() as found:
        yield found.found


def url_of(road):
    return f"redis://127.0.0.1:{road.port}"


def begin(fleet, seconds, roads=(), settle=STEADY):
    """Members that always want more, when each has what it needs.

    Args:
        roads: of the first so many, to their store; the others have the fleet's.
    """
    urls = [url_of(road) for road in roads]
    urls += [None] * (MEMBERS - len(urls))
    workers = [fleet.start([seconds, 30, BY_REQUESTS, 0], store=url) for url in urls]
    assert wait_until(fleet.all_have_asked, 60)
    time.sleep(settle)
    return workers


def used_meanwhile(pauses, calls, start, end):
    """The part of the refill that was taken, of the time in which the machine ran."""
    stood = 0 if LONG else asking.stood_still(pauses, start, end)
    return used(calls, start, end) * (end - start) / max(0.1, end - start - stood)


def keep_the_limit(calls, since, pauses):
    """Four seconds after a lease. What a short run saved up where it stood still it may spend in
    some of them, or where the machine did."""
    found, ends = [], {worker: at for at, worker, _ in calls}
    for later in (0,) if LONG else (0, 0.6, 1.2):
        start = since + LEASE + later
        if later == 0 or start + 4 <= min(ends.values()):
            stood = 0 if LONG else asking.stood_still(pauses, since, start + 4)
            found.append(used(calls, start, start + 4) - stood / 4)
    print(found)  # -rP shows them
    return min(found) <= 1 + OVER + 0.05


def test_the_store_goes_and_comes_back_empty(start_fleet, redis_server, pauses):
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
    assert used_meanwhile(pauses, calls, went + 3, back) >= min(USED, 0.8)
    assert used_meanwhile(pauses, calls, back + 3, back + 7) >= USED
    # The limit, and what was lent at the moment at which the store went.
    assert overdraft(calls) <= 0.05


def test_a_frozen_member_holds_nothing_when_it_goes_on(start_fleet, pauses):
    frozen = 30 if LONG else 5
    fleet = start_fleet(limits="count")
    workers = begin(fleet, frozen + 10, settle=LEASE)
    os.kill(workers[0].pid, signal.SIGSTOP)
    stopped = time.monotonic()
    time.sleep(frozen)
    went_on = time.monotonic()
    os.kill(workers[0].pid, signal.SIGCONT)
    fleet.end()
    calls = fleet.calls
    assert used_meanwhile(pauses, calls, stopped + 3, went_on) >= USED
    assert overdraft(calls) <= OVER


def test_the_part_of_one_that_was_killed_is_the_others(start_fleet, pauses):
    fleet = start_fleet(limits="count")
    workers = begin(fleet, AWAY + 8, settle=LEASE)
    workers[0].kill()
    killed = time.monotonic()
    fleet.end()
    calls = fleet.calls
    assert used_meanwhile(pauses, calls, killed + LEASE + 1, killed + AWAY) >= USED
    assert overdraft(calls) <= OVER


def test_one_that_is_cut_off_has_its_safe_share(start_fleet, redis_server, roads, pauses):
    """The limit and one safe share, while it lasts; and the limit when the road is there again."""
    fleet = start_fleet(limits="count")
    road = roads(redis_server.port)
    begin(fleet, AWAY + 12, [road])
    road.cut()
    cut = time.monotonic()
    time.sleep(AWAY)
    road.lead(redis_server.port)
    back = time.monotonic()
    fleet.end()
    calls = fleet.calls
    alone = [call for call in calls if call[1] == "w0"]
    assert used_meanwhile(pauses, calls, cut + LEASE + 1, back) >= USED
    assert used_meanwhile(pauses, alone, cut + LEASE + 1, back) >= 0.6 / MEMBERS
    assert overdraft(calls, times=1 + 1 / MEMBERS) <= OVER
    assert keep_the_limit(calls, back, pauses)


def test_two_masters_lend_the_limit_twice(start_fleet, redis_server, roads, tmp_path, pauses):
    fleet = start_fleet(limits="count")
    first, second = roads(redis_server.port), roads(redis_server.port)
    begin(fleet, AWAY + 16, [first, second] * (MEMBERS // 2))
    with other_store(tmp_path) as other:
        second.lead(other.port)
        split = time.monotonic()
        time.sleep(AWAY)
        second.lead(redis_server.port)
        healed = time.monotonic()
        fleet.end()
    calls = fleet.calls
    assert used_meanwhile(pauses, calls, split + LEASE + 1, healed) >= USED
    assert overdraft(calls, times=2) <= OVER
    assert keep_the_limit(calls, healed, pauses)


def test_a_new_master_that_knows_nothing(start_fleet, redis_server, roads, tmp_path, pauses):
    """All are led to it at once: a failover that lost what was written."""
    fleet = start_fleet(limits="count")
    road = roads(redis_server.port)
    begin(fleet, AWAY + 12, [road] * MEMBERS)
    with other_store(tmp_path) as other:
        road.lead(other.port)
        led = time.monotonic()
        fleet.end()
    calls = fleet.calls
    assert used_meanwhile(pauses, calls, led + LEASE + 1, led + AWAY) >= USED
    assert overdraft(calls) <= 0.05


def test_a_slow_store_lends_and_the_safe_shares_fill_up(start_fleet, redis_server, roads, pauses):
    fleet = start_fleet(limits="count")
    road = roads(redis_server.port)
    begin(fleet, AWAY + 12, [road] * MEMBERS)
    road.delay = 0.1  # both ways: less than its timeout
    slow = time.monotonic()
    time.sleep(AWAY)
    road.delay = 0
    quick = time.monotonic()
    fleet.end()
    calls = fleet.calls
    assert used_meanwhile(pauses, calls, slow + 1, quick) >= min(USED, 0.9)
    assert overdraft(calls, times=2) <= OVER
    assert keep_the_limit(calls, quick, pauses)


def other_store(directory):
    place = directory / "other"
    place.mkdir()
    return redis_server(place)


# ---- machines of their own

APART = ("unshare", "--net", "--time", "--boottime")


def can_be_apart():
    command = [*APART, "1", "true"]
    return (
        bool(shutil.which(APART[0])) and not subprocess.run(command, capture_output=True).returncode
    )


@pytest.mark.skipif(not can_be_apart(), reason="this machine makes no network namespaces")
def test_two_machines(start_fleet, tmp_path, pauses):
    """Two namespaces share no network and no clock, only the sockets of store and provider."""
    fleet = start_fleet(limits="count")
    with redis_server(tmp_path, "--unixsocket", tmp_path / "store"):
        provider = Road(urlsplit(fleet.server.url).port, path=tmp_path / "provider")
        for number in range(MEMBERS):
            days = 86400 * (1 + number % 2)
            fleet.start(
                [AWAY + 8, 30, BY_REQUESTS, 0], store=f"unix://{tmp_path}/store",
                before=(*APART, str(days)), through=str(tmp_path / "provider"),
            )  # fmt: skip
        fleet.end()
        provider.end()
    calls = fleet.calls
    first = calls[0][0]
    assert used_meanwhile(pauses, calls, first + 3, first + AWAY + 6) >= USED
    assert overdraft(calls) <= OVER
