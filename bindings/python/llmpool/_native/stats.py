"""What a pool and an answer say of themselves, imported by whoever asks: dataclasses cost a
millisecond each time a process starts.
"""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Stats:
    """A pool's counters at one moment, or those of one origin.

    Requests: submitted == pending + active + backing_off + succeeded + failed + cancelled.
    Connections: opened == connecting + in_use + idle + closed.

    Attributes:
        pending: requests that wait for a connection.
        active: requests on a connection.
        backing_off: requests that wait to be tried again.
        reused: requests that an already open connection carried.
        utilization: (connecting + in_use) / max_connections, from 0 to 1; 0 without a limit.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports

    submitted: int
    succeeded: int
    failed: int
    cancelled: int
    retries: int
    pending: int
    active: int
    backing_off: int
    connecting: int
    in_use: int
    idle: int
    opened: int
    closed: int
    reused: int
    connect_failures: int
    dns_lookups: int
    dns_cache_hits: int
    tls_handshakes: int
    tls_resumptions: int
    bytes_sent: int
    bytes_received: int
    utilization: float


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
    """

    __module__ = "llmpool"

    admitted: Optional[float] = None
    resolved: Optional[float] = None
    connected: Optional[float] = None
    secured: Optional[float] = None
    sent: Optional[float] = None
    first_byte: Optional[float] = None
    first_data: Optional[float] = None
    done: Optional[float] = None

    @property
    def time_to_first_token(self) -> Optional[float]:
        """first_data: for a streamed answer the time to its first event."""
        return self.first_data
