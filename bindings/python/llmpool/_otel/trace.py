"""The trace of one request: a span for each attempt, or events on the span of somebody above."""

import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, List, Optional, Tuple

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from .._http.answer import Answer
from .._http.timings import timings_of
from .._native.call import Call
from .attempts import UNKNOWN, Attempt, earlier, error_type, status_of
from .notices import notices
from .outcome import REQUEST_ID, Event, Outcome, left, refused, steps
from .target import (
    Attributes,
    Target,
    connection_attributes,
    request_attributes,
    server_attributes,
    span_name,
)

if TYPE_CHECKING:
    from .genai import Generation
    from .instrumentation import Instrumentation

logger = logging.getLogger("llmpool.otel")

_HEDGE_AFTER = 3  # of Call.options
# Traces of streams that nobody has any more.
_dropped: "Deque[RequestTrace]" = deque()
# Another object after a fork: spans that were open then are the parent's to end.
_process = object()


def _forget() -> None:
    global _process
    _process = object()
    _dropped.clear()


os.register_at_fork(after_in_child=_forget)


class RequestTrace:
    """What follows one request: see llmpool._native.tracing.Trace.

    Attributes:
        sent: how often it was sent so far, what a redirect followed and an SDK's tries included.
    """

    __slots__ = (
        "sent", "_by", "_began", "_method", "_target", "_pool", "_request", "_is_hedging",
        "_context", "_span",
        "_lender", "_is_lent_for_head", "_has_told", "_head", "_dropped_at", "_generation",
        "_waits_since", "_stalls", "_open", "_process",
    )  # fmt: skip

    def __init__(
        self,
        by: "Instrumentation",
        call: Call,
        target: Target,
        context: Context,
        resends: int,
        lender: Optional[Span],
        is_lent_for_head: bool,
        generation: "Optional[Generation]",
    ) -> None:
        """
        Args:
            lender: the span of somebody above that has the events instead of one of our own.
            is_lent_for_head: that span ends with the head of the answer.
        """
        self.sent = resends
        self._by = by
        self._began = time.time_ns()
        self._method = call.method
        self._target = target
        self._pool = call.pool
        self._request = 0  # its id, once it is known
        self._is_hedging = bool(call.options[_HEDGE_AFTER])
        self._context = context
        self._lender = lender
        self._is_lent_for_head = is_lent_for_head
        self._has_told = False
        self._head: Optional[Answer] = None
        self._dropped_at = 0
        self._generation = generation
        self._waits_since = 0
        self._stalls: List[Event] = []
        self._process = _process
        self._span = self._start(resends, self._began) if lender is None else lender
        # Whoever takes it out ends the trace: several threads may come at once.
        self._open = [True]

    @property
    def span(self) -> Span:
        return self._span

    # ---- what happens to the request

    def opened(self, head: Answer, done: Optional[Answer], request: int) -> None:
        self._head = head
        self._request = request
        if self._lender is None or not self._is_lent_for_head or done is not None:
            return
        self._has_told = True
        try:
            self._lend_head(self._lender, head)
        except Exception:
            logger.debug("the head of an answer was not traced", exc_info=True)

    def waits(self) -> None:
        if not self._waits_since:
            self._waits_since = time.monotonic_ns()

    def took(self, items: List[Any], headers: bytes) -> None:
        self._note_stall()
        self._read(items, headers)

    def settle(self, items: List[Any], headers: bytes) -> None:
        self._read(items, headers)
        if self._generation is not None:
            _counted(self._generation.settle, headers)

    def done(self, answer: Answer, head: Optional[Answer], request: int) -> None:
        self._request = request or self._request
        try:
            self._open.pop()
        except IndexError:
            return
        if self._process is not _process:
            return
        try:
            self._note_stall()
            head = head or self._head
            outcome = Outcome(self._began, self._dropped_at or time.time_ns(), answer, head)
            self.sent += outcome.attempts
            if self._generation is not None:
                self._generation.done(outcome, answer, head)
            if self._lender is None:
                self._end(outcome)
            else:
                self._lend(self._lender, outcome)
        except Exception:
            logger.debug("the end of a request was not traced", exc_info=True)

    def failed(self, error: BaseException) -> None:
        self.done(refused(error), None, 0)

    def left(self, error: Optional[BaseException] = None) -> None:
        # Cancelled tasks and Ctrl-C are no Exception: the application wants no more.
        self.done(refused(error) if isinstance(error, Exception) else left(), None, 0)

    def __del__(self, drop: Any = _dropped.append, now: Any = time.time_ns) -> None:
        # Of a stream that nobody has any more: on any thread, at any moment. Whoever exports spans
        # may wait when one ends: the next request ends it.
        if getattr(self, "_open", None):
            self._dropped_at = now()
            drop(self)

    # ---- spans of our own

    def _start(self, resends: int, at: int, first: Optional[Span] = None) -> Span:
        attributes = request_attributes(self._method, self._target)
        if resends:
            attributes["http.request.resend_count"] = resends
        links = []
        if first is not None and first.get_span_context().is_valid:
            # The servers' spans are below the first: one header went out with all attempts.
            links.append(Link(first.get_span_context()))
        return self._by.tracer.start_span(
            span_name(self._method), self._context, SpanKind.CLIENT, attributes, links, at
        )

    def _end(self, outcome: Outcome) -> None:
        before, start = self._earlier(outcome)
        resends = self.sent - outcome.attempts
        span = first = self._span
        starts = [*(attempt.start for attempt in before[1:]), start]
        for attempt, begin in zip(before, starts):
            self._end_earlier(span, attempt, outcome.began)
            resends += 1
            span = self._start(resends, begin, first)
        self._end_last(span, outcome, start, self._queued(before, start))

    def _queued(self, before: List[Attempt], start: int) -> Optional[int]:
        """Since when the last attempt waited; None: not known."""
        return start if not before or before[-1].told is not None else None

    def _earlier(self, outcome: Outcome) -> Tuple[List[Attempt], int]:
        count = outcome.attempts - 1
        if not count:
            return [], self._began
        latest = outcome.at(outcome.times.admitted) if outcome.times.admitted else outcome.end
        if self._is_hedging:  # it ran beside the other, or before it
            return [Attempt(self._began, outcome.end, None)] * count, latest
        retries = notices().retries(self._pool, self._request)
        return earlier(count, self._began, latest, retries)

    def _end_earlier(self, span: Span, attempt: Attempt, began: int) -> None:
        retry = attempt.told
        told: Attributes = {}
        if retry is not None and status_of(retry.reason):
            told["http.response.status_code"] = status_of(retry.reason)
        if not self._is_hedging:  # the loser of two has not failed
            told["error.type"] = UNKNOWN if retry is None else error_type(retry.reason)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(told)
        if retry is None:
            span.set_attribute("llmpool.attempt.times", "bounds")
        else:
            if retry.request_id:
                span.set_attribute(REQUEST_ID, retry.request_id)
            span.set_attributes(retry.connection)
            for name, at, attributes in steps(began, retry.times, retry.connection, attempt.start):
                span.add_event(name, attributes, at)
            self._record((attempt.end - attempt.start) / 1e9, told)
        span.end(attempt.end)

    def _end_last(self, span: Span, outcome: Outcome, start: int, queued: Optional[int]) -> None:
        told = outcome.attributes()
        span.set_attributes(told)
        span.set_attributes(outcome.span_attributes())
        for name, at, attributes in self._events(outcome, queued):
            span.add_event(name, attributes, at)
        if outcome.error:
            span.set_status(Status(StatusCode.ERROR, outcome.message or None))
        span.end(outcome.end)
        self._record((outcome.end - start) / 1e9, told)

    def _record(self, seconds: float, told: Attributes) -> None:
        method = request_attributes(self._method, self._target)["http.request.method"]
        attributes = {
            **server_attributes(self._target), "http.request.method": method, **told
        }  # fmt: skip
        self._by.duration.record(max(seconds, 0.0), attributes)

    def _events(self, outcome: Outcome, queued: Optional[int]) -> List[Event]:
        events = [*outcome.events(queued), *self._stalls]
        if outcome.is_timeout:
            events.append(("llmpool.stall", outcome.end, {"error.type": outcome.error}))
        return sorted(events, key=lambda event: event[1])

    # ---- events on a span of somebody above

    def _lend_head(self, span: Span, head: Answer) -> None:
        """What is known before the span ends."""
        connection = connection_attributes(head.connection_id, head.flags)
        for name, at, attributes in steps(
            self._began, timings_of(head.timings), connection, self._began
        ):
            span.add_event(name, attributes, at)
        known: Attributes = {"llmpool.attempts": max(1, head.attempts)}
        span.add_event("llmpool.head", known, time.time_ns())

    def _lend(self, span: Span, outcome: Outcome) -> None:
        if self._has_told or not span.is_recording():  # it ended with the head
            return
        before, start = self._earlier(outcome)
        for attempt in before:
            retry = attempt.told
            reason: Attributes = {}
            if retry is not None:
                reason["error.type"] = error_type(retry.reason)
                if retry.request_id:
                    reason[REQUEST_ID] = retry.request_id
            span.add_event("llmpool.retry", reason, attempt.end)
        for name, at, attributes in self._events(outcome, self._queued(before, start)):
            span.add_event(name, attributes, at)

    # ---- streams

    def _note_stall(self) -> None:
        since, self._waits_since = self._waits_since, 0
        if not since or not self._open:
            return
        silence = time.monotonic_ns() - since
        if silence >= self._by.stall_after:
            at = time.time_ns() - silence
            self._stalls.append(("llmpool.stall", at, {"llmpool.stall.seconds": silence / 1e9}))

    def _read(self, items: List[Any], headers: bytes) -> None:
        if self._generation is not None and items:
            _counted(self._generation.note, items, headers)


def _counted(count: Callable[..., None], *what: Any) -> None:
    try:
        count(*what)
    except Exception:
        logger.debug("a generation was not counted", exc_info=True)


def end_dropped() -> None:
    """Ends the traces of streams that nobody has any more."""
    while _dropped:
        try:
            trace = _dropped.popleft()
        except IndexError:  # another thread was faster
            return
        trace.left()
