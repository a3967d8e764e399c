"""When each attempt of a request was, and how it ended, as far as its pool tells."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from .._native import abi
from .._native.failures import BY_STATUS
from .notices import Retry

_PREFIX = "LLMPOOL_E_"
_WORDS = {
    name[len(_PREFIX) :].lower().replace("_", "-"): status
    for status, name in abi.STATUS_NAMES.items()
    if name.startswith(_PREFIX)
}
# error.type of what is not known, as the conventions have it.
UNKNOWN = "_OTHER"


class Attempt(NamedTuple):
    """One that was not the last.

    Attributes:
        start, end: nanoseconds of the epoch; where no notice told of it the bounds within which it
            was.
        told: what the notice said of it; None: there was none.
    """

    start: int
    end: int
    told: Optional[Retry]


def earlier(
    count: int, began: int, latest: int, retries: Sequence[Retry]
) -> Tuple[List[Attempt], int]:
    """The attempts before the last, and when the last began.

    Args:
        count: how many there were.
        began: when the request was submitted.
        latest: when the last attempt was given its connection.
        retries: what notices told of them.
    """
    known = {retry.attempt: retry for retry in retries}
    found = []
    start = began
    for number in range(1, count + 1):
        retry = known.get(number)
        end = latest if retry is None else began + nanoseconds(retry.times.done or 0.0)
        found.append(Attempt(start, max(start, end), retry))
        if retry is not None:  # it may have waited less, when an answer's rest took longer
            start = max(start, min(end + nanoseconds(retry.delay), latest))
    return found, start


def nanoseconds(seconds: float) -> int:
    """Of what was microseconds."""
    return round(seconds * 1e6) * 1000


def status_of(reason: str) -> int:
    """The HTTP status of "status 503"; 0: there was none."""
    word, _, status = reason.partition(" ")
    return int(status) if word == "status" and status.isdigit() else 0


def error_type(reason: str) -> str:
    """Of an attempt that was given up: error.type."""
    status = status_of(reason)
    return str(status) if status else error_type_of(_WORDS.get(reason, 0))


def error_type_of(status: int) -> str:
    """The exception that a status of the library is in Python, by its full name."""
    kind = BY_STATUS.get(status)
    return UNKNOWN if kind is None else f"llmpool.{kind.__name__}"
