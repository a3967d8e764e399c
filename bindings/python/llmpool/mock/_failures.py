"""What the name of a model asks for, which passes through every SDK; and calls that fail by chance.

    error-429                      this status, always
    error-429-insufficient_quota   with this code
    flaky-2-503                    this status twice, then an answer; and so on from the start
    slow-1.5                       so many seconds more before the first token
    late-529                       an error in the middle of a stream
    cut-3                          the connection breaks after 3 tokens of a stream
    stall-3                        a stream that stays open and brings no more after 3 tokens
    stall-3-comments               the same, with a comment now and then; or -pings, with events of
                                   type ping, or -bytes, with a byte of an event that never ends
    think-1.5                      a stream that says nothing but that it is alive, so many seconds
    tail-5-1.5                     5 of 100 calls, chosen by the seed, are slow-1.5; the others not
    long-400                       an answer of so many tokens, or as many as the request allows
    lasts-20                       an answer whose tokens are spread over so many seconds; one that
                                   is not streamed comes when they are over

count at the end of a name, behind "-", "/" or ":", as in "gpt-4o-error-429"; several with "+"
between them, as in "gpt-4o-long-400+lasts-20". What follows behind one more "-" is the code, or
makes a name whose failures are counted by themselves.
"""

import random
import re
from typing import Dict, Optional, Tuple

from ._settings import Settings

REMEMBERED = 1000  # names of which the failures are counted
_SECONDS = r"\d+(?:\.\d+)?"
_PLANS = re.compile(
    r"(?:^|[-/:])(?:(?P<kind>error|late)-(?P<status>\d{3})"
    r"|flaky-(?P<times>\d{1,4})-(?P<flaky>\d{3})"
    rf"|slow-(?P<slow>{_SECONDS})|think-(?P<think>{_SECONDS})|lasts-(?P<lasts>{_SECONDS})"
    rf"|tail-(?P<percent>{_SECONDS})-(?P<tail>{_SECONDS})"
    r"|cut-(?P<cut>\d{1,6})|stall-(?P<stall>\d{1,6})|long-(?P<long>\d{1,6}))"
    r"(?:-(?P<code>[\w.]+))?$"
)
TOGETHER = "+"  # between what a name asks for

# What a stalled stream still brings, again and again.
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT = b": keep-alive\n\n"
STALLS: Dict[Optional[str], bytes] = {"comments": COMMENT, "pings": PING, "bytes": b"d"}

MESSAGES = {
    400: "The request is not valid.",
    401: "The API key is not valid.",
    403: "You are not allowed to use this resource.",
    404: "There is no such resource.",
    408: "The request took too long.",
    409: "The resource was changed by another request.",
    413: "The request exceeds the maximum size.",
    422: "The request cannot be processed.",
    429: "Rate limit reached for requests.",
    500: "The server had an error while processing your request.",
    503: "The engine is currently overloaded, please try again later.",
    504: "The server did not answer in time.",
    529: "Overloaded",
}
# What a client may try again after a while, and is told how long that is.
WAITING = (429, 503, 529)
NOT_AGAIN = ("insufficient_quota",)


class ErrorAnswer(Exception):
    """An answer other than 200.

    Attributes:
        status: the HTTP status.
        code: what the provider has for programs, if it has it.
        param: which argument is meant.
        retry_after: seconds, for the headers.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        code: Optional[str] = None,
        param: Optional[str] = None,
    ) -> None:
        self.message = message or MESSAGES.get(status, "The server had an error.")
        super().__init__(self.message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after: Optional[float] = None

    @property
    def again(self) -> bool:
        """Whether the same call may succeed later."""
        may = self.status in (408, 409, 429) or self.status >= 500
        return may and self.code not in NOT_AGAIN


class Plan:
    """What a model's name says beside failing at once.

    Attributes:
        delay: seconds more before the first token.
        late: status of an error in the middle of a stream; 0: none.
        cut: tokens after which the connection breaks; None: never.
        stall: tokens after which a stream brings nothing but what stall_bytes has; None: never.
        think: seconds in which a stream says nothing but that it is alive.
        lasts: seconds that the tokens take, whatever the settings say; 0: as those say.
    """

    __slots__ = ("cut", "delay", "lasts", "late", "stall", "stall_bytes", "think")

    def __init__(self) -> None:
        self.delay, self.late, self.think, self.lasts = 0.0, 0, 0.0, 0.0
        self.cut: Optional[int] = None
        self.stall: Optional[int] = None
        self.stall_bytes = b""


NOTHING = Plan()


def length_of(model: str) -> Optional[int]:
    """How many tokens the name asks for, if it does."""
    for part in model.split(TOGETHER):
        found = _PLANS.search(part)
        if found is not None and found["long"]:
            return int(found["long"])
    return None


class Failures:
    """Chooses which calls fail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._choice = random.Random(settings.seed)
        self._tail = random.Random(settings.seed)  # another: the first draws twice a call
        self._counts: Dict[str, int] = {}

    def by_chance(self, statuses: Tuple[int, ...]) -> None:
        """Raises one of them, as often as the settings say."""
        # Two draws a call, whatever comes out, so that a sequence of calls is the same for a seed.
        chance, which = self._choice.random(), self._choice.random()
        if chance < self._settings.error_rate:
            raise self._error(statuses[int(which * len(statuses))])

    def by_name(self, model: str) -> Plan:
        """What the name says; raises the error if that is one."""
        plan: Optional[Plan] = None
        for part in model.split(TOGETHER):
            found = _PLANS.search(part)
            if found is not None:
                plan = plan or Plan()
                self._add(plan, found, model)
        return plan or NOTHING

    def _add(self, plan: Plan, found: "re.Match[str]", model: str) -> None:
        code = found["code"]
        if found["kind"] == "error":
            raise self._error(int(found["status"]), code)
        if found["kind"] == "late":
            plan.late = int(found["status"])
        elif found["flaky"]:
            self._count(model, int(found["times"]), int(found["flaky"]))
        elif found["slow"]:
            plan.delay += float(found["slow"])
        elif found["percent"]:
            late = self._tail.random() * 100 < float(found["percent"])
            plan.delay += float(found["tail"]) if late else 0.0
        elif found["cut"]:
            plan.cut = int(found["cut"])
        elif found["stall"]:
            plan.stall, plan.stall_bytes = int(found["stall"]), STALLS.get(code, b"")
        elif found["think"]:
            plan.think = float(found["think"])
        elif found["lasts"]:
            plan.lasts = float(found["lasts"])

    def _count(self, model: str, times: int, status: int) -> None:
        before = self._counts.pop(model, 0)
        if before >= times:
            return
        if len(self._counts) >= REMEMBERED:
            del self._counts[next(iter(self._counts))]
        self._counts[model] = before + 1
        raise self._error(status)

    def _error(self, status: int, code: Optional[str] = None) -> ErrorAnswer:
        error = ErrorAnswer(status, code=code)
        if status in WAITING and error.again:
            error.retry_after = self._settings.retry_after
        return error
