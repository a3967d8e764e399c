"""Budgets: what requests may spend together, and how they stand."""

import ctypes
from dataclasses import dataclass
from typing import Any, Dict, Optional, Set, Tuple

from .._http.budgets import Meter
from .._http.config import milliseconds
from .._http.spending import LARGEST, BaseBudget, BudgetRequest, Spending, checked_name
from .._native import abi
from .._native.call import NO_SPENDING, Call
from .._native.failures import check
from .._native.library import lib
from .pool import Pool, shared

_MINUTE, _DAY = 60_000, 86_400_000
_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")
# Each limit of Budget: its unit, and its window in milliseconds.
_LIMITS = {
    "requests_per_minute": (abi.UNIT_REQUESTS, _MINUTE),
    "requests_per_day": (abi.UNIT_REQUESTS, _DAY),
    "tokens_per_minute": (abi.UNIT_TOKENS, _MINUTE),
    "input_tokens_per_minute": (abi.UNIT_INPUT, _MINUTE),
    "output_tokens_per_minute": (abi.UNIT_OUTPUT, _MINUTE),
    "tokens_per_day": (abi.UNIT_TOKENS, _DAY),
}
_SHOWN = 16
_ANY = 2**64 - 1


class Budget(BaseBudget):
    """What a provider allows, shared by all requests that name it.

        budget = llmpool.Budget("gpt-5", requests_per_minute=500, tokens_per_minute=200_000)
        client = llmpool.Client(budget=budget)

    A request waits until there is room, by priority, then age, and for a connection only then. What
    the headers of the answers tell of the provider's limits holds, too, so that a budget with
    nothing but a name is of use. Making another with the same name and other limits changes them;
    what was spent stays spent.

    Args:
        name: 1 to 200 bytes. It appears in messages, logs and metrics.
        requests_per_minute, requests_per_day: limits, of which those not given are None. A limit
            comes back evenly.
        tokens_per_minute, tokens_per_day: the same, of input and output together.
        input_tokens_per_minute, output_tokens_per_minute: the same, of each alone.
        burst: seconds; what the limits give in so long may be spent at once after a pause. None:
            each limit's whole amount. A provider that enforces "600 a minute" as "10 a second"
            wants 1.
        max_concurrent: requests from their admission to the end of their answers. None.
        learn: whether what answers tell is minded.
        pool: the pool that it is of. The shared one; it is made known to another when a request
            uses it there.

    Raises:
        ValueError: a limit below 1.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports
    __slots__ = ("_raw_name", "_limits", "_burst", "_concurrent", "_learns", "_known")

    def __init__(
        self,
        name: str,
        *,
        requests_per_minute: Optional[int] = None,
        requests_per_day: Optional[int] = None,
        tokens_per_minute: Optional[int] = None,
        input_tokens_per_minute: Optional[int] = None,
        output_tokens_per_minute: Optional[int] = None,
        tokens_per_day: Optional[int] = None,
        burst: Optional[float] = None,
        max_concurrent: Optional[int] = None,
        learn: bool = True,
        pool: Optional[Pool] = None,
    ) -> None:
        arguments = locals()
        limits = {what: _count(what, arguments[what]) for what in _LIMITS}
        self._set(
            checked_name(name),
            [(_LIMITS[what], amount) for what, amount in limits.items() if amount],
            0 if burst is None else milliseconds("burst", burst),
            _count("max_concurrent", max_concurrent, 0xFFFFFFFF),
            bool(learn),
            shared() if pool is None else pool,
        )

    def _set(
        self, name: str, limits: Any, burst: int, concurrent: int, learns: bool, pool: Pool
    ) -> None:
        self.name = name
        self._raw_name = name.encode("utf-8")
        self._limits = limits
        self._burst = burst
        self._concurrent = concurrent
        self._learns = learns
        self._known: Set[int] = set()
        self._make_known(pool._handle)

    def _make_known(self, pool: int) -> None:
        """Tells a pool of it, once."""
        if pool in self._known:
            return
        raw = abi.Budget()
        raw.size = ctypes.sizeof(raw)
        raw.max_concurrent = self._concurrent
        raw.burst_ms = self._burst
        raw.no_learning = not self._learns
        limits = (abi.Limit * max(1, len(self._limits)))()
        for limit, ((unit, window), amount) in zip(limits, self._limits):
            limit.unit, limit.window_ms, limit.amount = unit, window, amount
        size = ctypes.sizeof(abi.Limit)
        check(
            lib.budget_configure(
                pool, self._raw_name, ctypes.byref(raw), limits, size, len(self._limits)
            )
        )
        self._known.add(pool)

    def spend(self, input_tokens: int = 0, output_tokens: int = 0) -> Spending:
        """What a request costs of it: for budget=. More than a limit is BudgetExceeded."""
        return Spending(self, input_tokens, output_tokens)

    def __reduce__(self) -> Any:
        """A pickled budget is made known to the shared pool of the process that loads it."""
        fields = (self.name, self._limits, self._burst, self._concurrent, self._learns)
        return _restored, fields

    def __copy__(self) -> "Budget":
        return self

    def __deepcopy__(self, memo: Dict[int, Any]) -> "Budget":
        return self

    def __repr__(self) -> str:
        return f"<llmpool.Budget {self.name!r}>"


def _restored(name: str, limits: Any, burst: int, concurrent: int, learns: bool) -> Budget:
    budget = Budget.__new__(Budget)
    budget._set(name, limits, burst, concurrent, learns, shared())
    return budget


def _count(name: str, number: Any, most: int = LARGEST) -> int:
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} is a whole number or None, not {type(number).__name__}")
    if not 1 <= number <= most:
        raise ValueError(f"{name} is None (no limit) or from 1 to {most}, not {number}")
    return number


def spend(call: Call, budget: Any) -> None:
    """Gives a request that is to be sent its budget, and what reads from the answer what it took.

    Raises:
        TypeError: it is nothing that names a budget, or the function gave nothing such.
    """
    # All but what NO_SPENDING stands for. It may have been sent before.
    others = call.options[:-3]
    call.options = (*others, *NO_SPENDING)
    call.flags &= ~abi.REQUEST_COST_ESTIMATED
    call.meter = None
    if callable(budget) and not isinstance(budget, (Budget, Spending)):
        method, url = call.method.decode("latin-1"), call.url.decode("latin-1")
        budget = budget(BudgetRequest(method, url, call.block, call.body))
        if budget is None:
            return
    if not isinstance(budget, Spending):
        if not isinstance(budget, (str, Budget)):
            raise TypeError(
                "budget is a llmpool.Budget, a Spending, a name, a function or None, not "
                f"{type(budget).__name__}"
            )
        budget = Spending(budget, estimated=True)
    if isinstance(budget.budget, Budget):
        budget.budget._make_known(call.pool)
    if budget.estimated:
        call.flags |= abi.REQUEST_COST_ESTIMATED
    name = budget.name.encode("utf-8")
    call.options = (*others, name, budget.input_tokens, budget.output_tokens)
    call.meter = Meter()


# ---- looking at them


@dataclass(frozen=True)
class BudgetLimit:
    """A limit as it stands.

    Attributes:
        unit: "requests", "tokens", "input_tokens" or "output_tokens".
        amount: of them, in a window of
        window: seconds.
        remaining: what could be spent now; below 0 where more was.
        full_in: seconds until all of it is there again.
        told: an answer told it; else it was configured.
        spent: of a shared budget, since it is shared, less what came back.
    """

    __module__ = "llmpool"
    unit: str
    amount: int
    window: float
    remaining: int
    full_in: float
    told: bool
    spent: int = 0


@dataclass(frozen=True)
class BudgetState:
    """A budget as it stands.

    Attributes:
        limits: all that hold.
        in_flight: requests that were admitted and are not over.
        waiting: requests that wait for room.
        stopped_for: seconds until it goes on, where an answer has stopped it; else 0.
        refusals: answers of 429, 503 and 529.
        max_concurrent: None: no limit.
        adaptive: how many requests may be without an answer at a time, where refusals tell no
            limit; None: any number.
        shared: other processes have a part of it (docs/fleet.md).
        leased: it spends from a lease; where it is shared and this is False, its safe share.
        lease: seconds until the lease ends.
        members: that share it, as the last grant said; None: none has.
        places: requests that may be in flight here, of max_concurrent; None: any number.
        lapses: how often the safe share has taken the place of a lease, as no grant came in time.
    """

    __module__ = "llmpool"
    limits: Tuple[BudgetLimit, ...]
    in_flight: int
    waiting: int
    stopped_for: float
    refusals: int
    max_concurrent: Optional[int]
    adaptive: Optional[int]
    shared: bool = False
    leased: bool = False
    lease: float = 0.0
    members: Optional[int] = None
    places: Optional[int] = None
    lapses: int = 0


def states(pool: Pool) -> Dict[str, BudgetState]:
    """Each budget that the pool knows, by its name."""
    found: Dict[str, BudgetState] = {}
    for name in filter(None, pool._read_text(lib.budgets).split("\n")):
        state = _state(pool, name.encode("utf-8"))
        if state is not None:
            found[name] = state
    return found


def _state(pool: Pool, name: bytes) -> Optional[BudgetState]:
    raw = abi.Budget()
    raw.size = ctypes.sizeof(raw)
    limits = (abi.Limit * _SHOWN)()
    count = ctypes.c_uint32()
    status = lib.budget_get(
        pool._handle, name, ctypes.byref(raw), limits, ctypes.sizeof(abi.Limit), _SHOWN,
        ctypes.byref(count),
    )  # fmt: skip
    if status == abi.E_NOT_FOUND:  # forgotten since
        return None
    check(status)
    shown = tuple(
        BudgetLimit(
            unit=_UNITS[limit.unit],
            amount=limit.amount,
            window=limit.window_ms / 1000,
            remaining=limit.remaining,
            full_in=limit.full_ms / 1000,
            told=bool(limit.told),
            spent=limit.spent,
        )
        for limit in limits[: count.value]
    )
    return BudgetState(
        limits=shown,
        in_flight=raw.in_flight,
        waiting=raw.waiting,
        stopped_for=raw.stopped_ms / 1000,
        refusals=raw.refusals,
        max_concurrent=raw.max_concurrent or None,
        adaptive=raw.adaptive or None,
        shared=bool(raw.shared),
        leased=bool(raw.leased),
        lease=raw.lease_ms / 1000,
        members=raw.members or None,
        places=raw.places if raw.shared and raw.places != _ANY else None,
        lapses=raw.lapses,
    )
