"""One simulated worker: it claims a job, does for some seconds what a real one says to the database, and ends it."""

import random
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import select, update

from benchmarks.simulation.plan import Outcome, Plan
from service.domain.errors import LeaseLost
from service.domain.jobs import Claim, EpochRecord, JobState, Progress, SavedState
from service.storage import jobs as jobs_of
from service.storage import leases, turns, workers
from service.storage.database import Connection, Database, database_time
from service.storage.tables import jobs
from service.sweeper import SWEEPING_WORKERS, Sweeper

Action = Callable[[Database, float], None]

POLL_SECONDS = 2.0
AGAIN_SECONDS = 0.1
WAKE_SECONDS = 45.0
"""A worker that was frozen, and not lost, writes again after so long; its job has another owner by then."""


class Worker:
    """Does one thing each time it is called, and says when it wants to be called again."""

    def __init__(self, plan: Plan, outcome: Outcome, number: int) -> None:
        self._plan = plan
        self._outcome = outcome
        self._chance = random.Random(f"{plan.seed} {plan.number} {number}")
        self._number, self._lives = number, 0
        self._held: Claim | None = None
        self._old: Claim | None = None
        self._epoch = 0
        self._due: dict[Action, float] = {}
        self._begin(time.monotonic() + self._chance.uniform(0, POLL_SECONDS))

    def step(self, database: Database) -> float:
        """Do what is due first on a connection of this database; return when the next thing is."""
        what = min(self._due, key=lambda action: self._due[action])
        now = time.monotonic()
        self._outcome.late.append(now - self._due[what])
        try:
            what(database, now)
        except LeaseLost:
            self._outcome.counts["leases lost"] += 1
            self._let_go(now)
        return min(self._due.values())

    @property
    def _name(self) -> str:
        return f"worker-{self._plan.number}-{self._number}-{self._lives}"

    def _begin(self, at: float) -> None:
        self._lives += 1
        self._due = {self._claim: at, self._report: at + self._chance.uniform(0, self._plan.report_seconds)}

    def _claim(self, database: Database, _: float) -> None:
        with database.read() as connection:
            waits = leases.has_claimable(connection, self._plan.most_running)
        began = time.monotonic()
        held = None
        if waits:
            with database.write() as connection:
                held = self._next(connection)
            self._note("claim", began)
        if held is None:
            self._outcome.counts["looks in vain" if not waits else "claims in vain"] += 1
            self._due[self._claim] = time.monotonic() + (
                self._chance.uniform(0, AGAIN_SECONDS) if waits else POLL_SECONDS
            )
            return
        self._outcome.counts["claims"] += 1
        self._start(database, held, time.monotonic())

    def _next(self, connection: Connection) -> Claim | None:
        if not self._plan.oldest_first:
            return leases.claim_next(connection, self._name, self._plan.most_running)
        return claim_oldest(connection, self._name)

    def _start(self, database: Database, held: Claim, now: float) -> None:
        plan, self._held = self._plan, held
        self._epoch = 0
        if held.fence > 1:
            with self._mine(database).read() as connection:
                self._epoch = jobs_of.get(connection, held.job_id).epoch
        lasts = plan.job_seconds * self._chance.uniform(0.5, 1.5)
        del self._due[self._claim]
        self._due |= {
            **({self._look: now + plan.look_seconds} if plan.look_seconds else {}),
            self._beat: now,
            self._progress: now + plan.progress_seconds,
            self._checkpoint: now + plan.checkpoint_seconds,
            self._end: now + lasts,
        }
        if self._chance.random() < plan.vanishing:
            self._due[self._vanish] = now + lasts * self._chance.random()

    def _look(self, database: Database, now: float) -> None:
        with self._mine(database).read() as connection:
            self._timed("look", partial(leases.word, connection, self._claimed()))
        self._due[self._look] = now + self._plan.look_seconds

    def _beat(self, database: Database, now: float) -> None:
        began = time.monotonic()
        with self._mine(database).write() as connection:
            leases.heartbeat(connection, self._claimed())
        self._note("heartbeat", began)
        self._due[self._beat] = now + self._plan.beat_seconds

    def _progress(self, database: Database, now: float) -> None:
        began = time.monotonic()
        with self._mine(database).write() as connection:
            leases.record_progress(connection, self._claimed(), Progress(self._epoch, 0.5, 1000.0, 5.0))
        self._note("progress", began)
        self._due[self._progress] = now + self._plan.progress_seconds

    def _checkpoint(self, database: Database, now: float) -> None:
        self._epoch += 1
        record = EpochRecord(self._epoch, {"loss": 1 / self._epoch, "val_loss": 2 / self._epoch}, 0.001, 0.5)
        saved = SavedState(self._chance.randbytes(self._plan.checkpoint_bytes), self._epoch, 0)
        began = time.monotonic()
        with self._mine(database).write() as connection:
            leases.record(connection, self._claimed(), Progress(self._epoch, 0.5, 1000.0, 5.0), 1, [record], saved)
        self._note("epoch with checkpoint", began)
        self._due[self._checkpoint] = now + self._plan.checkpoint_seconds

    def _end(self, database: Database, now: float) -> None:
        held = self._claimed()
        began = time.monotonic()
        with self._mine(database).write() as connection:
            leases.succeed(connection, held, best_epoch=self._epoch or 1, test_metrics={"loss": 0.1}, version=1)
        self._note("end", began)
        self._outcome.ended.append(held.job_id)
        self._let_go(now)

    def _vanish(self, database: Database, now: float) -> None:
        """Go without a word; another worker comes in its place, and now and then this one wakes up again."""
        held, self._held = self._claimed(), None
        self._outcome.counts["workers vanished"] += 1
        if self._plan.cuts_leases:
            mine = (jobs.c.id == held.job_id, jobs.c.fence == held.fence, jobs.c.state == JobState.RUNNING)
            with database.write() as connection:
                connection.execute(update(jobs).where(*mine).values(lease_until=database_time(-1)))
        wakes = self._due.get(self._wake, now + WAKE_SECONDS)
        self._old = held
        self._begin(now + POLL_SECONDS)
        self._due[self._wake] = wakes

    def _wake(self, database: Database, _: float) -> None:
        del self._due[self._wake]
        assert self._old is not None
        try:
            with database.owned_by(self._old.owner).write() as connection:
                leases.record_progress(connection, self._old, Progress(99, 0.9, 1.0, 1.0))
        except LeaseLost:
            self._outcome.counts["late writes refused"] += 1

    def _report(self, database: Database, now: float) -> None:
        state, job_id = ("idle", None) if self._held is None else ("busy", self._held.job_id)
        began = time.monotonic()
        with database.write() as connection:
            workers.seen(connection, self._name, "1", state, job_id)
        self._note("report", began)
        if self._chance.random() < 0.5:  # every ten seconds
            with database.read() as connection:
                workers.is_among_first(connection, self._name, SWEEPING_WORKERS)
        self._due[self._report] = now + self._plan.report_seconds

    def _let_go(self, now: float) -> None:
        self._held = None
        kept: list[Action] = [self._report, self._wake]
        self._due = {action: self._due[action] for action in kept if action in self._due}
        self._due[self._claim] = now

    def _mine(self, database: Database) -> Database:
        return database.owned_by(self._claimed().owner)

    def _claimed(self) -> Claim:
        assert self._held is not None
        return self._held

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        self._note(name, began)

    def _note(self, name: str, began: float) -> None:
        self._outcome.times.setdefault(name, []).append(time.monotonic() - began)


class Sweeping:
    """The sweeper of one process that is not resting."""

    def __init__(self, plan: Plan, database: Database, outcome: Outcome) -> None:
        self._plan, self._outcome = plan, outcome
        self._sweeper = Sweeper(database, on_taken=self._count)

    def step(self, _: Database) -> float:
        """Look once; return when to do so again."""
        began = time.monotonic()
        self._sweeper.look()
        self._outcome.times.setdefault("sweep", []).append(time.monotonic() - began)
        return began + self._plan.sweep_seconds

    def _count(self, taken: int) -> None:
        self._outcome.counts["jobs taken back"] += taken


def claim_oldest(connection: Connection, worker: str) -> Claim | None:
    """Claim the oldest of all jobs, as was done before owners took turns."""
    query = select(jobs.c.id).where(turns.may_be_claimed()).order_by(jobs.c.number).limit(1)
    job_id = connection.execute(query.with_for_update(skip_locked=True)).scalar()
    return None if job_id is None else leases.claim(connection, job_id, worker)
