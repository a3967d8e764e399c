"""When each attempt of a request was, and how it ended, as far as its pool tells."""

from typing import List, NamedTuple, Sequence, Tuple

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
        start, end: nanoseconds of the epoch.
        reason: why it failed, as the notice has it; "": not known.
        is_noticed: its times are those of notices, no mere bounds.
    """

    start: int
    end: int
    reason: str
    is_noticed: bool


def earlier(
    count: int, began: int, latest: int, retries: Sequence[Retry]
) -> Tuple[List[Attempt], int]:
    """The attempts before the last, and when the last began.

    A notice does not say whose it is. Where there are as many as the request had failed attempts,
    they are its own; else nobody can tell them apart, and there are but bounds.

    Args:
        count: how many there were.
        began: when the request was submitted.
        latest: when the last attempt was given its connection.
        retries: those of the same origin in that time.
    """
    if len(retries) != count:
        return [Attempt(began, latest, "", False)] * count, latest
    found = []
    start = began
    for retry in retries:
        # Read later than it was: never later than the next attempt began.
        end = max(start, min(retry.time, latest))
        found.append(Attempt(start, end, retry.reason, True))
        start = min(end + retry.delay, latest)
    return found, start


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
