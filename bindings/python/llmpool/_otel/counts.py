"""The counters of all pools that traced requests went to, as of now, by origin."""

import ctypes
import os
import threading
from typing import Dict, List, Optional, Set, Tuple

from .._native import abi
from .._native.library import lib

# Each only grows. All others say how many there are now.
COUNTERS = (
    "succeeded", "failed", "cancelled", "retries", "hedges", "opened", "closed", "reused",
    "connect_failures", "dns_lookups", "tls_handshakes", "tls_resumptions", "bytes_sent",
    "bytes_received", "breaker_rejections",
)  # fmt: skip
GAUGES = ("pending", "active", "backing_off", "connecting", "in_use", "idle", "breakers_open")

Counts = Dict[str, int]


class PoolCounts:
    """Adds up what pools count of an origin. What a pool counted that is closed since, or an origin
    that its pool forgot, stays in the sum, which would fall otherwise."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self.pools: Set[int] = set()
        self._last: Dict[Tuple[int, str], Counts] = {}
        self._past: Dict[str, Counts] = {}

    def read(self) -> Dict[str, Counts]:
        with self._reading:
            now: Dict[Tuple[int, str], Counts] = {}
            for pool in list(self.pools):
                origins = _origins(pool)
                if origins is None:
                    self.pools.discard(pool)
                    continue
                for origin in origins:
                    counts = _counts(pool, origin)
                    if counts is not None:
                        now[pool, origin] = counts
            for key, last in self._last.items():
                if key not in now or now[key]["opened"] < last["opened"]:
                    self._bury(key[1], last)
            self._last = now
            return self._sums()

    def _bury(self, origin: str, last: Counts) -> None:
        past = self._past.setdefault(origin, dict.fromkeys(COUNTERS + GAUGES, 0))
        for name in COUNTERS:
            past[name] += last[name]

    def _sums(self) -> Dict[str, Counts]:
        sums = {origin: dict(past) for origin, past in self._past.items()}
        for (_, origin), counts in self._last.items():
            known = sums.setdefault(origin, dict.fromkeys(COUNTERS + GAUGES, 0))
            for name, number in counts.items():
                known[name] += number
        return sums


def _origins(pool: int) -> Optional[List[str]]:
    """None: the pool is closed."""
    size = 4096
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = lib.origins(pool, buffer, size)
        if length < 0:
            return None
        if length < size:
            return ctypes.string_at(buffer, length).decode("utf-8", "replace").split()
        size = length + 4096  # it may grow between two calls


def _counts(pool: int, origin: str) -> Optional[Counts]:
    raw = abi.Stats()
    raw.size = ctypes.sizeof(raw)
    if lib.stats(pool, origin.encode("utf-8"), ctypes.byref(raw)):
        return None
    return {name: getattr(raw, name) for name in COUNTERS + GAUGES}


_pool_counts = PoolCounts()


def pool_counts() -> PoolCounts:
    """Those of this process."""
    return _pool_counts


def _forget() -> None:
    # In a forked child the pools, and what they counted, are the parent's.
    global _pool_counts
    _pool_counts = PoolCounts()


os.register_at_fork(after_in_child=_forget)
