"""The exceptions: names and hierarchy as httpx has them, and a few of our own below them.

    HTTPError
      RequestError
        TransportError
          TimeoutException
            ConnectTimeout
            ReadTimeout
              FirstByteTimeout      *
            WriteTimeout
            PoolTimeout
              QueueFull             *
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
          Cancelled                 *
          PoolClosed                *
          ForkedPool                *
          ResponseTooLarge          *
          InternalError             *
        DecodingError
        TooManyRedirects
      HTTPStatusError
    InvalidURL
    StreamError
      StreamConsumed
      StreamClosed
      ResponseNotRead

(* not in httpx)
"""

from typing import TYPE_CHECKING, Optional

from . import secrets

if TYPE_CHECKING:
    from .models import Request, Response


class HTTPError(Exception):
    """The base of what can go wrong with a request. Its message shows no credentials.

    Attributes:
        status: the library's name of the error, as "LLMPOOL_E_READ"; "" where Python found it.
        unseen: True where the server provably acted on nothing, so that sending the request
            again is safe even where it costs money.
        request: the request, where there was one.
    """

    def __init__(
        self,
        message: str,
        *,
        request: "Optional[Request]" = None,
        status: str = "",
        unseen: bool = False,
    ) -> None:
        known = request._secrets() if request is not None else ()
        super().__init__(secrets.text(message, known))
        self.request = request
        self.status = status
        self.unseen = unseen


class RequestError(HTTPError):
    """A request got no answer."""


class TransportError(RequestError):
    """The connection, or the way to it, failed."""


class TimeoutException(TransportError):
    """Something took longer than its timeout."""


class ConnectTimeout(TimeoutException):
    """Connecting (name, TCP, proxy and TLS together) took too long."""


class ReadTimeout(TimeoutException):
    """The server fell silent."""


class FirstByteTimeout(ReadTimeout):
    """The server did not begin to answer in time."""


class WriteTimeout(TimeoutException):
    """The server stopped taking the request."""


class PoolTimeout(TimeoutException):
    """No connection became free in time."""


class QueueFull(PoolTimeout):
    """Too many requests are waiting for a connection already."""


class TotalTimeout(TimeoutException):
    """The request took longer than its total time."""


class NetworkError(TransportError):
    """A connection could not be made, or was lost."""


class ConnectError(NetworkError):
    """Connection refused or unreachable."""


class ResolveError(ConnectError):
    """The host name could not be resolved."""


class TLSError(ConnectError):
    """The TLS handshake failed."""


class CertificateError(TLSError):
    """The server's certificate was not accepted."""


class ReadError(NetworkError):
    """The connection was lost before the answer was complete."""


class WriteError(NetworkError):
    """The connection was lost while sending."""


class CloseError(NetworkError):
    """Closing a connection failed. Never raised; here because httpx has it."""


class ProtocolError(TransportError):
    """HTTP was violated."""


class LocalProtocolError(ProtocolError):
    """By this side: a header that may not be sent, for example."""


class RemoteProtocolError(ProtocolError):
    """By the server."""


class RefusedStream(RemoteProtocolError):
    """The server refused the request before reading it, also when it was tried again."""


class ProxyError(TransportError):
    """The proxy refused or failed."""


class UnsupportedProtocol(TransportError):
    """The URL's scheme, or what was asked of it, is not supported."""


class Cancelled(TransportError):
    """The request was cancelled."""


class PoolClosed(TransportError):
    """The pool is closed."""


class ForkedPool(TransportError):
    """The pool belongs to the parent process: after fork() open a new one."""


class ResponseTooLarge(TransportError):
    """The answer is larger than max_response_bytes allows."""


class InternalError(TransportError):
    """A bug in llmpool."""


class DecodingError(RequestError):
    """The answer's body is not what its content-encoding says."""


class TooManyRedirects(RequestError):
    """More than 20 redirects."""


class HTTPStatusError(HTTPError):
    """The answer's status is not 2xx; raised by Response.raise_for_status()."""

    def __init__(
        self,
        message: str,
        *,
        request: "Optional[Request]" = None,
        response: "Optional[Response]" = None,
    ) -> None:
        super().__init__(message, request=request)
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
