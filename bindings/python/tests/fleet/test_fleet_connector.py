"""The connector and a real store: what the store does not answer, and what is said of it."""

import contextlib
import logging
import os
import signal
import threading
import time

import processes
import pytest
from fakes import FakeLeases
from processes import redis_server
from stores import NOTHING_NEW, needs_redis, redis_sentinel

import llmpool.fleet
from llmpool._fleet.connector import Connector
from llmpool._fleet.demand import Demand, Grant, Limit, StoreAway, StoreRefused
from llmpool._fleet.leases import label_of

redis = pytest.importorskip("redis")
pytestmark = needs_redis

RATE = 100  # a second, of FakeLeases


@pytest.fixture
def connect():
    """Connectors with leases of their own, which end with the test."""
    ended = []

    def start(store, **options):
        leases = FakeLeases(**options)
        connector = Connector(leases, store, f"member{len(ended)}", 0.25)
        connector.start()
        ended.append((connector, leases))
        return leases

    yield start
    for connector, leases in ended:
        leases.end()
        connector.leave()


def said(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def store_at(port, **options):
    return llmpool.fleet.Redis(f"redis://127.0.0.1:{port}", **options)


def assert_lent(members, is_right):
    """What each of them is lent a second, over two seconds, is right. Of three measurements one
    must be: a machine that stands still for a while spoils the others."""
    seen = []
    for _ in range(3):
        begin = time.monotonic()
        time.sleep(2)
        seconds = time.monotonic() - begin
        seen.append([member.since(begin) / seconds for member in members])
        if is_right(seen[-1]):
            return
    raise AssertionError(seen)


def test_members_share_what_comes_back(redis_port, client, connect):
    members = [connect(store_at(redis_port)) for _ in range(4)]
    assert processes.wait_until(lambda: all(m.members == 4 for m in members))

    def is_shared(rates):
        return 0.75 * RATE <= sum(rates) <= 1.3 * RATE and max(rates) <= 2.5 * min(rates)

    assert_lent(members, is_shared)


def test_commands_are_few(redis_port, client, connect):
    store = store_at(redis_port)
    store.check()  # so that the script is there, whichever test comes first

    def calls():
        return client.info("commandstats")["cmdstat_evalsha"]["calls"]

    before, begin = calls(), time.monotonic()
    leases = connect(store)
    assert processes.wait_until(lambda: leases.asks >= 6)
    leases.end()
    seconds = time.monotonic() - begin
    # The last of them may be under way; then there are no more.
    assert processes.wait_until(lambda: calls() - before == leases.asks)
    assert leases.asks <= 1 + seconds / 0.25


def test_several_budgets_go_on_one_way(redis_port, client):
    store = store_at(redis_port)
    limit = Limit(0, 0, 600, 60_000, 600, 0, 0, 0, 5, 0, 1, 0, -(1 << 63))
    demand = Demand(1, 0, 1, 0, 0, 0, (limit,))
    client.script_flush()  # and the script is not there
    grants = store.lend("a", [(name, demand) for name in ("one", "two", "three")])
    assert [grant.members for grant in grants] == [1, 1, 1]
    assert {budget["label"] for budget in store.status()} == {"one", "two", "three"}
    store.leave("a", [(name, demand._replace(sequence=2)) for name in ("one", "two")])
    assert sum(len(budget["members"]) for budget in store.status()) == 1


def test_a_store_that_is_killed_and_comes_back_empty(tmp_path, caplog, connect):
    caplog.set_level(logging.INFO, "llmpool")
    with redis_server(tmp_path) as server:
        port = server.port
        members = [connect(store_at(port)) for _ in range(2)]
        assert processes.wait_until(lambda: all(m.members == 2 for m in members))
        server.kill()
        server.wait()
        time.sleep(1.5)
    asks = sum(member.asks for member in members)
    with redis_server(tmp_path, port=port):
        begin = time.monotonic()
        assert processes.wait_until(lambda: all(m.since(begin) for m in members))
        time.sleep(max(0, begin + 3 - time.monotonic()))
        assert_lent(members, lambda rates: sum(rates) >= 0.75 * RATE)
    assert asks <= 60
    (warning,) = set(said(caplog, logging.WARNING))
    assert warning.startswith("llmpool: the fleet's store does not answer (")
    assert "this process spends its safe share, 1/2 of each limit" in warning
    assert any("the fleet's store answers again" in text for text in said(caplog, logging.INFO))


def test_a_store_that_hangs(tmp_path, caplog, connect):
    caplog.set_level(logging.INFO, "llmpool")
    with redis_server(tmp_path) as server:
        member = connect(store_at(server.port))
        assert processes.wait_until(lambda: member.granted)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(1.5)
            before = len(member.granted)
            time.sleep(0.5)
            assert len(member.granted) == before
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert processes.wait_until(lambda: len(member.granted) > before + 2)
    assert any("does not answer" in text for text in said(caplog, logging.WARNING))


def test_a_replica_that_may_only_be_read(tmp_path, caplog, connect):
    caplog.set_level(logging.INFO, "llmpool")
    (tmp_path / "replica").mkdir()
    with redis_server(tmp_path) as master:
        replica_of = ("--replicaof", "127.0.0.1", master.port)
        with redis_server(tmp_path / "replica", *replica_of) as replica:
            member = connect(store_at(replica.port))
            assert processes.wait_until(lambda: said(caplog, logging.WARNING))
            (warning,) = said(caplog, logging.WARNING)
            assert "read only replica" in warning
            assert "safe share, 0.25 of each limit" in warning
            with redis.Redis(port=replica.port) as client:  # it is made the master
                client.replicaof("NO", "ONE")
            assert processes.wait_until(lambda: member.granted)


@pytest.mark.parametrize(
    ("setting", "refusing", "well", "words"),
    [
        ("maxmemory", "1", "0", "used memory"),
        ("min-replicas-to-write", "1", "0", "good replicas"),
        ("requirepass", "changed", "", "authenticated"),
    ],
)
def test_a_store_that_refuses_is_away_until_it_does_not(
    tmp_path, caplog, connect, setting, refusing, well, words
):
    """Full, without its replicas, with another password than it had when the member joined."""
    caplog.set_level(logging.INFO, "llmpool")
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        member = connect(store_at(server.port))
        assert processes.wait_until(lambda: member.granted)
        client.config_set(setting, refusing)
        client.client_kill_filter(_type="normal", skipme=True)
        assert processes.wait_until(lambda: said(caplog, logging.WARNING), 5)
        before = len(member.granted)
        client.config_set(setting, well)
        assert processes.wait_until(lambda: len(member.granted) > before + 2, 5)
    (warning,) = said(caplog, logging.WARNING)
    assert words in warning


def test_a_cluster(tmp_path, connect):
    """Of one node: each budget's keys are in one slot, or it would refuse them."""
    # Its second port would be the first and 10,000, which may be none.
    ports = ("--cluster-port", processes.free_port())
    with redis_server(tmp_path, "--cluster-enabled", "yes", *ports) as server:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            assert processes.wait_until(lambda: node.cluster("INFO")["cluster_state"] == "ok")
        client = redis.RedisCluster(host="127.0.0.1", port=server.port)
        store = llmpool.fleet.Redis(client)
        store.check()
        names = [f"budget{number}" for number in range(4)]
        members = [connect(store, name=name) for name in 2 * names]
        assert processes.wait_until(lambda: all(member.members == 2 for member in members))
        assert {budget["label"] for budget in store.status()} == set(names)
        client.close()


def test_sentinels_say_who_is_the_master(tmp_path, connect):
    """It fails; the replica takes over and lends on."""
    places = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for place in places:
        place.mkdir()
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(redis_server(places[0]))
        replica_of = ("--replicaof", "127.0.0.1", master.port)
        replica = stack.enter_context(redis_server(places[1], *replica_of))
        settings = places[2] / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor fleet 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds fleet 500\nsentinel failover-timeout fleet 3000\n"
        )
        watch = stack.enter_context(redis_sentinel(places[2], settings))
        sentinel = redis.sentinel.Sentinel([("127.0.0.1", watch.port)], socket_timeout=0.5)
        assert processes.wait_until(lambda: sentinel.discover_slaves("fleet"), 15)
        client = sentinel.master_for("fleet", socket_timeout=0.25, socket_connect_timeout=0.25)
        member = connect(llmpool.fleet.Redis(client))
        assert processes.wait_until(lambda: member.granted)
        master.kill()

        def is_promoted():
            with contextlib.suppress(redis.sentinel.MasterNotFoundError):
                return sentinel.discover_master("fleet")[1] == replica.port

        assert processes.wait_until(is_promoted, 30)
        before = len(member.granted)
        assert processes.wait_until(lambda: len(member.granted) > before + 2, 10)


