"""What the library would say of a pool's leases, without a library: for the connector alone."""

import math
import os
import threading
import time

from llmpool._fleet.demand import Demand, Limit


class FakeLeases:
    """One budget, whose requests cost 1 and always wait. It wants a lease as the core does.

    Attributes:
        granted: when, and how many.
    """

    LEASE = 2.0

    def __init__(self, name="gpt", amount=6_000, window=60_000, interval=0.3):
        self.name = name
        self.amount = amount
        self.window = window
        self.interval = interval
        self.granted = []
        self.asks = 0
        self.members = 0
        self.spent = 0
        self._level = 0
        self._sequence = 0
        self._until = -math.inf
        self._asked_at = 0.0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._is_over = False
        self._next = threading.Event()
        threading.Thread(target=self._want, daemon=True).start()

    def _want(self):
        """So often, or a second after an ask that nobody answered."""
        while not self._is_over:
            os.write(self._write, b"x")
            self._next.clear()
            if self._next.wait(1.0):
                time.sleep(self.interval)

    def watch(self):
        return self._read

    def close(self):
        pass

    def end(self):
        self._is_over = True

    def share(self, safe_share, has_store):
        pass

    def alone(self):
        pass

    def known(self):
        return [self.name]

    def wanted(self):
        try:
            return [self.name] if os.read(self._read, 100) else []
        except BlockingIOError:
            return []

    def demand(self, name):
        self.asks += 1
        self._sequence += 1
        self._asked_at = time.monotonic()
        if self._until <= self._asked_at:
            self._level = 0
        else:  # all that it had was sent
            self.spent += self._level
            self._level = 0
        limit = Limit(
            0, 0, self.amount, self.window, self.amount, 0, self.spent, 0, 1_000_000, 0, 1, 0,
            -(1 << 63),
        )  # fmt: skip
        return Demand(self._sequence, 0, 1_000, 0, 0, self.members, (limit,))

    def grant(self, name, demand, grant):
        if demand.sequence != self._sequence:
            return
        self._until = self._asked_at + grant.valid_ms / 1000
        self.members = grant.members
        self._level += grant.limits[0][1]
        self.granted.append((time.monotonic(), grant.limits[0][1]))
        self._next.set()

    def since(self, begin):
        return sum(amount for at, amount in self.granted if at >= begin)
