"""Where a request goes, as spans and metrics name it."""

from functools import lru_cache
from typing import Dict, NamedTuple, Union
from urllib.parse import urlsplit

from .._http import secrets
from .._native import abi

# What spans show instead of a secret, as the conventions for HTTP have it.
_REDACTED = "REDACTED"
_PORTS = {"http": 80, "https": 443}
_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
)

Attributes = Dict[str, Union[str, bool, int, float]]


class Target(NamedTuple):
    """A URL in parts.

    Attributes:
        origin: as pools name it, "https://api.example.com:443".
        shown: the URL without credentials and without the values of its query.
    """

    host: str
    port: int
    origin: str
    path: str
    shown: str


@lru_cache(maxsize=256)
def target_of(url: bytes) -> Target:
    """Raises ValueError for what is no URL."""
    text = url.decode("latin-1")
    parts = urlsplit(text)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 0)
    named = f"[{host}]" if ":" in host else host
    shown = secrets.in_url(text).replace(secrets.HIDDEN, _REDACTED)
    return Target(host, port, f"{parts.scheme}://{named}:{port}", parts.path, shown)


def span_name(method: bytes) -> str:
    text = method.decode("latin-1")
    return text if text in _METHODS else "HTTP"


def server_attributes(target: Target) -> Attributes:
    return {"server.address": target.host, "server.port": target.port}


def connection_attributes(number: int, flags: int) -> Attributes:
    """Of that which carried an attempt; flags: of the event that tells it."""
    if not number:
        return {}
    return {
        "llmpool.connection.id": number,
        "llmpool.connection.reused": bool(flags & abi.EVENT_REUSED),
    }


def request_attributes(method: bytes, target: Target) -> Attributes:
    """What a span has from its beginning, for samplers to see."""
    text = method.decode("latin-1")
    attributes = {**server_attributes(target), "url.full": target.shown}
    if text in _METHODS:
        attributes["http.request.method"] = text
    else:  # any string could be one: as a value of a metric it would have no bound
        attributes["http.request.method"] = "_OTHER"
        attributes["http.request.method_original"] = text
    return attributes
