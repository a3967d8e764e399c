"""What processes serve of their pools is read, compared and added up."""

import contextlib
import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest
import servers
import statistics_socket

import llmpool
from llmpool._fleet.demand import ANY_NUMBER, Grant
from llmpool._fleet.leases import Leases
from llmpool._pool import processes, snapshots
from llmpool._pool.processes import Unread, read
from llmpool._pool.snapshots import change, nothing, snapshot_of, together


def document(pools=None, **more):
    return statistics_socket.document(pools or {}, **more)


process_of = statistics_socket.process_of


def give_budget(pool, name="b", **limits):
    """One that the metrics and snapshots have: they are of the engine's last turn, which takes it a
    moment later."""
    llmpool.Budget(name, requests_per_minute=60, pool=pool, **limits)
    assert servers.wait_until(lambda: "llmpool_budget_in_flight{" in pool.metrics())


def lend(pool, name, amount, members):
    """Shares it with others, and gives it a lease that outlives the test."""
    leases = Leases(pool, [name])
    leases.share(0.5, has_store=True)
    assert servers.wait_until(lambda: pool.budgets()[name].shared)
    demand = leases.demand(name)
    limits = tuple((limit.amount, amount) for limit in demand.limits)
    leases.grant(name, demand, Grant(60_000, members, ANY_NUMBER, 0, limits))
    assert servers.wait_until(lambda: pool.budgets()[name].leased)


def test_a_process_is_read(open_client, nginx, tmp_path):
    client = open_client(nginx.url)
    for _ in range(3):
        client.get("/small")
    pool = client.pool
    give_budget(pool)
    with statistics_socket.serving_pools(tmp_path, [pool]):
        reading = read(str(tmp_path))
    (snapshot,) = reading.processes
    assert reading.unread == ()
    assert (snapshot.pid, snapshot.name) == (
        os.getpid(),
        Path("/proc/self/comm").read_text().strip(),
    )
    assert snapshot.version == llmpool.__version__
    (found,) = snapshot.pools.values()
    (origin,) = pool.origins()
    for part, name in ((found.total, None), (found.origins[origin], origin)):
        stats = pool.stats(name)
        assert {**part.counts, "utilization": part.utilization} == vars(stats)
        assert part.reasons == pool.reasons(name)
        assert part.histograms == {
            kind: each for kind, each in pool.histograms(name).items() if each.count
        }
    assert found.options["max_connections"] == pool.limits.max_connections
    (budget,) = found.budgets
    assert (budget.name, budget.limits[0].limit, budget.limits[0].window) == ("b", 60, 60)


def test_who_does_not_answer_holds_up_nobody(tmp_path, monkeypatch):
    """A dead socket is passed over, a slow one and one that says something else are named."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "11.sock"))
    dead.close()
    (tmp_path / "12.sock").write_text("no socket")
    (tmp_path / "other").write_text("no socket")
    monkeypatch.setattr(processes, "_PATIENCE", 1.0)
    never = threading.Event()
    with contextlib.ExitStack() as stack:
        serve = statistics_socket.serving
        stack.enter_context(serve(tmp_path, document, 1))
        for pid in (21, 22, 23):
            stack.enter_context(serve(tmp_path, never.wait, pid))
        stack.enter_context(serve(tmp_path, lambda: b"[1, 2", 31))
        stack.enter_context(serve(tmp_path, lambda: {**document(), "schema": 2}, 32))
        stack.enter_context(serve(tmp_path, lambda: b'{"schema": 1}', 33))
        stack.enter_context(serve(tmp_path, lambda: b"", 34))
        reading = read(str(tmp_path))
        one = read(str(tmp_path), 1)
        never.set()
    assert [snapshot.pid for snapshot in reading.processes] == [1]
    assert [unread.pid for unread in reading.unread] == [21, 22, 23, 31, 32, 33, 34]
    assert reading.unread[0] == Unread(21, "it did not answer within 1 s")
    assert "schema is 2" in reading.unread[4].why
    assert "no document of a process's pools" in reading.unread[5].why
    assert [snapshot.pid for snapshot in one.processes] == [1] and one.unread == ()


def test_a_directory_of_any_length(tmp_path):
    """A Unix socket's own name has at most 107 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(deep)  # so that it can be bound
    try:
        with statistics_socket.serving(".", document, 5):
            assert [each.pid for each in read(str(deep)).processes] == [5]
    finally:
        os.chdir(here)


