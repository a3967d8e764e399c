"""A real Prometheus on loopback that scrapes a process, and what its HTTP API says."""

import json
import math
import urllib.parse
import urllib.request
from pathlib import Path

import servers

PROGRAM = "/usr/bin/prometheus"


class Prometheus:
    """Scrapes /metrics of one address each second while run() lasts."""

    def __init__(self, directory, target, rules):
        self.directory = Path(directory)
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": [target]}]}],
        }
        (self.directory / "prometheus.json").write_text(json.dumps(config))  # which is YAML, too

    def run(self):
        return servers.running(
            (PROGRAM, f"--config.file={self.directory}/prometheus.json",
             f"--storage.tsdb.path={self.directory}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"),
            self.port, self.directory,
        )  # fmt: skip

    def get(self, path, **parameters):
        """The data of an answer; it is an error of the test's if there is none."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def values(self, expression):
        """Of each series that the expression gives now, where it is a number."""
        result = self.get("query", query=expression)["result"]
        numbers = (float(each["value"][1]) for each in result)
        return [number for number in numbers if math.isfinite(number)]

    def has(self, expression):
        """Whether it gives a number at all within a minute."""
        return servers.wait_until(lambda: self.values(expression), 60, 0.2)
