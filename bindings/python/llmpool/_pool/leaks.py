"""Where responses were made that are dropped unfinished, and requests that stay in flight."""

import os
import sys
import time
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from .._http.config import milliseconds
from .._native import call

_leaks = False
_older_than: Optional[float] = None

# So many frames are looked through for those of the application, of which so many are kept.
_DEPTH, _KEPT = 60, 4
# A request that was submitted just now may not be among those in flight yet.
_GRACE = 5.0

Frames = Tuple[Tuple[str, int, str], ...]


class _Made(NamedTuple):
    at: float
    frames: Frames


# Of the requests in flight since debug(older_than=): where each was made, and which were said.
_made: Dict[int, _Made] = {}
_said: Set[int] = set()


def debug(*, leaks: bool, older_than: Optional[float] = None) -> None:
    """Turns help for finding mistakes on or off.

    Args:
        leaks: remember where each streamed response was made, which costs some 20 us each, and
            log a warning with the place when one is dropped unfinished and not closed. Without
            it there is a ResourceWarning, which Python shows only with -W default or in tests.
        older_than: seconds; remember where each request was made, and log a warning with the place
            for each that is in flight for longer, streams included. None: not.

    Raises:
        ValueError: older_than is no number above 0, or was given without leaks.
    """
    global _leaks, _older_than
    if older_than is not None:
        milliseconds("older_than", older_than)
        if not older_than:
            raise ValueError("older_than is a number of seconds above 0, or None")
        if not leaks:
            raise ValueError("older_than needs leaks=True")
    _leaks = leaks
    _older_than = older_than
    call.tell_submitted(None if older_than is None else _submitted)
    if older_than is None:
        _made.clear()
        _said.clear()


def older_than() -> Optional[float]:
    """The bound of debug(), in seconds."""
    return _older_than


def place() -> str:
    """Where the application is now, if leaks are looked for."""
    return _shown(_frames()) if _leaks else ""


def leaked(what: str, where: str, origin: str = "") -> None:
    """A response was dropped unfinished."""
    import warnings

    message = f"{what} was dropped without being read to its end or closed"
    if where:
        from . import lines

        line = lines.Line(lines.WARNING, message, {"origin": origin}, (where,))
        lines.say(("leak", origin), line)
        message += f"; it was made here:\n{where}"
    else:
        message += "; llmpool.debug(leaks=True) says where it was made"
    warnings.warn(message, ResourceWarning, stacklevel=3)


def newly_old(old: Iterable[int]) -> List[Tuple[int, str]]:
    """Of these requests those that were not said yet, with the place that made each."""
    found = []
    for request in old:
        if request not in _said:
            _said.add(request)
            made = _made.get(request)
            where = "" if made is None else _shown(made.frames)
            found.append((request, where or _UNKNOWN))
    return found


def forget_ended(in_flight: Set[int], now: float) -> None:
    """Forgets the requests that are not among these, which are those of all pools."""
    _said.intersection_update(in_flight)
    for request, made in list(_made.items()):
        if request not in in_flight and now - made.at > _GRACE:
            _made.pop(request, None)


def forget_all() -> None:
    """Nobody would be told of them."""
    _made.clear()
    _said.clear()


_UNKNOWN = "  before llmpool.debug(older_than=) was called, or by C code"


def _submitted(request: int) -> None:
    from . import lines

    if lines.is_enabled(lines.WARNING):  # else nobody looks, and forgets those that have ended
        _made[request] = _Made(time.monotonic(), _frames())


def _frames() -> Frames:
    """Of the application, the outermost first; of installed packages where there are no others."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    inner: List[Tuple[str, int, str]] = []
    frame = sys._getframe(1)
    for _ in range(_DEPTH):
        name = frame.f_code.co_filename
        if not name.startswith(here):
            inner.append((name, frame.f_lineno, frame.f_code.co_name))
        if frame.f_back is None:
            break
        frame = frame.f_back
    own = [each for each in inner if not _is_installed(each[0])]
    return tuple(reversed((own or inner)[:_KEPT]))


def _is_installed(name: str) -> bool:
    """Whether a file is of Python, or of a package: what others wrote."""
    return name.startswith((_STDLIB, "<frozen")) or any(part in name for part in _PACKAGES)


_STDLIB = os.path.dirname(os.__file__) + os.sep
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _shown(frames: Frames) -> str:
    import traceback

    summary = traceback.StackSummary.from_list([(*frame, None) for frame in frames])
    return "".join(summary.format()).rstrip()


def _forget() -> None:
    # A forked child has none of the parent's requests.
    _made.clear()
    _said.clear()


os.register_at_fork(after_in_child=_forget)
