"""python -m llmpool advise, and top beside it: what is wrong with a pool is said, with the right
figures; a pool that is well is left alone."""

import json
import os
import subprocess
import sys
import threading
import time

import load
import pytest
import servers
import statistics_socket

from llmpool._command.advice import advise
from llmpool._command.rules import SHORTEST
from llmpool._pool.snapshots import snapshot_of

WINDOW = 8
SICK_PID, HEALTHY_PID = 101, 102


def spawn(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "llmpool", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": servers.python_path(), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


class Recorder:
    """Looks at pools several times, while its block lasts."""

    def __init__(self, pools):
        self._pools = pools
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.snapshots = []

    def _run(self):
        while not self._over.is_set():
            self.snapshots.append(snapshot_of(statistics_socket.document(self._pools)))
            self._over.wait(0.5)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(30)

    def verdicts(self):
        """Of every two moments that are far enough from each other."""
        for index, before in enumerate(self.snapshots):
            for now in self.snapshots[index + 1 :]:
                if now.at - before.at >= SHORTEST:
                    yield advise([before], [now])


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """What both commands say of two processes, one with the pools that something is wrong with, one
    with those that are well; and what was recorded of the latter."""
    directory = tmp_path_factory.mktemp("processes")
    with load.running(load.SICK) as sick, load.running(load.HEALTHY) as healthy:
        serving = statistics_socket.serving_pools
        with serving(directory, sick, name="sick", pid=SICK_PID), serving(
            directory, healthy, name="well", pid=HEALTHY_PID
        ), Recorder(healthy) as recorder:  # fmt: skip
            began = time.monotonic()
            commands = {
                "advise": spawn("advise", "--dir", directory, "--window", WINDOW, "--json"),
                "words": spawn("advise", "--dir", directory, "--window", WINDOW),
                "top": spawn("top", "--dir", directory, "--once", "--interval", WINDOW, "--json"),
                "table": spawn("top", "--dir", directory, "--once", "--interval", WINDOW),
            }
            said = {name: ended(process) for name, process in commands.items()}
            said["seconds"] = time.monotonic() - began
    return said, recorder


def by_pool(advice, pid):
    found = {}
    for each in advice:
        if each["pid"] == pid:
            found.setdefault(each["pool"], []).append(each)
    return found


@pytest.mark.parametrize("command", ["advise", "top"])
def test_each_pool_gets_its_own_advice_and_no_other(looked_at, command):
    status, output, errors = looked_at[0][command]
    assert errors == "" and status == (1 if command == "advise" else 0)
    found = by_pool(json.loads(output)["advice"], SICK_PID)
    assert {pool: [each["rule"] for each in given] for pool, given in found.items()} == {
        name: [name] for name in load.SICK
    }


@pytest.mark.parametrize("command", ["advise", "top"])
def test_the_figures_are_right(looked_at, command):
    advice = json.loads(looked_at[0][command][1])["advice"]
    figures = {each["rule"]: each["figures"] for each in advice if each["pid"] == SICK_PID}
    small = figures["too-small"]
    assert (small["limit"], small["in_use"]) == (2, 2) and 10 <= small["waiting"] <= 18
    # Eighteen wait for two that take 40 ms each.
    assert small["wait_p50_ms"] >= 200 and small["wanted"] == 2 + small["waiting"]
    anew = figures["dials-anew"]
    assert anew["closed"] >= 100 and anew["requests"] >= 100
    assert abs(anew["opened"] - anew["requests"]) <= 8 and anew["closed"] <= anew["opened"] + 8
    assert figures["leaks"]["streams"] == load.LEAKED
    assert figures["leaks"]["oldest_ms"] >= 1000 * WINDOW
    assert figures["stalls"]["silent"] == figures["stalls"]["begun"] == load.STALLED
    assert figures["stalls"]["oldest_ms"] >= 1000 * WINDOW


def test_a_pool_that_is_well_is_left_alone(looked_at):
    said, recorder = looked_at
    for command in ("advise", "top"):
        assert by_pool(json.loads(said[command][1])["advice"], HEALTHY_PID) == {}
    found = json.loads(said["advise"][1])
    assert found["healthy_pools"] == len(load.HEALTHY) and found["too_little"] == []
    verdicts = list(recorder.verdicts())
    assert len(verdicts) >= 3
    assert [verdict.advice for verdict in verdicts if verdict.advice] == []


def test_the_words(looked_at):
    status, output, errors = looked_at[0]["words"]
    assert (status, errors) == (1, "")
    assert max(map(len, output.splitlines())) <= 80 and "\033" not in output
    words = " ".join(output.split())
    assert "too-small 101 sick, too-small All 2 connections are taken" in words
    assert "Raise max_connections from 2 to" in words
    assert "answers said that their connection ends with them" in words
    assert f"{load.LEAKED} of " in words and "nobody has read from" in words
    assert f"Nothing has come for {load.STALLED} of" in words
    assert f"Nothing to change at {len(load.HEALTHY)} pools." in words


def test_the_table(looked_at):
    status, output, errors = looked_at[0]["table"]
    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) <= 80 and "\033" not in output
    assert "2 processes, 8 pools" in output
    assert "101 sick, too-small" in output and "100 % of 2" in output
    words = " ".join(output.split())
    assert "All 2 connections are taken" in words and "nobody has read from" in words
