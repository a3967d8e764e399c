"""At most one of a kind in so many seconds, and how many it stands for. Knows no clock."""

from typing import Callable, Dict, Generic, Hashable, List, Optional, TypeVar

T = TypeVar("T")


class Said(Generic[T]):
    """What is to be said now.

    Attributes:
        item: the latest, or what was made of all of them.
        count: how many it stands for.
        since: when the first of them came.
    """

    __slots__ = ("item", "count", "since")

    def __init__(self, item: T, count: int, since: float) -> None:
        self.item = item
        self.count = count
        self.since = since


class _Window(Generic[T]):
    """The time after something was said, and what came in it."""

    __slots__ = ("began", "held", "count", "since")

    def __init__(self, began: float) -> None:
        self.began = began
        self.held: List[T] = []  # none or one
        self.count = 0
        self.since = began


class Limiter(Generic[T]):
    """The first of a kind is said at once. What follows is held back, and said as one when the
    time is over, whether or not more comes.

    Args:
        seconds: between two of a kind.
        merge: makes one of what is held and what comes; the latest, if nothing is given.
    """

    def __init__(self, seconds: float, merge: Callable[[T, T], T] = lambda _, new: new) -> None:
        self._seconds = seconds
        self._merge = merge
        self._windows: Dict[Hashable, _Window[T]] = {}

    def offer(
        self, kind: Hashable, item: T, now: float, count: int = 1, since: Optional[float] = None
    ) -> Optional[Said[T]]:
        """What is to be said of it now, if anything is.

        Args:
            count: how many it stands for by itself.
            since: when the first of these came; None: now.
        """
        window = self._windows.get(kind)
        if window is None:
            self._windows[kind] = _Window(now)
            return Said(item, count, now if since is None else since)
        if window.held:
            window.held[0] = self._merge(window.held[0], item)
        else:
            window.held.append(item)
            window.since = now if since is None else since
        window.count += count
        return self._end(kind, now) if self._is_over(window, now) else None

    def due(self, now: float) -> List[Said[T]]:
        """What was held back long enough. Forgets the kinds of which nothing was."""
        over = [kind for kind, window in self._windows.items() if self._is_over(window, now)]
        said = []
        for kind in over:
            if self._windows[kind].held:
                said.append(self._end(kind, now))
            else:
                del self._windows[kind]
        return said

    def next_due(self) -> Optional[float]:
        """When something is to be said that is held back now; None: nothing is."""
        windows = list(self._windows.values())  # another thread may be at work
        return min((each.began + self._seconds for each in windows if each.held), default=None)

    def rest(self, now: float) -> List[Said[T]]:
        """All that is held back: nobody will ask again."""
        held = [kind for kind, window in self._windows.items() if window.held]
        return [self._end(kind, now) for kind in held]

    def _is_over(self, window: "_Window[T]", now: float) -> bool:
        return now - window.began >= self._seconds

    def _end(self, kind: Hashable, now: float) -> Said[T]:
        window = self._windows[kind]
        self._windows[kind] = _Window(now)
        return Said(window.held[0], window.count, window.since)
