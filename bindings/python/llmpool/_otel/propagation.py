"""The headers that carry a trace to the server."""

import re
from typing import Dict

from opentelemetry import propagate
from opentelemetry.context import Context

_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
# Both are of one trace: neither is written beside the other that somebody else wrote.
_W3C = frozenset(("traceparent", "tracestate"))


class Headers:
    """What of a request's header lines concerns traces."""

    __slots__ = ("_block", "_lower")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._lower = b"\n" + block.lower()

    def has(self, name: str) -> bool:
        return b"\n%s:" % name.lower().encode("latin-1") in self._lower

    def number(self, name: bytes) -> int:
        """A header's value, where it is a small number; else 0."""
        found = re.search(
            rb"\n" + re.escape(name) + rb":[ \t]*(\d{1,6})[ \t]*\r?(?:\n|$)", self._lower
        )
        return int(found.group(1)) if found else 0

    def are_propagated(self) -> bool:
        """Whether whoever is above has written its trace into them."""
        fields = propagate.get_global_textmap().fields
        return not fields or any(map(self.has, fields))

    def injected(self, context: Context) -> bytes:
        """The lines, with those of the global propagator that are not there yet."""
        carrier: Dict[str, str] = {}
        propagate.inject(carrier, context)
        is_traced = any(map(self.has, _W3C))
        lines = [self._block]
        if self._block and not self._block.endswith(b"\n"):
            lines.append(b"\r\n")
        for name, value in carrier.items():
            if self.has(name) or (is_traced and name.lower() in _W3C):
                continue
            if _NAME.fullmatch(name) and _VALUE.fullmatch(
                value
            ):  # the request must not fail for it
                lines.append(f"{name}: {value}\r\n".encode("ascii"))
        return b"".join(lines)
