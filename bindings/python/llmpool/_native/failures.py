"""A status of the library as an exception."""

from typing import Dict, Iterator, Optional, Type

from .._http import secrets
from .._http.exceptions import (
    HTTPError,
    InvalidURL,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from .._http.headers import Headers
from .._http.models import Request
from . import abi
from .library import last_error


def _kinds(kind: Type[HTTPError]) -> Iterator[Type[HTTPError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


BY_STATUS: Dict[int, Type[HTTPError]] = {
    getattr(abi, status): kind
    for kind in _kinds(HTTPError)
    for status in vars(kind).get("_statuses", ())
}


def request_failed(
    status: int, message: str, request: Optional[Request], unseen: bool, head: bytes = b""
) -> HTTPError:
    """The exception for a request that ended with this status.

    Args:
        head: the header lines of an answer that had begun.
    """
    kind = BY_STATUS.get(status, TransportError)
    text = message or abi.STATUS_MESSAGES.get(status, f"status {status}")
    name = abi.STATUS_NAMES.get(status, str(status))
    if not head:
        return kind(text, request=request, status=name, unseen=unseen)
    from .._http.explain import id_note, request_id

    headers = Headers._parse(head)
    return kind(
        text + id_note(headers), request=request, status=name, unseen=unseen,
        request_id=request_id(headers),
    )  # fmt: skip


def bad_redirect(error: Exception, before: Request) -> RemoteProtocolError:
    """For a URL that a server named: the caller wrote none, so it is no InvalidURL."""
    return RemoteProtocolError(f"redirected to where no request can go: {error}", request=before)


def submit_refused(
    status: int, request: Request, redirected_by: Optional[Request] = None
) -> Exception:
    """The exception for a request that the library did not take: nothing was sent."""
    message = last_error()
    if status == abi.E_INVALID_ARGUMENT:
        if "url" in message.lower():
            error = InvalidURL(message)
            return error if redirected_by is None else bad_redirect(error, redirected_by)
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
