"""python -m llmpool advise, and top beside it: what is wrong with a pool is said, with the right
figures; a pool that is well is left alone."""

import io
import json
import os
import re
import subprocess
import sys
import threading

import load
import pytest
import servers
import statistics_socket
from on_terminal import OnTerminal

from llmpool._command import advise as command
from llmpool._command.advice import advise
from llmpool._command.rules import SHORTEST
from llmpool._command.terminal import Terminal
from llmpool._pool.snapshots import snapshot_of

WINDOW = 8
PID = 101
LATE = 2.0  # seconds; a machine that is so late stalls by itself


class Recorder:
    """Looks at pools twice a second while its block lasts, and serves what it saw last."""

    def __init__(self, pools):
        self._pools = pools
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._look()

    snapshots = ()

    def _look(self):
        document = statistics_socket.document(self._pools, "app", PID)
        self.document = json.dumps(document).encode()
        self.snapshots = (*self.snapshots, snapshot_of(document))

    def _run(self):
        while not self._over.wait(0.5):
            self._look()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)

    @property
    def seconds(self):
        """From the first look to the last."""
        return self.snapshots[-1].at - self.snapshots[0].at

    def stretches(self):
        """The looks in which the machine was not late."""
        stretch = [self.snapshots[0]]
        for each in self.snapshots[1:]:
            if each.at - stretch[-1].at > LATE:
                yield stretch
                stretch = []
            stretch.append(each)
        yield stretch

    def verdicts(self, most=60):
        """Of every two moments that are far enough from each other, and not too far."""
        for stretch in self.stretches():
            for index, before in enumerate(stretch):
                for now in stretch[index + 1 :]:
                    if SHORTEST <= now.at - before.at <= most:
                        yield advise([before], [now])


def spawn(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "llmpool", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": servers.python_path()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """What the commands say of a process with all these pools, and what was recorded meanwhile."""
    directory = tmp_path_factory.mktemp("processes")
    with load.running({**load.SICK, **load.HEALTHY}) as pools, Recorder(pools) as recorder, \
            statistics_socket.serving(directory, lambda: recorder.document, PID):  # fmt: skip
        both = [
            spawn("advise", "--dir", directory, "--window", WINDOW, "--json"),
            spawn("top", "--dir", directory, "--once", "--interval", WINDOW, "--json"),
        ]
        said = dict(zip(("advise", "top"), map(ended, both)))
        with OnTerminal("top", "--dir", directory, columns=120, rows=90) as live:
            for name in load.SICK:
                live.wait_for(f"{name}\033[0m  {PID} app, {name}")
            live.wait_for("\033[J", live.output.count("\033[J") + 2)  # a whole frame of it
        said["live"] = live.output
    return said, recorder


def rules_by_pool(advice):
    found = {}
    for each in advice:
        found.setdefault(each["pool"], []).append(each["rule"])
    return found


@pytest.mark.parametrize("which", ["advise", "top"])
def test_each_pool_gets_its_own_advice_and_no_other(looked_at, which):
    """Those that are well get none."""
    status, output, errors = looked_at[0][which]
    assert errors == "" and status == (1 if which == "advise" else 0)
    found = rules_by_pool(json.loads(output)["advice"])
    assert found == {name: [name] for name in load.SICK}


@pytest.mark.parametrize("which", ["advise", "top"])
def test_the_figures_are_right(looked_at, which):
    advice = json.loads(looked_at[0][which][1])["advice"]
    figures = {each["rule"]: each["figures"] for each in advice}
    small = figures["too-small"]
    assert (small["limit"], small["in_use"]) == (2, 2)
    assert 5 <= small["waiting"] <= load.CALLERS - 2
    # Ten wait for two that take 80 ms each.
    assert small["wait_p50_ms"] >= 200 and small["wanted"] == 2 + small["waiting"]
    anew = figures["dials-anew"]
    assert anew["closed"] >= 50 and anew["requests"] >= 100
    assert abs(anew["opened"] - anew["requests"]) <= 8 and anew["closed"] <= anew["opened"] + 8
    assert figures["leaks"]["streams"] == load.LEAKED
    assert figures["leaks"]["oldest_ms"] >= 1000 * SHORTEST
    assert figures["stalls"]["silent"] == figures["stalls"]["begun"] == load.STALLED
    assert figures["stalls"]["oldest_ms"] >= 1000 * SHORTEST


def test_a_pool_that_is_well_is_left_alone_at_any_moment(looked_at):
    verdicts = list(looked_at[1].verdicts())
    assert len(verdicts) >= 3
    for verdict in verdicts:
        assert {each.pool for each in verdict.advice} <= set(load.SICK)
        assert {each.pool for each in verdict.advice if each.rule != each.pool} == set()


def words_of(draw):
    stream = io.StringIO()
    draw(Terminal(stream))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "\033" not in text
    return " ".join(text.split())


def test_the_words(looked_at):
    first, *_, last = looked_at[1].snapshots
    verdict = advise([first], [last])
    words = words_of(lambda terminal: command.show(terminal, verdict))
    assert "too-small 101 app, too-small All 2 connections are taken" in words
    assert "Raise max_connections from 2 to" in words
    assert "answers said that their connection ends with them" in words
    assert f"{load.LEAKED} of " in words and "nobody has read from" in words
    assert f"Nothing has come for {load.STALLED} of" in words
    assert re.search(r"Nothing to change at \d pool", words)


def test_too_little_in_words():
    def at(seconds, submitted, name):
        part = {"stats": {"submitted": submitted}, "histograms": {}, "reasons": {}}
        pool = {"name": name, "options": {}, **part, "origins": [], "budgets": [], "requests": []}
        document = statistics_socket.document({}, "app", PID)
        pools = [{**pool, "requests_left_out": 0}]
        return snapshot_of({**document, "monotonic_us": seconds * 1_000_000, "pools": pools})

    verdict = advise([at(0, 5, "p")], [at(10, 104, "p")])
    words = words_of(lambda terminal: command.show(terminal, verdict))
    assert words == "101 app, p: too little to say, 99 requests in 10.00 s; 100 are needed."
    verdict = advise([at(0, 5, "p")], [at(10, 105, "p")])
    words = words_of(lambda terminal: command.show(terminal, verdict))
    assert words == "Nothing to change at 1 pool."


def test_the_live_screen(looked_at):
    """Each pool stands in the table, and what is wrong below it."""
    frame = looked_at[0]["live"].split("\033[H")[-2]
    text = re.sub(r"\033\[[0-9;?]*[a-zA-Z]", "", frame)
    words = " ".join(text.split())
    assert re.search(r"101 app, too-small +\S+ 100 % of 2", text)
    for name in load.HEALTHY:
        assert f"101 app, {name} " in text
    assert "All 2 connections are taken" in words
    assert f"Nothing has come for {load.STALLED} of" in words


@pytest.mark.skipif(not os.environ.get("LLMPOOL_LONG_TESTS"), reason="takes five minutes")
def test_five_minutes_are_left_alone():
    """Of every two looks that are five to fifteen seconds from each other nothing is said."""
    with load.running(load.HEALTHY) as healthy, Recorder(healthy) as recorder:
        assert servers.wait_until(lambda: recorder.seconds > 300, 900, 1.0)
    verdicts = list(recorder.verdicts(most=15))
    assert len(verdicts) > 1000
    assert [verdict.advice for verdict in verdicts if verdict.advice] == []
    assert sum(verdict.healthy for verdict in verdicts) > 3 * len(verdicts)
