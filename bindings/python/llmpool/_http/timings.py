"""What an answer says of its times, imported by whoever asks: dataclasses cost a millisecond each
time a process starts.
"""

from dataclasses import dataclass
from struct import unpack
from typing import Optional

from .constants import TIMINGS_FORMAT


@dataclass(frozen=True)
class Timings:
    """When each step of a request was done, in seconds since its submission; None: it was not.

    Attributes:
        admitted: a connection, or a stream on one, was given.
        resolved, connected, secured: name, TCP and TLS of a new connection that it waited for.
        sent: the last byte of the request was sent.
        first_byte: the first byte of the answer came.
        first_data: the first byte of its body came.
        done: it was complete.
        budgeted: its budget had room for it.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports

    admitted: Optional[float] = None
    resolved: Optional[float] = None
    connected: Optional[float] = None
    secured: Optional[float] = None
    sent: Optional[float] = None
    first_byte: Optional[float] = None
    first_data: Optional[float] = None
    done: Optional[float] = None
    budgeted: Optional[float] = None

    @property
    def time_to_first_token(self) -> Optional[float]:
        """first_data: for a streamed answer the time to its first event."""
        return self.first_data


def timings_of(record: bytes) -> Timings:
    """From the times of a DONE record; all None before it has come."""
    if not record:
        return Timings()
    return Timings(*(time / 1e6 if time else None for time in unpack(TIMINGS_FORMAT, record)))
