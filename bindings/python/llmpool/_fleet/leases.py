"""The leases of a pool's budgets, as the library has them."""

import ctypes
from typing import List, Optional, Sequence

from .._http.answer import BEGIN, DATA_END
from .._native import abi
from .._native.failures import check
from .._native.library import lib
from .._native.record import Lost, Reader
from .._pool.pool import Pool
from .demand import ANY_NUMBER, Demand, Grant, Limit

# A budget has no more limits: those that are configured, and those that answers tell.
_LIMITS = 16


class Leases:
    """Those of one pool.

    Args:
        budgets: their names; None: all, those too that it does not know yet.
    """

    def __init__(self, pool: Pool, budgets: Optional[Sequence[str]]) -> None:
        self._pool = pool
        self._names = budgets
        self._queue: Optional[int] = None
        self._reader: Optional[Reader] = None

    def watch(self) -> int:
        """A descriptor that can be read when wanted() has something."""
        queue = ctypes.c_void_p()
        check(lib.queue_open(None, ctypes.byref(queue)))
        assert queue.value
        self._queue = queue.value
        fd = lib.queue_fd(queue)
        check(fd)
        self._reader = Reader(queue.value, 64, 64 << 10)
        check(lib.watch(self._pool._handle, queue, abi.NOTICE_LEASE_WANTED, 0))
        return fd

    def close(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            lib.queue_close(queue)

    def share(self, safe_share: float, has_store: bool) -> None:
        raw = abi.Share()
        raw.size = ctypes.sizeof(raw)
        raw.safe_share = safe_share
        raw.no_store = not has_store
        for name in self._chosen():
            check(lib.budget_share(self._pool._handle, name, ctypes.byref(raw)))

    def alone(self) -> None:
        """Each keeps its limits for itself again."""
        for name in self._chosen():
            lib.budget_share(self._pool._handle, name, None)

    def _chosen(self) -> List[Optional[bytes]]:
        return [None] if self._names is None else [name.encode("utf-8") for name in self._names]

    def known(self) -> List[str]:
        """The budgets that it has now."""
        if self._names is not None:
            return list(self._names)
        return [name for name in self._pool._read_text(lib.budgets).split("\n") if name]

    def wanted(self) -> List[str]:
        """The budgets for which a lease is wanted since the last time."""
        assert self._reader is not None
        names: List[str] = []
        more = True
        while more:
            try:
                records, blob, more = self._reader.read()
            except Lost:  # no memory to copy them
                return self.known()
            names += [
                blob[each[BEGIN] : each[DATA_END]].decode("utf-8", "replace") for each in records
            ]
        return names

    def demand(self, name: str) -> Optional[Demand]:
        """What is wanted. The lease that answers it runs from now on. None: nothing is shared."""
        raw = abi.Lease()
        raw.size = ctypes.sizeof(raw)
        limits = (abi.LeaseLimit * _LIMITS)()
        count = ctypes.c_uint32()
        status = lib.budget_demand(
            self._pool._handle, name.encode("utf-8"), ctypes.byref(raw), limits,
            ctypes.sizeof(abi.LeaseLimit), _LIMITS, ctypes.byref(count),
        )  # fmt: skip
        if status == abi.E_NOT_FOUND:
            return None
        check(status)
        asked = limits[: min(count.value, _LIMITS)]
        told = tuple(Limit(*(getattr(each, field) for field in Limit._fields)) for each in asked)
        if raw.max_concurrent == ANY_NUMBER:
            raw.max_concurrent = 0
        common = [getattr(raw, field) for field in Demand._fields[:-1]]
        return Demand._make([*common, told])

    def grant(self, name: str, demand: Demand, grant: Grant) -> None:
        """Lends it. One that comes after another demand is passed over."""
        raw = abi.Lease()
        raw.size = ctypes.sizeof(raw)
        raw.sequence = demand.sequence
        raw.valid_ms, raw.members, raw.places, raw.stopped_ms = grant[:4]
        limits = (abi.LeaseLimit * max(1, len(grant.limits)))()
        for limit, (amount, granted), asked in zip(limits, grant.limits, demand.limits):
            limit.unit, limit.told, limit.window_ms = asked.unit, asked.told, asked.window_ms
            limit.amount, limit.granted = amount, granted
        status = lib.budget_grant(
            self._pool._handle, name.encode("utf-8"), ctypes.byref(raw), limits,
            ctypes.sizeof(abi.LeaseLimit), len(grant.limits),
        )  # fmt: skip
        if status != abi.E_NOT_FOUND:  # it was forgotten since
            check(status)


def label_of(name: str) -> str:
    """A name as it is shown: digits that tell of a credential are left out."""
    start, mark, digits = name.rpartition(" #")
    is_digits = digits and all(digit in "0123456789abcdefABCDEF" for digit in digits)
    return start if mark and is_digits else name
