"""Who is a member of a fleet: the pools of this process, and those of its children."""

import atexit
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Optional

from .._pool.pool import Pool, shared
from .connector import Connector
from .demand import Store, StoreAway
from .leases import Leases

_MOST_MEMBERS = 1_000_000
# By the handles of their pools.
_memberships: "Dict[int, Membership]" = {}
_lock = threading.Lock()


class Membership:
    """A pool's place in a fleet, from join() until leave() or the end of the process. A context
    manager, which leaves at its end."""

    __module__ = "llmpool.fleet"

    def __init__(
        self, pool: Pool, budgets: Optional[List[str]], store: Optional[Store], safe_share: float
    ) -> None:
        self._pool = pool
        self._budgets = budgets
        self._store = store
        self.safe_share = safe_share
        self._connector: Optional[Connector] = None
        self._leases = Leases(pool, budgets)
        self.member = ""

    def _begin(self) -> None:
        self.member = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._leases = Leases(self._pool, self._budgets)
        if self._store is not None:
            # Watched before anything is wanted.
            self._connector = Connector(self._leases, self._store, self.member, self.safe_share)
            self._connector.start()
        self._leases.share(self.safe_share, self._store is not None)

    def _end(self) -> None:
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.leave()

    def leave(self) -> None:
        """Gives back what is held. From then on the process keeps each limit for itself, as before
        join(). Twice does nothing."""
        with _lock:
            if _memberships.get(self._pool._handle) is not self:
                return
            del _memberships[self._pool._handle]
        self._end()
        self._leases.alone()

    def __enter__(self) -> "Membership":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def __repr__(self) -> str:
        return f"<llmpool.fleet.Membership {self.member}>"


def join(
    store: Optional[Store] = None,
    *,
    members: Optional[int] = None,
    expected_members: Optional[int] = None,
    safe_share: Optional[float] = None,
    budgets: Optional[Iterable[str]] = None,
    pool: Optional[Pool] = None,
) -> Membership:
    """Shares the budgets of this process with those of others that join.

        llmpool.fleet.join(llmpool.fleet.Redis("redis://10.0.0.5"), expected_members=8)
        llmpool.fleet.join(members=4)  # without a store: each spends a quarter, for ever

    What C code of the process sends on the pool is covered, and each child that it forks is a
    member of its own. A store that does not answer is no error: until it does, the safe share is
    spent.

    Args:
        store: what lends to the members, as llmpool.fleet.Redis; None: nobody does.
        members: without a store: how many processes share the budgets.
        expected_members: with a store: how many there will be, for the safe share before the store
            has first answered. From then on it is 1 / the members that live.
        safe_share: above 0, at most 1: the part of each limit itself, instead of either.
        budgets: their names. None: all of the pool, those to come with them.
        pool: None: the shared one.

    Raises:
        StoreRefused: the store will never answer: a wrong password, for one.
        ValueError: how many members there are was not said, or is out of its range; the pool is a
            member already.
    """
    share = _share(store is not None, members, expected_members, safe_share)
    names = None if budgets is None else _names(budgets)
    if store is not None:
        with suppress(StoreAway):  # told when a lease is wanted
            store.check()
    membership = Membership(shared() if pool is None else pool, names, store, share)
    handle = membership._pool._handle
    with _lock:
        if handle in _memberships:
            raise ValueError("the pool is a member of a fleet already: leave() that first")
        _memberships[handle] = membership
    try:
        membership._begin()
    except BaseException:
        with _lock:
            _memberships.pop(handle, None)
        membership._end()
        raise
    return membership


def _share(has_store: bool, members: Any, expected_members: Any, safe_share: Any) -> float:
    if has_store and members is not None:
        raise ValueError("members= is for a fleet without a store: say expected_members=")
    if not has_store and expected_members is not None:
        raise ValueError("expected_members= is for a fleet with a store: say members=")
    name, number = ("expected_members", expected_members) if has_store else ("members", members)
    if (number is None) == (safe_share is None):
        raise ValueError(f"say one of {name}= and safe_share=: what to spend without the store")
    if number is not None:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} is a whole number, not {type(number).__name__}")
        if not 1 <= number <= _MOST_MEMBERS:
            raise ValueError(f"{name} is from 1 to {_MOST_MEMBERS}, not {number}")
        return 1 / number
    if isinstance(safe_share, bool) or not isinstance(safe_share, (int, float)):
        raise TypeError(f"safe_share is a number, not {type(safe_share).__name__}")
    if not 0 < safe_share <= 1:
        raise ValueError(f"safe_share is above 0 and at most 1, not {safe_share}")
    return float(safe_share)


def _names(budgets: Any) -> List[str]:
    if isinstance(budgets, (str, bytes)):
        raise TypeError("budgets are names, in a list or the like")
    names = [getattr(each, "name", each) for each in budgets]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"budgets have names that are str, not {type(name).__name__}")
    return names


def _leave_all() -> None:
    """The process ends: what is held is there for others at once, not after the lease."""
    for membership in list(_memberships.values()):
        with suppress(Exception):
            membership._end()


def _join_anew() -> None:
    # In a forked child the thread does not run, and of the pools the shared one alone is there.
    global _lock
    _lock = threading.Lock()
    for handle, membership in list(_memberships.items()):
        membership._connector = None
        if not membership._pool._shared:
            del _memberships[handle]
            continue
        with suppress(Exception):
            membership._begin()


os.register_at_fork(after_in_child=_join_anew)
atexit.register(_leave_all)
