"""python -m llmpool top: what it shows, and how it is left."""

import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from functools import partial

import pytest
import servers
import statistics_socket
from on_terminal import OnTerminal

import llmpool
from llmpool._command import top
from llmpool._command.main import main
from llmpool._command.terminal import Terminal
from llmpool._command.view import Watch
from llmpool._pool.processes import Reading, Unread
from llmpool._pool.snapshots import snapshot_of


@pytest.fixture
def run(command):
    return partial(command, "top")


def origin_of(number, submitted, **more):
    return {
        "origin": f"https://host-{number}.a-long-name.example.com:443",
        "stats": {"submitted": submitted, "succeeded": submitted, "opened": 2, **more},
        "histograms": {
            "total": {"count": submitted, "sum_us": 1000 * submitted, "max_us": 1000,
                      "buckets": [[63, submitted]]}
        },
        "reasons": {},
    }  # fmt: skip


def process(seconds, submitted, origins=1, requests=3, budgets=(), pid=1, **stats):
    """One whose pool has these counts, at this time."""
    return snapshot_of(
        {
            "schema": 1, "version": "0.1.0", "pid": pid, "name": "gunicorn",
            "monotonic_us": round(1e6 * seconds),
            "pools": [
                {
                    "name": "pool-1",
                    "options": {"max_connections": 10},
                    "stats": {"submitted": submitted, "pending": 4, "active": 6, "in_use": 6,
                              "utilization": 0.6, **stats},
                    "histograms": {}, "reasons": {},
                    "origins": [origin_of(i, submitted) for i in range(origins)],
                    "budgets": list(budgets),
                    "requests": [
                        {"id": i, "origin": "https://api.example.com:443", "phase": "waiting",
                         "age_us": 1_500_000, "attempts": 1, "sent": 12, "received": 0}
                        for i in range(requests)
                    ],
                    "requests_left_out": 7,
                }
            ],
        }
    )  # fmt: skip


BUDGET = {
    "name": "openai/gpt-5", "in_flight": 3, "waiting": 12, "stopped_us": 3_200_000, "refusals": 1,
    "limits": [{"unit": "input_tokens", "limit": 500, "remaining": 12, "window_us": 60_000_000,
                "source": "configured"}],
}  # fmt: skip


class Plain:
    encoding = "utf-8"

    def isatty(self):
        return False


def seen(*snapshots, unread=()):
    watch = Watch()
    for each in snapshots:
        view = watch.see(each.at, Reading((each,), unread))
    return view


def lines_of(view, height=None):
    return top.table(Terminal(Plain()), view, height)


def test_rates_are_of_the_last_seconds():
    view = seen(*(process(second, 100 * second) for second in range(1, 20)))
    (pool,) = view.processes[0].pools
    assert view.seconds == 5 and pool.total.requests == 100
    (origin,) = pool.origins.values()
    assert origin.requests == 100 and 0.001 <= origin.p50 <= 0.0011
    assert pool.history == (0.6,) * 19
    anew = seen(process(1, 1000), process(2, 10))  # the same id, and another process
    assert anew.processes[0].pools[0].total.requests == 10
    assert seen(process(1, 1000)).processes[0].pools[0].total.requests == 0


def test_the_table():
    lines = lines_of(seen(process(1, 100), process(2, 150, budgets=[BUDGET])))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert re.search(r"^llmpool top  \d\d:\d\d:\d\d  1 process, 1 pool, 10 in flight$", lines[0])
    assert re.search(r"^1 gunicorn, pool-1 +\u2585\u2585  60 % of 10$", text, re.MULTILINE)
    assert re.search(r"^  host-0\.a-lo\S+\.com +50\.0 +- +1\.0 ms", text, re.MULTILINE)
    words = " ".join(text.split())
    assert "budget openai/gpt-5: 3 in flight, 12 waiting, stopped for 3.20 s, 12 of 500" in words
    share = {"leased": 0, "members": 4, "lease_us": 0, "lapses": 1}
    shared = {**BUDGET, "share": share}
    lines = lines_of(seen(process(1, 100), process(2, 150, budgets=[shared])))
    assert "stopped for 3.20 s, no lease, members: 4, 12 of 500" in " ".join(
        " ".join(lines).split()
    )
    assert re.search(r" 1\.50 s waiting +12 +0 +1  api\.example\.com", text)
    assert "... 7 more" in text


