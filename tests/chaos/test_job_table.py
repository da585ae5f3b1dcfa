"""Whatever is done to jobs, in whatever order and under whatever claim: the job table does what its model does."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, RowMapping, delete, select, update

from service.domain.errors import Conflict, LeaseLost, UnknownJob
from service.domain.jobs import (
    FINAL_STATES,
    MAX_ATTEMPTS,
    Claim,
    EpochRecord,
    EventKind,
    JobState,
    Progress,
    SavedState,
)
from service.domain.owners import DEFAULT_OWNER
from service.storage import checkpoints, jobs, leases, losses, retries, tables
from service.storage.database import Database, database_time
from tests.chaos.job_table import ModelJob, Refused, Told
from tests.clock import stop_clock

SPEC = {"dataset": "iris", "model": "iris", "tags": ["a", "b"], "training": {"epochs": 100}}
EXAMPLES = {"sqlite": 120, "postgresql": 30}
STEPS = 50
HOUR_SECONDS = 3600.0

WORKERS = st.sampled_from(["w1", "w2", "w3"])
CONTENTS = st.sampled_from([b"one", b"two", b"three"])
"""States of several jobs may have equal bytes, which are stored once."""
SPLITS = st.sampled_from([b"split one", b"split two"])
CODES = st.sampled_from(["training_diverged", "out_of_memory"])
LOSSES = st.sampled_from([EventKind.WORKER_LOST, EventKind.STALLED])
KINDS = st.sampled_from([None, EventKind.HANDED_BACK])
PICKS = st.integers(0, 999)
MOST_JOBS = 3
"""Beside those that come of retries; with few jobs much happens to each of them."""
NOBODYS = Claim("job-0", 1, "w1", DEFAULT_OWNER)

_TABLES = select(tables.datasets.c.sha256).where(tables.datasets.c.sha256.is_not(None))

OnTable = Callable[[Connection], object]
OnModel = Callable[[ModelJob], object]


class JobTable(RuleBasedStateMachine):
    """Does the same to the table and to the model."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.model: dict[str, ModelJob] = {}
        """In the order of their numbers."""
        self.claims: list[Claim] = []
        """Every claim that was ever made."""
        self.count = 0

    @initialize()
    def begin(self) -> None:
        with self.database.write() as connection:
            connection.execute(delete(tables.jobs))
            connection.execute(delete(tables.blobs).where(tables.blobs.c.sha256.not_in(_TABLES)))

    # What users do.

    @precondition(lambda self: len(self.model) < MOST_JOBS)
    @rule()
    def submit(self) -> None:
        self.add_job()

    @rule(pick=PICKS, leaves=st.booleans(), pauses=st.booleans())
    def request_cancel(self, pick: int, leaves: bool, pauses: bool) -> None:
        """Cancel a job; with ``leaves`` one that has states, and that its worker has just let go."""
        if not leaves:
            self.cancel(self.any_job(pick))
            return
        held = self.any_claim(pick)
        self.store(held, fresh=1, again=0, best=1, content=b"two")
        if pauses:
            self.pause(held.job_id)
        self.let_go(held, EventKind.HANDED_BACK)
        self.cancel(held.job_id)

    @rule(pick=PICKS)
    def request_pause(self, pick: int) -> None:
        self.pause(self.any_job(pick))

    @rule(pick=PICKS, pauses=st.booleans())
    def resume(self, pick: int, pauses: bool) -> None:
        job_id = self.any_job(pick)
        if pauses:
            self.pause(job_id)
        self.both(job_id, lambda connection: jobs.resume(connection, job_id), ModelJob.resume)

    @rule(pick=PICKS)
    def retry(self, pick: int) -> None:
        job_id, new_id = self.any_job(pick), self.new_id()

        def on_model(job: ModelJob) -> None:
            self.model[new_id] = job.retried(new_id)

        self.both(job_id, lambda connection: retries.retry(connection, job_id, new_id), on_model)

    @rule(pick=PICKS)
    def remove(self, pick: int) -> None:
        job_id = self.any_job(pick)

        def on_model(job: ModelJob) -> None:
            if job.state not in FINAL_STATES:
                raise Refused
            del self.model[job.id]

        self.both(job_id, lambda connection: jobs.remove(connection, job_id), on_model)

    # What workers do; some of their claims are old.

    @rule(pick=PICKS, worker=WORKERS)
    def claim(self, pick: int, worker: str) -> None:
        self.take(self.any_job(pick), worker)

    @rule(worker=WORKERS)
    def claim_next(self, worker: str) -> None:
        first = next((job for job in self.model.values() if job.is_claimable), None)
        with self.database.for_everybody().read() as connection:
            assert leases.has_claimable(connection) == (first is not None)
        with self.database.for_everybody().write() as connection:
            claimed = leases.claim_next(connection, worker)
        assert claimed == (None if first is None else first.claim(worker))
        self.claims += [claimed] if claimed else []

    @rule(pick=PICKS)
    def heartbeat(self, pick: int) -> None:
        held = self.any_claim(pick)

        def on_table(connection: Connection) -> object:
            said = leases.heartbeat(connection, held)
            assert said == leases.word(connection, held)
            return said.cancel_requested, said.pause_requested

        def on_model(job: ModelJob) -> object:
            job.renew(held)
            return job.state is JobState.CANCELLING, job.pause_requested

        self.both(held.job_id, on_table, on_model)

    @rule(pick=PICKS)
    def record_progress(self, pick: int) -> None:
        held = self.any_claim(pick)
        now = Progress(0, 0.5, 10.0, 1.0)
        self.both(
            held.job_id,
            lambda connection: leases.record_progress(connection, held, now),
            lambda job: job.renew(held),
        )

    @rule(pick=PICKS, fresh=st.integers(0, 3), again=st.integers(0, 2), best=st.integers(0, 3), content=CONTENTS)
    def record(self, pick: int, fresh: int, again: int, best: int, content: bytes) -> None:
        self.store(self.any_claim(pick), fresh, again, best, content)

    @rule(pick=PICKS, stores=st.booleans())
    def go_back(self, pick: int, stores: bool) -> None:
        held = self.any_claim(pick)
        if stores:
            self.store(held, fresh=2, again=0, best=1, content=b"one")

        def on_table(connection: Connection) -> None:
            leases.go_back(connection, held, checkpoints.newest(connection, held.job_id), "it was damaged")

        self.both(held.job_id, on_table, lambda job: job.go_back(held))

    @rule(pick=PICKS, contents=st.lists(SPLITS, min_size=1, max_size=2))
    def record_split(self, pick: int, contents: list[bytes]) -> None:
        held = self.any_claim(pick)
        for content in contents:
            self.both(
                held.job_id,
                partial(leases.record_split, held=held, content=content),
                partial(ModelJob.draw, held=held, content=content),
            )

    @rule(pick=PICKS, fresh=st.integers(0, 2), version=st.integers(1, 9), cancels=st.booleans())
    def succeed(self, pick: int, fresh: int, version: int, cancels: bool) -> None:
        """End with the last epochs, which need no state, in one transaction; somebody may ask to cancel just before."""
        held = self.any_claim(pick)
        if cancels:
            self.cancel(held.job_id)
        done = self.epochs_of(held)

        def on_table(connection: Connection) -> None:
            record(connection, held, done, done + fresh, 1, None)
            leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=version)

        def on_model(job: ModelJob) -> None:
            job.check(held)
            if job.state is not JobState.RUNNING:
                raise Refused  # the epochs go with it
            job.record(held, done + fresh, 1, None)
            job.succeed(held, 1, version)

        self.both(held.job_id, on_table, on_model)

    @rule(pick=PICKS, code=CODES, fresh=st.integers(0, 2))
    def fail(self, pick: int, code: str, fresh: int) -> None:
        """End with a reason, and with epochs that no state stands for."""
        held = self.any_claim(pick)
        done = self.epochs_of(held)

        def on_table(connection: Connection) -> None:
            record(connection, held, done, done + fresh, 1, None)
            leases.fail(connection, held, code, "why")

        def on_model(job: ModelJob) -> None:
            job.record(held, done + fresh, 1, None)
            job.fail(held, code)

        self.both(held.job_id, on_table, on_model)

    @rule(pick=PICKS, kind=KINDS, cancels=st.booleans())
    def leave(self, pick: int, kind: EventKind | None, cancels: bool) -> None:
        """Finish a cancel or a pause, or hand the job back."""
        held = self.any_claim(pick)
        if cancels:
            self.cancel(held.job_id)
        self.let_go(held, kind)

    @rule(pick=PICKS, kind=LOSSES, times=st.integers(1, 4), pauses=st.booleans(), waits=st.booleans())
    def lose(self, pick: int, kind: EventKind, times: int, pauses: bool, waits: bool) -> None:
        """Lose a job, and lose it again as soon as the next worker has it.

        Before the last time somebody may ask to pause it; after it, it may have to wait.
        """
        held: Claim | None = self.any_claim(pick)
        for number in range(1, times + 1):
            if held is not None and pauses and number == times:
                self.pause(held.job_id)
            held = self.lose_once(held, kind, waits=waits and number == times) if held else None

    @rule(worker=WORKERS)
    def hand_back(self, worker: str) -> None:
        with self.database.write() as connection:
            leases.hand_back(connection, worker)
        for job in self.model.values():
            if job.is_held and job.worker == worker:
                job.leave(Claim(job.id, job.fence, worker, DEFAULT_OWNER), EventKind.HANDED_BACK)

    # What time does, and what is done about it.

    @rule(pick=PICKS)
    def expire(self, pick: int) -> None:
        job_id = self.any_job(pick)
        job = self.model.get(job_id)
        if job is not None and job.is_held:
            self.shift(job_id, "lease_until", -1)
            job.has_expired, job.clock_was_set_back = True, False

    @rule(pick=PICKS)
    def let_pause_pass(self, pick: int) -> None:
        job = self.model.get(self.any_job(pick))
        if job is not None and job.state is JobState.QUEUED:
            self.make_claimable(job)

    @rule(pick=PICKS)
    def set_clock_back(self, pick: int) -> None:
        job_id = self.any_job(pick)
        job = self.model.get(job_id)
        if job is not None and (job.is_held or job.state is JobState.QUEUED):
            self.shift(job_id, "lease_until" if job.is_held else "claimable_at", HOUR_SECONDS)
            job.has_expired, job.clock_was_set_back = False, True

    @rule(pick=PICKS, loses=st.booleans())
    def age(self, pick: int, loses: bool) -> None:
        """Let a job have been tried as often as one may be, but for once."""
        job = self.model.get(self.any_job(pick))
        if job is None or job.state is not JobState.QUEUED or job.fence >= MAX_ATTEMPTS - 1:
            return
        job.fence = MAX_ATTEMPTS - 1
        with self.database.write() as connection:
            which = tables.jobs.c.id == job.id
            connection.execute(update(tables.jobs).where(which).values(fence=job.fence))
        if loses:
            self.make_claimable(job)
            self.take(job.id, "w3")
            self.lose_once(self.claims[-1], EventKind.STALLED)

    @rule(pick=PICKS)
    def tidy(self, pick: int) -> None:
        """Let a job have ended long ago, and keep house."""
        job = self.model.get(self.any_job(pick))
        if job is None or job.state not in FINAL_STATES:
            return
        self.shift(job.id, "finished_at", -checkpoints.KEPT_SECONDS - 1)
        with self.database.write() as connection:
            assert checkpoints.old_jobs(connection) == ([job.id] if job.saved else [])
            checkpoints.purge(connection, job.id)
        job.forget()

    @rule()
    def sweep(self) -> None:
        ordered = list(self.model.values())
        back = [job for job in ordered if job.clock_was_set_back]
        expired = [job for job in ordered if job.is_held and job.has_expired]
        with self.database.read() as connection:
            assert losses.needs_sweep(connection) == bool(back or expired)
        with self.database.write() as connection:
            losses.follow_clock(connection)
            losses.lose_expired(connection)
        for job in back:
            job.clock_was_set_back = job.must_wait = False
        for job in expired:
            assert job.worker is not None
            job.lose(Claim(job.id, job.fence, job.worker, DEFAULT_OWNER), EventKind.WORKER_LOST)
        self.check_pauses()

    # What must always hold.

    @invariant()
    def table_is_as_its_model(self) -> None:
        model = list(self.model.values())
        with self.database.read() as connection:
            rows = connection.execute(_jobs_now()).mappings().all()
            assert [(row["id"], _of_row(row)) for row in rows] == [(job.id, _of_model(job)) for job in model]
            assert _epochs(connection) == {job.id: list(range(1, job.epochs + 1)) for job in model if job.epochs}
            assert _logs(connection) == {job.id: job.log for job in model}
            saved = {job.id: [(each.number, _sha256(each.content), each.epoch) for each in job.saved] for job in model}
            assert _saved(connection) == {job_id: states for job_id, states in saved.items() if states}
            needed = {sha256 for states in saved.values() for _, sha256, _ in states}
            needed |= {_sha256(job.split) for job in model if job.split is not None}
            assert _files(connection) == needed
            queued = [job.id for job in model if job.state is JobState.QUEUED]
            if queued:
                assert jobs.get(connection, queued[-1]).queue_position == len(queued)

    # How it is done.

    def both(self, job_id: str, on_table: OnTable, on_model: OnModel) -> None:
        """Do it to both: either both refuse it, or both give the same."""
        job = self.model.get(job_id)
        expected, got = "refused", "refused"
        try:
            if job is not None:
                expected = f"done: {on_model(job)}"
        except Refused:
            pass
        try:
            with self.database.write() as connection:
                got = f"done: {on_table(connection)}"
        except (Conflict, UnknownJob, LeaseLost):
            pass
        assert got == expected

    def store(self, held: Claim, fresh: int, again: int, best: int, content: bytes) -> None:
        """Store some new epochs, perhaps with some that are stored already, and the state after them."""
        done = self.epochs_of(held)
        saved = SavedState(content, done + fresh, 0)
        best = min(best, done + fresh)
        self.both(
            held.job_id,
            lambda connection: record(connection, held, max(0, done - again), done + fresh, best, saved),
            lambda job: job.record(held, done + fresh, best, content),
        )

    def any_job(self, pick: int) -> str:
        """Return one of the jobs, or now and then one that is not there."""
        if not self.model:
            self.add_job()
        return list(self.model)[pick % len(self.model)] if pick % 10 else "job-0"

    def any_claim(self, pick: int) -> Claim:
        """Return the claim of one of the jobs that are held, or now and then any that was ever made."""
        held = [job for job in self.model.values() if job.is_held]
        if not held:  # else most steps would do nothing
            queued = [job for job in self.model.values() if job.state is JobState.QUEUED]
            held = [queued[0] if queued else self.add_job()]
            self.make_claimable(held[0])
            self.take(held[0].id, "w1")
            if pick % 3 == 0:  # it is not its first worker
                self.lose_once(self.claims[-1], EventKind.WORKER_LOST)
        good = [Claim(job.id, job.fence, job.worker, DEFAULT_OWNER) for job in held if job.worker is not None]
        chosen = good if good and pick % 4 else [*self.claims, NOBODYS]
        return chosen[pick // 4 % len(chosen)]

    def let_go(self, held: Claim, kind: EventKind | None) -> None:
        self.both(
            held.job_id,
            lambda connection: leases.leave(connection, held, kind),
            lambda job: job.leave(held, kind),
        )

    def cancel(self, job_id: str) -> None:
        self.both(job_id, lambda connection: jobs.request_cancel(connection, job_id), ModelJob.request_cancel)

    def pause(self, job_id: str) -> None:
        self.both(job_id, lambda connection: jobs.request_pause(connection, job_id), ModelJob.request_pause)

    def add_job(self) -> ModelJob:
        job_id = self.new_id()
        with self.database.write() as connection:
            jobs.add(connection, job_id, SPEC)
        self.model[job_id] = ModelJob(job_id)
        return self.model[job_id]

    def take(self, job_id: str, worker: str) -> None:
        with self.database.for_everybody().write() as connection:
            claimed = leases.claim(connection, job_id, worker)
        job = self.model.get(job_id)
        assert claimed == (None if job is None else job.claim(worker))
        self.claims += [claimed] if claimed else []

    def lose_once(self, held: Claim, kind: EventKind, *, waits: bool = False) -> Claim | None:
        """Lose a job; return the claim of the next worker, if there is one."""
        claim: dict[str, Any] = {"held": held, "kind": kind}
        self.both(held.job_id, partial(losses.lose, **claim), partial(ModelJob.lose, **claim))
        self.check_pauses()
        job = self.model.get(held.job_id)
        if job is None or job.state is not JobState.QUEUED:
            return None
        self.take(job.id, "w3")  # in vain, for it must wait
        if waits:
            return None
        self.make_claimable(job)
        self.take(job.id, "w2")
        return self.claims[-1]

    def make_claimable(self, job: ModelJob) -> None:
        self.shift(job.id, "claimable_at", -1)
        job.must_wait = job.clock_was_set_back = False

    def new_id(self) -> str:
        self.count += 1
        return f"job-{self.count}"

    def epochs_of(self, held: Claim) -> int:
        job = self.model.get(held.job_id)
        return 0 if job is None else job.epochs

    def shift(self, job_id: str, column: str, seconds: float) -> None:
        with self.database.write() as connection:
            changed = update(tables.jobs).where(tables.jobs.c.id == job_id).values({column: database_time(seconds)})
            connection.execute(changed)

    def check_pauses(self) -> None:
        """Hold the pauses after losses against how long they must be: the clock stands still."""
        stored = tables.jobs.c
        with self.database.read() as connection:
            for job in self.model.values():
                if job.state is JobState.QUEUED and job.must_wait and not job.clock_was_set_back:
                    due = database_time(losses.BACK_OFF_SECONDS * 4 ** (job.losses - 1))
                    query = select(stored.id).where(stored.id == job.id, stored.claimable_at == due)
                    assert connection.execute(query).first() is not None, f"{job} does not wait as it should"


def record(connection: Connection, held: Claim, after: int, upto: int, best: int, saved: SavedState | None) -> None:
    measured = [EpochRecord(epoch, {"loss": 1.0 / epoch}, 0.001, 0.5) for epoch in range(after + 1, upto + 1)]
    leases.record(connection, held, Progress(upto, 0.5, 10.0, 1.0), best, measured, saved)


def _jobs_now() -> Any:
    """Select every job, with what its times come to now."""
    stored = tables.jobs.c
    is_live, is_due = stored.lease_until > database_time(), stored.claimable_at <= database_time()
    return select(tables.jobs, is_live.label("is_live"), is_due.label("is_due")).order_by(stored.number)


def _of_row(row: RowMapping) -> tuple[object, ...]:
    assert (row["lease_until"] is None) == (row["worker"] is None)
    return (
        row["state"],
        row["fence"],
        row["losses"],
        row["worker"],
        row["pause_requested"],
        row["epoch"],
        row["best_epoch"],
        row["last_checkpoint"],
        row["split_sha256"],
        row["model_version"],
        row["error_code"],
        row["retry_of"],
        row["finished_at"] is not None,
        row["started_at"] is not None,
        None if row["worker"] is None else bool(row["is_live"]),
        bool(row["is_due"]) if row["state"] == JobState.QUEUED else None,
    )


def _of_model(job: ModelJob) -> tuple[object, ...]:
    return (
        job.state.value,
        job.fence,
        job.losses,
        job.worker,
        job.pause_requested,
        job.epochs,
        job.best_epoch,
        job.last_saved,
        None if job.split is None else _sha256(job.split),
        job.version,
        job.error,
        job.retry_of,
        job.state in FINAL_STATES,
        any(kind == EventKind.STARTED for kind, _ in job.log),
        None if job.worker is None else not job.has_expired,
        job.is_claimable if job.state is JobState.QUEUED else None,
    )


def _epochs(connection: Connection) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    stored = tables.epochs.c
    for row in connection.execute(select(stored.job_id, stored.epoch).order_by(stored.job_id, stored.epoch)):
        found.setdefault(row.job_id, []).append(row.epoch)
    return found


def _logs(connection: Connection) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    stored = tables.events.c
    for row in connection.execute(select(tables.events).order_by(stored.job_id, stored.number)):
        log = found.setdefault(row.job_id, [])
        assert row.number == len(log) + 1
        log.append((row.kind, _told(row.kind, row.data)))
    return found


def _told(kind: str, data: dict[str, Any]) -> int | str | None:
    if kind == EventKind.STARTED:
        return f"{data['attempt']} from {data['epoch']}"
    return next((data[name] for name in ("attempt", "epoch", "version", "code") if name in data), None)


def _saved(connection: Connection) -> dict[str, list[tuple[int, str, int]]]:
    found: dict[str, list[tuple[int, str, int]]] = {}
    stored = tables.checkpoints.c
    for row in connection.execute(select(tables.checkpoints).order_by(stored.job_id, stored.number)):
        found.setdefault(row.job_id, []).append((row.number, row.sha256, row.epoch))
    return found


def _files(connection: Connection) -> set[str]:
    """Return the hashes of all files but those of the built-in tables."""
    return set(connection.execute(select(tables.blobs.c.sha256).where(tables.blobs.c.sha256.not_in(_TABLES))).scalars())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_job_table_does_what_its_model_does(database: Database) -> None:
    stop_clock(database)
    chosen = settings(
        max_examples=EXAMPLES[database.dialect],
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )

    class Bound(JobTable):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(Bound, settings=chosen)
