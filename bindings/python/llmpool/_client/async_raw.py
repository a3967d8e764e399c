"""The same on an event loop."""

import sys
from typing import Any, AsyncIterator, Optional

from .._native import hub as hubs
from .._native.hub import Hub, end_upload
from .._pool.pool import Pool
from .hub_incoming import HubIncoming
from .raw import BaseRawResponse, Group, RawRequest, raise_translated


class AsyncRawResponse(HubIncoming, BaseRawResponse):
    """An answer that a task reads: iterate over it for the bytes of its body.

    As RawResponse, but in the event loop that made the request: in another the iteration is a
    RuntimeError. It may be closed in any.
    """

    __slots__ = ("_hub",)

    def __init__(self, call: RawRequest, hub: Hub, group: Optional[Group] = None) -> None:
        super().__init__(call, group)
        self._hub: Optional[Hub] = hub

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._check_loop()
        while True:
            for item in self._items:
                yield item
            try:
                batch = self._take()
                if batch is None:
                    return
            except Exception as error:
                raise_translated(self._call, error)
            if batch:
                self._keep(batch)
            else:
                await self._arrival()

    async def read(self) -> bytes:
        """What the iteration has not given yet, to the end, in one piece."""
        self._check_loop()
        pieces = list(self._items)
        while True:
            try:
                batch = self._take()
            except Exception as error:
                raise_translated(self._call, error)
            if batch:
                pieces += batch
            elif batch is None:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            else:
                await self._arrival()

    async def aclose(self) -> None:
        """Gives the answer up where it is not at its end: the request is cancelled. Twice does
        nothing."""
        self._closed = True
        self._settle()
        self._left()
        self._leave()
        if self._call.uploader is not None:
            await end_upload(self._call)

    def _ended(self) -> None:
        self._left()
        super()._ended()

    async def __aenter__(self) -> "AsyncRawResponse":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self, is_exiting: Any = sys.is_finalizing) -> None:
        if getattr(self, "_hub", None) is None or self._call.done is not None or is_exiting():
            return
        self._left()
        self._drop()


async def asend(pool: Pool, request: RawRequest, group: Optional[Group] = None) -> AsyncRawResponse:
    """As send(), in the running event loop of asyncio or uvloop. A task that is cancelled cancels
    its request."""
    calls = None if group is None else group._calls
    request = request.fresh()
    try:
        request.on(pool)
        hub = await hubs.start(request, False, False, calls)
    except Exception as error:
        raise_translated(request, error)
    return AsyncRawResponse(request, hub, group)


__all__ = ["AsyncRawResponse", "asend"]
