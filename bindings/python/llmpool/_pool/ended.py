"""What processes have counted that have ended: counters of several must not fall when one of them
goes, or whoever scrapes them takes it for a restart of all.

Who asks for the metrics leaves in the directory what each process had counted by then, and adds up
what of it is not there any more: of a process, a pool that was closed, an origin that was
forgotten. What was counted between the last such question and the end is lost.
"""

import fcntl
import json
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from .processes import Reading, read
from .sight import Reasons
from .snapshots import GAUGES, Part, nothing, part_of, together

_FILE = "counted.json"
_FORMAT = 2
_ORIGINS, _BUDGETS = 200, 64  # that have series of their own
OTHER = "other"  # the rest of them together
_Key = Tuple[int, str, str]  # process, pool, and origin or budget


class Counted(NamedTuple):
    """
    Attributes:
        origins: by process, pool and origin.
        refusals: by process, pool and budget.
    """

    origins: Dict[_Key, Part]
    refusals: Dict[_Key, int]


class Past(NamedTuple):
    """Of all that is over, by origin and by budget; those without series of their own together."""

    origins: Dict[str, Part]
    refusals: Dict[str, int]


class Own(NamedTuple):
    """Origins and budgets that have series of their own: those that came first, and for good, as
    counts that change sides would seem to fall on one and to be new on the other."""

    origins: Dict[str, None]
    budgets: Dict[str, None]

    def take(self, counted: Counted) -> None:
        _take(self.origins, (key[2] for key in counted.origins), _ORIGINS)
        _take(self.budgets, (key[2] for key in counted.refusals), _BUDGETS)


def _take(own: Dict[str, None], names: Iterable[str], most: int) -> None:
    new = sorted({name for name in names if name not in own and name != OTHER})
    own.update(dict.fromkeys(new[: most - len(own)]))


class _State(NamedTuple):
    seen: Counted
    past: Past
    own: Own


def look(directory: str) -> Tuple[Reading, Counted, Past, Own]:
    """What the processes say now, what of it is counted, what has ended, and what has series of its
    own; the latter three are written down for the next who asks.

    Raises:
        OSError: the directory cannot be read or written.
    """
    with _locked(directory):
        # Within the lock: who has read earlier must not come later, or counts would seem to fall.
        reading = read(directory)
        seen, past, own = _load(directory)
        now = _counted(reading)
        own.take(now)
        silent = {each.pid for each in reading.unread}
        for key, part in seen.origins.items():
            if key[0] in silent:  # it is there, and goes on counting
                now.origins[key] = part
            elif now.origins.get(key, nothing()).count("submitted") < part.count("submitted"):
                origin = key[2] if key[2] in own.origins else OTHER
                past.origins[origin] = together(
                    [past.origins.get(origin, nothing()), _without_gauges(part)]
                )
        for key, count in seen.refusals.items():
            if key[0] in silent:
                now.refusals[key] = count
            elif now.refusals.get(key, 0) < count:
                budget = key[2] if key[2] in own.budgets else OTHER
                past.refusals[budget] = past.refusals.get(budget, 0) + count
        _save(directory, _State(now, past, own))
    return reading, now, past, own


def _counted(reading: Reading) -> Counted:
    pools = [(each.pid, pool) for each in reading.processes for pool in each.pools.values()]
    return Counted(
        {
            (pid, pool.name, origin): part
            for pid, pool in pools
            for origin, part in pool.origins.items()
        },
        {
            (pid, pool.name, budget.name): budget.refusals
            for pid, pool in pools
            for budget in pool.budgets
        },
    )


def _without_gauges(part: Part) -> Part:
    counts = {name: count for name, count in part.counts.items() if name not in GAUGES}
    return part._replace(counts=counts, utilization=0.0)


# ---- the file


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One after the other, whichever process it is."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _load(directory: str) -> _State:
    """What the last one left; nothing where it is no such file."""
    try:
        with open(os.path.join(directory, _FILE), "rb") as file:
            found = json.load(file)
        if found["format"] != _FORMAT:
            return _empty()
        seen, past, own = found["seen"], found["past"], found["own"]
        return _State(
            Counted(
                {(pid, pool, origin): part_of(part) for pid, pool, origin, part in seen["origins"]},
                {(pid, pool, name): int(count) for pid, pool, name, count in seen["refusals"]},
            ),
            Past(
                {origin: part_of(part) for origin, part in past["origins"]},
                {name: int(count) for name, count in past["refusals"]},
            ),
            Own(dict.fromkeys(own["origins"]), dict.fromkeys(own["budgets"])),
        )
    except (FileNotFoundError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return _empty()


def _empty() -> _State:
    return _State(Counted({}, {}), Past({}, {}), Own({}, {}))


def _save(directory: str, state: _State) -> None:
    document = {
        "format": _FORMAT,
        "seen": {
            "origins": _rows((key, _document(part)) for key, part in state.seen.origins.items()),
            "refusals": _rows(state.seen.refusals.items()),
        },
        "past": {
            "origins": [(name, _document(part)) for name, part in state.past.origins.items()],
            "refusals": list(state.past.refusals.items()),
        },
        "own": {"origins": list(state.own.origins), "budgets": list(state.own.budgets)},
    }
    path = os.path.join(directory, _FILE)
    # As a whole, or not at all: a process may end at any moment.
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file, separators=(",", ":"))
    os.replace(f"{path}.new", path)


def _rows(items: Iterable[Tuple[_Key, Any]]) -> List[Any]:
    return [(*key, value) for key, value in items]


def _document(part: Part) -> Dict[str, Any]:
    """As part_of() reads it."""
    histograms = {}
    for name, histogram in part.histograms.items():
        count, total, longest, buckets = histogram.__getstate__()
        histograms[name] = {
            "count": count,
            "sum_us": total,
            "max_us": longest,
            "buckets": [(index, each) for index, each in enumerate(buckets) if each],
        }
    return {
        "stats": {**part.counts, "utilization": part.utilization},
        "histograms": histograms,
        "reasons": {kind: getattr(part.reasons, kind) for kind in Reasons.__annotations__},
    }
