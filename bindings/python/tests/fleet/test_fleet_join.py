"""Joining with a real pool, and what becomes of it: alone, twice, forked, left."""

import json
import os
import subprocess
import sys
import time

import pytest
import servers
from processes import wait_until
from stores import needs_redis

import llmpool
import llmpool.fleet

pytest.importorskip("redis")
pytestmark = needs_redis


@pytest.fixture
def quick():
    with servers.RawServer(servers.answer_heads) as server:
        yield server.url


def members(url):
    return {
        each["id"] for budget in llmpool.fleet.Redis(url).status() for each in budget["members"]
    }


def test_a_pool_joins_once_and_leaves(redis_server, open_pool, quick):
    pool = open_pool()
    store = llmpool.fleet.Redis(redis_server.url)
    budget = llmpool.Budget("one", requests_per_minute=60_000, pool=pool)
    with llmpool.fleet.join(store, expected_members=2, pool=pool) as membership:
        with pytest.raises(ValueError, match="already"):
            llmpool.fleet.join(store, expected_members=2, pool=pool)
        assert wait_until(lambda: members(redis_server.url) == {membership.member})
        with llmpool.Client(pool=pool, budget=budget) as client:
            assert client.get(quick).status_code == 200
    assert members(redis_server.url) == set()
    llmpool.fleet.join(store, expected_members=2, pool=pool).leave()


def test_a_limit_of_a_day_is_there_for_the_first(redis_server, open_pool, quick):
    pool = open_pool()
    budget = llmpool.Budget("day", requests_per_day=100, learn=False, pool=pool)
    store = llmpool.fleet.Redis(redis_server.url)
    with (
        llmpool.fleet.join(store, expected_members=2, pool=pool),
        llmpool.Client(pool=pool, budget=budget, timeout=llmpool.Timeout(20, budget=10)) as client,
    ):
        for _ in range(5):
            assert client.get(quick).status_code == 200


def test_without_a_store_each_keeps_its_share(open_pool, quick):
    pool = open_pool()
    budget = llmpool.Budget("part", requests_per_minute=2_400, burst=0.5, learn=False, pool=pool)
    with (
        llmpool.fleet.join(members=4, pool=pool),
        llmpool.Client(pool=pool, budget=budget) as client,
    ):
        start = time.monotonic()
        assert all(client.get(quick).is_success for _ in range(20))
        seconds = time.monotonic() - start
    assert 1.2 <= seconds <= 3.2  # 5 at once, and then 10 a second


FORKS = """
import os, sys, time
import llmpool, llmpool.fleet

llmpool.Budget("forked", requests_per_minute=60_000)
membership = llmpool.fleet.join(llmpool.fleet.Redis(sys.argv[1]), expected_members=2)
child = os.fork()
print(os.getpid(), membership.member, flush=True)
sys.stdin.readline()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_child_is_a_member_of_its_own(redis_server):
    command = [sys.executable, "-c", FORKS, redis_server.url]
    environment = {"PYTHONPATH": servers.python_path()}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        said = dict(process.stdout.readline().split() for _ in range(2))
        assert len(said) == 2 and len(set(said.values())) == 2
        assert wait_until(lambda: members(redis_server.url) == set(said.values()))
    finally:
        process.communicate("\n\n", timeout=20)
    # The parent has left at its end, without a call; of the child the lease ends.
    assert wait_until(lambda: not members(redis_server.url))


def test_no_digits_of_a_credential_are_in_the_store(redis_server, open_pool, client_of_store):
    pool = open_pool()
    llmpool.Budget("api.openai.com/gpt-4o #0f3a11223344", requests_per_minute=60, pool=pool)
    store = llmpool.fleet.Redis(redis_server.url)
    with llmpool.fleet.join(store, expected_members=2, pool=pool):
        assert wait_until(lambda: members(redis_server.url))
        keys = client_of_store.keys("*")
        assert keys and not any(b"0f3a11223344" in client_of_store.dump(key) for key in keys)
        assert "0f3a" not in json.dumps(store.status())


@pytest.fixture
def client_of_store(redis_server):
    import redis

    with redis.Redis(port=redis_server.port) as client:
        yield client