def test_names_move_no_cursor():
    found = snapshot_of(document(name="a\x1b[2Jb\nc"))
    assert found.name == "a?[2Jb?c"


def part(**counts):
    return nothing()._replace(counts=counts)


def histogram(*micros):
    """Of these durations, as the library counts them."""
    buckets = [0] * 240
    for value in micros:
        ends = (snapshots.lib.histogram_end(index) for index in range(240))
        buckets[next(index for index, end in enumerate(ends) if value < end)] += 1
    return snapshots._of_state(len(micros), sum(micros), max(micros, default=0), buckets)


def test_what_lies_between_two_moments():
    before = part(submitted=10, opened=3, pending=4)
    now = part(submitted=25, opened=3, pending=1)
    assert change(now, before).counts == {"submitted": 15, "opened": 0, "pending": 1}
    assert change(now, None) == now
    assert change(before, now) == before  # it has begun anew
    earlier, later = histogram(100, 200_000), histogram(100, 200_000, 150, 3000)
    found = change(
        now._replace(histograms={"total": later}), before._replace(histograms={"total": earlier})
    ).histogram("total")
    assert (found.count, found.sum) == (2, pytest.approx(0.00315))
    assert 0.003 <= found.max <= 0.003 * 1.125 and found.percentile(50) < 0.00017
    longest = change(
        now._replace(histograms={"total": histogram(100, 7_000_000)}),
        before._replace(histograms={"total": histogram(100)}),
    ).histogram("total")
    assert longest.max == 7.0


def test_parts_add_up():
    first = part(submitted=10, pending=4)._replace(utilization=0.25)
    second = part(submitted=5)._replace(utilization=1.0, histograms={"tls": histogram(7)})
    both = together([first, second, second])
    assert both.counts == {"submitted": 20, "pending": 4} and both.utilization == 1
    assert both.histogram("tls").count == 2
    assert first.counts == {"submitted": 10, "pending": 4}


def test_gauges_are_those_of_the_metrics(open_pool):
    kinds = re.findall(r"^# TYPE llmpool_(\w+) gauge$", open_pool().metrics(), re.MULTILINE)
    from llmpool._pool import together as merged

    named = {field for name, field in merged._COUNTS.items() if name in kinds}
    assert named == snapshots.GAUGES


# ---- metrics of all processes


def busy(open_client, url, budget=None):
    client = open_client(url)
    for _ in range(3):
        client.get("/small", budget=budget)
    with pytest.raises(llmpool.ConnectError):
        client.get("http://127.0.0.1:9/", retry=False)
    return client.pool


def test_the_metrics_of_one_process_are_its_own(open_client, nginx, tmp_path):
    """Line by line those that the library writes."""
    pool = busy(open_client, nginx.url)
    give_budget(pool, '"b\\', tokens_per_day=1000)
    with statistics_socket.serving_pools(tmp_path, [pool]):
        found = llmpool.metrics(processes="all", directory=tmp_path)
        open_metrics = llmpool.metrics(processes="all", directory=tmp_path, openmetrics=True)
    assert sorted(found.splitlines()) == sorted(pool.metrics().splitlines())
    families = re.findall(r"^# HELP (\S+)", found, re.MULTILINE)
    assert families == re.findall(r"^# HELP (\S+)", pool.metrics(), re.MULTILINE)
    assert "llmpool_close_reasons_total{" in found
    own = pool.metrics(openmetrics=True)
    assert sorted(open_metrics.splitlines()) == sorted(own.splitlines())
    assert open_metrics.endswith("\n# EOF\n")


