"""What a process asks the store of its fleet, and what it is lent."""

from typing import List, NamedTuple, Protocol, Tuple, Union

# Of a limit, by its number there, for people.
UNITS = ("requests", "tokens", "input tokens", "output tokens")
# What the library says for it, of places and of max_concurrent.
ANY_NUMBER = (1 << 64) - 1


class Limit(NamedTuple):
    """Of a demand: llmpool_lease_limit_t. Wanted is by class: high, normal, low."""

    unit: int
    told: int
    amount: int
    window_ms: int
    capacity: int
    held: int
    spent: int
    wanted_high: int
    wanted: int
    wanted_low: int
    least: int
    expected: int
    remaining: int


class Demand(NamedTuple):
    """llmpool_lease_t, as llmpool_budget_demand() gives it; max_concurrent 0: any number."""

    sequence: int
    in_flight: int
    waiting: int
    max_concurrent: int
    stopped_ms: int
    members: int
    limits: Tuple[Limit, ...]


class Grant(NamedTuple):
    """What answers it.

    Attributes:
        limits: of each limit of the demand, in its order: the amount that holds, what is granted.
    """

    valid_ms: int
    members: int
    places: int
    stopped_ms: int
    limits: Tuple[Tuple[int, int], ...]


class StoreRefused(Exception):
    """The store will never answer as it is asked: a wrong password, no right to run scripts."""

    __module__ = "llmpool.fleet"


class StoreAway(Exception):
    """The store does not answer just now; the message says why."""


class Store(Protocol):
    """What lends to the members of a fleet."""

    def check(self) -> None:
        """Raises StoreRefused, or StoreAway."""

    def lend(
        self, member: str, asks: "List[Tuple[str, Demand]]"
    ) -> "List[Union[Grant, StoreAway]]":
        """A grant for each budget that is named, or why it fails for that one. Raises StoreAway."""

    def leave(self, member: str, asks: "List[Tuple[str, Demand]]") -> None:
        """What is held of each comes back. Raises StoreAway."""
