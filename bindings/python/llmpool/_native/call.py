"""Requests as they are handed to the library."""

import ctypes
from ctypes import c_uint64
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union

from .._http.answer import Answer
from .._http.config import Timeout
from .._http.models import Request
from . import abi, tracing
from .failures import request_failed, submit_refused
from .library import lib
from .record import NOTHING, Arrivals

if TYPE_CHECKING:
    from .._http.budgets import Meter

# Of these the library says that they have no body, where they have none (RFC 9110, 8.6).
EXPECT_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))

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


class Call(Arrivals):
    """A request, ready to submit, and then what has arrived for it. It is submitted once; for
    another time there is fresh().

    Attributes:
        upload: what the body comes from piece by piece, or None where body has it.
        timeout: values in the order of Timeout.NAMES.
        flags: of llmpool_request_t.
        options: values in the order of OPTIONS.
        limit: max_response_bytes.
        redirected_by: the request whose answer named this URL, or None.
        meter: reads from the answer what the request took of its budget, or None.
        trace: of a request that follows a redirect, and is not sent yet, that of the one before.
    """

    __slots__ = (
        "method", "url", "block", "body", "upload", "timeout", "flags", "options", "limit",
        "redirected_by", "meter", "_request",
    )  # fmt: skip

    def __init__(
        self,
        pool: int,
        method: bytes,
        url: bytes,
        block: bytes,
        body: Optional[bytes],
        timeout: Tuple[int, ...],
        options: Options = NO_OPTIONS,
        limit: int = 0,
        flags: int = 0,
    ) -> None:
        self.pool = pool
        self.id = self.key = self.credit = 0
        self.items = NOTHING
        self.head = self.done = self.trace = None
        self.waiter = self.room = self.uploader = None
        self.last_id = ""
        self.upload: Any = None
        self.flags = flags
        self.redirected_by: Optional[Request] = None
        self.meter: Optional[Meter] = None
        self._request: Optional[Request] = None
        self.method = method
        self.url = url
        self.block = block
        self.body = body
        self.timeout = timeout
        self.options = options
        self.limit = limit

    @property
    def request(self) -> Request:
        """As responses and exceptions have it."""
        if self._request is None:
            self._request = Request(
                self.method.decode("latin-1"), self.url.decode("latin-1"), self.block, self.body
            )
        return self._request

    def fresh(self) -> "Call":
        """This call, or another of the same request where it was submitted before."""
        return self.again() if self.id else self

    def again(self) -> "Call":
        """The same request, to be submitted once more."""
        made = self.__class__.__new__(self.__class__)
        Call.__init__(
            made, self.pool, self.method, self.url, self.block, self.body, self.timeout,
            self.options, self.limit, self.flags,
        )  # fmt: skip
        made.upload = self.upload
        made.redirected_by = self.redirected_by
        made.meter = self.meter
        made._request = self._request
        return made

    def release(self) -> None:
        """It is over: whoever keeps its response does not keep what sent it."""
        self.upload = self.uploader = self.trace = self.meter = None

    def settle(self, headers: bytes = b"") -> None:
        """Says what the request took of its budget, once, where the answer did."""
        meter, self.meter = self.meter, None
        taken = None if meter is None else meter.read(headers)
        if taken is not None:
            lib.budget_settle(self.pool, self.id, *taken)

    def settle_whole(self) -> None:
        """The same of an answer that is not streamed, once it has come."""
        answer = self.done
        if self.meter is not None and answer is not None and not answer.status:
            self.meter.note([answer.data], answer.headers)
            self.settle(answer.headers)

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
        "_struct", "_ref", "_cell", "_method", "_url", "_block", "_timeout", "_flags", "_options",
        "_limit",
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
        self._limit = 0
        # The library writes the id here before anything can be read.
        self._cell = c_uint64()

    def submit(self, call: Call, flags: int, queue: Optional[int]) -> int:
        """The status; the call has its id, whatever interrupts this."""
        if call.id:
            raise RuntimeError("a call is submitted once: what has arrived for it is there")
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
        if self._limit != call.limit:
            struct.max_response_bytes = self._limit = call.limit
        struct.user_data = call.key
        body = call.body
        cell = self._cell
        cell.value = 0
        try:
            if body is None:
                struct.body_size = 0
                return lib.submit(call.pool, self._ref, queue, cell)
            struct.body = body
            struct.body_size = len(body)
            return lib.submit(call.pool, self._ref, queue, cell)
        finally:  # Ctrl-C may come when it is submitted
            call.id = cell.value
            if body is not None:
                struct.body = None  # the library has its copy; do not keep a large one alive
            if _submitted is not None and call.id:
                _submitted(call.id)


def write(call: Call, piece: Union[bytes, memoryview], last: bool) -> int:
    """Hands a piece of an upload over: 1 taken, 0 not now, -1 nobody wants it any more."""
    status = lib.write(call.pool, call.id, bytes(piece), len(piece), last)
    if status == abi.OK:
        return 1
    if status == abi.E_AGAIN:
        return 0
    if status in (abi.E_NOT_FOUND, abi.E_CLOSED):
        return -1  # its DONE says why
    raise submit_refused(status, call.request)
