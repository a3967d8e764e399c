"""A streamed answer on its way in: what the responses of clients and of adapters share."""

import sys
from typing import Any, List, Optional

from .._http.answer import Answer
from .._http.exceptions import StreamClosed
from .._native.call import Call, failure
from .._native.lane import Lane
from .._native.library import lib

# Window is given back when so many bytes were consumed. Half of the smallest window that a pool
# can have, so that the server is never left with a few bytes to send.
CREDIT = 32 << 10


class Incoming:
    """Takes what has arrived. The attributes are slots of whoever inherits from it.

    Attributes:
        _owed: bytes consumed and not credited yet.
        _lent: what the batch that the application has stands for.
    """

    __slots__ = ()

    _call: Call
    _owed: int
    _lent: int
    _closed: bool

    def _take(self) -> Optional[List[Any]]:
        """What arrived since; an empty list: wait; None: the answer is complete.

        Raises what the request ended with, after everything that came before its end was taken.
        """
        if self._closed:
            raise StreamClosed("the response was closed while it was read")
        call = self._call
        owed = self._owed + self._lent  # the batch before was consumed by now
        done = call.done
        if owed >= CREDIT and done is None:
            lib.credit(call.pool, call.id, owed)
            owed = 0
        self._owed = owed  # type: ignore[misc]
        items = call.items
        if items:
            call.items = []
            if call.meter is not None:
                call.meter.note(items, self._head_lines())
            if call.trace is not None:
                call.trace.took(items, self._head_lines())
            self._lent = call.credit  # type: ignore[misc]
            call.credit = 0
            return items
        self._lent = 0  # type: ignore[misc]
        if done is None:
            if call.trace is not None:
                call.trace.waits()
            return items
        self._settle()
        self._conclude(done)
        self._ended()
        if done.status:
            raise failure(done, call.request, self._head_lines())
        return None

    def _settle(self) -> None:
        """It is over, or left: what it took is known where all that tells of it has come."""
        call = self._call
        if call.trace is not None:
            call.trace.settle(call.items, self._head_lines())
        meter = call.meter
        if meter is None:
            return
        if call.items:
            meter.note(call.items, self._head_lines())
        done = call.done
        if (done is not None and not done.status) or meter.has_end():
            call.settle(self._head_lines())

    def _head_lines(self) -> bytes:
        head = self._call.head
        return b"" if head is None else head.headers

    def _conclude(self, done: Answer) -> None:
        """What is known at the end only."""

    def _ended(self) -> None:
        """The answer was read to its end."""


class LaneIncoming(Incoming):
    """One that a thread waits for.

    Attributes:
        _lane: it lies here while nobody uses it: a thread that takes it out has it for itself.
    """

    __slots__ = ()

    _lane: List[Lane]

    def _wait(self, linger: Optional[float] = None) -> None:
        """Until something arrives, or as long for the end, of which what comes is dropped."""
        try:
            lane = self._lane.pop()
        except IndexError:
            if linger is None:
                raise StreamClosed("the response was closed while it was read") from None
            return
        try:
            if linger is None:
                lane.wait()
                return
            ended = lane.wait_done(self._call, linger)
        finally:
            self._lane.append(lane)
        if ended and self._call.done is not None:
            self._call.items = []
            self._conclude(self._call.done)
            self._ended()

    def _leave(self, is_exiting: Any = sys.is_finalizing) -> None:
        """Gives the lane back, the request being cancelled if it is not over."""
        if is_exiting():  # a generator in the middle of a stream: the library sees to it
            return
        call = self._call
        try:
            lane = self._lane.pop()
        except IndexError:
            if call.done is None:  # another thread waits in it, which this wakes: it leaves then
                lib.cancel(call.pool, call.id)
            return
        lane.end(call)

    def _ended(self) -> None:
        self._leave()
