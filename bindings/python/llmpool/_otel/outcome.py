"""How a request ended, from its DONE and, where it was streamed, its head."""

from typing import Dict, List, Optional, Tuple

from .._http import secrets
from .._http.answer import Answer
from .._http.explain import request_id
from .._http.headers import Headers
from .._http.timings import Timings, timings_of
from .._native import abi
from .attempts import error_type_of, nanoseconds
from .target import Attributes, connection_attributes

_VERSIONS = {abi.HTTP_1_0: "1.0", abi.HTTP_1_1: "1.1", abi.HTTP_2: "2"}
_TIMEOUTS = (
    abi.E_WRITE_TIMEOUT, abi.E_FIRST_BYTE_TIMEOUT, abi.E_READ_TIMEOUT, abi.E_EVENT_TIMEOUT
)  # fmt: skip

# The provider's id of the request.
REQUEST_ID = "llmpool.request_id"
_LONGEST_ID = 200

# A name, nanoseconds of the epoch, and what is said of it.
Event = Tuple[str, int, Attributes]


class Outcome:
    """Of the last attempt; the one before it failed, else it were the last.

    Attributes:
        began: when the request was submitted, in nanoseconds of the epoch.
        end: when it was over.
        attempts: how many there were, at least one.
        error: error.type; "": it is none.
        message: of the error, for people.
    """

    __slots__ = ("began", "times", "end", "attempts", "status", "error", "message", "_told")

    def __init__(self, began: int, now: int, answer: Answer, head: Optional[Answer]) -> None:
        self.began = began
        self.times = timings_of(answer.timings)
        self.end = self.at(self.times.done) if self.times.done else max(now, began)
        self._told = answer if head is None else head
        self.attempts = max(1, answer.attempts, self._told.attempts)
        self.status = answer.status
        self.message = ""
        if answer.error is not None:
            self.error = _class_name(answer.error)
        elif answer.status == abi.E_CANCELLED:
            self.error = ""  # the application wants no more: nothing went wrong
        elif answer.status:
            self.error = error_type_of(answer.status)
            self.message = secrets.text(answer.message.decode("utf-8", "replace"))
        else:
            code = self._told.http_status
            self.error = str(code) if code >= 400 else ""

    def at(self, seconds: float) -> int:
        """A moment of its timings, in nanoseconds of the epoch."""
        return self.began + nanoseconds(seconds)

    @property
    def is_cancelled(self) -> bool:
        return self.status == abi.E_CANCELLED

    @property
    def is_timeout(self) -> bool:
        """A silence that was too long."""
        return self.status in _TIMEOUTS

    def attributes(self) -> Attributes:
        """What the answer says for a span and for a metric."""
        found: Attributes = {}
        if self._told.http_status:
            found["http.response.status_code"] = self._told.http_status
            version = _VERSIONS.get(self._told.http_version)
            if version:
                found["network.protocol.version"] = version
        if self.error:
            found["error.type"] = self.error
        return found

    def span_attributes(self) -> Attributes:
        """For a span alone."""
        found: Attributes = {}
        host, _, port = self._told.peer.decode("ascii", "replace").rpartition(":")
        if host and port.isdigit():
            found["network.peer.address"] = host.strip("[]")
            found["network.peer.port"] = int(port)
        if self.is_cancelled:
            found["llmpool.cancelled"] = True
        known = request_id(Headers._parse(self._told.headers))
        if known:
            found[REQUEST_ID] = secrets.excerpt(known, _LONGEST_ID)
        return {**found, **self._connection()}

    def _connection(self) -> Attributes:
        return connection_attributes(self._told.connection_id, self._told.flags)

    def events(self, queued: Optional[int]) -> List[Event]:
        """What the last attempt went through; queued: since when it waited, where that is known."""
        found = steps(self.began, self.times, self._connection(), queued)
        if self.first_token:
            found.append(("llmpool.first_token", self.at(self.first_token), {}))
        return found

    @property
    def first_token(self) -> Optional[float]:
        """When the body of an event stream began, in seconds; None: it is none, or did not."""
        told = self._told
        is_stream = told.http_status == 200 and is_event_stream(told.headers)
        return self.times.first_data if is_stream else None


def steps(began: int, times: Timings, connection: Attributes, queued: Optional[int]) -> List[Event]:
    """What an attempt went through.

    Args:
        began: when the request was submitted.
        connection: attributes of that which carried it.
        queued: since when it waited; None: not known.
    """
    found: List[Event] = [] if queued is None else [("llmpool.queued", queued, {})]
    seconds: Dict[str, Tuple[Optional[float], Attributes]] = {
        "budgeted": (times.budgeted, {}),
        "connected": (times.secured or times.connected, {}),
        "admitted": (times.admitted, connection),
        "sent": (times.sent, {}),
        "first_byte": (times.first_byte, {}),
    }
    for name, (time, attributes) in seconds.items():
        if time:
            found.append((f"llmpool.{name}", began + nanoseconds(time), attributes))
    return found


def is_event_stream(headers: bytes) -> bool:
    """Whether the answer's body comes as tokens do."""
    for line in headers.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-type":
            return value.partition(b";")[0].strip() == b"text/event-stream"
    return False


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


def refused(error: BaseException) -> Answer:
    """A DONE for a request that has none, as the library did not take it."""
    return Answer.of(status=abi.E_INTERNAL, error=error)


def left() -> Answer:
    """A DONE for a request whose end nobody awaited."""
    return Answer.of(status=abi.E_CANCELLED)
