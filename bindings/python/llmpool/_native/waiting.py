"""Waiting for a descriptor with Python's own means, whoever has replaced them.

gevent puts a poll of its own in select's place, eventlet takes it away and leaves selectors alone.
"""

import select
from typing import Any, Callable, Optional


def poll_factory() -> Any:
    """What poller() is made of just now: another one where something was patched meanwhile."""
    return getattr(select, "poll", None)


def poller(fd: int) -> Callable[..., Any]:
    """A function that waits until the descriptor can be read, for so many milliseconds or, without
    an argument, for ever; what it returns is true if it can."""
    factory = poll_factory()
    if factory is not None:
        poll = factory()
        poll.register(fd, select.POLLIN)
        return poll.poll  # type: ignore[no-any-return]
    import selectors

    selector = selectors.DefaultSelector()
    selector.register(fd, selectors.EVENT_READ)

    def wait(milliseconds: Optional[float] = None) -> Any:
        return selector.select(None if milliseconds is None else milliseconds / 1000)

    return wait
