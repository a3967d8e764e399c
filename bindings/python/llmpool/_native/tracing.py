"""Where a tracer sees every request of the package: clients, adapters, install().

Nobody traces unless somebody puts a function here, as llmpool.otel does. Without one a request
costs a look at it, and at its own place for a trace.
"""

from typing import TYPE_CHECKING, Any, Callable, List, Optional, Protocol

if TYPE_CHECKING:
    from .._http.answer import Answer
    from .call import Call


class Trace(Protocol):
    """Follows one request. None of these raises, and none waits."""

    def opened(self, head: "Answer", done: "Optional[Answer]", request: int) -> None:
        """Whoever streams the answer is about to be given it; request: its id."""

    def waits(self) -> None:
        """The reader of a stream waits from now on: it has all that has come."""

    def took(self, items: List[Any], headers: bytes) -> None:
        """It takes events, or pieces of the body; headers: of the answer."""

    def settle(self, items: List[Any], headers: bytes) -> None:
        """It is at the end of the stream, or leaves; items are what it did not take."""

    def done(self, answer: "Answer", head: "Optional[Answer]", request: int) -> None:
        """The request is over; head: of an answer that was streamed; request: its id."""

    def failed(self, error: BaseException) -> None:
        """It was not even taken by the library."""

    def left(self, error: Optional[BaseException] = None) -> None:
        """Nobody waits for its end any more; error: what went wrong with whoever did, if it did."""


# Called on the caller's thread, in its context, when a request is about to be submitted: may change
# its headers, and gives it a trace.
begin: "Optional[Callable[[Call], None]]" = None
