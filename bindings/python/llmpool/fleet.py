"""One budget for a fleet: many processes and machines keep a provider's limits together.

    import llmpool.fleet

    llmpool.fleet.join(llmpool.fleet.Redis("redis://10.0.0.5"), expected_members=8)

Each process is lent a part of each limit and spends it without asking; what it does not need goes
to others. docs/fleet.md says how, and what happens where the store does not answer.
"""

from ._fleet.demand import StoreRefused
from ._fleet.membership import Membership, join
from ._fleet.redis_store import Redis

__all__ = ["Membership", "Redis", "StoreRefused", "join"]
