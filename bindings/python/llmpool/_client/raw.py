"""Requests and answers as adapters have them: bytes as they are on the wire."""

import sys
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterable,
    Callable,
    Iterable,
    Iterator,
    List,
    NoReturn,
    Optional,
    Set,
    Tuple,
    Union,
)

from .._http.answer import Answer
from .._http.config import AS_POOL, BudgetTypes, RetryTypes, Timeout, as_retry
from .._http.constants import EVENT_REUSED, HTTP_1_0, HTTP_1_1, HTTP_2
from .._http.exceptions import LocalProtocolError
from .._http.headers import Headers
from .._http.later import later
from .._http.raw import RawHeaders, header_lines, header_pairs
from .._native import lane
from .._native.abi import REQUEST_UPLOAD
from .._native.call import EXPECT_CONTENT, NO_OPTIONS, NO_SPENDING, Call, Options, check_range
from .._native.lane import Lane
from .._native.library import lib
from .._native.text import server_name as checked_name
from .._pool import monitor
from .._pool.pool import Pool
from .incoming import LaneIncoming

if TYPE_CHECKING:
    from .._http.timings import Timings
else:
    Timings = later("llmpool._http.timings", "Timings")

# From an exception of the package to what is raised instead, or the same.
Translate = Callable[[Exception], BaseException]
RawBody = Union[bytes, Iterable[bytes], AsyncIterable[bytes], None]

_AS_POOL = Timeout()
_VERSIONS = {HTTP_1_1: b"HTTP/1.1", HTTP_2: b"HTTP/2", HTTP_1_0: b"HTTP/1.0"}
# So much of what has arrived is given as one piece.
_PIECE = 64 << 10
_NO_ITEMS: Iterator[bytes] = iter(())


class RawRequest(Call):
    """A request as an adapter hands it over.

    Args:
        method: as it is sent; case counts.
        url: absolute, http or https; in ASCII, percent-encoded, the host IDNA-encoded. Without
            credentials.
        headers: pairs (name, value) in the order to be sent, duplicates too. A value may have bytes
            beyond ASCII (obs-text of RFC 9110). Host, where there is one, is sent instead of the
            URL's. Content-Length is checked against the body; "Transfer-Encoding: chunked" sends
            it without a length. "Expect: 100-continue" is sent, and nobody waits for the 100.
        body: all of it; or what it comes from piece by piece, an async iterable only for asend().
            Without Content-Length such a body is sent in chunks.
        timeout: see llmpool.Timeout; what it does not say is as the pool has it.
        server_name: for TLS, where it is not the URL's host.
        priority: higher goes first among those waiting for a connection.
        retry: None, False, "status", "sent" or a llmpool.Retry.
        budget: see Client.request().
        translate: is given what goes wrong, in the call or while the answer is iterated, and
            returns what is raised instead.

    Raises:
        LocalProtocolError: a header that cannot be sent; lengths that contradict each other or the
            body.
        UnsupportedProtocol: Upgrade, which a pool does not serve.
    """

    __slots__ = ("translate", "_budget", "_unsent")

    def __init__(
        self,
        method: bytes,
        url: bytes,
        headers: RawHeaders,
        body: RawBody = None,
        *,
        timeout: Timeout = _AS_POOL,
        server_name: Optional[str] = None,
        priority: int = 0,
        retry: RetryTypes = None,
        budget: BudgetTypes = None,
        translate: Optional[Translate] = None,
    ) -> None:
        lines, framing = header_lines(headers)
        whole: Optional[bytes] = None
        upload: Any = None
        if body is None or isinstance(body, bytes):
            size = len(body) if body else 0
            if framing.chunked:
                upload = (body,) if body else ()
            elif framing.length is not None and framing.length != size:
                raise LocalProtocolError(
                    f"Content-Length says {framing.length} bytes, but the body has {size}"
                )
            elif size:
                whole = body
            elif framing.length == 0 and method not in EXPECT_CONTENT:
                upload = ()
                lines.append(b"content-length: 0\r\n")
        else:
            upload = body
            if framing.length is not None and not framing.chunked:
                lines.append(b"content-length: %d\r\n" % framing.length)
        options: Options = NO_OPTIONS
        flags = 0
        if retry is not None or priority or server_name is not None:
            again = AS_POOL if retry is None else as_retry(retry)
            flags = again._flags
            check_range("priority", priority)
            fields = again._fields if upload is None else again._unhedged
            options = (priority, *fields, checked_name(server_name), *NO_SPENDING)
        super().__init__(0, method, url, b"".join(lines), whole, timeout._fields, options, 0, flags)
        if upload is not None:
            self.upload = upload
            self.flags |= REQUEST_UPLOAD
        self.translate = translate
        self._budget = budget
        self._unsent = [True]  # whoever takes it out sends this one: several threads may

    def fresh(self) -> "RawRequest":
        """This request, or another of the same where it was sent before."""
        try:
            self._unsent.pop()
            return self
        except IndexError:
            return self.again()

    def again(self) -> "RawRequest":
        made = super().again()
        assert isinstance(made, RawRequest)
        made.translate = self.translate
        made._budget = self._budget
        made._unsent = []
        return made

    def on(self, pool: Pool) -> None:
        """It is about to be sent there."""
        if pool._watched is not monitor.watching:
            monitor.watch(pool)
        self.pool = pool._handle
        if self._budget is not None:
            from .._pool.budgets import spend

            spend(self, self._budget)


