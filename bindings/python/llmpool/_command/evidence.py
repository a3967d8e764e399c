"""What two snapshots of a pool show of one of its origins, or of all of it."""

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from .._pool.snapshots import (
    Part,
    PoolSnapshot,
    RequestSnapshot,
    Snapshot,
    change,
    nothing,
)

_WINDOW_BYTES = 1 << 20  # stream_window_bytes, where the process does not say it
# A stream stands still of itself where as much waits to be read as its window holds. That is
# counted as memory: of small events an eighth may be bytes of the answer.
_UNREAD_PART = 8
# A history that says how long a server usually takes.
_KNOWN = 20
# Seconds that a model may think before its first byte, where it is not known what is usual.
_THINKING = 60.0
_ON_A_CONNECTION = ("waiting", "receiving")


class Evidence(NamedTuple):
    """
    Attributes:
        seconds: between the snapshots.
        origin: "": the whole pool.
        pool: as it is now.
        pool_before: None: it was not there.
        now, before: what was counted by each moment.
        change: in between; gauges as they are now.
        requests: that are not over.
        still: of those that are sent, those of which nothing came in between.
    """

    seconds: float
    origin: str
    pool: PoolSnapshot
    pool_before: Optional[PoolSnapshot]
    now: Part
    before: Part
    change: Part
    requests: Tuple[RequestSnapshot, ...]
    still: Tuple[RequestSnapshot, ...]

    @property
    def seen(self) -> int:
        """The requests that it knows of: those in flight at the beginning, and all that came."""
        return self.change.count("submitted") + in_flight(self.before)

    @property
    def listed(self) -> int:
        """How many requests on a connection the process has named."""
        return sum(each.phase in _ON_A_CONNECTION for each in self.requests)

    @property
    def unread(self) -> List[RequestSnapshot]:
        """Those of which more has come than anybody has read."""
        least = self.pool.options.get("stream_window_bytes", _WINDOW_BYTES) // _UNREAD_PART
        return [
            each
            for each in self.still
            if each.phase == "handing-over" or (each.phase == "receiving" and each.received > least)
        ]

    @property
    def silent(self) -> List[RequestSnapshot]:
        """Those for which their server has nothing, for longer than it usually takes."""
        unread = set(self.unread)
        longest = {
            "waiting": 2 * self.usual("first_byte") or _THINKING,
            "receiving": 2 * self.usual("event_gap"),
        }
        return [
            each
            for each in self.still
            if each not in unread
            and each.phase in longest
            and (each.age if each.phase == "waiting" else self.seconds) > longest[each.phase]
        ]

    def usual(self, name: str) -> float:
        """What this seldom takes longer than, by what was counted before; 0: it is not known."""
        histogram = self.before.histogram(name)
        return histogram.percentile(99) if histogram.count >= _KNOWN else 0.0

    def limit(self, *names: str) -> int:
        """Of the pool, by its first name that is there; 0: none."""
        return next((self.pool.options[name] for name in names if name in self.pool.options), 0)


def in_flight(part: Part) -> int:
    return part.count("pending", "active", "backing_off")


def used(part: Part) -> int:
    """Connections that are not free."""
    return part.count("connecting", "in_use")


def waiting(part: Part) -> int:
    """Requests that wait for a connection."""
    return max(0, part.count("pending") - part.count("awaiting_budget"))


def gather(before: Snapshot, now: Snapshot) -> "Dict[str, List[Evidence]]":
    """Of each pool of a process, by its name: of all of it, then of each origin."""
    return {
        name: list(_of_pool(now.at - before.at, before.pools.get(name), pool))
        for name, pool in now.pools.items()
    }


def _of_pool(
    seconds: float, before: Optional[PoolSnapshot], pool: PoolSnapshot
) -> "Iterator[Evidence]":
    still = _still(before, pool)
    parts = {"": pool.total, **pool.origins}
    earlier = {} if before is None else {"": before.total, **before.origins}
    for origin, part in parts.items():
        yield Evidence(
            seconds=seconds,
            origin=origin,
            pool=pool,
            pool_before=before,
            now=part,
            before=earlier.get(origin) or nothing(),
            change=change(part, earlier.get(origin)),
            requests=tuple(each for each in pool.requests if origin in ("", each.origin)),
            still=tuple(each for each in still if origin in ("", each.origin)),
        )


def _still(before: Optional[PoolSnapshot], now: PoolSnapshot) -> List[RequestSnapshot]:
    if before is None:
        return []
    known = {each.id: each for each in before.requests}
    return [
        each
        for each in now.requests
        if each.phase in (*_ON_A_CONNECTION, "handing-over")
        and each.id in known
        and known[each.id].phase == each.phase
        and known[each.id].attempts == each.attempts
        and known[each.id].received == each.received
    ]
