"""What an adapter needs to put another HTTP library on a pool: requests and answers as bytes.

    from llmpool import transport

    request = transport.RawRequest(
        b"POST", b"https://api.example.com/v1", [(b"Content-Type", b"application/json")], b"{}",
        timeout=llmpool.Timeout(connect=5, read=600, write=10, pool=10),
    )
    response = transport.send(llmpool.shared(), request)
    try:
        response.status, response.http_version, response.reason, response.headers
        for piece in response:
            ...
    finally:
        response.close()

The adapters for httpx are made of it. Nothing is retried by status, followed, decoded or kept as a
cookie here: that stays with the library above. What the server provably has not seen is sent again,
as always; with retry=NO_REDIAL what cannot be connected to is an error at once. Errors are the
package's own, from send() and from the iteration.
"""

from types import FunctionType
from typing import TYPE_CHECKING, Any, List

from ._client.raw import (
    BaseRawResponse,
    Group,
    RawBody,
    RawHeaders,
    RawRequest,
    RawResponse,
    Translate,
    send,
)
from ._http.config import NO_REDIAL
from ._http.options import NONE_GIVEN, RequestOptions, current_options
from ._pool.trust import Cert, Verify, is_default, note
from ._pool.ways import Lease, Way, lease, way

if TYPE_CHECKING:
    from ._client.async_raw import AsyncRawResponse, asend

__all__ = [
    "NONE_GIVEN",
    "NO_REDIAL",
    "AsyncRawResponse",
    "BaseRawResponse",
    "Cert",
    "Group",
    "Lease",
    "RawBody",
    "RawHeaders",
    "RawRequest",
    "RawResponse",
    "RequestOptions",
    "Translate",
    "Verify",
    "Way",
    "asend",
    "current_options",
    "is_default",
    "lease",
    "note",
    "send",
    "way",
]

for _name in __all__:
    if isinstance(globals().get(_name), (type, FunctionType)):
        globals()[_name].__module__ = __name__
del _name

_ASYNC = ("AsyncRawResponse", "asend")  # with asyncio, which takes longer than all of this

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _ASYNC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._client import async_raw

        for each in _ASYNC:
            globals()[each] = getattr(async_raw, each)
            globals()[each].__module__ = __name__
        return globals()[name]


def __dir__() -> List[str]:
    return sorted({*globals(), *_ASYNC})
