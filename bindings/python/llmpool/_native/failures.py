"""A status of the library as an exception."""

from typing import Dict, Optional, Type

from .._http import secrets
from .._http.exceptions import (
    Cancelled,
    CertificateError,
    ConnectError,
    ConnectTimeout,
    FirstByteTimeout,
    ForkedPool,
    HTTPError,
    InternalError,
    InvalidURL,
    LocalProtocolError,
    PoolClosed,
    PoolTimeout,
    ProxyError,
    QueueFull,
    ReadError,
    ReadTimeout,
    RefusedStream,
    RemoteProtocolError,
    ResolveError,
    ResponseTooLarge,
    TLSError,
    TotalTimeout,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from .._http.models import Request
from . import abi
from .library import last_error

BY_STATUS: Dict[int, Type[HTTPError]] = {
    abi.E_UNSUPPORTED: UnsupportedProtocol,
    abi.E_OUT_OF_MEMORY: ConnectError,
    abi.E_CLOSED: PoolClosed,
    abi.E_FORKED: ForkedPool,
    abi.E_QUEUE_FULL: QueueFull,
    abi.E_POOL_TIMEOUT: PoolTimeout,
    abi.E_CANCELLED: Cancelled,
    abi.E_CONNECT_TIMEOUT: ConnectTimeout,
    abi.E_WRITE_TIMEOUT: WriteTimeout,
    abi.E_FIRST_BYTE_TIMEOUT: FirstByteTimeout,
    abi.E_READ_TIMEOUT: ReadTimeout,
    abi.E_TOTAL_TIMEOUT: TotalTimeout,
    abi.E_RESOLVE: ResolveError,
    abi.E_CONNECT: ConnectError,
    abi.E_PROXY: ProxyError,
    abi.E_TLS: TLSError,
    abi.E_TLS_VERIFY: CertificateError,
    abi.E_WRITE: WriteError,
    abi.E_READ: ReadError,
    abi.E_PROTOCOL: RemoteProtocolError,
    abi.E_TOO_LARGE: ResponseTooLarge,
    abi.E_REFUSED: RefusedStream,
    abi.E_INTERNAL: InternalError,
}


def request_failed(
    status: int, message: str, request: Optional[Request], unseen: bool
) -> HTTPError:
    """The exception for a request that ended with this status."""
    kind = BY_STATUS.get(status, TransportError)
    text = message or abi.STATUS_MESSAGES.get(status, f"status {status}")
    name = abi.STATUS_NAMES.get(status, str(status))
    return kind(text, request=request, status=name, unseen=unseen)


def submit_refused(status: int, request: Request) -> Exception:
    """The exception for a request that the library did not take: nothing was sent."""
    message = last_error()
    if status == abi.E_INVALID_ARGUMENT:
        if "url" in message.lower():
            return InvalidURL(message)
        return LocalProtocolError(
            message, request=request, status=abi.STATUS_NAMES[status], unseen=True
        )
    return request_failed(status, message, request, unseen=True)


def check(status: int) -> None:
    """Raises what fits a failed call that was not a request."""
    if status >= 0:
        return
    message = last_error() or abi.STATUS_MESSAGES.get(status, f"status {status}")
    message = secrets.text(message)
    if status == abi.E_INVALID_ARGUMENT:
        raise ValueError(message)
    if status == abi.E_UNSUPPORTED:
        raise NotImplementedError(message)
    if status == abi.E_OUT_OF_MEMORY:
        raise MemoryError(message)
    if status == abi.E_NOT_FOUND:
        raise KeyError(message)
    raise request_failed(status, message, None, unseen=False)
