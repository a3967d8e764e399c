"""The exceptions: names and hierarchy as httpx has them, and a few of our own below them.

    HTTPError
      RequestError
        TransportError
          TimeoutException
            ConnectTimeout
            ReadTimeout
              EventTimeout          *
              FirstByteTimeout      *
            WriteTimeout
            PoolTimeout
              QueueFull             *
              BudgetTimeout         *
            TotalTimeout            *
          NetworkError
            ConnectError
              ResolveError          *
              TLSError              *
                CertificateError    *
            ReadError
            WriteError
            CloseError
          ProtocolError
            LocalProtocolError
            RemoteProtocolError
              RefusedStream         *
          ProxyError
          UnsupportedProtocol
          BudgetExceeded        *
          Cancelled                 *
          PoolClosed                *
          ForkedPool                *
          ResponseTooLarge          *
          InternalError             *
        DecodingError
          NotEventStream        *
        TooManyRedirects
      HTTPStatusError
    InvalidURL
    StreamError
      StreamConsumed
      StreamClosed
      ResponseNotRead

(* not in httpx)
"""

from typing import TYPE_CHECKING, Any, Optional, Tuple

from . import portable, secrets
from .later import later

if TYPE_CHECKING:
    from .models import Request, Response
else:
    Request = later("llmpool._http.models", "Request")
    Response = later("llmpool._http.models", "Response")

__all__ = [
    "BudgetExceeded",
    "BudgetTimeout",
    "Cancelled",
    "CertificateError",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "DecodingError",
    "EventTimeout",
    "FirstByteTimeout",
    "ForkedPool",
    "HTTPError",
    "HTTPStatusError",
    "InternalError",
    "InvalidURL",
    "LocalProtocolError",
    "NetworkError",
    "NotEventStream",
    "PoolClosed",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "QueueFull",
    "ReadError",
    "ReadTimeout",
    "RefusedStream",
    "RemoteProtocolError",
    "RequestError",
    "ResolveError",
    "ResponseNotRead",
    "ResponseTooLarge",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TLSError",
    "TimeoutException",
    "TooManyRedirects",
    "TotalTimeout",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
]


class HTTPError(Exception):
    """The base of what can go wrong with a request. Its message shows no credentials.

    Attributes:
        status: the library's name of the error, as "LLMPOOL_E_READ"; "" where Python found it.
        unseen: True where the server provably acted on nothing, so that sending the request
            again is safe even where it costs money.
        request: the request, where there was one.
        request_id: the server's id of it, as x-request-id of its answer; "": none is known.
    """

    # Of llmpool.h, that become this exception and none of those below it.
    _statuses: Tuple[str, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        request: "Optional[Request]" = None,
        status: str = "",
        unseen: bool = False,
        request_id: str = "",
    ) -> None:
        known = request._secrets() if request is not None else ()
        super().__init__(secrets.text(message, known))
        self.request = request
        self.status = status
        self.unseen = unseen
        self.request_id = request_id

    def __reduce__(self) -> Any:
        """Pickled without credentials: see Request and Response."""
        values = dict(self.__dict__)
        response = values.get("response")
        if response is not None:
            values["response"] = response._portable()
        values["request_id"] = secrets.text(self.request_id)
        return portable.restore_error, (type(self), self.args, values)


class RequestError(HTTPError):
    """A request got no answer."""


class TransportError(RequestError):
    """The connection, or the way to it, failed."""


class TimeoutException(TransportError):
    """Something took longer than its timeout."""


class ConnectTimeout(TimeoutException):
    """Connecting (name, TCP, proxy and TLS together) took too long."""

    _statuses = ("E_CONNECT_TIMEOUT",)


class ReadTimeout(TimeoutException):
    """The server fell silent."""

    _statuses = ("E_READ_TIMEOUT",)


class FirstByteTimeout(ReadTimeout):
    """The server did not begin to answer in time."""

    _statuses = ("E_FIRST_BYTE_TIMEOUT",)


class EventTimeout(ReadTimeout):
    """The stream is alive, but for its event timeout no event came that says something."""

    _statuses = ("E_EVENT_TIMEOUT",)


