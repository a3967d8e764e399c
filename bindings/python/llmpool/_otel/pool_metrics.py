"""What pools count, as instruments that are observed when metrics are collected."""

from typing import Any, Callable, Iterable, List, NamedTuple, Sequence, Tuple
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .counts import Counts, pool_counts
from .target import Attributes

# Each sum of fields with attributes of its own.
Part = Tuple[Tuple[str, ...], Attributes]


class Row(NamedTuple):
    """An instrument.

    Attributes:
        is_counter: it only grows.
        parts: what of the counters it shows, and with which attributes.
    """

    name: str
    unit: str
    description: str
    is_counter: bool
    parts: Sequence[Part]


ROWS = (
    Row(
        "http.client.active_requests", "{request}", "Number of active HTTP requests.", False,
        [(("pending", "active", "backing_off"), {})],
    ),
    Row(
        "http.client.open_connections", "{connection}",
        "Number of outbound HTTP connections that are currently active or idle on the client.",
        False,
        [
            (("in_use",), {"http.connection.state": "active"}),
            (("idle",), {"http.connection.state": "idle"}),
        ],
    ),
    Row(
        "llmpool.requests", "{request}", "Requests that are over, however often each was sent.",
        True,
        [
            (("succeeded",), {"llmpool.outcome": "succeeded"}),
            (("failed",), {"llmpool.outcome": "failed"}),
            (("cancelled",), {"llmpool.outcome": "cancelled"}),
        ],
    ),
    Row(
        "llmpool.requests.pending", "{request}",
        "Requests waiting for a connection, or for their budget.", False, [(("pending",), {})],
    ),
    Row("llmpool.retries", "{attempt}", "Attempts after the first.", True, [(("retries",), {})]),
    Row(
        "llmpool.hedges", "{attempt}", "Second attempts sent while the first was silent.", True,
        [(("hedges",), {})],
    ),
    Row(
        "llmpool.connections.connecting", "{connection}", "Connections being opened.", False,
        [(("connecting",), {})],
    ),
    Row(
        "llmpool.connections.opened", "{connection}", "Connections that were begun.", True,
        [(("opened",), {})],
    ),
    Row(
        "llmpool.connections.closed", "{connection}", "Connections that ended.", True,
        [(("closed",), {})],
    ),
    Row(
        "llmpool.connections.failed", "{connection}", "Dials that failed.", True,
        [(("connect_failures",), {})],
    ),
    Row(
        "llmpool.connections.reused", "{request}", "Requests that an open connection carried.",
        True, [(("reused",), {})],
    ),
    Row(
        "llmpool.dns.lookups", "{lookup}", "Names that were looked up.", True,
        [(("dns_lookups",), {})],
    ),
    Row(
        "llmpool.tls.handshakes", "{handshake}", "TLS handshakes, resumed ones too.", True,
        [(("tls_handshakes",), {})],
    ),
    Row(
        "llmpool.network.io", "By", "Bytes on sockets, TLS included.", True,
        [
            (("bytes_sent",), {"network.io.direction": "transmit"}),
            (("bytes_received",), {"network.io.direction": "receive"}),
        ],
    ),
    Row(
        "llmpool.breaker.rejections", "{request}", "Requests that an open breaker ended.", True,
        [(("breaker_rejections",), {})],
    ),
    Row(
        "llmpool.breakers.open", "{breaker}", "Origins whose breaker is open.", False,
        [(("breakers_open",), {})],
    ),
)  # fmt: skip


class PoolMetrics:
    """The instruments of a meter.

    Attributes:
        is_on: without it they show nothing: an instrument cannot be taken away.
    """

    def __init__(self, meter: Meter) -> None:
        self.is_on = True
        for row in ROWS:
            make: Callable[..., Any] = meter.create_observable_up_down_counter
            if row.is_counter:
                make = meter.create_observable_counter
            make(row.name, [self._callback(row)], row.unit, row.description)

    def _callback(self, row: Row) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> List[Observation]:
            if not self.is_on:
                return []
            return [
                Observation(sum(counts[name] for name in names), {**server, **attributes})
                for server, counts in _by_server()
                for names, attributes in row.parts
            ]

        return observe


def _by_server() -> List[Tuple[Attributes, Counts]]:
    found = []
    for origin, counts in pool_counts().read().items():
        parts = urlsplit(origin)
        server: Attributes = {
            "server.address": parts.hostname or "",
            "server.port": parts.port or 0,
            "url.scheme": parts.scheme,
        }
        found.append((server, counts))
    return found