@pytest.mark.parametrize("height", [10, 24, 40, 400])
def test_the_table_fits_the_screen(height):
    unread = [Unread(9, "it did not answer within 2 s")]
    first, last = (process(second, 100, origins=100, requests=50) for second in (1, 2))
    lines = lines_of(seen(first, last, unread=unread), height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert "process 9: it did not answer" in text and "gunicorn" in text
    if height < 100:
        assert "more lines" in text
    if height >= 24:
        assert "oldest in flight" in text and "1.50 s" in text


@pytest.fixture
def held(open_client, tmp_path):
    """A pool with five requests in flight, which a process serves."""
    free = threading.Event()

    def handle(connection, _):
        servers.read_request(connection)
        free.wait(60)
        servers.answer(connection)

    with servers.RawServer(handle) as server:
        client = open_client(server.url, limits=llmpool.Limits(max_connections=5))
        callers = [threading.Thread(target=client.get, args=("/",)) for _ in range(5)]
        for caller in callers:
            caller.start()
        assert servers.wait_until(
            lambda: [each.phase for each in client.pool.requests()] == ["waiting"] * 5
        )
        with statistics_socket.process_of(tmp_path, {"pool-1": client.pool}):
            yield client
        free.set()
        for caller in callers:
            caller.join(60)


def test_once(run, held, tmp_path):
    status, output, errors = run("--dir", tmp_path, "--once", "--interval", 0.1)
    assert (status, errors) == (0, "")
    assert "1 process, 1 pool, 5 in flight" in output and "100 % of 5" in output
    assert output.count(" waiting ") == 5 and "\033" not in output


def test_once_for_programs(run, held, tmp_path):
    status, output, _ = run("--dir", tmp_path, "--once", "--interval", 0.1, "--json")
    found = json.loads(output)
    assert status == 0 and found["advice"] == found["unread"] == []
    ((process_found),) = found["processes"]
    assert (process_found["pid"], process_found["name"]) == (os.getpid(), "app")
    (pool,) = process_found["pools"]
    assert (pool["in_flight"], pool["connections_in_use"], pool["utilization"]) == (5, 5, 1.0)
    assert [each["phase"] for each in pool["requests"]] == ["waiting"] * 5
    assert pool["requests"][0]["age_ms"] > 0 and pool["requests"][0]["sent"] == 0
    assert [each["in_flight"] for each in pool["origins"]] == [5]


@pytest.mark.parametrize("command", ["top", "advise"])
def test_nobody_is_there(command, tmp_path, monkeypatch, capsys):
    once = ["--once"] if command == "top" else []
    assert main([command, "--dir", str(tmp_path), *once]) == 2
    assert "no process serves its statistics in" in capsys.readouterr().err
    assert main([command, "--dir", str(tmp_path), "--pid", "3", *once]) == 2
    assert "process 3 does not serve its statistics" in capsys.readouterr().err
    assert main([command, "--dir", str(tmp_path / "none"), *once]) == 2
    assert "none: No such file or directory" in capsys.readouterr().err
    monkeypatch.delenv("LLMPOOL_STATS_DIR", raising=False)
    assert main([command, *once]) == 2
    assert "LLMPOOL_STATS_DIR is not set" in capsys.readouterr().err
    with statistics_socket.serving(tmp_path, lambda: b"{", 5):
        assert main([command, "--dir", str(tmp_path), *once]) == 2
    assert "process 5: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["top", "--interval", "0"], "--interval: a number from 0.001"),
        (["top", "--pid", "x"], "--pid: a whole number from 1"),
        (["advise", "--window", "4.9"], "--window: at least 5 seconds, not 4.9"),
        (["advise", "secret"], "an argument it does not know"),
    ],
)
def test_arguments(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and said in errors and "secret" not in errors


@pytest.mark.parametrize("command", ["top", "advise"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert max(map(len, output.splitlines())) <= 80
    for each in ("--dir", "--pid", "--json", "LLMPOOL_STATS_DIR", "exit status: 0"):
        assert each in output


# ---- on a terminal


def live(tmp_path, **more):
    return OnTerminal("top", "--dir", tmp_path, "--interval", 0.2, **more)


@pytest.mark.parametrize(
    "key, signal_number, status, said",
    [
        (b"q", None, 0, ""),
        (b"\x03", None, 130, "llmpool top: stopped\r\n"),
        (None, signal.SIGTERM, 143, ""),
    ],
)
def test_the_screen_comes_back(held, tmp_path, key, signal_number, status, said):
    with live(tmp_path) as screen:
        screen.wait_for("llmpool top", 2)
        assert screen.output.startswith("\033[?1049h\033[?25l")
        assert not termios.tcgetattr(screen.slave)[3] & termios.ECHO
        if key is None:
            screen.process.send_signal(signal_number)
        else:
            screen.press(key)
        assert screen.status() == status
        assert screen.output.endswith("\033[?25h\033[?1049l" + said)
        assert "Traceback" not in screen.output
        assert termios.tcgetattr(screen.slave) == screen.before


@pytest.mark.parametrize("columns, rows", [(80, 24), (120, 40)])
def test_the_live_screen(held, tmp_path, columns, rows):
    with live(tmp_path, columns=columns, rows=rows) as screen:
        screen.wait_for("\033[J", 3)
        assert "\033[31m" in screen.output  # a pool that is full is red
        frames = screen.output.split("\033[H")[1:-1]
    for frame in frames:
        lines = re.sub(r"\033\[[0-9;?]*[a-zA-Z]", "", frame).split("\r\n")
        assert len(lines) <= rows and max(map(len, lines)) <= columns
    assert "5 in flight" in frames[-1]


def test_no_colour(held, tmp_path):
    with live(tmp_path, NO_COLOR="1") as screen:
        screen.wait_for("\033[J", 2)
        assert not re.search(r"\033\[[0-9;]*m", screen.output)


def test_a_terminal_that_cannot_move(held, tmp_path):
    with live(tmp_path, TERM="dumb") as screen:
        screen.wait_for("llmpool top", 2)
        assert "\033" not in screen.output


def test_processes_may_come_and_go(open_pool, tmp_path):
    with live(tmp_path) as screen:
        screen.wait_for("no process serves")
        with statistics_socket.process_of(tmp_path, {"pool-1": open_pool()}, 9):
            screen.wait_for("9 app, pool-1")
        before = screen.output.count("no process serves")
        screen.wait_for("no process serves", before + 1)


def test_lines_for_programs(held, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "llmpool", "top", "--dir", tmp_path, "--json", "--interval", "0.1"],
        env={**os.environ, "PYTHONPATH": servers.python_path()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for _ in range(3):
            found = json.loads(process.stdout.readline())
            assert found["processes"][0]["pools"][0]["in_flight"] == 5
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "llmpool top: stopped\n")


def test_ctrl_c_of_advise(held, tmp_path):
    with OnTerminal("advise", "--dir", tmp_path, "--window", 60) as screen:
        screen.wait_for("looking at 1 process, ")
        screen.press(b"\x03")
        assert screen.status() == 130
        assert screen.output.endswith("\r\033[Kllmpool advise: stopped\r\n")
        assert "Traceback" not in screen.output