class Group:
    """Requests that can be ended together: those of one transport."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: Set[Call] = set()

    def __len__(self) -> int:
        """How many are in flight."""
        return len(self._calls)

    def cancel(self) -> None:
        """Ends those in flight, whoever waits for them: there it is llmpool.Cancelled."""
        for call in list(self._calls):
            if call.done is None:
                lib.cancel(call.pool, call.id)


class BaseRawResponse:
    """The answer to a RawRequest: its head is there, its body on the way.

    Attributes:
        status: 100 and the like are not seen here.
        http_version: b"HTTP/1.1", b"HTTP/2" or b"HTTP/1.0".
        reason: as it was sent; b"" over HTTP/2.
        block: the lines of its headers.
    """

    __slots__ = (
        "status", "http_version", "reason", "block", "_headers",
        "_call", "_group", "_items", "_owed", "_lent", "_closed", "__weakref__",
    )  # fmt: skip

    def __init__(self, call: RawRequest, group: Optional[Group]) -> None:
        head = call.head
        assert head is not None
        self.status: int = head.http_status
        self.http_version: bytes = _VERSIONS.get(head.http_version, b"HTTP/1.1")
        self.block, self.reason = head.head()
        self._headers: Optional[List[Tuple[bytes, bytes]]] = None
        self._call: Call = call
        self._group = group
        # An iterator, which is where it stopped when it is asked again.
        self._items: Iterator[bytes] = _NO_ITEMS
        self._owed = self._lent = 0
        self._closed = False
        if group is not None and call.done is not None:
            group._calls.discard(call)

    @property
    def headers(self) -> List[Tuple[bytes, bytes]]:
        """Pairs (name, value) in their order; names in the case they were sent in."""
        if self._headers is None:
            self._headers = header_pairs(self.block)
        return self._headers

    @property
    def _latest(self) -> Answer:
        answer = self._call.done or self._call.head
        assert answer is not None
        return answer

    @property
    def timings(self) -> "Timings":
        """When each step was done; all None before the end has come."""
        from .._http.timings import timings_of

        return timings_of(self._call.done.timings if self._call.done is not None else b"")

    @property
    def attempts(self) -> int:
        """How often it was sent."""
        return self._latest.attempts

    @property
    def request_id(self) -> str:
        """The server's id of the request, as x-request-id; "": the answer has none."""
        from .._http.explain import request_id

        head = self._call.head
        return "" if head is None else request_id(Headers._parse(head.headers))

    @property
    def reused(self) -> bool:
        """Whether a connection that was open already carried it."""
        head = self._call.head
        return head is not None and bool(head.flags & EVENT_REUSED)

    @property
    def peer(self) -> str:
        """ "192.0.2.1:443", the proxy's where there is one."""
        head = self._call.head
        return "" if head is None else head.peer.decode("ascii", "replace")

    @property
    def connection_id(self) -> int:
        """The same for all that one connection carried."""
        return self._latest.connection_id

    def _keep(self, batch: List[bytes]) -> None:
        """What the iteration goes on with: small pieces that came together are one."""
        if len(batch) > 1 and self._lent <= _PIECE:
            batch = [b"".join(batch)]
        self._items = iter(batch)

    def _left(self) -> None:
        if self._group is not None:
            self._group._calls.discard(self._call)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


def raise_translated(request: Call, error: Exception) -> NoReturn:
    """Raises what the adapter makes of it."""
    if isinstance(request, RawRequest) and request.translate is not None:
        other = request.translate(error)
        if other is not error:
            raise other from error
    raise error


class RawResponse(LaneIncoming, BaseRawResponse):
    """An answer that a thread reads: iterate over it for the bytes of its body.

    They are the server's own, content-encoding and all. An iteration that was left goes on where
    it stopped when another begins. One thread at a time may iterate; any may close.

    Raises, while it is iterated: TransportError and its subclasses, where the answer ends before it
    is complete; StreamClosed, after close().
    """

    __slots__ = ("_lane",)

    def __init__(self, call: RawRequest, lane: Lane, group: Optional[Group] = None) -> None:
        super().__init__(call, group)
        self._lane: List[Lane] = [lane]
        if call.done is not None:
            self._leave()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield from self._items
            try:
                batch = self._take()
                if batch is None:
                    return
                if batch:
                    self._keep(batch)
                    continue
                self._wait()
            except Exception as error:
                raise_translated(self._call, error)
            finally:
                if self._closed:  # by another thread, while this one had the lane
                    self._leave()

    def read(self) -> bytes:
        """What the iteration has not given yet, to the end, in one piece."""
        pieces = list(self)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Gives the answer up where it is not at its end: the request is cancelled. Twice does
        nothing."""
        self._closed = True
        self._settle()
        self._left()
        self._leave()

    def _ended(self) -> None:
        self._left()
        self._leave()

    def __enter__(self) -> "RawResponse":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, is_exiting: Any = sys.is_finalizing) -> None:
        lanes = getattr(self, "_lane", None)
        if lanes and not is_exiting():
            self._left()
            # Not end(), which waits: this may be any thread, at any moment.
            lanes.pop().close()


def send(pool: Pool, request: RawRequest, group: Optional[Group] = None) -> RawResponse:
    """Sends a request and waits for the head of its answer.

    Args:
        group: has the request until it is over.

    Raises:
        TransportError: its subclasses say what went wrong.
        InvalidURL: the URL cannot be used.
    """
    calls = None if group is None else group._calls
    request = request.fresh()
    try:
        request.on(pool)
        borrowed = lane.start(request, False, False, calls)
    except Exception as error:
        raise_translated(request, error)
    return RawResponse(request, borrowed, group)


__all__ = ["BaseRawResponse", "Group", "RawBody", "RawHeaders", "RawRequest", "RawResponse", "send"]
