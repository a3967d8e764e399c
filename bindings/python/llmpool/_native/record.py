"""What comes back: a queue's events as flat records, sorted by request."""

import ctypes
import struct
from itertools import repeat
from sys import intern
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .._http.answer import BEGIN, DATA_END, TIMES_END, TIMES_SIZE, Answer
from .._http.sse import Event
from . import abi
from .failures import check
from .library import lib
from .tracing import Trace

RecordFields = Tuple[int, ...]

_RECORD = struct.Struct(abi.RECORD_FORMAT)
_END = struct.Struct("@I")
_END_OFFSET = abi.Record.timings_end.offset
_EVENT_SIZE = ctypes.sizeof(abi.Event)
_NO_RETRY = 0xFFFFFFFF
_TIMES_OFFSET = abi.Timings.admitted.offset


# Not ctypes.string_at(), which took a C int before Python 3.13: 2 GiB were a SystemError, and of
# 4 GiB and five bytes five.
_bytes_at = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)


class Lost(Exception):
    """Events that were taken from the queue and could not be read.

    Attributes:
        events: user_data and kind of each.
        error: why.
    """

    def __init__(self, events: List[Tuple[int, int]], error: BaseException) -> None:
        super().__init__(error)
        self.events = events
        self.error = error


# Of a request that is not streamed: nothing is ever put in.
NOTHING: List[Any] = []


class Arrivals:
    """What has arrived for one request and was not yet taken: a part of its Call, which makes it.

    Attributes:
        pool: handle of the pool that the request is of.
        id: of the request, from before anything can arrive; 0: it was not taken by the library.
        key: by which its hub or lane knows it.
        items: of one that is streamed: events of an event stream, else pieces of the body.
        credit: what the items stand for in the stream's window.
        head, done: as soon as they came.
        waiter: a future to be resolved when something arrives (asyncio).
        room: one to be resolved when the library takes more of the upload, or the end came.
        uploader: the task that sends the body (asyncio).
        trace: what llmpool.otel follows the request with, or None.
    """

    __slots__ = (
        "pool", "id", "key", "items", "credit", "head", "done", "waiter", "room", "uploader",
        "last_id", "trace",
    )  # fmt: skip

    pool: int
    id: int
    key: int
    items: List[Any]
    credit: int
    head: Optional[Answer]
    done: Optional[Answer]
    waiter: Any
    room: Any
    uploader: Any
    last_id: str
    trace: Optional[Trace]

    def wake(self) -> None:
        """Wakes whoever waits for something to arrive."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def make_room(self) -> None:
        """Wakes the upload that waits for room."""
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)

    def end(self, done: Answer) -> None:
        """Nothing more comes."""
        self.done = done
        if self.trace is not None:
            self.trace.done(done, self.head, self.id)
        self.make_room()
        self.wake()


# None: nobody wants it any more, and its DONE has not come yet.
Waiting = Dict[int, Optional[Arrivals]]


class Reader:
    """Takes a queue's events as flat records, many in one call."""

    __slots__ = (
        "queue", "_records", "_record_view", "_capacity", "_bytes_view", "_bytes", "_size",
    )  # fmt: skip

    def __init__(self, queue: Optional[int], capacity: int, size: int) -> None:
        self.queue = queue
        self._capacity = capacity
        self._records = (abi.Record * capacity)()
        self._record_view = memoryview(self._records).cast("B")
        self._size = size
        buffer = bytearray(size)  # pages that are never used are never touched
        self._bytes_view = memoryview(buffer)
        self._bytes = ctypes.addressof((ctypes.c_char * size).from_buffer(buffer))

    def deliver(self, waiting: Waiting) -> bool:
        """Takes what is there to those who wait for it; whether there may be more.

        What fails on the way with one event ends its request with that error: the event is lost,
        and nobody could tell whoever waits for it. An exception means that the queue is of no use.
        """
        try:
            records, blob, more = self.read()
        except Lost as lost:
            for key, kind in lost.events:
                fail(waiting, key, lost.error, kind == abi.EVENT_DONE)
            return True
        try:
            dispatch(records, blob, waiting)
        except BaseException:  # Ctrl-C: what is left of the records is not to be lost
            dispatch(records, blob, waiting)
            raise
        return more

    def read(self) -> Tuple[Iterable[RecordFields], bytes, bool]:
        """Records, the bytes that they point into, and whether more may be waiting.

        Raises:
            Lost: events were taken, but there was no memory to copy them, or the like.
        """
        count = lib.queue_read(
            self.queue, self._records, _RECORD.size, self._capacity, self._bytes, self._size
        )
        if count <= 0:
            if count == 0:
                return (), b"", False
            if count == abi.E_TOO_LARGE:
                return (*self._read_large(), True)
            check(count)
        try:
            raw = bytes(self._record_view[: count * _RECORD.size])
            (used,) = _END.unpack_from(raw, (count - 1) * _RECORD.size + _END_OFFSET)
            blob = bytes(self._bytes_view[:used])
            # Not over a view: CPython crashes where its collector finds one that is being unpacked,
            # as in the frames of an exception.
            return _RECORD.iter_unpack(raw), blob, count == self._capacity
        except BaseException as error:
            raise Lost([(r.user_data, r.kind) for r in self._records[:count]], error) from error

    def _read_large(self) -> Tuple[List[RecordFields], bytes]:
        """One event that is larger than the buffer, as a record too.

        The library says how large a buffer it wants, but a record cannot describe 4 GiB, and an
        answer may have more: drained it is read whatever its size, so that this is the one way.
        """
        event = abi.Event()
        ref = ctypes.byref(event)
        if lib.queue_drain_fast(self.queue, ref, _EVENT_SIZE, 1, 0) != 1:
            return [], b""
        try:
            return _flatten(event)
        except BaseException as error:
            raise Lost([(event.user_data, event.kind)], error) from error
        finally:
            lib.events_release(ref, _EVENT_SIZE, 1)


