"""How often owners and addresses have asked: counted in this process, and told to the others now and then.

A prediction takes less time than a question to Redis, so none waits for it. Every process counts for itself and, twice
a second, adds what is new to a count that all share and takes over what others have added. While Redis is down, each
goes on with its own count.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from fastapi.concurrency import run_in_threadpool

from service.domain.quotas import Rate

logger = logging.getLogger(__name__)

SHARE_SECONDS = 0.5
"""So late a process may know of what another has let in."""
MAX_PAUSE_SECONDS = 10.0
MOST_NAMES = 10_000
"""So many owners or addresses are told apart in a period; what others send beyond is counted together."""
OTHERS = "others"

Share = Callable[[int, int, Mapping[str, int]], Mapping[str, int]]
"""Adds to the shared counts of a period (which, and how long it is), by name; returns what they are then."""


class Rates:
    """Counts requests by name, in periods that begin at the same moment in all processes."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.time) -> None:
        self.rate = rate
        self._clock = clock
        self._period = -1
        self._ends = 0.0
        self._counts: dict[str, int] = {}
        self._told: dict[str, int] = {}

    def take(self, name: str) -> int:
        """Count a request and return 0; return after how many seconds to ask again where it is one too many."""
        now = self._clock()
        if now >= self._ends:
            self._begin(now)
        count = self._counts.get(name, 0)
        if count >= self.rate.amount:
            return self.resets_in(now)
        if not count and len(self._counts) >= MOST_NAMES and name != OTHERS:
            return self.take(OTHERS)
        self._counts[name] = count + 1
        return 0

    def left(self, name: str) -> int:
        """Return how many requests a name may still send in this period."""
        if self._clock() >= self._ends:
            return self.rate.amount
        return max(0, self.rate.amount - self._counts.get(name, 0))

    def resets_in(self, now: float | None = None) -> int:
        """Return in how many seconds the next period begins, at least one."""
        now = self._clock() if now is None else now
        return max(1, -int(-(self._ends - now) // 1))

    async def share(self, share: Share) -> None:
        """Add what is new to the shared counts, and take over what others have added."""
        period, counts = self._period, self._counts
        new = {name: count - self._told.get(name, 0) for name, count in counts.items()}
        new = {name: count for name, count in new.items() if count > 0}
        if not new or self._clock() >= self._ends:
            return
        known = {name: self._told.get(name, 0) + count for name, count in new.items()}
        totals = await run_in_threadpool(share, period, self.rate.seconds, new)
        if period == self._period:
            for name, total in totals.items():
                counts[name] += max(0, total - known[name])  # what has come meanwhile is counted already
                self._told[name] = max(total, known[name])

    def _begin(self, now: float) -> None:
        self._period = int(now // self.rate.seconds)
        self._ends = (self._period + 1) * float(self.rate.seconds)
        self._counts, self._told = {}, {}


async def keep_sharing(rates: Rates, share: Share) -> None:
    """Share counts for ever; while that does not work, every process counts for itself."""
    pause = SHARE_SECONDS
    while True:
        await asyncio.sleep(pause)
        try:
            await rates.share(share)
        except Exception as error:  # noqa: BLE001  # whatever Redis says: nobody is to be refused for it, or let in
            if pause == SHARE_SECONDS:
                logger.warning("requests are counted by each process alone: %s", error)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        else:
            pause = SHARE_SECONDS
