"""Requests that had no answer in time: by timeouts that run while a server says nothing.

Nobody else tells of them in the log: whoever made the request has its exception, and one that is
sent again after a timeout succeeds in the end.
"""

from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional

if TYPE_CHECKING:
    from .sight import Reasons

# Timeouts that run while it is the server's turn, in the words of reasons.
_SILENT = ("first-byte-timeout", "read-timeout", "event-timeout")


class Silence(NamedTuple):
    """Of one origin and timeout those since the last look."""

    origin: str
    reason: str
    number: int


class Silences:
    """What is known of a pool from one look to the next."""

    def __init__(self) -> None:
        self._known: Optional[Dict[str, Dict[str, int]]] = None

    def look(self, origins: "Mapping[str, Reasons]") -> List[Silence]:
        """Those since the last look; of what was before the first nothing is told."""
        now = {origin: _counts(reasons) for origin, reasons in origins.items()}
        before, self._known = self._known, now
        if before is None:
            return []
        found = []
        for origin, counts in now.items():
            for reason, count in counts.items():
                known = before.get(origin, {}).get(reason, 0)
                # One that was forgotten meanwhile, and is back, has begun anew.
                new = count - known if count >= known else count
                if new:
                    found.append(Silence(origin, reason, new))
        return found


def _counts(reasons: "Reasons") -> Dict[str, int]:
    """Attempts, whether the request was sent again or not."""
    sums = {name: reasons.failed.get(name, 0) + reasons.retried.get(name, 0) for name in _SILENT}
    return {name: count for name, count in sums.items() if count}


def text(silence: Silence) -> str:
    reason = silence.reason.replace("-", " ")
    return f"a request to {silence.origin} had no answer in time: its {reason} is over"


def fields(silence: Silence) -> Dict[str, str]:
    return {"origin": silence.origin, "reason": silence.reason}
