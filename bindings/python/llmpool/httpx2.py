"""httpx2 on llmpool: its clients and transports with the pool of the process below them.

    from llmpool.httpx2 import AsyncClient, Client

    client = OpenAI(http_client=Client())

Client and AsyncClient are httpx2's own, with all that they do: redirects, cookies, auth, decoding,
event hooks. What they were given for their transport means the same here, and HTTP/2 is on. Clients
that connect in the same way have one pool; close() ends the requests of that client alone.
"""

try:
    import httpx2
except ImportError as error:
    raise ImportError("llmpool.httpx2 needs httpx2: pip install 'libllmpool[httpx2]'") from error

from ._adapters.httpx import (
    AsyncStreamMixin,
    ClientMixin,
    Kit,
    ResponseMixin,
    StreamMixin,
    TransportMixin,
)

__all__ = ["AsyncClient", "AsyncTransport", "Client", "Transport"]


class _Stream(StreamMixin, httpx2.SyncByteStream):
    pass


class _AsyncStream(AsyncStreamMixin, httpx2.AsyncByteStream):
    pass


class _Response(ResponseMixin, httpx2.Response):
    pass


_KIT = _Response._kit = Kit(httpx2, _Stream, _AsyncStream, _Response)


class Transport(TransportMixin, httpx2.BaseTransport):
    """For httpx2.Client(transport=...), where Client cannot be used: that one minds the proxies of
    the environment, too."""

    _kit = _KIT

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response: httpx2.Response
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


class AsyncTransport(TransportMixin, httpx2.AsyncBaseTransport):
    """For httpx2.AsyncClient(transport=...), in any loop of asyncio or uvloop: see Transport."""

    _kit = _KIT

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response: httpx2.Response
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


class Client(ClientMixin, httpx2.Client):
    """httpx2.Client on llmpool; http2 is on."""

    _kit = _KIT
    _transport_class = Transport


class AsyncClient(ClientMixin, httpx2.AsyncClient):
    """httpx2.AsyncClient on llmpool, in any loop of asyncio or uvloop; http2 is on."""

    _kit = _KIT
    _transport_class = AsyncTransport
