"""Requests that wait long for a connection because a limit is reached.

Not each request that waits: a name is looked up, a server is down, a burst passes. One is said to
wait long if at each look for a second its limit was reached, most of it by connections in use.
"""

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

LONG = 1.0
# Answers that come for longer than this (seconds) may be streams that nobody reads or closes.
_HELD = 60.0


class Waiting(NamedTuple):
    """A request in the phase "pool". The attempts tell it from itself before a retry."""

    id: int
    attempts: int
    origin: str
    age: float


class Reached(NamedTuple):
    """A limit that is reached, and by what.

    Attributes:
        knob: the limit's name.
        only_http1: the pool was told to speak HTTP/1.1 where HTTP/2 could be had.
        oldest_answer: seconds since the submission of the oldest request whose answer comes.
    """

    knob: str
    limit: int
    in_use: int
    only_http1: bool = False
    oldest_answer: float = 0.0


class Wait(NamedTuple):
    """Of one origin those that wait long.

    Attributes:
        waited: the longest, in seconds, at least.
        waiting: all that wait for a connection.
        new: those that were not among them before.
    """

    origin: str
    reached: Reached
    waited: float
    waiting: int
    new: int


class Waits:
    """What is known of a pool from one look to the next."""

    def __init__(self) -> None:
        self._looked: Optional[float] = None
        self._reached: Dict[str, float] = {}  # origins whose limit is, and since which look
        self._since: Dict[Tuple[int, int], float] = {}
        self._told: Set[Tuple[int, int]] = set()

    def look(
        self,
        now: float,
        waiting: Iterable[Waiting],
        limit_of: Callable[[str], Optional[Reached]],
    ) -> List[Wait]:
        """Those origins where there are more that wait long than at the look before."""
        origins: Dict[str, List[Waiting]] = {}
        for request in waiting:
            origins.setdefault(request.origin, []).append(request)
        before, self._since = self._since, {}
        since_reached, self._reached = self._reached, {}
        found = []
        for origin, requests in origins.items():
            reached = limit_of(origin)
            if reached is None:
                continue
            self._reached[origin] = began = since_reached.get(origin, now)
            waits = self._waits(now, requests, began, before)
            if waits:
                found.append(self._of(origin, reached, waits, len(requests)))
        self._told &= self._since.keys()
        self._looked = now
        return [wait for wait in found if wait.new]

    def _waits(
        self,
        now: float,
        requests: List[Waiting],
        began: float,
        before: Dict[Tuple[int, int], float],
    ) -> Dict[Tuple[int, int], float]:
        """The long ones, and how long each has waited at least."""
        waits = {}
        for request in requests:
            key = request.id, request.attempts
            since = before.get(key)
            if since is None:
                # Of one that did something else at the look before nothing is known but now.
                is_new = self._looked is not None and request.age <= now - self._looked
                since = max(began, now - request.age) if is_new else now
            self._since[key] = since
            if key in before and now - since >= LONG:
                waits[key] = now - since
        return waits

    def _of(
        self, origin: str, reached: Reached, waits: Dict[Tuple[int, int], float], count: int
    ) -> Wait:
        new = waits.keys() - self._told
        self._told |= new
        return Wait(origin, reached, max(waits.values()), count, len(new))


def text(wait: Wait) -> str:
    """The line for people: where, how long, what is used up, and what to turn."""
    reached = wait.reached
    said = (
        f"waiting for a connection to {wait.origin} for {wait.waited:.1f} s, before sending: "
        f"{reached.in_use} in use, {reached.knob} is {reached.limit}, {_requests(wait.waiting)}: "
        f"raise {reached.knob} or lower the load"
    )
    if reached.only_http1 and wait.origin.startswith("https:"):
        said += "; with http2=True one connection carries many requests, if the server speaks it"
    if reached.oldest_answer >= _HELD:
        said += (
            f"; one answer has been coming for {reached.oldest_answer:.0f} s: a stream keeps its "
            "connection until it is read to its end or closed"
        )
    return said


def _requests(count: int) -> str:
    return "1 request waits" if count == 1 else f"{count} requests wait"


def fields(wait: Wait) -> Dict[str, str]:
    """The same for programs."""
    return {
        "origin": wait.origin,
        "waited-ms": str(int(wait.waited * 1000)),
        "in-use": str(wait.reached.in_use),
        "limit": str(wait.reached.limit),
        "waiting": str(wait.waiting),
        "knob": wait.reached.knob,
    }
