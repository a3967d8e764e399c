"""One HTTP connection pool per process, made for calls to LLM APIs.

    import llmpool

    client = llmpool.Client(base_url="https://api.openai.com/v1", headers={...})
    answer = client.post("/chat/completions", json={...}).raise_for_status().json()

    client = llmpool.AsyncClient(base_url="https://api.openai.com/v1", headers={...})
    async with client.stream("POST", "/chat/completions", json={..., "stream": True}) as response:
        async for event in response.aiter_sse(stop="[DONE]"):
            ...

Python threads, event loops and C code in the process use the same connections, limits and counters.
The interface follows httpx.
"""

from ._aio import AsyncClient, AsyncStreamResponse
from ._client import Client, get, post, request, stream
from ._config import Limits, Timeout
from ._exceptions import (
    Cancelled,
    CertificateError,
    CloseError,
    ConnectError,
    ConnectTimeout,
    DecodingError,
    FirstByteTimeout,
    ForkedPool,
    HTTPError,
    HTTPStatusError,
    InternalError,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolClosed,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    QueueFull,
    ReadError,
    ReadTimeout,
    RefusedStream,
    RemoteProtocolError,
    RequestError,
    ResolveError,
    ResponseNotRead,
    ResponseTooLarge,
    StreamClosed,
    StreamConsumed,
    StreamError,
    TimeoutException,
    TLSError,
    TooManyRedirects,
    TotalTimeout,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from ._headers import Headers
from ._models import Request, Response, Timings
from ._monitor import debug
from ._pool import Pool, Stats, configure, metrics, shared, stats
from ._sse import Event
from ._stream import StreamResponse
from ._urls import URL
from ._version import __version__

__all__ = [
    "URL",
    "AsyncClient",
    "AsyncStreamResponse",
    "Cancelled",
    "CertificateError",
    "Client",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "DecodingError",
    "Event",
    "FirstByteTimeout",
    "ForkedPool",
    "HTTPError",
    "HTTPStatusError",
    "Headers",
    "InternalError",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "NetworkError",
    "Pool",
    "PoolClosed",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "QueueFull",
    "ReadError",
    "ReadTimeout",
    "RefusedStream",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "ResolveError",
    "Response",
    "ResponseNotRead",
    "ResponseTooLarge",
    "Stats",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "StreamResponse",
    "TLSError",
    "Timeout",
    "TimeoutException",
    "Timings",
    "TooManyRedirects",
    "TotalTimeout",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "__version__",
    "configure",
    "debug",
    "get",
    "metrics",
    "post",
    "request",
    "shared",
    "stats",
    "stream",
]

for _name in __all__:  # so that tracebacks say llmpool.ReadTimeout
    if getattr(globals()[_name], "__module__", "").startswith("llmpool._"):
        globals()[_name].__module__ = "llmpool"
del _name