def test_of_a_shared_budget_too(open_client, nginx, tmp_path):
    pool = open_client(nginx.url).pool
    give_budget(pool)
    lend(pool, "b", 20, members=7)
    with statistics_socket.serving_pools(tmp_path, [pool]):
        (snapshot,) = read(str(tmp_path)).processes
        found = llmpool.metrics(processes="all", directory=tmp_path)
    assert sorted(found.splitlines()) == sorted(pool.metrics().splitlines())
    assert re.search(r"^llmpool_budget_limit\{.*\} 8\.571$", found, re.MULTILINE)
    assert re.search(r"^llmpool_budget_remaining\{.*\} 20$", found, re.MULTILINE)
    values = samples(found)
    names = ("members", "leased", "lapses_total")
    assert [values[f'llmpool_budget_{name}{{budget="b"}}'] for name in names] == [7, 1, 0]
    ((budget,),) = (each.budgets for each in snapshot.pools.values())
    assert budget.share == snapshots.ShareSnapshot(leased=1, members=7, lapses=0)
    assert (budget.limits[0].limit, budget.limits[0].part) == (60, 8.571)


def samples(text):
    return {
        name: float(value)
        for name, value in re.findall(r"^(llmpool_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    }


def test_the_metrics_of_several_are_added_up(open_client, nginx, tmp_path, monkeypatch):
    pools = [busy(open_client, nginx.url) for _ in range(3)]
    for pool in pools:
        give_budget(pool)
    monkeypatch.setenv("LLMPOOL_STATS_DIR", str(tmp_path))
    first, second = {"p": pools[0], "q": pools[1]}, {"p": pools[2]}
    with process_of(tmp_path, first, 7), process_of(tmp_path, second, 8):
        found = samples(llmpool.metrics(processes="all"))
    each = [samples(pool.metrics()) for pool in pools]
    assert set(found) == set(each[0]) | set(each[1]) | set(each[2])
    for name, value in found.items():
        values = [one.get(name, 0.0) for one in each]
        if "utilization" in name:
            assert value == max(values)
        elif "budget_remaining" not in name:  # which comes back meanwhile
            assert value == pytest.approx(sum(values)), name
    (origin,) = {name for name in pools[0].origins() if not name.endswith(":9")}
    assert found[f'llmpool_requests_submitted_total{{origin="{origin}"}}'] == 9


def test_a_fleet_is_added_up_to_its_limit(open_pool, tmp_path):
    pools = [open_pool() for _ in range(3)]
    for number, pool in enumerate(pools):
        give_budget(pool)
        lend(pool, "b", 10 + number, members=3)
    first, second = {"p": pools[0], "q": pools[1]}, {"p": pools[2]}
    with process_of(tmp_path, first, 7), process_of(tmp_path, second, 8):
        found = samples(llmpool.metrics(processes="all", directory=tmp_path))
    of_limit = '{budget="b",unit="requests",window="60.0",source="configured"}'
    assert found[f"llmpool_budget_limit{of_limit}"] == 60
    assert found[f"llmpool_budget_remaining{of_limit}"] == 33
    assert found[f"llmpool_budget_spent{of_limit}"] == 0
    assert found['llmpool_budget_members{budget="b"}'] == 3
    assert found['llmpool_budget_leased{budget="b"}'] == 3


def test_what_a_provider_has_told_is_one_limit():
    from llmpool._pool.together import _limits

    def budget(limit, remaining, told):
        source = "told" if told else "configured"
        limits = (snapshots.LimitSnapshot("requests", limit, remaining, 60.0, source),)
        return snapshots.BudgetSnapshot("b", 0, 0, 0.0, 0, limits)

    (told,) = _limits([budget(500, 420, True), budget(500, 400, True)])
    assert (told.limit, told.remaining) == (500, 400)
    (ours,) = _limits([budget(500, 420, False), budget(500, 400, False)])
    assert (ours.limit, ours.remaining) == (1000, 820)

    def shared(part, remaining, spent):
        told = snapshots.LimitSnapshot("requests", 500, remaining, 60.0, "told", part, spent)
        return snapshots.BudgetSnapshot("b", 0, 0, 0.0, 0, (told,))

    (parts,) = _limits([shared(166.667, 30, 5), shared(166.667, 40, -2)])
    assert (parts.limit, parts.remaining, parts.spent) == (333.334, 70, 3)
    (both,) = _limits([shared(166.667, 30, 5), budget(500, 400, True)])
    assert (both.limit, both.remaining, both.spent) == (500, 400, 5)


def test_labels_are_bounded(tmp_path):
    empty = {"stats": {"submitted": 1}, "histograms": {}, "reasons": {}}
    pool = {
        "name": "p", "options": {}, **empty, "requests": [], "requests_left_out": 0,
        "origins": [{"origin": f"http://h{i:04}:80", **empty} for i in range(1000)],
        "budgets": [
            {"name": f"b{i:04}", "in_flight": 1, "waiting": 0, "stopped_us": 0, "refusals": 1,
             "limits": []}
            for i in range(1000)
        ],
    }  # fmt: skip
    with statistics_socket.serving(tmp_path, lambda: {**document(), "pools": [pool]}, 3):
        found = samples(llmpool.metrics(processes="all", directory=tmp_path))
    submitted = {n: v for n, v in found.items() if "requests_submitted_total" in n}
    refused = {n: v for n, v in found.items() if "budget_refusals_total" in n}
    assert (len(submitted), sum(submitted.values())) == (201, 1000)
    assert (len(refused), sum(refused.values())) == (65, 1000)
    assert submitted['llmpool_requests_submitted_total{origin="other"}'] == 800


def test_who_is_told_apart_stays_so(tmp_path):
    """Later ones that come first by name push nobody out, and "other" does not fall."""

    def say(names):
        part = {"stats": {"submitted": 1}, "histograms": {}, "reasons": {"failed": {"tls": 1}}}
        pool = {
            "name": "p", "options": {}, **part, "requests": [], "requests_left_out": 0,
            "origins": [{"origin": f"http://{name}:80", **part} for name in names],
            "budgets": [
                {"name": name, "in_flight": 0, "waiting": 0, "stopped_us": 0, "refusals": 1,
                 "limits": []}
                for name in names
            ],
        }  # fmt: skip
        return lambda: {**document(), "pools": [pool]}

    def others(found):
        return [
            found.get(f'llmpool_{name}="other"}}', 0.0)
            for name in ("requests_submitted_total{origin", "budget_refusals_total{budget")
        ]

    first = [f"m{i:04}" for i in range(300)]
    with statistics_socket.serving(tmp_path, say(first), 3):
        assert others(counted(tmp_path)) == [100, 236]
    found = counted(tmp_path)  # it has ended
    assert others(found) == [100, 236]
    assert sum("requests_submitted" in name for name in found) == 201
    with statistics_socket.serving(tmp_path, say(["a1", "m0000", "m0299"]), 4):
        found = counted(tmp_path)
    assert others(found) == [102, 238]
    assert found['llmpool_requests_submitted_total{origin="http://m0000:80"}'] == 2
    # A reason that is rare has no series of its own.
    assert found['llmpool_failure_reasons_total{origin="http://m0000:80",reason="other"}'] == 2


def test_what_cannot_be_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("LLMPOOL_STATS_DIR", raising=False)
    with pytest.raises(ValueError, match="LLMPOOL_STATS_DIR is not set"):
        llmpool.metrics(processes="all")
    with pytest.raises(ValueError, match="cannot be used: No such file"):
        llmpool.metrics(processes="all", directory=tmp_path / "none")
    with pytest.raises(ValueError, match='processes is "all" or None'):
        llmpool.metrics(processes="mine")
    # The shared pool goes on meanwhile: it closes what is idle, and forgets origins.
    families = [re.findall("^# HELP (.*)$", text, re.MULTILINE)
                for text in (llmpool.metrics(), llmpool.shared().metrics())]  # fmt: skip
    assert families[0] == families[1] != []


def counted(directory):
    return samples(llmpool.metrics(processes="all", directory=directory))


def test_counters_do_not_fall_when_a_process_ends(open_client, nginx, tmp_path, monkeypatch):
    pools = [busy(open_client, nginx.url) for _ in range(2)]
    (origin,) = {name for name in pools[0].origins() if not name.endswith(":9")}
    submitted = f'llmpool_requests_submitted_total{{origin="{origin}"}}'
    idle = f'llmpool_connections_idle{{origin="{origin}"}}'
    failed = 'llmpool_failure_reasons_total{origin="http://127.0.0.1:9",reason="connect"}'
    took = f'llmpool_request_duration_seconds_count{{origin="{origin}"}}'
    with process_of(tmp_path, {"p": pools[0]}, 7):
        with process_of(tmp_path, {"p": pools[1]}, 8):
            both = counted(tmp_path)
            assert (both[submitted], both[idle], both[failed], both[took]) == (6, 2, 2, 6)
        one = counted(tmp_path)  # its gauges are gone, and what it has counted is not
        assert (one[submitted], one[idle], one[failed], one[took]) == (6, 1, 2, 6)
        assert counted(tmp_path) == one
        # Another process with the id of the one that has ended.
        (tmp_path / "8.sock").unlink()
        other = {**document({"p": pools[1]}), "started_us": 1}
        with statistics_socket.serving(tmp_path, lambda: other, 8):
            assert counted(tmp_path)[submitted] == 9
        (tmp_path / "8.sock").unlink()
    # One that is there and does not answer has not ended.
    (tmp_path / "7.sock").unlink()
    never = threading.Event()
    with statistics_socket.serving(tmp_path, never.wait, 7), monkeypatch.context() as patch:
        patch.setattr(processes, "_PATIENCE", 0.3)
        assert counted(tmp_path)[submitted] == 9
        never.set()
    (tmp_path / "7.sock").unlink()
    with process_of(tmp_path, {"p": pools[0]}, 7):
        assert counted(tmp_path)[submitted] == 9
    assert counted(tmp_path)[submitted] == 9


def test_what_a_budget_counted_stays(tmp_path):
    def say(refusals, lapses):
        budget = {
            "name": "b", "in_flight": 2, "waiting": 1, "stopped_us": 0, "refusals": refusals,
            "limits": [],
            "share": {"leased": 1, "members": 4, "lease_us": 1_000_000, "lapses": lapses},
        }  # fmt: skip
        empty = {"stats": {}, "histograms": {}, "reasons": {}, "origins": [], "requests": []}
        pool = {"name": "p", "options": {}, **empty, "budgets": [budget], "requests_left_out": 0}
        return lambda: {**document(), "pools": [pool]}

    names = ("refusals_total", "lapses_total", "in_flight", "members", "leased")

    def values():
        found = counted(tmp_path)
        return [found[f'llmpool_budget_{name}{{budget="b"}}'] for name in names]

    with statistics_socket.serving(tmp_path, say(5, 3), 3):
        assert values() == [5, 3, 2, 4, 1]
    assert values() == [5, 3, 0, 0, 0]
    with statistics_socket.serving(tmp_path, say(2, 1), 4):
        assert values() == [7, 4, 2, 4, 1]
    (tmp_path / "4.sock").unlink()
    with statistics_socket.serving(tmp_path, say(4, 0), 4):  # it is shared anew
        assert values() == [9, 4, 2, 4, 1]


@pytest.mark.parametrize("text", ["", "[]", '{"own": 1}', '{"own": {}, "seen": 3}', "{"])
def test_a_file_that_is_none_is_written_anew(open_client, nginx, tmp_path, text):
    (tmp_path / "counted-4.json").write_text(text)
    pool = busy(open_client, nginx.url)
    with statistics_socket.serving_pools(tmp_path, [pool]):
        first = counted(tmp_path)
    assert sum(value for name, value in first.items() if "requests_submitted" in name) == 4
    assert samples(llmpool.metrics(processes="all", directory=tmp_path)).keys() <= first.keys()


def test_many_ask_at_once(tmp_path, at_once):
    """Of a process that goes on counting nothing is counted twice."""
    asked = iter(range(1, 1000))

    def say():
        number = next(asked)
        part = {"stats": {"submitted": number}, "histograms": {}, "reasons": {}}
        pool = {
            "name": "p", "options": {}, **part, "origins": [{"origin": "http://h:80", **part}],
            "budgets": [], "requests": [], "requests_left_out": 0,
        }  # fmt: skip
        return {**document(), "pools": [pool]}

    name = 'llmpool_requests_submitted_total{origin="http://h:80"}'
    with statistics_socket.serving(tmp_path, say):
        found = at_once(lambda _: counted(tmp_path)[name], 30, 10)
    assert sorted(found) == list(range(1, 31))


def test_a_pool_that_is_shown_again_is_counted_once(open_client, nginx, tmp_path):
    pool = busy(open_client, nginx.url)
    for _ in range(3):
        with statistics_socket.serving_pools(tmp_path, [pool]):
            found = counted(tmp_path)
        assert (
            counted(tmp_path).items()
            >= {name: value for name, value in found.items() if "_total" in name}.items()
        )
    assert sum(value for name, value in found.items() if "requests_submitted" in name) == 4


def said(started, **counts):
    part = {"stats": counts, "histograms": {}, "reasons": {}}
    pool = {
        "name": "p", "options": {}, **part, "origins": [{"origin": "http://h:80", **part}],
        "budgets": [], "requests": [], "requests_left_out": 0,
    }  # fmt: skip
    return lambda: {**document(), "started_us": started, "pools": [pool]}


def test_who_only_connected_is_counted_when_it_has_ended(tmp_path):
    opened = 'llmpool_connections_opened_total{origin="http://h:80"}'
    with statistics_socket.serving(tmp_path, said(1, submitted=0, opened=3), 5):
        assert counted(tmp_path)[opened] == 3
    assert counted(tmp_path)[opened] == 3


def test_another_process_of_the_same_number(tmp_path):
    failed = 'llmpool_requests_failed_total{origin="http://h:80"}'
    with statistics_socket.serving(tmp_path, said(1, submitted=100, failed=50), 1):
        assert counted(tmp_path)[failed] == 50
    (tmp_path / "1.sock").unlink()
    with statistics_socket.serving(tmp_path, said(2, submitted=120, failed=0), 1):
        assert counted(tmp_path)[failed] == 50


def test_what_is_away_for_long_has_ended(tmp_path, monkeypatch):
    from llmpool._pool import ended

    submitted = 'llmpool_requests_submitted_total{origin="http://h:80"}'
    with statistics_socket.serving(tmp_path, said(1, submitted=7), 5):
        assert counted(tmp_path)[submitted] == 7
    assert counted(tmp_path)[submitted] == 7  # it is missed
    monkeypatch.setattr(ended, "_REMEMBERED", 0.0)
    for _ in range(3):
        assert counted(tmp_path)[submitted] == 7
    with ended._locked(str(tmp_path)) as place:
        state = ended._load(place)
    assert not state.away.origins and not state.missed and state.past.origins["http://h:80"]


def test_nothing_is_written_through_a_link(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    stats = tmp_path / "stats"
    stats.mkdir(mode=0o700)
    for name in ("counted-4.json.new", "counted-4.json"):
        (stats / name).symlink_to(secret)
    with statistics_socket.serving(stats, said(1, submitted=7), 5):
        counted(stats)
        counted(stats)
    assert secret.read_text() == "mine"
    assert not (stats / "counted-4.json").is_symlink()
    assert all(path.stat().st_mode & 0o77 == 0 for path in stats.glob("counted*"))
    (stats / "counted.lock").unlink()
    (stats / "counted.lock").symlink_to(secret)
    with pytest.raises(ValueError, match="cannot be used"):
        counted(stats)


def test_a_directory_of_others_is_refused(tmp_path):
    tmp_path.chmod(0o770)
    with pytest.raises(ValueError, match="others may write there"):
        counted(tmp_path)


def test_a_child_of_a_fork_keeps_no_lock(tmp_path):
    from llmpool._pool import ended

    with ended._locked(str(tmp_path)):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        before = time.monotonic()
        counted(tmp_path)
        assert time.monotonic() - before < 9
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_numbers_that_are_none(tmp_path):
    endless = {**said(1)()["pools"][0], "stats": {"submitted": 1e999}}
    for wrong in ({"pools": [endless]}, {"monotonic_us": 10**400}, {"schema": "\x1b[2J"}):
        with pytest.raises(ValueError) as caught:
            snapshot_of({**said(1, submitted=1)(), **wrong})
        assert "\x1b" not in str(caught.value)
