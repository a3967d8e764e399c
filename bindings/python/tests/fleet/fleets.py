"""Processes that share a budget through a real store, at a mock that counts: its log judges."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import asking

WORKER = Path(__file__).with_name("worker.py")
LONG = asking.LONG
MEMBERS = 8 if LONG else 4
SECONDS = 120 if LONG else 10
BURST = 10
# A short run is on a machine that has other work.
USED, OVER = (0.95, 0.01) if LONG else (0.75, 0.02)
REQUESTS, TOKENS = 1200, 200_000
LIMITS = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}
COUNTED = {"tls": False, "http": "1", "limits_start": "empty", "limit_window": BURST, **LIMITS}
BY_REQUESTS, BY_TOKENS = 60, 200  # tokens of a request


class Fleet:
    """Workers, and the log of the mock that they ask."""

    def __init__(self, server, store, limits=None):
        self.server, self.store = server, store
        self.limits = LIMITS if limits is None else limits
        self.workers = []
        self.key = server.headers["authorization"].split()[1]
        self.began = asking.start_of(server)
        self.since = time.monotonic()

    def start(self, *steps, count=MEMBERS, burst=BURST, store=None, before=(), **plan):
        """A worker: its steps; `before` are words before its command."""
        plan = {
            "store": store or self.store.url, "url": self.server.url + asking.CHAT,
            "key": self.key, "count": count,
            "limits": self.limits, "burst": burst, "name": f"w{len(self.workers)}",
            "steps": steps, **plan,
        }  # fmt: skip
        command = [*before, sys.executable, str(WORKER), json.dumps(plan)]
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.workers.append(worker)
        return worker

    def go(self):
        """Lets those begin that were started with waits=True, when each of them is ready."""
        for worker in self.workers:
            assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
        for worker in self.workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()

    def end(self):
        """What each of them says, in their order. None of them has had an error."""
        said = []
        for worker in self.workers:
            out, err = worker.communicate(timeout=600)
            if worker.returncode == -signal.SIGKILL:
                continue  # by a test
            assert worker.returncode == 0, err
            said.append(json.loads(out))
        assert [each["errors"] for each in said] == [[] for _ in said]
        return said

    def kill(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    @property
    def calls(self):
        """Those that were admitted: [seconds by the clock of the machine, worker, tokens]."""
        calls = (asking.Call(*each) for each in self.server.calls())
        served = [call for call in calls if call.model == "gpt-mock" and call.tokens]
        return sorted((call.at + self.began, call.name.split()[0], call.tokens) for call in served)

    def all_have_asked(self, members=MEMBERS):
        return len({worker for _, worker, _ in self.calls}) == members


def used(calls, start, end):
    """The part of the refill that was taken, of the limit that binds."""
    within = [call for call in calls if start <= call[0] < end]
    tokens = sum(call[2] for call in within)
    minutes = (end - start) / 60
    return max(len(within) / (REQUESTS * minutes), tokens / (TOKENS * minutes))


def overdraft(calls, burst=BURST, times=1.0, since=None):
    """How far the buckets of a provider would have been overdrawn at most, as part of a minute.

    Args:
        times: its limits are so many times those of the budget.
        since: when its buckets began to fill; None: with the first call.
    """
    worst = 0.0
    for limit, cost in ((REQUESTS, lambda call: 1), (TOKENS, lambda call: call[2])):
        amount = limit * times
        level, last = 0.0, calls[0][0] if since is None else since
        for call in calls:
            level = min(amount / 60 * burst, level + (call[0] - last) * amount / 60) - cost(call)
            last = call[0]
            worst = max(worst, -level / amount)
    return worst