def test_a_store_that_is_loading_is_away():
    store = store_at(1)
    error = redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory")
    assert isinstance(store._failure(error), StoreAway)
    assert isinstance(store._failure(redis.exceptions.MovedError("3999 127.0.0.1:6381")), StoreAway)


def test_scripts_that_are_flushed_under_load(redis_port, client, caplog, connect):
    caplog.set_level(logging.INFO, "llmpool")
    member = connect(store_at(redis_port), interval=0.05)
    for _ in range(10):
        client.script_flush()
        member.granted.clear()
        assert processes.wait_until(lambda: member.granted)
    assert not said(caplog, logging.WARNING)


def test_two_masters_lend_twice_and_no_more(tmp_path, connect):
    """As where a network splits. Whoever returns to the other is known there again at once."""
    (tmp_path / "second").mkdir()
    with redis_server(tmp_path) as first, redis_server(tmp_path / "second") as second:
        left, right = connect(store_at(first.port)), connect(store_at(second.port))
        assert processes.wait_until(lambda: left.members == 1 and right.members == 1)
        assert_lent([left, right], lambda rates: sum(rates) <= 2 * 1.3 * RATE)


def test_wrong_password_is_said_at_once(tmp_path):
    with redis_server(tmp_path, "--requirepass", "correct") as server:
        for url in (
            f"redis://:wr0ng-pass@127.0.0.1:{server.port}",
            f"redis://127.0.0.1:{server.port}",
            f"redis://:correct@127.0.0.1:{server.port}/99",
        ):
            with pytest.raises(StoreRefused) as refused:
                llmpool.fleet.join(llmpool.fleet.Redis(url), expected_members=2)
            assert f"127.0.0.1:{server.port}" in str(refused.value)
            assert "wr0ng-pass" not in str(refused.value)
        store = llmpool.fleet.Redis(f"redis://:correct@127.0.0.1:{server.port}")
        store.check()
        assert "correct" not in repr(store)


