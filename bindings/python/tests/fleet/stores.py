"""What watches Redis servers, and members of a fleet that are nothing but numbers."""

import json
import math
from pathlib import Path

import processes
import pytest

import llmpool

SCRIPT_PATH = Path(llmpool.__file__).with_name("_fleet") / "lease.lua"
SCRIPT = SCRIPT_PATH.read_text()
NOTHING_NEW = -(1 << 63)
ANY_NUMBER = -1
LEASE = 2000

needs_redis = pytest.mark.skipif(
    processes.REDIS is None,
    reason="there is no redis-server; scripts/install-deps test installs it",
)


def redis_sentinel(directory, settings):
    """What watches servers, with those settings, which it writes into."""
    port = processes.free_port()
    command = [
        processes.REDIS,
        str(settings),
        "--sentinel",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
    ]
    return processes.running(command, port, directory)


class Limit:
    """Of a demand, with what a script is given."""

    def __init__(self, amount=600, window=60_000, *, capacity=None, unit=0, told=0):
        self.unit = unit
        self.told = told
        self.amount = amount
        self.window = window
        self.capacity = amount if capacity is None else capacity

    def numbers(self, held, spent, wanted, least, expected, remaining):
        return [
            self.unit, self.told, self.amount, self.window, self.capacity, held, spent, *wanted,
            least, expected, remaining,
        ]  # fmt: skip


class Script:
    """A budget in a store, whose clock the test turns."""

    def __init__(self, client, name="gpt", start=1_000_000_000_000):
        self._script = client.register_script(SCRIPT)
        self.keys = [
            f"llmpool:{{{name}}}:{part}"
            for part in ("state", "members", "ends", "gone", "high", "normal", "low")
        ]
        self.client = client
        self.now = start

    def call(self, verb, *arguments):
        return self._script(keys=self.keys, args=[verb, *arguments])

    def status(self):
        found = self.call("status", "", self.now)
        return None if found is None else json.loads(found)

    def free(self, index=0):
        return self.status()["limits"][index]["free"]


class Grant:
    def __init__(self, reply):
        self.valid, self.members, self.places, self.stopped = reply[:4]
        self.limits = [(reply[at], reply[at + 1]) for at in range(4, len(reply), 2)]

    @property
    def granted(self):
        return self.limits[0][1]

    @property
    def amount(self):
        return self.limits[0][0]


class Member:
    """What a process of a fleet says and is granted, as far as the store is concerned.

    Attributes:
        queue: the costs of its requests that wait, of each limit one, by class.
        level: what it holds of each limit.
    """

    def __init__(self, script, name, *limits, most=0):
        self.script = script
        self.name = name
        self.limits = limits or (Limit(),)
        self.most = most
        self.level = [0] * len(self.limits)
        self.spent = [0] * len(self.limits)
        self.granted = [0] * len(self.limits)
        self.remaining = [NOTHING_NEW] * len(self.limits)
        self.expected = [0] * len(self.limits)
        self.queue = ([], [], [])
        self.sequence = 0
        self.members = 0
        self.in_flight = 0
        self.places = 0
        self.valid_until = -math.inf
        self.stopped = 0

    def wants(self, count, *cost, rank=1):
        """So many requests wait from now on, of a class from 0 (high) to 2."""
        self.queue[rank].extend([cost or (1,) * len(self.limits)] * count)
        return self

    def demand(self):
        if self.valid_until <= self.script.now:
            self.level = [min(level, 0) for level in self.level]
        self.sequence += 1
        first = next((rank[0] for rank in self.queue if rank), (0,) * len(self.limits))
        numbers = []
        for index, limit in enumerate(self.limits):
            wanted = [sum(cost[index] for cost in rank) for rank in self.queue]
            least = sum(wanted) + 1.5 * self.expected[index]
            self.level[index] = min(self.level[index], max(0, math.ceil(least)))
            numbers += limit.numbers(
                self.level[index], self.spent[index], wanted, first[index], self.expected[index],
                self.remaining[index],
            )  # fmt: skip
        self.remaining = [NOTHING_NEW] * len(self.limits)
        waiting = sum(map(len, self.queue))
        common = [self.sequence, self.in_flight, waiting, self.most, self.stopped, self.members]
        return common + numbers

    def send(self, demand, verb="ask"):
        """To the store, which answers."""
        return self.script.call(verb, self.name, self.script.now, LEASE, "gpt", *demand)

    def take(self, reply, asked_at=None):
        grant = Grant(reply)
        self.members = grant.members
        self.places = grant.places
        self.valid_until = (self.script.now if asked_at is None else asked_at) + grant.valid
        for index, (_, amount) in enumerate(grant.limits):
            self.level[index] += amount
            self.granted[index] += amount
        return grant

    def ask(self):
        return self.take(self.send(self.demand()))

    def work(self):
        """Sends what it has room for, and says how many requests."""
        if self.valid_until <= self.script.now:
            return 0
        sent = 0
        for rank in self.queue:
            while rank and all(c <= level for c, level in zip(rank[0], self.level)):
                self.spend(*rank.pop(0))
                sent += 1
        return sent

    def spend(self, *cost):
        self.level = [level - each for level, each in zip(self.level, cost)]
        self.spent = [spent + each for spent, each in zip(self.spent, cost)]

    def leave(self):
        return self.send(self.demand(), "leave")


def turn(script, members, seconds, *, step=300, backlog=None):
    """The members ask one after the other, each so often, and send what they may."""
    for _ in range(int(seconds * 1000 / step)):
        for member in members:
            script.now += step / len(members)
            if backlog:
                backlog(member)
            member.ask()
            member.work()
