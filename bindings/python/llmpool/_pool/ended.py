"""What processes have counted that have ended: counters of several must not fall when one of them
goes, or whoever scrapes them takes it for a restart of all.

Who asks for the metrics leaves in the directory what each process had counted by then, and adds up
what of it is not there any more: of a process, a pool that was closed, an origin that was
forgotten. What was counted between the last such question and the end is lost.
"""

import errno
import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Set,
    Tuple,
)

from .processes import Reading, read
from .sight import Reasons
from .snapshots import GAUGES, Part, nothing, part_of, together

_FORMAT = 4
# Each format has a file of its own: where two versions run beside each other neither loses the
# other's.
_FILE, _LOCK = f"counted-{_FORMAT}.json", "counted.lock"
_PATIENCE = 10.0  # seconds for another that asks
_REMEMBERED = 600.0  # seconds in which a pool that is not shown may be shown again
_ORIGINS, _BUDGETS = 200, 64  # that have series of their own
OTHER = "other"  # the rest of them together
# Process: its number and when it began; pool; origin or budget.
Key = Tuple[int, int, str, str]


class Counted(NamedTuple):
    """
    Attributes:
        origins: by process, pool and origin.
        refusals, lapses: by process, pool and budget; lapses of those that are shared.
    """

    origins: Dict[Key, Part]
    refusals: Dict[Key, int]
    lapses: Dict[Key, int]

    @property
    def of_budgets(self) -> Tuple[Dict[Key, int], ...]:
        return self.refusals, self.lapses


class Past(NamedTuple):
    """Of all that is over, by origin and by budget; those without series of their own together."""

    origins: Dict[str, Part]
    refusals: Dict[str, int]
    lapses: Dict[str, int]

    @property
    def of_budgets(self) -> Tuple[Dict[str, int], ...]:
        return self.refusals, self.lapses

    def take(self, over: Counted, own: "Own") -> None:
        for key, part in over.origins.items():
            name = _side(key, own.origins)
            before = self.origins.get(name, nothing())
            self.origins[name] = together([before, _without_gauges(part)])
        for totals, counts in zip(self.of_budgets, over.of_budgets):
            for key, count in counts.items():
                name = _side(key, own.budgets)
                totals[name] = totals.get(name, 0) + count


class Own(NamedTuple):
    """Origins and budgets that have series of their own: those that came first, and for good, as
    counts that change sides would seem to fall on one and to be new on the other."""

    origins: Dict[str, None]
    budgets: Dict[str, None]

    def take(self, counted: Counted) -> None:
        _take(self.origins, (key[3] for key in counted.origins), _ORIGINS)
        _take(self.budgets, (key[3] for key in counted.refusals), _BUDGETS)


def _take(own: Dict[str, None], names: Iterable[str], most: int) -> None:
    new = sorted({name for name in names if name not in own and name != OTHER})
    own.update(dict.fromkeys(new[: most - len(own)]))


class _State(NamedTuple):
    """
    Attributes:
        seen: what was there when somebody asked last.
        away: what was there before, and may come again: with the time when it was missed first.
    """

    seen: Counted
    away: Counted
    missed: Dict[Key, float]
    past: Past
    own: Own


def look(directory: str) -> Tuple[Reading, Counted, Past, Own]:
    """What the processes say now, what of it is counted, what has ended, and what has series of its
    own; the latter three are written down for the next who asks.

    Raises:
        OSError: the directory cannot be read or written, or is not one's own.
    """
    with _locked(directory) as place:
        # Within the lock: who has read earlier must not come later, or counts would seem to fall.
        reading = read(directory)
        state = _load(place)
        counted = _counted(reading)
        state.own.take(counted)
        told = _told(state, counted, {each.pid for each in reading.unread}, time.time())
        _save(place, told)
    past = Past(dict(told.past.origins), dict(told.past.refusals), dict(told.past.lapses))
    past.take(told.away, told.own)
    return reading, told.seen, past, told.own


def _told(state: _State, now: Counted, silent: Set[int], at: float) -> _State:
    """What is known with what the processes say now.

    Args:
        silent: processes that are there, and did not answer.
    """
    away, over = _nobody(), _nobody()
    for key, part in [*state.away.origins.items(), *state.seen.origins.items()]:
        again = now.origins.get(key)
        if again is None and key[0] in silent:  # it goes on counting
            now.origins[key] = part
        elif again is None:
            away.origins[key] = part
        elif _has_fallen(again, part):  # forgotten, and there again
            over.origins[key] = part
    for kind, counts in enumerate(now.of_budgets):
        before = [*state.away.of_budgets[kind].items(), *state.seen.of_budgets[kind].items()]
        for key, count in before:
            if key not in counts and key[0] in silent:
                counts[key] = count
            elif key not in counts:
                away.of_budgets[kind][key] = count
            elif counts[key] < count:
                over.of_budgets[kind][key] = count
    gone = {*away.origins, *away.refusals, *away.lapses}
    missed = {key: state.missed.get(key, at) for key in gone}
    for key in [key for key in gone if not at - _REMEMBERED < missed[key] <= at]:
        missed.pop(key)
        if key in away.origins:
            over.origins[key] = away.origins.pop(key)
        for left, ended in zip(away.of_budgets, over.of_budgets):
            if key in left:
                ended[key] = left.pop(key)
    state.past.take(over, state.own)
    return _State(now, away, missed, state.past, state.own)


