"""A streamed answer that an event loop waits for."""

import asyncio
from contextlib import suppress
from typing import Optional

from .._native.hub import Hub
from .incoming import Incoming


class HubIncoming(Incoming):
    __slots__ = ()

    _hub: Optional[Hub]

    def _check_loop(self) -> None:
        hub = self._hub
        if hub is not None and self._call.done is None and not hub.is_here():
            raise RuntimeError(
                "the response is read in another event loop than the one that made its request: "
                "what comes would wake nobody"
            )

    def _arrival(self) -> "asyncio.Future[None]":
        """Done when something arrives."""
        self._call.waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def _leave(self) -> None:
        """The request is cancelled if it is not over; whoever reads is woken."""
        hub, self._hub = self._hub, None  # type: ignore[misc]
        call = self._call
        if hub is None:
            return
        if not hub.loop.is_closed():  # another task reads: it gets StreamClosed
            if hub.is_here():
                call.wake()
            else:
                hub.loop.call_soon_threadsafe(call.wake)
        if call.done is None:
            hub.abandon(call)
            if call.trace is not None:
                call.trace.left()

    def _ended(self) -> None:
        self._hub = None  # type: ignore[misc]
        if self._call.uploader is not None:  # nobody wants the rest of the body
            self._call.uploader.cancel()

    def _drop(self) -> None:
        """Of one that nobody has any more: on any thread, at any moment."""
        hub, self._hub = self._hub, None  # type: ignore[misc]
        if hub is None:
            return
        hub.abandon(self._call)
        uploader = self._call.uploader
        if uploader is not None:
            with suppress(RuntimeError):  # the loop is closed
                hub.loop.call_soon_threadsafe(uploader.cancel)
