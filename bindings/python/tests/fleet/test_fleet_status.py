"""python -m llmpool fleet status"""

import json

import processes
import pytest
from processes import redis_server
from stores import Limit, Member, Script, needs_redis, turn

import llmpool.fleet

redis = pytest.importorskip("redis")
pytestmark = needs_redis


@pytest.fixture
def url(redis_port, client):
    return f"redis://127.0.0.1:{redis_port}"


def run_fleet(client, name="gpt", now=0):
    """Two members at work, as of now."""
    script = Script(client, name)

    def time_of_store():
        seconds, micros = client.time()
        return seconds * 1000 + micros / 1000

    script.now = time_of_store() - 20_000
    limits = Limit(600), Limit(60_000, unit=1)
    members = [Member(script, f"host{number}/17/ab", *limits, most=8) for number in range(2)]
    members[0].wants(1_000, 1, 100)
    turn(script, members, 20)
    script.now = max(script.now, time_of_store())  # which went on meanwhile
    for member in members:
        member.ask()
    return script, members


def test_status(command, url, client):
    run_fleet(client)
    status, out, err = command("fleet", "status", url)
    assert (status, err) == (0, "")
    assert "gpt  2 members" in out
    assert "600 requests in 60 s" in out and "60,000 tokens in 60 s" in out
    first, second = (line.split() for line in out.splitlines() if "host" in line)
    assert 70 <= int(first[1].rstrip("%")) <= 105
    assert second[1] == "0%"


def test_status_for_programs(command, url, client):
    script, _ = run_fleet(client)
    script.call(
        "ask",
        "told",
        0,
        60_000,
        "gpt",
        1,
        3,
        0,
        0,
        60_000,
        2,
        *Limit(told=1).numbers(0, 0, (0, 0, 0), 0, 0, 50),
    )
    status, out, _ = command("fleet", "status", url, "--json")
    assert status == 0
    (budget,) = json.loads(out)["budgets"]
    assert budget["label"] == "gpt"
    assert 50_000 <= budget["stopped_ms"] <= 60_000
    assert {(limit["unit"], limit["told"]) for limit in budget["limits"]} == {
        ("requests", False), ("tokens", False), ("requests", True),
    }  # fmt: skip
    told = next(each for each in budget["members"] if each["id"] == "told")
    assert told["in_flight"] == 3 and len(told["loans"]) == 1


def test_nothing_is_changed(command, url, client):
    script, _ = run_fleet(client)
    before = [client.dump(key) for key in script.keys]
    command("fleet", "status", url)
    assert [client.dump(key) for key in script.keys] == before


def test_no_budget(command, url):
    status, out, err = command("fleet", "status", url)
    assert (status, out) == (1, "")
    assert err == f"llmpool fleet: no budget is shared in <llmpool.fleet.Redis {url}>\n"
    assert command("fleet", "status", url, "--json")[1] == '{\n  "budgets": []\n}\n'


def test_another_prefix(command, url, client):
    store = llmpool.fleet.Redis(url, prefix="ours[1]")
    demand = llmpool._fleet.demand.Demand(1, 0, 0, 0, 0, 0, ())
    store.lend("a", [("theirs #0f3a11223344", demand)])
    assert command("fleet", "status", url)[0] == 1
    status, out, _ = command("fleet", "status", url, "--prefix", "ours[1]")
    assert status == 0 and out.startswith("theirs  1 member\n")


def test_the_store_is_away(command):
    status, out, err = command("fleet", "status", f"redis://127.0.0.1:{processes.free_port()}")
    assert (status, out) == (2, "")
    assert "Connection refused" in err


def test_a_key_that_is_no_budget_is_named_and_passed_over(command, url, client):
    run_fleet(client, "good")
    client.set("llmpool:{garbage}:state", "17")
    client.hset("llmpool:{other}:state", "a", "b")
    client.set(b"llmpool:{\xff}:state", "x")
    status, out, err = command("fleet", "status", url)
    assert status == 0 and "gpt  2 members" in out
    assert "llmpool:{garbage}:state: no state of a budget" in err
    assert "llmpool:{other}:state: no state of a budget" in err


@pytest.mark.parametrize(
    "url", ["redis://:s3cr/et@127.0.0.1", "redis://:s3cr#et@h", "redis://127.0.0.1?password=s3cret"]
)
def test_no_password_is_taken_from_the_arguments(command, url):
    status, _, err = command("fleet", "status", url)
    assert status == 2 and "where every user" in err and "3cr" not in err


def test_passwords_stand_in_the_environment(command, tmp_path, monkeypatch):
    with redis_server(tmp_path, "--requirepass", "p@ss/word") as server:
        place = f"127.0.0.1:{server.port}"
        status, _, err = command("fleet", "status", f"redis://:hunter2@{place}")
        assert status == 2 and "every user" in err and "hunter2" not in err
        url = f"redis://:$STORE_PASSWORD@{place}"
        assert "no STORE_PASSWORD" in command("fleet", "status", url)[2]
        monkeypatch.setenv("STORE_PASSWORD", "hunter2")
        status, _, err = command("fleet", "status", url)
        assert status == 2 and "hunter2" not in err and "invalid" in err
        monkeypatch.setenv("STORE_PASSWORD", "p@ss/word")
        status, _, err = command("fleet", "status", url)
        assert status == 1 and "p@ss" not in err


def test_a_url_that_is_none(command):
    status, _, err = command("fleet", "status", "http://127.0.0.1")
    assert status == 2 and "redis://" in err