def _flatten(event: Any) -> Tuple[List[RecordFields], bytes]:
    def part(pointer: Any, size: int) -> bytes:
        return _bytes_at(pointer, size) if size else b""

    kind = part(event.sse_event, event.sse_event_size)
    text = b""
    if event.message:
        text = event.message + b"\0"
    elif event.kind in (abi.EVENT_HEAD, abi.EVENT_DONE):
        text = (event.reason or b"") + b"\0" + (event.peer or b"") + b"\0"
    times = b""
    if event.timings:
        times = _bytes_at(ctypes.addressof(event.timings.contents) + _TIMES_OFFSET, TIMES_SIZE)
    flags = event.flags
    if event.kind == abi.EVENT_SSE and not event.sse_id_size:
        flags |= abi.EVENT_ID_RESET
    parts = [
        part(event.data, event.data_size),
        part(event.headers, event.headers_size),
        b"" if kind == b"message" else kind,
        part(event.sse_id, event.sse_id_size),
        text,
        times,
    ]
    ends = []
    end = 0
    for piece in parts:
        end += len(piece)
        ends.append(end)
    record = (
        event.user_data, event.kind, flags, event.status, event.http_status,
        event.http_version, event.attempts, event.credit, event.notice, 0, *ends,
        event.sse_retry_ms, event.connection_id, event.sse_count,
    )  # fmt: skip
    return [record], b"".join(parts)


def dispatch(
    records: Iterable[RecordFields],
    blob: bytes,
    waiting: Waiting,
    # Bound here: this loop runs once for each token of each stream.
    event_class: Any = Event,
    new: Any = tuple.__new__,
    intern: Any = intern,
) -> None:
    """Gives each record to the call of its request, and wakes who waits for it.

    Called again after an exception it goes on behind the record that was at hand.
    """
    get = waiting.get
    for record in records:
        (
            key, kind, flags, _, _, _, _, credit, _, begin, data_end, headers_end, event_end,
            id_end, _, _, retry, _, count,
        ) = record  # fmt: skip
        try:
            call = get(key)
            if call is None:  # nobody wants it any more
                if kind == 4:
                    waiting.pop(key, None)
                continue
            if kind == 3:  # SSE
                if count > 1:  # joined
                    texts = str(blob[begin:data_end], "utf-8", "replace").split("\r")
                    fields = zip(repeat("message"), texts, repeat(call.last_id), repeat(None))
                    call.items += map(new, repeat(event_class), fields)
                else:
                    if id_end != event_end:
                        call.last_id = str(blob[event_end:id_end], "utf-8", "replace")
                    elif flags & 4:  # ID_RESET
                        call.last_id = ""
                    name = "message"
                    if event_end != headers_end:
                        name = intern(str(blob[headers_end:event_end], "utf-8", "replace"))
                    data = str(blob[begin:data_end], "utf-8", "replace")
                    again = None if retry == _NO_RETRY else retry
                    call.items.append(new(event_class, (name, data, call.last_id, again)))
                call.credit += credit
            elif kind == 4:  # DONE
                call.done = answer_of(record, blob)
                waiting.pop(key, None)
                if call.trace is not None:
                    call.trace.done(call.done, call.head, call.id)
                if call.room is not None:
                    call.make_room()
            elif kind == 2:  # DATA
                call.items.append(blob[begin:data_end])
                call.credit += credit
            elif kind == 6:  # WRITABLE
                call.make_room()
                continue
            else:
                call.head = answer_of(record, blob)
            waiter = call.waiter
            if waiter is not None:
                call.waiter = None
                if not waiter.done():
                    waiter.set_result(None)
        except BaseException as error:
            # Its request ends with it, Ctrl-C too; where there is none, whoever reads is told.
            if not fail(waiting, key, error, kind == 4) and not isinstance(error, Exception):
                raise


def fail(waiting: Waiting, key: int, error: BaseException, is_over: bool = False) -> bool:
    """Ends a request with what went wrong on this side of the library; whether anybody is told.

    Args:
        is_over: its DONE has come.
    """
    call = waiting.get(key)
    if is_over:
        waiting.pop(key, None)
    if call is None:
        return False
    if not is_over:
        waiting[key] = None  # until its DONE comes
        lib.cancel(call.pool, call.id)
    call.end(Answer.of(status=abi.E_INTERNAL, error=error))
    return True


def answer_of(record: RecordFields, blob: bytes, new: Any = tuple.__new__) -> Answer:
    """What a HEAD or DONE record says."""
    data_end = record[DATA_END]
    data, rest = blob[record[BEGIN] : data_end], blob[data_end : record[TIMES_END]]
    answer: Answer = new(Answer, (record, data, rest, None))
    return answer
