"""Who is let in: what limits a call of a model, what is counted of it, and the log of calls."""

import time
from collections import deque
from itertools import islice
from typing import Any, Deque, Dict, List, Optional, Tuple

from ._limits import Buckets, Clock, Lack, States
from ._settings import Settings

CALLS_MAX = 100_000  # in the log
REMEMBERED = 10_000  # models, and credentials with them; one that is forgotten begins anew
UNLIMITED = "nolimit-"  # how the names of models begin that have no limits

OVERLOADED = "overloaded"
CROWDED = "crowded"


class Tally:
    """What is counted of a model, whoever calls it.

    Attributes:
        served: calls that were admitted.
        refused: calls over a limit of a minute.
        refused_concurrent, overloaded: calls beside too many others.
        input, output: tokens that were taken out of the buckets; as many were there or not.
        in_flight: calls whose answer is not over; peak: the most so far.
    """

    def __init__(self) -> None:
        self.served = self.refused = self.refused_concurrent = self.overloaded = 0
        self.input = self.output = self.in_flight = self.peak = 0

    def value(self) -> Dict[str, int]:
        return {**vars(self), "tokens": self.input + self.output}


class Account:
    """What one credential has of a model; without buckets nothing is limited."""

    def __init__(self, buckets: Optional[Buckets]) -> None:
        self.buckets = buckets
        self.in_flight = 0

    def look(self) -> States:
        return self.buckets.look() if self.buckets else {}


class Visit:
    """One call of a model, from its arrival to the end of its answer.

    Attributes:
        states: the limits as the call left them, for its headers.
        at: seconds since the start of the server, when it was admitted or refused.
        tokens: that it was admitted for, with those that will be spent later.
        beside: calls in flight of its model at that time, with itself if it was admitted.
    """

    def __init__(self, admission: "Admission", name: str) -> None:
        self.states: States = {}
        self.at = admission.now
        self.tokens = self.beside = 0
        self._admission = admission
        self._name = name
        self._logged = False
        self._inside = False
        self._account = Account(None)
        self._tally = Tally()

    def enter(self, account: Account, tally: Tally) -> str:
        """Says what hinders it: OVERLOADED, CROWDED, or nothing."""
        self.beside = tally.in_flight
        hindrance = self._admission.hindrance(account)
        if hindrance == OVERLOADED:
            tally.overloaded += 1
        elif hindrance == CROWDED:
            tally.refused_concurrent += 1
        else:
            self._account, self._tally, self._inside = account, tally, True
            self._count(1)
        return hindrance

    def admit(self, input_tokens: int, output_tokens: int, later: int) -> Optional[Lack]:
        """Takes a request and the tokens out of the buckets, or says which of them lacks what."""
        tally = self._tally
        self.at = self._admission.now
        lack = None
        if self._account.buckets:
            amounts = {
                "requests": 1.0,
                "tokens": float(input_tokens + output_tokens),
                "input-tokens": float(input_tokens),
                "output-tokens": 0.0,
            }
            self.states, lack = self._account.buckets.admit(amounts)
        if lack is not None:
            tally.refused += 1
            self._end()
            self.beside = tally.in_flight
            return lack
        self.tokens = input_tokens + output_tokens + later
        self.beside = tally.in_flight
        tally.served += 1
        tally.peak = max(tally.peak, tally.in_flight)
        tally.input += input_tokens
        tally.output += output_tokens
        return None

    def spend(self, output_tokens: int) -> None:
        """Takes those that have been produced."""
        self._tally.output += output_tokens
        if self._account.buckets:
            states = self._account.buckets.spend("output-tokens", output_tokens)
            if "output-tokens" in states:  # the others stay as they were at its admission
                self.states = {**self.states, "output-tokens": states["output-tokens"]}

    def begin(self, model: str, status: int, elapsed: float) -> None:
        """Logs it, as its answer starts."""
        if self._logged:
            return
        self._logged = True
        at, took = round(self.at, 4), round(elapsed, 4)
        self._admission.log([at, model, status, self.tokens, took, self._name, self.beside])

    def leave(self, model: str, elapsed: float) -> None:
        """Its answer is over, or its client has left: with the status 0, if there was none."""
        self.begin(model, 0, elapsed)
        self._end()

    def _end(self) -> None:
        if self._inside:
            self._inside = False
            self._count(-1)

    def _count(self, change: int) -> None:
        self._tally.in_flight += change
        self._account.in_flight += change
        self._admission.in_flight += change


class Admission:
    """Lets calls in.

    Attributes:
        in_flight: calls of all models whose answer is not over.
    """

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        self.in_flight = 0
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self._changes = changes_of(settings.max_concurrent_after)
        self._accounts: Dict[Tuple[str, str, str], Account] = {}
        self._tallies: Dict[str, Tally] = {}
        self._calls: Deque[List[Any]] = deque(maxlen=CALLS_MAX)
        self._logged = 0

    @property
    def now(self) -> float:
        """Seconds since its start."""
        return self._clock() - self._started

    def visit(self, name: str) -> Visit:
        return Visit(self, name)

    def account(self, api: str, key: str, model: str, limits: Dict[str, int]) -> Account:
        who = api, key, model
        account = self._accounts.get(who)
        if account is None:
            _make_room(self._accounts)
            limited = not model.startswith(UNLIMITED)
            buckets = Buckets(limits, self._settings, self._clock) if limited else None
            account = self._accounts[who] = Account(buckets)
        return account

    def tally(self, model: str) -> Tally:
        tally = self._tallies.get(model)
        if tally is None:
            _make_room(self._tallies)
            tally = self._tallies[model] = Tally()
        return tally

    def hindrance(self, account: Account) -> str:
        if account.buckets is None:
            return ""
        overload = self._settings.overload
        if overload and self.in_flight >= overload:
            return OVERLOADED
        most = self._settings.max_concurrent
        for since, changed in self._changes:
            if self.now >= since:
                most = changed
        return CROWDED if most and account.in_flight >= most else ""

    def log(self, entry: List[Any]) -> None:
        self._logged += 1
        self._calls.append(entry)

    def stats(self) -> Dict[str, Dict[str, int]]:
        return {model: tally.value() for model, tally in self._tallies.items()}

    def calls(self, since: int) -> Tuple[List[List[Any]], int]:
        """Those behind the first so many, as far as there still are, and how many there were."""
        gone = self._logged - len(self._calls)
        return list(islice(self._calls, max(0, since - gone), None)), self._logged


def changes_of(text: str) -> List[Tuple[float, int]]:
    """(seconds, number), sorted, as "2.5:10,5:20" has them.

    Raises:
        ValueError: it is not like that.
    """
    changes = []
    for each in filter(None, text.split(",")):
        seconds, number = each.split(":")
        changes.append((float(seconds), int(number)))
    return sorted(changes)


def _make_room(things: Dict[Any, Any]) -> None:
    if len(things) >= REMEMBERED:
        del things[next(iter(things))]
