"""One process of simulated workers: a few threads call whichever of them is due next."""

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

from sqlalchemy import select

from benchmarks.simulation.plan import Outcome, Plan
from benchmarks.simulation.worker import Sweeping, Worker
from service.domain.jobs import ACTIVE_STATES
from service.storage.database import Database
from service.storage.tables import jobs

DONE_SECONDS = 0.5


class Actor(Protocol):
    """Something that is called again and again."""

    def step(self, database: Database) -> float:
        """Do one thing; return when to be called again."""


class Fleet:
    """Workers and sweepers, and when each of them is due."""

    def __init__(self, plan: Plan, actors: list[Actor]) -> None:
        self._plan = plan
        self._count = count()
        self._due: list[tuple[float, int, Actor]] = [(0.0, next(self._count), actor) for actor in actors]
        self._changed = threading.Condition()
        self._errors: list[Exception] = []
        self._is_over = False

    def run(self, seconds: float, is_done: Callable[[], bool]) -> None:
        """Call them until the time is over or all is done; what breaks one of them breaks this."""
        running = [threading.Thread(target=self._work, daemon=True) for _ in range(self._plan.connections)]
        for thread in running:
            thread.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self._errors and not is_done():
            time.sleep(DONE_SECONDS)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in running:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        database = Database(self._plan.url)  # one connection for each thread, as behind a pooler
        try:
            while (actor := self._next()) is not None:
                due = actor.step(database)
                with self._changed:
                    heapq.heappush(self._due, (due, next(self._count), actor))
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001  # it is raised where the fleet was started
            self._errors.append(error)
        finally:
            database.close()

    def _next(self) -> Actor | None:
        with self._changed:
            while not self._is_over:
                wait = self._due[0][0] - time.monotonic() if self._due else 1.0
                if wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
            return None


def run(plan: Plan) -> Outcome:
    """Run the workers of one process."""
    outcome = Outcome()
    database = Database(plan.url)
    actors: list[Actor] = [Worker(plan, outcome, number) for number in range(plan.workers)]
    actors += [Sweeping(plan, database, outcome) for _ in range(plan.sweepers)]
    if plan.warm_up_seconds:
        threading.Timer(plan.warm_up_seconds, _forget, [outcome]).start()
    seconds = plan.seconds + plan.warm_up_seconds
    Fleet(plan, actors).run(seconds, lambda: plan.until_done and _done(database))
    database.close()
    return outcome


def _forget(outcome: Outcome) -> None:
    """Begin to measure."""
    for times in outcome.times.values():
        times.clear()
    outcome.late.clear()
    outcome.counts["claims in the warm-up"] = outcome.counts["claims"]


def _done(database: Database) -> bool:
    with database.read() as connection:
        return connection.execute(select(jobs.c.id).where(jobs.c.state.in_(ACTIVE_STATES)).limit(1)).first() is None
