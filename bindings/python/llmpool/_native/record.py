"""What comes back: a queue's events as flat records, sorted by request."""

import ctypes
import struct
from ctypes import c_uint64, string_at
from sys import intern
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .._http.sse import Event
from . import abi
from .failures import check
from .library import lib

RecordFields = Tuple[int, ...]

_RECORD = struct.Struct(abi.RECORD_FORMAT)
_END = struct.Struct("@I")
_END_OFFSET = abi.Record.timings_end.offset
_EVENT_SIZE = ctypes.sizeof(abi.Event)
_NO_RETRY = 0xFFFFFFFF
_TIMES_OFFSET = abi.Timings.admitted.offset
TIMES_SIZE = struct.calcsize(abi.TIMINGS_FORMAT)


class Answer(NamedTuple):
    """A HEAD or DONE event as far as a response needs it."""

    http_status: int
    http_version: int
    attempts: int
    flags: int
    data: bytes
    headers: bytes
    reason: bytes
    peer: bytes
    connection_id: int
    timings: bytes
    status: int = 0
    message: bytes = b""


class Sink:
    """What has arrived for one request and was not yet taken.

    Attributes:
        items: events of an event stream, else pieces of the body.
        credit: what the items stand for in the stream's window.
        head, done: as soon as they came.
        writable: the library takes more of an upload.
        waiter: a future to be resolved when something arrives (asyncio).
        cell: has the request's id from before anything can arrive.
    """

    __slots__ = (
        "items", "credit", "head", "done", "writable", "waiter", "cell", "pool", "key", "last_id",
    )  # fmt: skip

    def __init__(self, pool: int, key: int) -> None:
        self.items: List[Any] = []
        self.credit = 0
        self.head: Optional[Answer] = None
        self.done: Optional[Answer] = None
        self.writable = False
        self.waiter: Any = None
        self.cell = c_uint64()
        self.pool = pool
        self.key = key
        self.last_id = ""


Sinks = Dict[int, Optional[Sink]]


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

    def read(self) -> Tuple[Iterable[RecordFields], bytes, bool]:
        """Records, the bytes that they point into, and whether more may be waiting."""
        count = lib.queue_read(
            self.queue, self._records, _RECORD.size, self._capacity, self._bytes, self._size
        )
        if count <= 0:
            if count == 0:
                return (), b"", False
            if count == abi.E_TOO_LARGE:
                return (*self._read_large(), True)
            check(count)
        raw = bytes(self._record_view[: count * _RECORD.size])
        (used,) = _END.unpack_from(raw, (count - 1) * _RECORD.size + _END_OFFSET)
        blob = bytes(self._bytes_view[:used])
        # Not over a view: CPython crashes where its collector finds one that is being unpacked, as
        # in the frames of an exception.
        return _RECORD.iter_unpack(raw), blob, count == self._capacity

    def _read_large(self) -> Tuple[List[RecordFields], bytes]:
        """One event that is larger than the buffer, as a record too."""
        event = abi.Event()
        ref = ctypes.byref(event)
        if lib.queue_drain_fast(self.queue, ref, _EVENT_SIZE, 1, 0) != 1:
            return [], b""
        try:
            return _flatten(event)
        finally:
            lib.events_release(ref, _EVENT_SIZE, 1)


def _flatten(event: Any) -> Tuple[List[RecordFields], bytes]:
    def part(pointer: Any, size: int) -> bytes:
        return string_at(pointer, size) if size else b""

    kind = part(event.sse_event, event.sse_event_size)
    text = b""
    if event.message:
        text = event.message + b"\0"
    elif event.kind in (abi.EVENT_HEAD, abi.EVENT_DONE):
        text = (event.reason or b"") + b"\0" + (event.peer or b"") + b"\0"
    times = b""
    if event.timings:
        times = string_at(ctypes.addressof(event.timings.contents) + _TIMES_OFFSET, TIMES_SIZE)
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
    sinks: Sinks,
    # Bound here: this loop runs once for each token of each stream.
    event_class: Any = Event,
    new: Any = tuple.__new__,
    intern: Any = intern,
) -> None:
    """Gives each record to the sink of its request, and wakes who waits for it."""
    get = sinks.get
    for record in records:
        (
            key, kind, flags, _, _, _, _, credit, _, begin, data_end, headers_end, event_end,
            id_end, _, _, retry, _, count,
        ) = record  # fmt: skip
        sink = get(key)
        if sink is None:  # nobody wants it any more
            if kind == 4:
                sinks.pop(key, None)
            continue
        if kind == 3 and count > 1:  # SSE, joined
            last_id = sink.last_id
            sink.items += [
                new(event_class, ("message", data, last_id, None))
                for data in str(blob[begin:data_end], "utf-8", "replace").split("\r")
            ]
            sink.credit += credit
        elif kind == 3:
            if id_end != event_end:
                sink.last_id = str(blob[event_end:id_end], "utf-8", "replace")
            elif flags & 4:  # ID_RESET
                sink.last_id = ""
            name = "message"
            if event_end != headers_end:
                name = intern(str(blob[headers_end:event_end], "utf-8", "replace"))
            data = str(blob[begin:data_end], "utf-8", "replace")
            again = None if retry == _NO_RETRY else retry
            sink.items.append(new(event_class, (name, data, sink.last_id, again)))
            sink.credit += credit
        elif kind == 2:  # DATA
            sink.items.append(blob[begin:data_end])
            sink.credit += credit
        elif kind == 6:  # WRITABLE
            sink.writable = True
        elif kind == 4:  # DONE
            sink.done = answer_of(record, blob)
            sinks.pop(key, None)
        else:
            sink.head = answer_of(record, blob)
        waiter = sink.waiter
        if waiter is not None:
            sink.waiter = None
            if not waiter.done():
                waiter.set_result(None)


def answer_of(record: RecordFields, blob: bytes) -> Answer:
    """What a HEAD or DONE record says."""
    (
        _, kind, flags, status, http_status, version, attempts, _, _, begin, data_end, headers_end,
        _, id_end, text_end, times_end, _, connection_id, _,
    ) = record  # fmt: skip
    reason = peer = message = b""
    text = blob[id_end:text_end].split(b"\0")
    if status:
        message = text[0]
    elif len(text) > 2:
        reason, peer = text[0], text[1]
    times = blob[times_end - TIMES_SIZE : times_end] if kind == 4 else b""
    return Answer(
        http_status, version, attempts, flags, blob[begin:data_end], blob[data_end:headers_end],
        reason, peer, connection_id, times, status, message,
    )  # fmt: skip
