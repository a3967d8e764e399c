"""What a pool says of itself, imported by whoever asks: dataclasses cost a millisecond each time a
process starts.
"""

from dataclasses import dataclass


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
