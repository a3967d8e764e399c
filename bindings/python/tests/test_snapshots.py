"""The socket on which a process shows its pools."""

import json
import os
import select
import socket
import stat
import threading

import asking
import pytest
import servers

import llmpool


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "pools"


def name(pid=None):
    return f"{pid or os.getpid()}.sock"


def look(directory, pid=None):
    """What a process shows."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(directory / name(pid)))
        with client.makefile("rb") as stream:
            return json.loads(stream.read())


@pytest.fixture
def shown(directory):
    """A pool of its own in the directory, the only one there."""
    with llmpool.Pool(max_retries=0) as pool:
        pool.serve_stats(directory)
        yield pool


def test_what_is_shown_is_what_the_pool_says(shown, directory, mock_plain):
    client = llmpool.Client(base_url=mock_plain.url, pool=shown)
    for _ in range(3):
        client.get("/v1/models?key=hidden", headers={"authorization": "Bearer hidden"})
    document = look(directory)
    assert (document["schema"], document["pid"]) == (1, os.getpid())
    assert document["version"] == llmpool.__version__
    (pool,) = document["pools"]
    origin = pool["origins"][0]
    assert [found["origin"] for found in pool["origins"]] == [mock_plain.url]
    for found, stats in (pool, shown.stats()), (origin, shown.stats(mock_plain.url)):
        assert found["stats"] == {field: getattr(stats, field) for field in found["stats"]}
        assert found["stats"]["succeeded"] == 3 and "utilization" in found["stats"]
        total = shown.histograms()["total"]
        counted = found["histograms"]["total"]
        assert counted["count"] == total.count == sum(count for _, count in counted["buckets"]) == 3
        assert counted["sum_us"] == round(total.sum * 1e6)
    assert pool["options"]["max_connections"] == 100
    assert pool["reasons"]["closed"] == shown.reasons().closed
    assert "hidden" not in json.dumps(document)


def test_requests_in_flight_and_budgets(shown, directory, mock_plain):
    budget = llmpool.Budget("one", requests_per_minute=60, max_concurrent=3, pool=shown)
    headers = mock_plain.headers
    client = llmpool.Client(base_url=mock_plain.url, headers=headers, pool=shown, budget=budget)
    body = {"model": "stall-3", "stream": True, "messages": asking.HI}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        next(answer.iter_raw())
        (pool,) = look(directory)["pools"]
        (request,) = pool["requests"]
        assert request["origin"] == mock_plain.url and request["attempts"] == 1
        assert request["phase"] == "receiving" and request["age_us"] > 0 < request["received"]
        assert pool["requests_left_out"] == 0
        (budget,) = pool["budgets"]
        assert (budget["name"], budget["in_flight"], budget["waiting"]) == ("one", 1, 0)
        limits = [limit for limit in budget["limits"] if limit["source"] == "configured"]
        assert (limits[0]["unit"], limits[0]["limit"]) == ("requests", 60)
        assert limits[0]["window_us"] == 60_000_000


def test_only_the_user_may_look(shown, directory):
    modes = [stat.S_IMODE(path.lstat().st_mode) for path in (directory, directory / name())]
    assert modes == [0o700, 0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_another_user_is_told_nothing(shown, directory, run_python):
    for path in [directory, *directory.parents][:-1]:
        path.chmod(path.stat().st_mode | 0o755)
    (directory / name()).chmod(0o666)
    script = """
import os, socket, sys
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    try:
        print(client.recv(100))
    except ConnectionResetError:
        print(b"")