def test_no_right_to_run_scripts_is_said_at_once(tmp_path):
    with redis_server(tmp_path) as server:
        with redis.Redis(port=server.port) as client:
            client.acl_setuser(
                "weak", enabled=True, passwords="+secret", keys="*", commands=["+get", "+ping"]
            )
        url = f"redis://weak:secret@127.0.0.1:{server.port}"
        with pytest.raises(StoreRefused, match="permissions"):
            llmpool.fleet.Redis(url).check()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", ""])
def test_a_url_that_is_none(url):
    with pytest.raises(ValueError, match=r"redis://|scheme"):
        llmpool.fleet.Redis(url)


def test_a_store_that_is_away_is_no_error():
    store = store_at(processes.free_port())
    with pytest.raises(StoreAway):
        store.check()


def test_a_client_of_ones_own(redis_port, client):
    store = llmpool.fleet.Redis(client)
    store.check()
    with pytest.raises(TypeError, match="option for a URL"):
        llmpool.fleet.Redis(client, db=3)
    with pytest.raises(TypeError, match="asyncio"):
        llmpool.fleet.Redis(redis.asyncio.Redis(port=redis_port))
    with pytest.raises(TypeError, match="NoneType"):
        llmpool.fleet.Redis(None)


@pytest.mark.parametrize(
    "options",
    [{"prefix": "a{b}"}, {"prefix": ""}, {"lease": 0.1}, {"timeout": 0}, {"lease": 1e9}],
)
def test_arguments_out_of_their_range(options):
    with pytest.raises(ValueError):
        store_at(1, **options)


def test_members_that_know_different_limits_are_told_once(redis_port, client, caplog, connect):
    caplog.set_level(logging.INFO, "llmpool")
    large = connect(store_at(redis_port), amount=6_000, interval=0.05)
    small = connect(store_at(redis_port), amount=1_500, interval=0.05)
    assert processes.wait_until(lambda: len(large.granted) > 20 and len(small.granted) > 20)
    (warning,) = said(caplog, logging.WARNING)
    assert "6,000 requests in 60 s" in warning
    assert "1,500" in warning


class Away:
    """A store that never answers, and when it was asked."""

    def __init__(self):
        self.tries = []

    def lend(self, member, asks):
        self.tries.append(time.monotonic())
        raise StoreAway("gone")


def test_a_store_that_is_away_is_tried_ever_more_seldom():
    store, leases = Away(), FakeLeases(interval=0.02)
    connector = Connector(leases, store, "a", 0.5)
    connector.start()
    try:
        assert processes.wait_until(lambda: len(store.tries) >= 3)
        first, second, third = store.tries[:3]
        assert second - first >= 0.1 and third - second >= 0.2
    finally:
        leases.end()
        connector.leave()


def test_who_asks_while_the_store_is_away_is_heard_at_once():
    """A demand starts the time after which the safe share is spent; with several budgets, too."""
    store, leases = Away(), FakeLeases(interval=0.02)
    connector = Connector(leases, store, "a", 0.5)
    connector._pause = 60  # so that only who asks is heard, and no other try
    connector.start()

    def until_it_is_heard():
        before, begin = leases.asks, time.monotonic()
        os.write(leases._write, b"x")
        assert processes.wait_until(lambda: leases.asks > before)
        return time.monotonic() - begin

    try:
        assert processes.wait_until(lambda: connector._retry_at)
        assert min(until_it_is_heard() for _ in range(3)) < 0.5
        assert len(store.tries) == 1
    finally:
        leases.end()
        connector.leave()


