"""What a pool tells Prometheus, sampled at intervals, and what alert rules make of it: promtool
evaluates them on the samples as if they had been scraped every so many seconds."""

import json
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "examples" / "prometheus" / "alerts.yml"
PROMTOOL = "/usr/bin/promtool"
SCRAPED_EVERY = 15  # seconds, as most are
_SAMPLE = re.compile(r"^(llmpool_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_FAILED = re.compile(r'^ +expr: .*?instance=\\"(\w+)\\"(.*?)(?=^ +expr: |\Z)', re.M | re.S)
_SAID = re.compile(
    r'Labels:{alertname="(\w+)".*? instance="(\w+)".*\n'
    r' *Annotations:{description="(.*)", summary="(.*)"}'
)


class Recording:
    """Samples of one pool, so many seconds apart."""

    def __init__(self, name, interval):
        self.name = name
        self.interval = interval
        self.count = 0
        self._samples = {}

    def take(self, text):
        for metric, labels, value in _SAMPLE.findall(text):
            if not metric.endswith("_bucket"):
                values = self._samples.setdefault((metric, labels), {})
                values[self.count] = float(value)
        self.count += 1

    def values(self, metric):
        """Of each series of the metric, those that there were."""
        return [list(of.values()) for (name, _), of in self._samples.items() if name == metric]

    def series(self, every):
        """As promtool wants them, scraped every so many seconds.

        Time is stretched: what took a second takes longer by the same factor, in sums of seconds,
        too.
        """
        factor = every / self.interval
        for (metric, labels), values in self._samples.items():
            times = factor if metric.endswith("_seconds_sum") else 1
            taken = (values.get(number) for number in range(self.count))
            shown = " ".join("_" if each is None else repr(each * times) for each in taken)
            more = f",{labels}" if labels else ""
            yield {
                "series": f'{metric}{{job="app",instance="{self.name}"{more}}}',
                "values": shown,
            }


def sample(pool, recording, count, before=None):
    """Takes so many samples; before(number) is called ahead of each."""
    begin = time.monotonic()
    for number in range(count):
        if before is not None:
            before(number)
        recording.take(pool.metrics())
        # Late ones are not made up for: each stands for as long as the others.
        begin = max(begin + recording.interval, time.monotonic() - recording.interval / 2)
        time.sleep(max(0.0, begin - time.monotonic()))


def verdicts(recordings, directory, expected, every=SCRAPED_EVERY):
    """What promtool says of each whose alerts, at any time, are not the expected ones, by its name.

    All of them are evaluated together, as one Prometheus scrapes many processes.
    """
    seconds = _lasted(recordings, every)
    tests = [_fired(each.name, expected.get(each.name, ()), seconds) for each in recordings]
    done = _promtool(recordings, directory, every, promql_expr_test=tests)
    output = done.stdout + done.stderr
    said = dict(_FAILED.findall(output))
    assert (done.returncode == 0) == (not said), output
    return said


def annotations(recordings, directory, expected):
    """Summary and description, at the end, of each alert that is expected, by process and alert."""
    at = f"{_lasted(recordings, SCRAPED_EVERY)}s"
    names = {name for each in expected.values() for name in each}
    # promtool shows what it got where nothing was expected.
    nothing = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in names]
    done = _promtool(recordings, directory, SCRAPED_EVERY, alert_rule_test=nothing)
    return {
        (instance, alert): (summary, description)
        for alert, instance, description, summary in _SAID.findall(done.stdout + done.stderr)
    }


def _lasted(recordings, every):
    return int((min(each.count for each in recordings) - 1) * every)


def _fired(name, expected, seconds):
    """Which alerts fired at any time, of one process."""
    fired = f'ALERTS{{alertstate="firing",instance="{name}"}}[{seconds + 1}s]'
    return {
        "expr": f"group by (alertname) (max_over_time({fired}))",
        "eval_time": f"{seconds}s",
        "exp_samples": [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in expected],
    }


def _promtool(recordings, directory, every, **tests):
    series = [one for each in recordings for one in each.series(every)]
    given = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{SCRAPED_EVERY}s",
        "tests": [{"interval": f"{every}s", "input_series": series, **tests}],
    }
    file = Path(directory) / "alerts_test.json"  # which is YAML, too
    file.write_text(json.dumps(given, indent=1))
    command = [PROMTOOL, "test", "rules", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