class WriteTimeout(TimeoutException):
    """The server stopped taking the request."""

    _statuses = ("E_WRITE_TIMEOUT",)


class PoolTimeout(TimeoutException):
    """No connection became free in time."""

    _statuses = ("E_POOL_TIMEOUT",)


class QueueFull(PoolTimeout):
    """Too many requests are waiting for a connection already."""

    _statuses = ("E_QUEUE_FULL",)


class BudgetTimeout(PoolTimeout):
    """The request's budget had no room for it in time, or certainly will not have."""

    _statuses = ("E_BUDGET_TIMEOUT",)


class TotalTimeout(TimeoutException):
    """The request took longer than its total time."""

    _statuses = ("E_TOTAL_TIMEOUT",)


class NetworkError(TransportError):
    """A connection could not be made, or was lost."""


class ConnectError(NetworkError):
    """Connection refused or unreachable."""

    _statuses: Tuple[str, ...] = ("E_OUT_OF_MEMORY", "E_CONNECT")


class ResolveError(ConnectError):
    """The host name could not be resolved."""

    _statuses = ("E_RESOLVE",)


class TLSError(ConnectError):
    """The TLS handshake failed."""

    _statuses = ("E_TLS",)


class CertificateError(TLSError):
    """The server's certificate was not accepted."""

    _statuses = ("E_TLS_VERIFY",)


class ReadError(NetworkError):
    """The connection was lost before the answer was complete."""

    _statuses = ("E_READ",)


class WriteError(NetworkError):
    """The connection was lost while sending."""

    _statuses = ("E_WRITE",)


class CloseError(NetworkError):
    """Closing a connection failed. Never raised; here because httpx has it."""


class ProtocolError(TransportError):
    """HTTP was violated."""


class LocalProtocolError(ProtocolError):
    """By this side: a header that may not be sent, for example."""


class RemoteProtocolError(ProtocolError):
    """By the server."""

    _statuses = ("E_PROTOCOL",)


class RefusedStream(RemoteProtocolError):
    """The server refused the request before reading it, also when it was tried again."""

    _statuses = ("E_REFUSED",)


class ProxyError(TransportError):
    """The proxy refused or failed."""

    _statuses = ("E_PROXY",)


class UnsupportedProtocol(TransportError):
    """The URL's scheme, or what was asked of it, is not supported."""

    _statuses = ("E_UNSUPPORTED",)


class BudgetExceeded(TransportError):
    """The request costs more than its budget ever allows."""

    _statuses = ("E_BUDGET",)


class Cancelled(TransportError):
    """The request was cancelled."""

    _statuses = ("E_CANCELLED",)


class PoolClosed(TransportError):
    """The pool is closed."""

    _statuses = ("E_CLOSED",)


class ForkedPool(TransportError):
    """The pool belongs to the parent process: after fork() open a new one."""

    _statuses = ("E_FORKED",)


class ResponseTooLarge(TransportError):
    """The answer is larger than max_response_bytes allows."""

    _statuses = ("E_TOO_LARGE",)


class InternalError(TransportError):
    """A bug in llmpool."""

    _statuses = ("E_INTERNAL",)


class DecodingError(RequestError):
    """The answer's body is not what its content-encoding says."""


class NotEventStream(DecodingError):
    """The answer has no server-sent events: it is no 200 of the type text/event-stream."""


class TooManyRedirects(RequestError):
    """More than 20 redirects."""


class HTTPStatusError(HTTPError):
    """The answer's status is not 2xx; raised by Response.raise_for_status()."""

    def __init__(
        self,
        message: str,
        *,
        request: "Request",
        response: "Response",
    ) -> None:
        super().__init__(message, request=request, request_id=response.request_id)
        self.request: Request = request
        self.response = response


class StreamError(RuntimeError):
    """A streamed body was read in a way that it cannot be."""


class StreamConsumed(StreamError):
    """A body was read or sent already, and is not kept."""


class StreamClosed(StreamError):
    """The response was closed."""


class ResponseNotRead(StreamError):
    """The content of a streamed response was asked for before it was read."""


class InvalidURL(Exception):
    """The URL cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(secrets.text(message))
