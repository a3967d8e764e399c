"""httpx on llmpool: its clients and transports with the pool of the process below them.

    from llmpool.httpx import AsyncClient, Client

    client = OpenAI(http_client=Client())

Client and AsyncClient are httpx's own, with all that they do: redirects, cookies, auth, decoding,
event hooks. What they were given for their transport means the same here, and HTTP/2 is on. Clients
that connect in the same way have one pool; close() ends the requests of that client alone.
"""

try:
    import httpx
except ImportError as error:
    raise ImportError("llmpool.httpx needs httpx: pip install 'libllmpool[httpx]'") from error

from ._adapters.httpx import (
    AsyncStreamMixin,
    ClientMixin,
    Kit,
    ResponseMixin,
    StreamMixin,
    TransportMixin,
)

__all__ = ["AsyncClient", "AsyncTransport", "Client", "Transport"]


class _Stream(StreamMixin, httpx.SyncByteStream):
    pass


class _AsyncStream(AsyncStreamMixin, httpx.AsyncByteStream):
    pass


class _Response(ResponseMixin, httpx.Response):
    pass


_KIT = _Response._kit = Kit(httpx, _Stream, _AsyncStream, _Response)


class Transport(TransportMixin, httpx.BaseTransport):
    """For httpx.Client(transport=...), where Client cannot be used: that one minds the proxies of
    the environment, too."""

    _kit = _KIT

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response
        if _KIT.is_unpatched(False):
            response = _KIT.send(self._carrier, request)
        else:
            response = self._patched(False).handle_request(request)
        return response

    def close(self) -> None:
        """Ends the requests of this transport that are in flight."""
        self._carrier.close()
        if self._theirs is not None:
            self._theirs.close()


class AsyncTransport(TransportMixin, httpx.AsyncBaseTransport):
    """For httpx.AsyncClient(transport=...), in any loop of asyncio or uvloop: see Transport."""

    _kit = _KIT

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response
        if _KIT.is_unpatched(True):
            response = await _KIT.asend(self._carrier, request)
        else:
            response = await self._patched(True).handle_async_request(request)
        return response

    async def aclose(self) -> None:
        """Ends the requests of this transport that are in flight."""
        self._carrier.close()
        if self._theirs is not None:
            await self._theirs.aclose()


class Client(ClientMixin, httpx.Client):
    """httpx.Client on llmpool; http2 is on."""

    _kit = _KIT
    _transport_class = Transport


class AsyncClient(ClientMixin, httpx.AsyncClient):
    """httpx.AsyncClient on llmpool, in any loop of asyncio or uvloop; http2 is on."""

    _kit = _KIT
    _transport_class = AsyncTransport
