"""The thread that asks the store for leases, as the library wants them."""

import threading
import time
from contextlib import suppress
from typing import Dict, List, Optional, Set, Tuple

from .._native.waiting import poller
from .._pool import lines
from .._pool.lines import INFO, WARNING, Line
from .demand import UNITS, Demand, Grant, Store, StoreAway, StoreRefused
from .leases import Leases, label_of

# Seconds until the store is tried again, doubled each time.
_SOONEST, _LATEST = 0.1, 1.0
# Seconds after which the thread looks whether it is still wanted.
_LOOK = 1.0


class Connector:
    """
    Args:
        member: its name in the store, of no other member.
        safe_share: what is spent meanwhile, for the log.
    """

    def __init__(self, leases: Leases, store: Store, member: str, safe_share: float) -> None:
        self._leases = leases
        self._store = store
        self._member = member
        self._safe_share = safe_share
        # Held while the store is asked.
        self._lock = threading.Lock()
        self._is_over = False
        # Budgets that want a lease; a dictionary for its order.
        self._wanted: Dict[str, None] = {}
        self._asked: Set[str] = set()
        self._members = 0
        self._away_since: Optional[float] = None
        self._pause = _SOONEST
        self._retry_at = 0.0
        self._differences: Set[Tuple[object, ...]] = set()

    def start(self) -> None:
        try:
            fd = self._leases.watch()
            run = threading.Thread(target=self._run, args=(fd,), name="llmpool-fleet", daemon=True)
            run.start()
        except BaseException:  # there is no descriptor left, no thread
            self._leases.close()
            raise

    def _run(self, fd: int) -> None:
        wait = poller(fd)
        while not self._is_over:
            pause = _LOOK
            if self._wanted:
                pause = min(pause, max(0.0, self._retry_at - time.monotonic()))
            wait(pause * 1000)
            with self._lock:
                if not self._is_over:
                    self._round()
        self._leases.close()

    def _round(self) -> None:
        """Whatever goes wrong in one, the next may do."""
        try:
            fresh = self._leases.wanted()
            self._wanted.update(dict.fromkeys(fresh))
            if time.monotonic() >= self._retry_at:
                self._ask()
            else:  # so that who waits knows from when on nobody answers
                for name in fresh:
                    self._leases.demand(name)
        except (StoreAway, StoreRefused) as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")

    def _ask(self) -> None:
        asks = self._demands(list(self._wanted))
        if asks:
            grants = self._store.lend(self._member, asks)
            self._answered()
            for (name, demand), grant in zip(asks, grants):
                if isinstance(grant, StoreAway):
                    self._refused(name, str(grant))
                else:
                    self._grant(name, demand, grant)
        self._wanted.clear()

    def _demands(self, names: List[str]) -> List[Tuple[str, Demand]]:
        demands = ((name, self._leases.demand(name)) for name in names)
        return [(name, demand) for name, demand in demands if demand is not None]

    def _grant(self, name: str, demand: Demand, grant: Grant) -> None:
        self._asked.add(name)
        self._members = grant.members
        for limit, (amount, _) in zip(demand.limits, grant.limits):
            if not limit.told and 0 < amount < limit.amount:
                self._differs(name, limit.unit, limit.window_ms, limit.amount, amount)
        self._leases.grant(name, demand, grant)

    # ---- what is told

    def _failed(self, why: str) -> None:
        now = time.monotonic()
        self._retry_at = now + self._pause
        self._pause = min(2 * self._pause, _LATEST)
        if self._away_since is not None:
            return
        self._away_since = now
        share = f"1/{self._members}" if self._members else f"{self._safe_share:.3g}"
        text = (
            f"the fleet's store does not answer ({why}): until it does, this process spends its "
            f"safe share, {share} of each limit"
        )
        lines.say("fleet-store", Line(WARNING, text, {"reason": why, "safe-share": share}))

    def _answered(self) -> None:
        since, self._away_since = self._away_since, None
        self._pause, self._retry_at = _SOONEST, 0.0
        if since is not None:
            away = time.monotonic() - since
            text = f"the fleet's store answers again, after {away:.1f} s"
            lines.say("fleet-store-back", Line(INFO, text, {"away-ms": f"{away * 1000:.0f}"}))

    def _refused(self, name: str, why: str) -> None:
        budget = label_of(name)
        text = (
            f"budget {budget}: the fleet's store fails for it alone ({why}): until it does not, "
            "this process spends its safe share of it"
        )
        lines.say(("fleet-budget", budget), Line(WARNING, text, {"budget": budget, "reason": why}))

    def _differs(self, name: str, unit: int, window: int, own: int, smaller: int) -> None:
        difference = (name, unit, window, own, smaller)
        if difference in self._differences:
            return
        self._differences.add(difference)
        budget = label_of(name)
        text = (
            f"budget {budget}: this process has {own:,} {UNITS[unit]} in {window / 1000:g} s "
            f"configured, another of its fleet {smaller:,}: the smaller holds for all"
        )
        fields = {"budget": budget, "limit": str(own), "smaller": str(smaller)}
        lines.say(("fleet-limit", *difference), Line(WARNING, text, fields))

    # ---- the end

    def leave(self) -> None:
        """Gives back what is held, where the store answers."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            if self._away_since is None:
                with suppress(Exception):
                    asks = self._demands([*self._asked])
                    if asks:
                        self._store.leave(self._member, asks)
