"""The asyncio client."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, List, Mapping, NoReturn, Optional, Type

from .._http.config import UNSET, MaybeBudget, RetryTypes, TimeoutTypes
from .._http.content import Content, FilesTypes
from .._http.headers import HeaderTypes
from .._http.models import Response
from .._http.urls import ParamTypes
from .._native import hub as hubs
from .._native.call import Call
from .._pool import leaks
from .async_stream import AsyncStreamResponse
from .base import make_response, not_entered, refuse_arguments
from .verbs import AsyncVerbs


class AsyncClient(AsyncVerbs):
    """Client for asyncio, with the same arguments.

    Works on asyncio and uvloop, also through anyio on them; not on trio. One client may be used
    by several event loops in several threads, and they use the same connections.

        async with llmpool.AsyncClient(base_url="https://api.openai.com/v1") as client:
            answer = await client.post("/chat/completions", json={...})

    A task that is cancelled cancels its request: the server sees it at once.

    Args, Raises: those of Client.
    """

    __module__ = "llmpool"

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: MaybeBudget = UNSET,
        **unsupported: NoReturn,
    ) -> Response:
        """Sends a request and waits for its complete answer.

        The arguments and errors are those of Client.request(); content may also be an async
        iterator of bytes. Plain files and iterators are read on the loop's thread.
        """
        if unsupported:
            refuse_arguments(unsupported)
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority,
            retry, server_name, budget,
        )  # fmt: skip
        history: List[Response] = []
        while True:
            # Here, not in a coroutine of the hub: each that is nested costs at every step.
            hub = hubs.current()
            hub.submit(call, call.flags)
            try:
                while call.done is None:
                    await hub.arrival(call)
                call.settle_whole()
            except BaseException as error:
                hub.left(call, error)
                raise
            finally:
                if call.uploader is not None:
                    await hubs.end_upload(call)
            response = make_response(call)
            if 300 <= response.status_code < 400:
                follow = self.follow_redirects if follow_redirects is None else follow_redirects
                if follow and response.has_redirect_location:
                    call = self._redirected(response, call, history)
                    continue
            call.release()
            if history:
                response.history = history
            return response

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: MaybeBudget = UNSET,
        sse: bool = True,
        **unsupported: NoReturn,
    ) -> "AsyncStream":
        """Sends a request when its async with block begins, and gives the answer as it comes.

            async with client.stream("POST", "/chat/completions", json={...}) as r:
                r.raise_for_status()
                async for event in r.aiter_sse(stop="[DONE]"):
                    print(event.json()["choices"][0]["delta"].get("content", ""), end="")

        The arguments and errors are those of Client.stream(). Leaving the block early, and the
        cancellation of its task, cancel the request.
        """
        if unsupported:
            refuse_arguments(unsupported)
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority,
            retry, server_name, budget,
        )  # fmt: skip
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        return AsyncStream(self, call, sse, follow)

    async def _open(self, call: Call, sse: bool, follow: bool, place: str) -> AsyncStreamResponse:
        response = AsyncStreamResponse(call, await hubs.start(call, sse), place=place)
        history: List[Response] = []
        while follow and response.has_redirect_location:
            try:
                await response.aread()
            finally:
                await response.aclose()
            call = self._redirected(response, call, history)
            response = AsyncStreamResponse(call, await hubs.start(call, sse), place=place)
        response.history = history
        return response

    async def aclose(self) -> None:
        """Takes no more requests. The pool stays open, also one of one's own."""
        self._closed = True

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        self._closed = True


class AsyncStream:
    """A request that is sent when its async with block begins: see AsyncClient.stream()."""

    __module__ = "llmpool"

    __slots__ = ("_client", "_call", "_sse", "_follow", "_place", "_response")

    def __init__(self, client: AsyncClient, call: Call, sse: bool, follow: bool) -> None:
        self._client = client
        self._call = call
        self._sse = sse
        self._follow = follow
        self._place = leaks.place()
        self._response: Optional[AsyncStreamResponse] = None

    async def __aenter__(self) -> AsyncStreamResponse:
        if self._response is not None:
            raise RuntimeError("a stream is entered once")
        self._call = self._call.fresh()  # the first time may have ended before there was a response
        self._response = await self._client._open(self._call, self._sse, self._follow, self._place)
        return self._response

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        if self._response is not None:
            await self._response.aclose()

    if not TYPE_CHECKING:  # a checker would believe that everything is there

        def __getattr__(self, name: str) -> NoReturn:
            not_entered("async with", name)