"""
    assert run_python(script, directory / name()).stdout == "b''\n"
    assert look(directory)["pid"] == os.getpid()


def test_a_directory_that_others_may_write_to(directory):
    directory.mkdir()
    directory.chmod(0o770)
    with (
        llmpool.Pool() as pool,
        pytest.raises(ValueError, match=r"others may write to .* \(mode 770\)"),
    ):
        pool.serve_stats(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a directory away")
def test_a_directory_of_another_user(directory):
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    with llmpool.Pool() as pool, pytest.raises(ValueError, match="belongs to user 65534"):
        pool.serve_stats(directory)


def test_a_link_to_a_directory(directory, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    with llmpool.Pool() as pool, pytest.raises(ValueError, match=r"directory: .*is no directory"):
        pool.serve_stats(directory)


def test_a_directory_that_cannot_be_made(tmp_path):
    with llmpool.Pool() as pool, pytest.raises(ValueError, match="directory: cannot make"):
        pool.serve_stats(tmp_path / "missing" / "pools")


def test_a_second_directory(shown, directory, tmp_path):
    with pytest.raises(ValueError, match=f"are shown in {directory} already"):
        shown.serve_stats(tmp_path / "other")
    shown.serve_stats(directory)
    shown.serve_stats(None)
    shown.serve_stats(tmp_path / "other")
    assert len(look(tmp_path / "other")["pools"]) == 1


def test_what_ended_processes_left_goes(directory):
    directory.mkdir(mode=0o700)
    left = directory / name(999_999_999)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left))
    os.utime(left, (0, 0))
    new = directory / name(999_999_997)  # somebody may be beginning there
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(new))
    alive = directory / name(999_999_998)
    other = directory / "notes.sock"
    other.write_text("not ours")
    with socket.socket(socket.AF_UNIX) as server, llmpool.Pool() as pool:
        server.bind(str(alive))
        server.listen()
        pool.serve_stats(directory)
        assert not left.exists() and new.exists() and alive.exists() and other.exists()


def test_it_is_there_as_long_as_there_is_a_pool_to_show(directory):
    with llmpool.Pool() as first, llmpool.Pool() as second:
        for pool in (first, second, first):
            pool.serve_stats(directory)
        assert len(look(directory)["pools"]) == 2
        first.close()
        assert len(look(directory)["pools"]) == 1
        second.serve_stats(None)
        assert not (directory / name()).exists()
        second.serve_stats(directory)
        assert len(look(directory)["pools"]) == 1
    assert not (directory / name()).exists()


def test_a_closed_pool_is_not_shown(directory):
    pool = llmpool.Pool()
    pool.close()
    with pytest.raises(llmpool.PoolClosed):
        pool.serve_stats(directory)
    assert not directory.exists()


def test_short_lived_pools_leave_nothing(directory):
    threads, files = servers.count_threads(), servers.count_descriptors()
    for _ in range(50):
        with llmpool.Pool() as pool:
            pool.serve_stats(directory)
            assert len(look(directory)["pools"]) == 1
    assert servers.wait_until(lambda: servers.count_threads() <= threads)
    assert servers.wait_until(lambda: servers.count_descriptors() <= files)
    assert list(directory.iterdir()) == []


def large(pool):
    """Makes its document larger than what a socket holds."""
    client = llmpool.Client(pool=pool, timeout=30)

    for number in range(600):
        with pytest.raises(llmpool.ConnectError):
            client.get(f"http://127.0.{number // 200}.{number % 200 + 1}:1/")


def test_who_does_not_read_is_dropped_and_holds_nobody_up(shown, directory):
    large(shown)
    idle = [socket.socket(socket.AF_UNIX) for _ in range(7)]
    try:
        with socket.socket(socket.AF_UNIX) as fifth:
            for client in [*idle[:4], fifth]:
                client.connect(str(directory / name()))
            assert fifth.makefile("rb").read() == b""
        assert servers.wait_until(lambda: all(map(is_cut, idle[:4])), 60)
        for client in idle[4:]:
            client.connect(str(directory / name()))
        whole = look(directory)  # beside those who do not read
        assert len(whole["pools"][0]["origins"]) == 600
    finally:
        for client in idle:
            client.close()


def is_cut(client):
    """The other end has closed it, whatever is still to be read."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


def test_looks_at_once(shown, directory):
    found = []
    threads = [threading.Thread(target=lambda: found.append(look(directory))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [document["pid"] for document in found] == [os.getpid()] * 4


PROGRAM = """
import os, sys
import llmpool
pool = llmpool.shared()
print(sorted(os.listdir(os.environ["LLMPOOL_STATS_DIR"])) == [f"{os.getpid()}.sock"])
"""


HIDDEN = """
import os
import llmpool
llmpool.serve_stats(None)
llmpool.configure(limits=llmpool.Limits(max_connections=7))
print(os.listdir(os.environ["LLMPOOL_STATS_DIR"]))
"""


def test_what_is_hidden_stays_hidden_when_it_is_configured(directory, run_python):
    result = run_python(HIDDEN, LLMPOOL_STATS_DIR=str(directory))
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_by_the_environment_and_gone_at_exit(directory, run_python):
    result = run_python(PROGRAM, LLMPOOL_STATS_DIR=str(directory))
    assert (result.stdout, result.stderr) == ("True\n", "")
    assert list(directory.iterdir()) == []


def test_a_directory_of_the_environment_that_is_refused(directory, run_python):
    directory.mkdir()
    directory.chmod(0o777)
    script = "import llmpool; print(llmpool.stats().submitted)"
    result = run_python(script, LLMPOOL_STATS_DIR=str(directory))
    assert result.stdout == "0\n"
    assert "LLMPOOL_STATS_DIR shows nothing: directory: others may write to" in result.stderr


FORKS = """
import json, os, socket, sys
import llmpool

def look():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(sys.argv[1], f"{os.getpid()}.sock"))
        return json.loads(client.makefile("rb").read())

llmpool.serve_stats(sys.argv[1])
own = llmpool.Pool()
own.serve_stats(sys.argv[1])
assert [pool["name"] for pool in look()["pools"]] == ["shared", "pool-1"]
child = os.fork()
if child == 0:
    assert not os.path.exists(os.path.join(sys.argv[1], f"{os.getpid()}.sock"))
    llmpool.stats()
    document = look()
    assert document["pid"] == os.getpid()
    assert [pool["name"] for pool in document["pools"]] == ["shared"]
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert look()["pid"] == os.getpid()
assert os.listdir(sys.argv[1]) == [f"{os.getpid()}.sock"]
print("done")
"""


def test_a_forked_child_has_its_own(directory, run_python):
    result = run_python(FORKS, directory)
    assert (result.stdout, result.stderr) == ("done\n", "")
    assert list(directory.iterdir()) == []


TOGETHER = """
import os, sys
import llmpool
lost = 0
pool = llmpool.Pool()
for _ in range(300):
    pool.serve_stats(sys.argv[1])
    lost += not os.path.exists(f"{sys.argv[1]}/{os.getpid()}.sock")
    pool.serve_stats(None)
print(lost)
"""


def test_who_begins_together_leaves_the_others_alone(directory, run_python, at_once):
    results = at_once(lambda _: run_python(TOGETHER, directory), 4, 4)
    assert [(each.stdout, each.stderr) for each in results] == [("0\n", "")] * 4


def test_a_socket_that_somebody_removed_is_made_again(directory):
    with llmpool.Pool() as pool:
        pool.serve_stats(directory)
        (directory / name()).unlink()
        pool.serve_stats(directory)
        assert len(look(directory)["pools"]) == 1