def _nobody() -> Counted:
    return Counted({}, {}, {})


def _side(key: Key, own: Collection[str]) -> str:
    return key[3] if key[3] in own else OTHER


def _has_fallen(now: Part, before: Part) -> bool:
    return any(
        count > now.counts.get(name, 0)
        for name, count in before.counts.items()
        if name not in GAUGES
    )


def _counted(reading: Reading) -> Counted:
    pools = [
        (each.pid, each.started, pool) for each in reading.processes for pool in each.pools.values()
    ]
    return Counted(
        {
            (pid, started, pool.name, origin): part
            for pid, started, pool in pools
            for origin, part in pool.origins.items()
        },
        {
            (pid, started, pool.name, budget.name): budget.refusals
            for pid, started, pool in pools
            for budget in pool.budgets
        },
        {
            (pid, started, pool.name, budget.name): budget.share.lapses
            for pid, started, pool in pools
            for budget in pool.budgets
            if budget.share
        },
    )


def _without_gauges(part: Part) -> Part:
    counts = {name: count for name, count in part.counts.items() if name not in GAUGES}
    return part._replace(counts=counts, utilization=0.0)


# ---- the file


@contextmanager
def _locked(directory: str) -> Iterator[int]:
    """One after the other, whichever process it is; gives the directory's descriptor.

    Raises:
        OSError: it is another user's (root may look into any), others may write there, or somebody
            has the lock for too long.
    """
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(place)
        is_ours = os.geteuid() in (about.st_uid, 0)
        if not is_ours or about.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "it is another user's, or others may write there")
        lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600, dir_fd=place)
        try:
            _give(lock, place)
            _take_lock(lock)
            yield place
        finally:
            # Not left to close(): a child of a fork meanwhile would keep it.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
    finally:
        os.close(place)


_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC


def _give(file: int, place: int) -> None:
    """Root leaves nothing that the owner of the directory cannot open."""
    if os.geteuid() == 0:
        about = os.fstat(place)
        os.fchown(file, about.st_uid, about.st_gid)


def _take_lock(lock: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _load(place: int) -> _State:
    """What the last one left; nothing where it is no such file."""
    try:
        with open(os.open(_FILE, os.O_RDONLY | _NO_LINK, dir_fd=place), "rb") as file:
            found = json.load(file)
        own = found["own"]
        return _State(
            _read(found["seen"]),
            _read(found["away"]),
            {tuple(key): float(at) for *key, at in found["missed"]},
            Past(
                {origin: part_of(part) for origin, part in found["past"]["origins"]},
                {name: int(count) for name, count in found["past"]["refusals"]},
                {name: int(count) for name, count in found["past"]["lapses"]},
            ),
            Own(dict.fromkeys(own["origins"]), dict.fromkeys(own["budgets"])),
        )
    except (OSError, AttributeError, ArithmeticError, LookupError, TypeError, ValueError):
        return _State(_nobody(), _nobody(), {}, Past({}, {}, {}), Own({}, {}))


def _read(found: Dict[str, Any]) -> Counted:
    return Counted(
        {tuple(key): part_of(part) for *key, part in found["origins"]},
        {tuple(key): int(count) for *key, count in found["refusals"]},
        {tuple(key): int(count) for *key, count in found["lapses"]},
    )


def _save(place: int, state: _State) -> None:
    document = {
        "seen": _written(state.seen),
        "away": _written(state.away),
        "missed": _rows(state.missed.items()),
        "past": {
            "origins": [(name, _document(part)) for name, part in state.past.origins.items()],
            "refusals": list(state.past.refusals.items()),
            "lapses": list(state.past.lapses.items()),
        },
        "own": {"origins": list(state.own.origins), "budgets": list(state.own.budgets)},
    }
    # As a whole, or not at all: a process may end at any moment. What has that name was left so, or
    # is a trap.
    new = f"{_FILE}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=place)
    made = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600, dir_fd=place)
    _give(made, place)
    with open(made, "w", encoding="utf-8") as file:
        json.dump(document, file, separators=(",", ":"))
    os.replace(new, _FILE, src_dir_fd=place, dst_dir_fd=place)


def _written(counted: Counted) -> Dict[str, Any]:
    return {
        "origins": _rows((key, _document(part)) for key, part in counted.origins.items()),
        "refusals": _rows(counted.refusals.items()),
        "lapses": _rows(counted.lapses.items()),
    }


def _rows(items: Iterable[Tuple[Key, Any]]) -> List[Any]:
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
