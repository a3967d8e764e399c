"""What is to be changed about pools, by two snapshots of each process: pure."""

from typing import Dict, Iterable, List, NamedTuple, Tuple

from .._pool.snapshots import Snapshot
from .evidence import Evidence, gather
from .rules import ENOUGH, RULES, SHORTEST, Figures, Rule, said


class Advice(NamedTuple):
    """
    Attributes:
        origin: "": it is about the whole pool.
        rule: which one, for programs.
        knob: what to turn, in a word or two.
        what: what is wrong, with the figures.
        change: what to do about it.
        figures: those of the sentence, times in seconds.
    """

    pid: int
    process: str
    pool: str
    origin: str
    rule: str
    knob: str
    what: str
    change: str
    figures: Figures


class TooLittle(NamedTuple):
    """A pool of which the window saw too few requests."""

    pid: int
    process: str
    pool: str
    requests: int


class Verdict(NamedTuple):
    """
    Attributes:
        seconds: of the longest window.
        pools: how many were looked at.
        healthy: how many of them have had enough requests, and nothing is wrong with them.
    """

    seconds: float
    pools: int
    advice: Tuple[Advice, ...]
    too_little: Tuple[TooLittle, ...]
    healthy: int


def advise(before: Iterable[Snapshot], now: Iterable[Snapshot]) -> Verdict:
    """What to change, by what was counted between two moments, at least SHORTEST apart.

    A process that was not there before is left out.
    """
    known = {snapshot.pid: snapshot for snapshot in before}
    advice: List[Advice] = []
    too_little: List[TooLittle] = []
    pools, healthy, longest = 0, 0, 0.0
    for snapshot in now:
        earlier = known.get(snapshot.pid)
        if earlier is None or snapshot.at - earlier.at < SHORTEST:
            continue
        longest = max(longest, snapshot.at - earlier.at)
        for pool, evidence in gather(earlier, snapshot).items():
            found = [_advice(snapshot, *each) for each in _of_pool(evidence)]
            pools += 1
            advice += found
            if evidence[0].seen < ENOUGH:
                requests = evidence[0].seen
                too_little.append(TooLittle(snapshot.pid, snapshot.name, pool, requests))
            elif not found:
                healthy += 1
    return Verdict(longest, pools, tuple(advice), tuple(too_little), healthy)


def _of_pool(evidence: List[Evidence]) -> "List[Tuple[Rule, Evidence, Figures]]":
    """The first rule of each name that holds, for the pool and for each origin."""
    found: Dict[Tuple[str, str], Tuple[Rule, Evidence, Figures]] = {}
    for rule in RULES:
        for seen in evidence:
            if rule.of_pool != (not seen.origin) or (seen.seen < ENOUGH and not rule.of_few):
                continue
            figures = rule.find(seen)
            if figures is not None:
                found.setdefault((rule.name, seen.origin), (rule, seen, figures))
    return list(found.values())


def _advice(snapshot: Snapshot, rule: Rule, seen: Evidence, figures: Figures) -> Advice:
    what, change = said(rule, figures, seen)
    return Advice(
        pid=snapshot.pid,
        process=snapshot.name,
        pool=seen.pool.name,
        origin=seen.origin,
        rule=rule.name,
        knob=rule.knob,
        what=what,
        change=change,
        figures=figures,
    )
