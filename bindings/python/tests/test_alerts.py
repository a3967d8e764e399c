"""examples/prometheus/alerts.yml: each sick pool sets off its own alert and no other, a healthy one
none. The series are those of pools at work; promtool evaluates the rules on them."""

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pools
import pytest
import series

from llmpool.mock import MockServer

LONG = bool(os.environ.get("LLMPOOL_LONG_TESTS"))
INTERVAL = 0.2
PAGE = series.ROOT / "docs" / "monitoring.md"
DASHBOARD = series.ROOT / "examples" / "grafana" / "llmpool.json"
COUNT = 80  # samples; stretched, they are 20 minutes
pytestmark = [
    pytest.mark.skipif(not series.RULES.exists(), reason="outside the repository"),
    pytest.mark.skipif(not Path(series.PROMTOOL).exists(), reason=f"no {series.PROMTOOL}"),
]

EXPECTED = {case.__name__: [alert] for case, alert in pools.SICK.items()}


class Log(logging.Handler):
    """What the logger says, by origin, or by budget."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = {}

    def emit(self, record):
        of = record.llmpool.get("origin") or record.llmpool.get("budget")
        self.lines.setdefault(of, []).append(record)

    def __enter__(self):
        logger = logging.getLogger("llmpool")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_):
        logger = logging.getLogger("llmpool")
        logger.removeHandler(self)
        logger.setLevel(self._level)


def record(cases, interval, count):
    """All of them beside each other: they wait nearly all of the time. Each has a server of its
    own, by which its lines in the log are known."""

    def one(case):
        recording = series.Recording(case.__name__, interval)
        with MockServer(tls=False, http="1") as mock, case(mock) as running:
            series.sample(running.pool, recording, count, running.before)
            recording.names = [*running.pool.origins(), *running.pool.budgets()]
            recording.reasons = running.pool.reasons()
        return recording

    with Log() as log, ThreadPoolExecutor(len(cases)) as executor:
        recordings = list(executor.map(one, cases))
    for recording in recordings:
        recording.lines = [line for name in recording.names for line in log.lines.get(name, ())]
    return recordings


@pytest.fixture(scope="module")
def recordings():
    return record([*pools.SICK, *pools.HEALTHY], INTERVAL, COUNT)


@pytest.fixture(scope="module")
def wrong(recordings, tmp_path_factory):
    return series.verdicts(recordings, tmp_path_factory.mktemp("alerts"), EXPECTED)


@pytest.mark.parametrize("case", EXPECTED)
def test_a_sick_pool_sets_off_its_own_alert(case, wrong):
    assert wrong.get(case, "") == ""


@pytest.mark.parametrize("case", pools.HEALTHY, ids=lambda case: case.__name__)
def test_a_healthy_pool_sets_off_none(case, wrong, recordings):
    assert wrong.get(case.__name__, "") == ""
    (recording,) = (each for each in recordings if each.name == case.__name__)
    (succeeded,) = recording.values("llmpool_requests_succeeded_total")
    assert succeeded[-1] > succeeded[len(succeeded) // 2] > 0


# What the log says of a sick pool, by the level and how its line begins behind "llmpool: ". Of
# streams that are held the leak finder tells, where it is on.
SAID = {
    "too_small": ("WARNING", "waiting for a connection to "),
    "dialing_anew": ("INFO", "connection to "),
    "stalled": ("INFO", "a request to "),
    "refused": ("WARNING", "budget spent stops for "),
}


@pytest.mark.parametrize("case", SAID)
def test_the_log_says_what_is_wrong_with_a_sick_pool(case, recordings):
    (recording,) = (each for each in recordings if each.name == case)
    level, begin = SAID[case]
    found = [
        line
        for line in recording.lines
        if line.levelname == level and line.getMessage().startswith(f"llmpool: {begin}")
    ]
    assert found, [line.getMessage() for line in recording.lines]
    counted = sum(int(line.llmpool.get("count", 1)) for line in found)
    if case == "too_small":
        told = found[-1].llmpool
        assert (told["limit"], told["in-use"], told["knob"]) == ("2", "2", "max_connections")
        assert int(told["waited-ms"]) >= 1000
    elif case == "dialing_anew":
        assert {line.llmpool["reason"] for line in found} == {"not-reusable"}
        # The last 10 s are held back.
        assert 1 < counted <= recording.reasons.closed["not-reusable"]
    elif case == "stalled":
        assert {line.llmpool["reason"] for line in found} == {"read-timeout"}
        assert 1 < counted <= recording.reasons.failed["read-timeout"]


@pytest.mark.parametrize("case", pools.HEALTHY, ids=lambda case: case.__name__)
def test_the_log_warns_of_no_healthy_pool(case, recordings):
    (recording,) = (each for each in recordings if each.name == case.__name__)
    assert warnings_of(recording) == []


def warnings_of(recording):
    return [line.getMessage() for line in recording.lines if line.levelno >= logging.WARNING]


def test_what_is_not_expected_is_noticed(recordings, tmp_path):
    expected = {**EXPECTED, "too_small": [], "steady": ["LLMPoolOriginDown"]}
    said = series.verdicts(recordings, tmp_path, expected)
    assert set(said) == {"too_small", "steady"}
    assert 'got: {alertname="LLMPoolExhausted"}' in said["too_small"]


@pytest.fixture(scope="module")
def long_recordings():
    return record(pools.HEALTHY, 1, 300)


@pytest.mark.skipif(not LONG, reason="LLMPOOL_LONG_TESTS")
@pytest.mark.parametrize("every", [1, series.SCRAPED_EVERY])
def test_five_minutes_of_health(every, long_recordings, tmp_path):
    """As they were, and as if the 300 samples were of 75 minutes."""
    assert series.verdicts(long_recordings, tmp_path, {}, every) == {}
    assert [line for each in long_recordings for line in warnings_of(each)] == []
    (requests,) = long_recordings[-1].values("llmpool_requests_succeeded_total")
    assert requests[-1] > 300 * 10


def test_a_person_can_read_them(recordings, tmp_path):
    """Every annotation names the process, and what it is about; none has a hole."""
    said = series.annotations(recordings, tmp_path, EXPECTED)
    for case, (alert,) in EXPECTED.items():
        summary, description = said[case, alert]
        assert case in summary, summary
        assert "http://127.0.0.1:" in summary or "the budget spent" in summary, summary
        for text in (summary, description):
            assert "<" not in text and "{{" not in text and "NaN" not in text, text


# ---- the page


def test_the_page_has_each_alert():
    rules = series.RULES.read_text()
    page = re.findall(r"^\| `(LLMPool\w+)` \| for (\d+) minutes", PAGE.read_text(), re.MULTILINE)
    assert page == re.findall(r"- alert: (\w+)\n.*?^        for: (\d+)m$", rules, re.M | re.S)
    assert {name for name, _ in page} == set(pools.SICK.values())


@pytest.mark.parametrize("file", [series.RULES, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_that_is_asked_for_is_on_the_page(file):
    asked = set(re.findall(r"\bllmpool_(\w+?)(?:_bucket|_sum|_count)?\b[{\[, ]", file.read_text()))
    known = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) ", PAGE.read_text(), re.M))
    assert asked and asked <= known
