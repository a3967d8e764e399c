"""The events that httpcore tells the extension "trace", told from what the pool knows.

The pool works on a thread of its own, in another order than httpcore does: what came before an
answer's head is told with it.
"""

from typing import Any, AsyncIterator, Dict, Iterator, List, Optional, Tuple

from llmpool import transport

Events = List[Tuple[str, Dict[str, Any]]]


class Trace:
    """Calls the function of one request's extension."""

    __slots__ = ("_call", "_request", "_http", "_closed")

    def __init__(self, call: Any, request: Any) -> None:
        self._call = call
        self._request = request
        self._http = "http11"
        self._closed = False

    @classmethod
    def of(cls, request: Any) -> "Optional[Trace]":
        call = request.extensions.get("trace")
        return None if call is None else cls(call, request)

    def _head(self, raw: transport.BaseRawResponse) -> Events:
        self._http = "http2" if raw.http_version == b"HTTP/2" else "http11"
        events: Events = []
        if not raw.reused:
            url = self._request.url  # httpcore's has bytes
            host = url.host.decode("ascii") if isinstance(url.host, bytes) else url.host
            events += _both("connection.connect_tcp", {"host": host, "port": url.port})
            if url.scheme in ("https", b"https"):
                events += _both("connection.start_tls", {"server_hostname": host})
        request = {"request": self._request}
        events += _both(f"{self._http}.send_request_headers", request)
        events += _both(f"{self._http}.send_request_body", request)
        value: Tuple[Any, ...] = (raw.status, raw.headers)
        if self._http == "http11":
            value = (raw.http_version, raw.status, raw.reason, raw.headers)
        events += _both(f"{self._http}.receive_response_headers", request, value)
        events.append((f"{self._http}.receive_response_body.started", request))
        return events

    def _failed(self, error: BaseException) -> Events:
        place = f"{self._http}.receive_response_headers"
        kind = type(error).__name__
        if kind.startswith("Connect") or kind == "ProxyError":
            place = "connection.connect_tcp"
        return [
            (f"{place}.started", {"request": self._request}),
            (f"{place}.failed", {"exception": error}),
        ]

    def _body_failed(self, error: BaseException) -> Events:
        return [(f"{self._http}.receive_response_body.failed", {"exception": error})]

    def _body_complete(self) -> Events:
        return [(f"{self._http}.receive_response_body.complete", {"return_value": None})]

    def _close(self) -> Events:
        if self._closed:
            return []
        self._closed = True
        return _both(f"{self._http}.response_closed", {})

    # ---- told to a function

    def _tell(self, events: Events) -> None:
        for name, info in events:
            self._call(name, info)

    def head(self, raw: transport.BaseRawResponse) -> None:
        self._tell(self._head(raw))

    def failed(self, error: BaseException) -> None:
        self._tell(self._failed(error))

    def body(self, raw: transport.RawResponse) -> Iterator[bytes]:
        try:
            yield from raw
        except Exception as error:
            self._tell(self._body_failed(error))
            raise
        self._tell(self._body_complete())

    def closed(self) -> None:
        self._tell(self._close())

    # ---- and to one that is awaited

    async def _atell(self, events: Events) -> None:
        for name, info in events:
            await self._call(name, info)

    async def ahead(self, raw: transport.BaseRawResponse) -> None:
        await self._atell(self._head(raw))

    async def afailed(self, error: BaseException) -> None:
        await self._atell(self._failed(error))

    async def abody(self, raw: "transport.AsyncRawResponse") -> AsyncIterator[bytes]:
        try:
            async for piece in raw:
                yield piece
        except Exception as error:
            await self._atell(self._body_failed(error))
            raise
        await self._atell(self._body_complete())

    async def aclosed(self) -> None:
        await self._atell(self._close())


def _both(name: str, info: Dict[str, Any], value: Any = None) -> Events:
    return [(f"{name}.started", info), (f"{name}.complete", {"return_value": value})]
