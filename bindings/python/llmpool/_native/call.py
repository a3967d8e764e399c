"""Requests as they are handed to the library."""

import ctypes
from ctypes import c_uint64
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union

from .._http.config import Timeout
from .._http.models import Request
from . import abi, tracing
from .failures import request_failed, submit_refused
from .library import lib
from .record import Answer, Sink

if TYPE_CHECKING:
    from .._http.budgets import Meter

STREAM_FLAGS = abi.REQUEST_STREAM | abi.REQUEST_MANUAL_CREDIT
SSE_FLAGS = abi.REQUEST_SSE | abi.REQUEST_SSE_JOIN | abi.REQUEST_MANUAL_CREDIT

# Of a streamed answer that is an error so much of the body is awaited, so long (seconds), before
# the application has it: usually it comes with the head.
ERROR_BYTES = 32 << 10
ERROR_WAIT = 0.25


# Fields of llmpool_request_t that most requests leave at 0, as a request's options.
OPTIONS = (
    "priority", "max_retries", "retry_after_max_ms", "hedge_after_ms", "server_name", "budget",
    "input_cost", "output_cost",
)  # fmt: skip
# The name of a budget, input_cost and output_cost.
Spent = Tuple[Optional[bytes], int, int]
NO_SPENDING: Spent = (None, 0, 0)
Options = Tuple[int, int, int, int, Optional[bytes], Optional[bytes], int, int]
_RANGES = {"priority": (-0x80000000, 0x7FFFFFFF)}
NO_OPTIONS: Options = (0, 0, 0, 0, None, *NO_SPENDING)
_TIMEOUTS = tuple(f"{name}_timeout_ms" for name in Timeout.NAMES)


class Call:
    """A request, ready to submit.

    Attributes:
        upload: what the body comes from piece by piece, or None where body has it.
        timeout: values in the order of Timeout.NAMES.
        flags: of llmpool_request_t.
        options: values in the order of OPTIONS.
        limit: max_response_bytes.
        redirected_by: the request whose answer named this URL, or None.
        meter: reads from the answer what the request took of its budget, or None.
        trace: what llmpool.otel follows it with, or None. Of a request that follows a redirect, and
            is not sent yet, that of the one before.
    """

    __slots__ = (
        "pool", "method", "url", "block", "body", "upload", "timeout", "flags", "options",
        "limit", "request", "redirected_by", "meter", "trace",
    )  # fmt: skip

    def __init__(
        self,
        pool: int,
        method: bytes,
        url: bytes,
        block: bytes,
        body: Optional[bytes],
        upload: Any,
        timeout: Tuple[int, ...],
        options: Options,
        limit: int,
        request: Request,
        flags: int = 0,
    ) -> None:
        self.pool = pool
        self.method = method
        self.url = url
        self.block = block
        self.body = body
        self.upload = upload
        self.timeout = timeout
        self.flags = flags if upload is None else flags | abi.REQUEST_UPLOAD
        if options[0] != 0 or options[0].__class__ is not int:
            check_range("priority", options[0])
        self.options = options
        self.limit = limit
        self.request = request
        self.redirected_by: Optional[Request] = None
        self.meter: Optional[Meter] = None
        self.trace: Optional[tracing.Trace] = None

    def settle(self, key: int, headers: bytes = b"") -> None:
        """Says what the request took of its budget, once, where the answer did."""
        meter, self.meter = self.meter, None
        taken = None if meter is None else meter.read(headers)
        if taken is not None:
            lib.budget_settle(self.pool, key, *taken)

    def settle_whole(self, key: int, answer: Answer) -> None:
        """The same of an answer that is not streamed, and complete."""
        if self.meter is not None:
            self.meter.note([answer.data], answer.headers)
            self.settle(key, answer.headers)

    def __reduce__(self) -> Any:
        raise TypeError("a request that is to be sent from this process cannot be pickled")


def check_range(name: str, value: int) -> None:
    """Refuses what an option of a request cannot be."""
    least, most = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is from {least} to {most}, not {value}")


def failure(answer: Answer, request: Request, head: bytes = b"") -> BaseException:
    """The exception for a DONE whose status is not OK.

    Args:
        head: the header lines of an answer that had begun.
    """
    if answer.error is not None:
        return answer.error
    message = answer.message.decode("utf-8", "replace")
    unseen = bool(answer.flags & abi.EVENT_UNSEEN)
    return request_failed(answer.status, message, request, unseen, head)


_submitted: Optional[Callable[[int], None]] = None


def tell_submitted(function: Optional[Callable[[int], None]]) -> None:
    """Has the function told the id of each request that is submitted from now on; None: ends it."""
    global _submitted
    _submitted = function


class RequestStruct:
    """A request struct that is patched from call to call rather than filled anew.

    A struct field costs a tenth of a microsecond, and most are as in the call before.
    """

    __slots__ = (
        "_struct", "_ref", "_method", "_url", "_block", "_timeout", "_flags", "_options",
    )  # fmt: skip

    def __init__(self) -> None:
        self._struct = abi.Request()
        self._struct.size = ctypes.sizeof(abi.Request)
        self._ref = ctypes.byref(self._struct)
        self._method: Optional[bytes] = None
        self._url: Optional[bytes] = None
        self._block: Optional[bytes] = None
        self._timeout: Tuple[int, ...] = (0,) * len(_TIMEOUTS)
        self._flags = 0
        self._options: Options = NO_OPTIONS

    def submit(self, call: Call, flags: int, key: int, queue: Optional[int], cell: c_uint64) -> int:
        """The status; the library writes the id to the cell before an event can be read."""
        if tracing.begin is not None:
            tracing.begin(call)
        struct = self._struct
        if self._method is not call.method:
            struct.method = self._method = call.method
        if self._url is not call.url:
            struct.url = self._url = call.url
        if self._block is not call.block:
            struct.headers = self._block = call.block
            struct.headers_size = len(call.block)
        if self._timeout is not call.timeout:
            for name, value in zip(_TIMEOUTS, call.timeout):
                setattr(struct, name, value)
            self._timeout = call.timeout  # last: Ctrl-C may come in between
        if self._flags != flags:
            struct.flags = self._flags = flags
        if self._options is not call.options and self._options != call.options:
            for name, option in zip(OPTIONS, call.options):
                setattr(struct, name, option)
            self._options = call.options
        struct.max_response_bytes = call.limit
        struct.user_data = key
        body = call.body
        if body is None:
            struct.body_size = 0
            status = lib.submit(call.pool, self._ref, queue, cell)
        else:
            struct.body = body
            struct.body_size = len(body)
            status = lib.submit(call.pool, self._ref, queue, cell)
            struct.body = None  # the library has its copy; do not keep a large one alive
        if _submitted is not None and not status:
            _submitted(cell.value)
        return status


def write(sink: Sink, piece: Union[bytes, memoryview], last: bool, call: Call) -> int:
    """Hands a piece of an upload over: 1 taken, 0 not now, -1 nobody wants it any more."""
    status = lib.write(sink.pool, sink.cell.value, bytes(piece), len(piece), last)
    if status == abi.OK:
        return 1
    if status == abi.E_AGAIN:
        return 0
    if status in (abi.E_NOT_FOUND, abi.E_CLOSED):
        return -1  # its DONE says why
    raise submit_refused(status, call.request)
