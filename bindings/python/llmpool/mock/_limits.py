"""Rate limits: the buckets that calls take out of, and what each provider tells of them."""

import math
import time
from datetime import datetime, timezone
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ._settings import Settings

# Of a process, which no setting of the time of day moves; tests have their own.
Clock = Callable[[], float]

_HAIR = 1e-6  # what sums of floats may be off by


class State(NamedTuple):
    """What is told of a limit.

    Attributes:
        limit: what the bucket holds; with a window of 60 s a minute's.
        remaining: what may be taken at once.
        reset: seconds until the bucket is full.
    """

    limit: int
    remaining: int
    reset: float


States = Dict[str, State]  # by what is limited: "requests", "tokens", "input-tokens"...


class Lack(NamedTuple):
    """Why a call is refused.

    Attributes:
        what: "requests", "tokens", "input-tokens" or "output-tokens".
        limit: a minute's.
        used: how much of it.
        requested: by this call.
        wait: seconds until it would fit; None: never will.
    """

    what: str
    limit: int
    used: int
    requested: int
    wait: Optional[float]


class Bucket:
    """A limit that is refilled evenly, and that calls take out of.

    It knows the time of its last look(); what is read, taken and read again belongs together.

    Args:
        limit: of a minute, from 1.
        window: how many seconds of refill it holds.
        share: how much of the refill comes here, above 0, up to 1.
        full: whether it begins so, or with nothing.
        clock: the seconds, of which only differences count.
    """

    def __init__(
        self,
        limit: int,
        window: float = 60.0,
        *,
        share: float = 1.0,
        full: bool = True,
        clock: Clock = time.monotonic,
    ) -> None:
        self.limit = limit
        self.capacity = limit * window / 60.0
        self.rate = limit * share / 60.0  # a second
        self.level = self.capacity if full else 0.0
        self._clock = clock
        self._looked = clock()

    def look(self) -> None:
        """Refills it with what has come since."""
        now = self._clock()
        self.level = min(self.capacity, self.level + (now - self._looked) * self.rate)
        self._looked = now

    @property
    def state(self) -> State:
        remaining = max(0, math.floor(self.level + _HAIR))
        return State(round(self.capacity), remaining, (self.capacity - self.level) / self.rate)

    def wait(self, amount: float) -> Optional[float]:
        """Seconds until it holds so much; None: it is more than a minute brings.

        More than a bucket of a short window holds is given by a full one, which then owes it: else
        a call within the limit could never be made.
        """
        if amount > max(self.limit, self.capacity):
            return None
        missing = min(amount, self.capacity) - self.level
        return missing / self.rate if missing > _HAIR else 0.0

    def take(self, amount: float) -> None:
        self.level -= amount


class Buckets:
    """Those of one credential for one model.

    Args:
        limits: of a minute, by what is limited; 0: nothing limits it.
        settings: how they are kept.
    """

    def __init__(self, limits: Dict[str, int], settings: Settings, clock: Clock) -> None:
        self._enforced = settings.limits == "enforce"
        self._buckets = {
            what: Bucket(
                limit,
                settings.limit_window,
                share=1.0 - settings.stranger,
                full=settings.limits_start != "empty",
                clock=clock,
            )
            for what, limit in limits.items()
            if limit > 0 and settings.limits != "off"
        }

    def look(self) -> States:
        for bucket in self._buckets.values():
            bucket.look()
        return self._states()

    def admit(self, amounts: Dict[str, float]) -> Tuple[States, Optional[Lack]]:
        """Takes the amounts, or nothing where one of them is lacking.

        Of an amount of 0, as of output that is not known before, one must be there.
        """
        self.look()
        if self._enforced:
            lack = self._lack(amounts)
            if lack is not None:
                return self._states(), lack
        for what, amount in amounts.items():
            self._take(what, amount)
        return self._states(), None

    def spend(self, what: str, amount: float) -> States:
        """Takes what has been used, even where it is not there: the next calls wait for it."""
        self.look()
        self._take(what, amount)
        return self._states()

    def _states(self) -> States:
        return {what: bucket.state for what, bucket in self._buckets.items()}

    def _take(self, what: str, amount: float) -> None:
        bucket = self._buckets.get(what)
        if bucket is None:
            return
        # Calls that nothing refuses would owe ever more, and never see it full again.
        bucket.take(amount if self._enforced else min(amount, max(0.0, bucket.level)))

    def _lack(self, amounts: Dict[str, float]) -> Optional[Lack]:
        """That which lasts longest."""
        found: Optional[Lack] = None
        for what, amount in amounts.items():
            bucket = self._buckets.get(what)
            wait = bucket.wait(max(1.0, amount)) if bucket else 0.0
            if bucket is None or wait == 0.0:
                continue
            used = math.ceil(bucket.limit - bucket.level - _HAIR)
            if wait is None:
                return Lack(what, bucket.limit, used, round(amount), None)
            # In whole milliseconds, as it is told: who waits so long finds it there.
            wait = math.ceil(wait * 1000 - _HAIR) / 1000
            if found is None or found.wait is None or wait > found.wait:
                found = Lack(what, bucket.limit, used, round(amount), wait)
        return found


# ---- how it is told


def go_duration(seconds: float) -> str:
    """As OpenAI writes durations: 0s, 6ms, 8.64s, 1m30s, 6m0s."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def instant(seconds_from_now: float = 0.0, *, up: bool = False) -> str:
    """As Anthropic writes times: 2025-08-21T12:40:59Z; up: the second after a fraction."""
    when = time.time() + seconds_from_now
    when = math.ceil(when) if up else when
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def refused(states: States, seconds: float) -> States:
    """As they are told with a 429 that was only made up."""
    if not seconds or "requests" not in states:
        return states
    return {**states, "requests": State(states["requests"].limit, 0, seconds)}


def openai_limits(states: States) -> Dict[str, str]:
    headers = {}
    for what, state in states.items():
        headers[f"x-ratelimit-limit-{what}"] = str(state.limit)
        headers[f"x-ratelimit-remaining-{what}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{what}"] = go_duration(state.reset)
    return headers


def anthropic_limits(states: States, clock_offset: float = 0.0) -> Dict[str, str]:
    """With the limit that is closest to its end, of input or of output, as that of tokens."""
    tokens = [states[what] for what in ("input-tokens", "output-tokens") if what in states]
    if tokens:
        states = {**states, "tokens": min(tokens, key=lambda state: state.remaining)}
    headers = {}
    for what, state in states.items():
        head = f"anthropic-ratelimit-{what}"
        headers[f"{head}-limit"] = str(state.limit)
        headers[f"{head}-remaining"] = str(state.remaining)
        headers[f"{head}-reset"] = instant(state.reset + clock_offset, up=True)
    return headers


def mistral_limits(states: States, tokens: int) -> Dict[str, str]:
    headers = {}
    for what, name in (("requests", "req"), ("tokens", "tokens")):
        if what in states:
            headers[f"x-ratelimit-limit-{name}-minute"] = str(states[what].limit)
            headers[f"x-ratelimit-remaining-{name}-minute"] = str(states[what].remaining)
    if headers:
        headers["x-ratelimit-tokens-query-cost"] = str(tokens)
    return headers