def test_an_error_of_our_own_ends_nothing(caplog):
    caplog.set_level(logging.INFO, "llmpool")

    class Odd:
        def lend(self, member, asks):
            if not said(caplog, logging.WARNING):
                raise RuntimeError("what a connector to another store may do")
            return [Grant(2_000, 1, 5, 0, ((6_000, 7),))]

        def leave(self, member, asks):
            pass

    leases = FakeLeases()
    connector = Connector(leases, Odd(), "a", 0.5)
    connector.start()
    try:
        assert processes.wait_until(lambda: leases.granted)
    finally:
        leases.end()
        connector.leave()


def test_a_broken_budget_takes_no_lease_of_another(redis_port, client, caplog):
    """Of several that go one way the error of one is its own."""
    caplog.set_level(logging.INFO, "llmpool")
    store = store_at(redis_port)
    demand = Demand(
        1, 0, 0, 0, 0, 0, (Limit(0, 0, 600, 60_000, 600, 0, 0, 0, 1, 0, 1, 0, NOTHING_NEW),)
    )
    (key,) = (store._keys("two")[0],)
    client.set(key, "garbage")
    first, second, third = store.lend("m", [(name, demand) for name in ("one", "two", "three")])
    assert isinstance(first, Grant) and isinstance(third, Grant)
    assert isinstance(second, StoreAway)
    with pytest.raises(StoreAway):
        store.lend("m", [("two", demand)])


@pytest.mark.parametrize("lease", [601, 0.1])
def test_a_lease_is_no_longer_than_a_grant_may_be(lease):
    with pytest.raises(ValueError, match=r"lease is from 0\.2 to 600 seconds"):
        store_at(1, lease=lease)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hun ter2secret@127.0.0.1:1",
        'redis://u:hun"ter2@127.0.0.1:1',
        "redis://u:hun/ter2@h",
    ],
)
def test_no_password_is_shown_whatever_is_in_it(url):
    try:
        text = repr(llmpool.fleet.Redis(url))
    except ValueError as error:
        text = str(error)
    assert "hun" not in text and "ter2" not in text


@pytest.mark.parametrize("url", ["redis://:hun#ter2@h", "redis://u:123#ter2@h", "unix:///run/a#b"])
def test_a_url_that_would_be_read_in_part_is_refused(url):
    with pytest.raises(ValueError, match=r"# is %23"):
        llmpool.fleet.Redis(url)


def test_where_no_thread_can_start_nothing_stays_open(monkeypatch):
    leases, closed = FakeLeases(), []
    monkeypatch.setattr(leases, "close", lambda: closed.append(True))
    monkeypatch.setattr(threading.Thread, "start", lambda thread: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Connector(leases, None, "member", 0.25).start()
    assert closed == [True]
    leases.end()


def test_digits_of_a_credential_are_left_out():
    assert label_of("api.openai.com/gpt-4o #0f3a11223344") == "api.openai.com/gpt-4o"
    assert label_of("team #one") == "team #one"
    assert label_of("plain") == "plain"


def test_keys_have_one_tag_and_no_name(redis_port, client):
    store = store_at(redis_port, prefix="ours")
    keys = store._keys("api.openai.com/gpt-4o #0f3a11223344")
    assert all(key.startswith("ours:{") for key in keys)
    assert len({key[key.index("{") : key.index("}")] for key in keys}) == 1
    assert not any("gpt" in key or "0f3a1122" in key for key in keys)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "members="),
        ({"members": 0}, "from 1"),
        ({"members": 2, "safe_share": 0.5}, "one of"),
        ({"safe_share": 0.0}, "above 0"),
        ({"safe_share": 1.5}, "at most 1"),
        ({"expected_members": 3}, "with a store"),
        ({"members": True}, "whole number"),
        ({"members": 2, "budgets": "gpt"}, "names"),
    ],
)
def test_what_to_spend_without_a_store_must_be_said(arguments, error):
    with pytest.raises((ValueError, TypeError), match=error):
        llmpool.fleet.join(**arguments)


def test_members_is_for_a_fleet_without_a_store(redis_port):
    with pytest.raises(ValueError, match="expected_members="):
        llmpool.fleet.join(store_at(redis_port), members=4)


def test_redis_py_is_imported_when_it_is_asked_for(run_python):
    done = run_python("import llmpool, sys; print({'redis', 'llmpool.fleet'} & {*sys.modules})")
    assert done.stdout == "set()\n", done.stderr
