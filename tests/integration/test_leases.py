"""The life of a job in the database, on both systems; time is moved by changing the stored lease."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from service.domain.errors import (
    JobDidNotFail,
    JobIsCancelling,
    JobIsFinal,
    JobIsNotFinal,
    LeaseLost,
    SelfnormError,
    UnknownJob,
)
from service.domain.jobs import (
    HELD_STATES,
    MAX_ATTEMPTS,
    MAX_LOSSES,
    RESUMABLE_ERRORS,
    Checkpoint,
    Claim,
    Event,
    EventKind,
    Job,
    JobState,
)
from service.storage import blobs, checkpoints, events, jobs, leases, tables
from service.storage.checkpoints import KEPT_SECONDS
from service.storage.database import Connection, Database, database_time
from service.storage.leases import BACK_OFF_SECONDS, LEASE_SECONDS
from service.storage.tables import jobs as table
from service.sweeper import SWEEP_SECONDS, Sweeper, sweep, tidy
from tests.factories import measured, progress, saved_state, stored_job

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

DAY = 86_400.0


def do(
    database: Database,
    work: Callable[Concatenate[Connection, Arguments], Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """Work in a transaction of its own."""
    with database.write() as connection:
        return work(connection, *arguments, **options)


def claim(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim | None:
    return do(database, leases.claim, job_id, worker)


def claim_next(database: Database, worker: str = "w1") -> Claim | None:
    return do(database, leases.claim_next, worker)


def claimed(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim:
    """Claim a job, which is stored if there is none of this name."""
    with suppress(IntegrityError):
        stored_job(database, job_id)
    make_claimable(database)
    held = claim(database, job_id, worker)
    assert held is not None
    return held


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def state(database: Database, job_id: str = "job-1") -> JobState:
    return read(database, job_id).state


def column(database: Database, name: str, job_id: str = "job-1") -> Any:
    with database.read() as connection:
        return connection.execute(select(table.c[name]).where(table.c.id == job_id)).scalar_one()


def record(database: Database, held: Claim, *epochs: int, step: int | None = None) -> None:
    """Store epochs; with ``step``, a state that stands so many steps after the last of them."""
    last = max(epochs, default=read(database, held.job_id).epoch)
    saved = None if step is None else saved_state(last, step)
    do(database, leases.record, held, progress(last), 1, [measured(epoch) for epoch in epochs], saved)


def leave(database: Database, held: Claim, kind: EventKind | None = None) -> JobState:
    with database.write() as connection:
        return leases.leave(connection, held, kind)


def trained(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim:
    """Claim a job, and store two states: after two epochs, and after four and three steps of the next."""
    held = claimed(database, job_id, worker)
    record(database, held, 1, 2, step=0)
    record(database, held, 3, 4, step=3)
    return held


def change(database: Database, job_id: str = "job-1", **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == job_id).values(**values))


def make_claimable(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(table).values(claimable_at=database_time(-1)))


def expire(database: Database, job_id: str) -> None:
    is_held = (table.c.id == job_id) & table.c.worker.is_not(None)
    with database.write() as connection:
        connection.execute(update(table).where(is_held).values(lease_until=database_time(-1)))


def lose(database: Database, job_id: str = "job-1") -> None:
    """Let the lease of a job expire, and sweep."""
    expire(database, job_id)
    sweep(database)


def log(database: Database, job_id: str = "job-1") -> list[Event]:
    with database.read() as connection:
        return events.read(connection, job_id)


def kinds(database: Database, job_id: str = "job-1") -> list[str]:
    return [event.kind.value for event in log(database, job_id)]


def epochs_of(database: Database, job_id: str = "job-1") -> list[int]:
    with database.read() as connection:
        return [stored.epoch for stored in jobs.epoch_records(connection, job_id)]


def states_of(database: Database, job_id: str = "job-1") -> list[Checkpoint]:
    """The states of a job, oldest first."""
    which = tables.checkpoints
    with database.read() as connection:
        query = select(which.c.number, which.c.sha256, which.c.epoch, which.c.step)
        rows = connection.execute(query.where(which.c.job_id == job_id).order_by(which.c.number))
        return [Checkpoint(*row) for row in rows]


def stored_blobs(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(tables.blobs.c.sha256)).scalars())


def everything(database: Database, job_id: str = "job-1") -> dict[str, Any]:
    """All that is stored of a job."""
    found: dict[str, Any] = {"blobs": stored_blobs(database)}
    with database.read() as connection:
        for which in (table, tables.epochs, tables.events, tables.checkpoints):
            key = which.c.id if which is table else which.c.job_id
            rows = connection.execute(select(which).where(key == job_id).order_by(*which.primary_key)).mappings()
            found[which.name] = [dict(row) for row in rows]
    return found


@pytest.fixture(autouse=True)
def sound(database: Database) -> Iterator[None]:
    """After every one of these lives: the log has no gap and no sequel, and nothing is left that nobody needs."""
    before = stored_blobs(database)
    yield
    with database.read() as connection:
        found = list(connection.execute(select(table)).mappings())
        owners = {event.job_id for event in connection.execute(select(tables.events)).all()}
        splits = {row["split_sha256"] for row in found}
    assert owners == {row["id"] for row in found}
    needed = before | splits
    for row in found:
        told = log(database, row["id"])
        assert [event.number for event in told] == list(range(1, row["last_event"] + 1))
        assert told[0].kind is EventKind.SUBMITTED
        job_state = JobState(row["state"])
        ends = [
            place for place, event in enumerate(told, 1) if event.kind.value in ("succeeded", "failed", "cancelled")
        ]
        assert ends == ([len(told)] if job_state.is_final else [])
        if ends:
            assert told[-1].kind.value == job_state.value
        is_held = job_state in HELD_STATES
        assert (row["worker"] is not None, row["lease_until"] is not None) == (is_held, is_held)
        assert (row["finished_at"] is not None) == job_state.is_final
        assert not row["pause_requested"] or is_held
        assert epochs_of(database, row["id"]) == list(range(1, row["epoch"] + 1))
        states = states_of(database, row["id"])
        assert len(states) <= 2
        assert all(kept.number <= row["last_checkpoint"] and kept.epoch <= row["epoch"] for kept in states)
        assert states == [] or job_state not in (JobState.SUCCEEDED, JobState.CANCELLED)
        needed |= {kept.sha256 for kept in states}
    assert stored_blobs(database) == needed - {None}


# Waiting and being claimed.


def test_new_job_waits_in_line(database: Database) -> None:
    stored_job(database, "a")
    stored_job(database, "b")
    assert [read(database, name).queue_position for name in ("a", "b")] == [1, 2]
    assert state(database, "a") == JobState.QUEUED
    assert kinds(database, "a") == ["submitted"]


def test_claimed_job_runs_and_counts_attempts(database: Database) -> None:
    held = claimed(database)
    job = read(database)
    assert (job.state, job.attempts, job.queue_position) == (JobState.RUNNING, 1, None)
    assert held == Claim("job-1", 1, "w1")
    assert job.started_at is not None
    assert job.started_at >= job.created_at
    assert [(event.kind, event.data) for event in log(database)][1:] == [
        (EventKind.STARTED, {"attempt": 1, "worker": "w1", "epoch": 0})
    ]


def test_second_message_claims_nothing(database: Database) -> None:
    claimed(database)
    assert claim(database, worker="w2") is None


def test_many_workers_at_once_make_one_claim(database: Database) -> None:
    stored_job(database)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: claim(database, worker=f"w{number}"), range(8)))
    assert sum(found is not None for found in claims) == 1


def test_next_job_is_the_one_that_waits_longest_of_those_that_may_be_claimed(database: Database) -> None:
    for name in ("running", "paused", "pausing for a while", "longest", "newest"):
        stored_job(database, name)
    claimed(database, "running")
    do(database, jobs.request_pause, "paused")
    change(database, "pausing for a while", claimable_at=database_time(8))
    for expected in ("longest", "newest"):
        with database.read() as connection:
            assert leases.has_claimable(connection)
        found = claim_next(database)
        assert found is not None
        assert found.job_id == expected
    with database.read() as connection:
        assert not leases.has_claimable(connection)
    assert claim_next(database) is None
    do(database, jobs.resume, "paused")
    make_claimable(database)
    assert [claim_next(database, "w2"), claim_next(database, "w3"), claim_next(database, "w4")] == [
        Claim("paused", 1, "w2"),
        Claim("pausing for a while", 1, "w3"),
        None,
    ], "a place in the line is kept"


def test_many_workers_at_once_each_get_another_job(database: Database) -> None:
    workers, each = 8, 3
    for number in range(workers * each):
        stored_job(database, f"job-{number}")
    together = threading.Barrier(workers)

    def work(number: int) -> list[Claim | None]:
        found = []
        for _ in range(each):
            together.wait(30)
            found.append(claim_next(database, f"w{number}"))
        return found

    with ThreadPoolExecutor(workers) as pool:
        claims = [held for found in pool.map(work, range(workers)) for held in found]
    assert {held.job_id for held in claims if held is not None} == {f"job-{number}" for number in range(workers * each)}
    assert all(held is not None and held.fence == 1 for held in claims)
    assert claim_next(database) is None


# What a worker stores.


def test_epochs_state_and_events_are_stored_together(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, 2, step=5)
    job = read(database)
    assert (job.epoch, job.best_epoch, job.fraction, job.rows_per_second) == (2, 1, 0.2, 100.0)
    assert job.latest == {"epoch": 2, "loss": 0.5, "val_loss": None}
    assert job.best == {"epoch": 1, "loss": 1.0, "val_loss": None}
    assert epochs_of(database) == [1, 2]
    assert [(event.kind, event.data) for event in log(database)][2:] == [
        (EventKind.EPOCH, {"epoch": 1, "loss": 1.0, "val_loss": None}),
        (EventKind.EPOCH, {"epoch": 2, "loss": 0.5, "val_loss": None}),
    ]
    with database.read() as connection:
        newest = checkpoints.newest(connection, "job-1")
        assert newest is not None
        assert (newest.number, newest.epoch, newest.step) == (1, 2, 5)
        assert checkpoints.content(connection, newest) == saved_state(2, 5).content


def test_progress_within_an_epoch_touches_neither_epochs_nor_log(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, step=0)
    before = everything(database)
    do(database, leases.record_progress, held, replace(progress(1), fraction=0.15, eta_seconds=1.5))
    job = read(database)
    assert (job.epoch, job.fraction, job.eta_seconds) == (1, 0.15, 1.5)
    after = everything(database)
    assert {name: rows for name, rows in after.items() if name != "jobs"} == {
        name: rows for name, rows in before.items() if name != "jobs"
    }


@pytest.mark.parametrize("where", ["in the epochs", "in the checkpoint", "in the commit"])
def test_record_that_fails_on_its_way_leaves_nothing(database: Database, where: str) -> None:
    """What the tables refuse stands for a server that dies: by then a part of it has been written."""
    held = claimed(database)
    record(database, held, 1, step=0)
    before = everything(database)
    bad: Any = None
    rate = bad if where == "in the epochs" else 0.1
    saved = saved_state(3, bad if where == "in the checkpoint" else 0)
    new = [measured(2), replace(measured(3), learning_rate=rate)]

    def work(connection: Connection) -> None:
        leases.record(connection, held, progress(3), 1, new, saved)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if where == "in the commit" else IntegrityError):
        do(database, work)
    assert everything(database) == before
    record(database, held, 2, 3, step=0)
    assert epochs_of(database) == [1, 2, 3]


def test_record_whose_answer_was_lost_adds_nothing_twice(database: Database) -> None:
    held = claimed(database)
    for _ in range(3):
        record(database, held, 1, 2, step=4)
    assert epochs_of(database) == [1, 2]
    record(database, held, 1, 2, 3, 4, step=0)
    record(database, held, 1, 2, 3, 4)
    assert epochs_of(database) == [1, 2, 3, 4]
    assert [event.data["epoch"] for event in log(database) if event.kind is EventKind.EPOCH] == [1, 2, 3, 4]


def test_two_newest_states_are_kept_and_the_bytes_of_no_other(database: Database) -> None:
    held = claimed(database)
    before = stored_blobs(database)
    for epoch in range(1, 6):
        record(database, held, epoch, step=0)
        assert [kept.epoch for kept in states_of(database)] == [epoch - 1, epoch][-min(epoch, 2) :]
    assert [kept.number for kept in states_of(database)] == [4, 5]
    assert stored_blobs(database) - before == {kept.sha256 for kept in states_of(database)}


def test_bytes_that_another_job_needs_stay(database: Database) -> None:
    first, second = trained(database, "a", "w1"), trained(database, "b", "w2")
    assert [kept.sha256 for kept in states_of(database, "a")] == [kept.sha256 for kept in states_of(database, "b")]
    for epoch in (5, 6):
        do(database, leases.record, first, progress(epoch), 1, [measured(epoch)], saved_state(epoch, 0, b"%d" % epoch))
    newest = states_of(database, "b")[-1]
    with database.read() as connection:
        assert checkpoints.content(connection, newest) == saved_state(4, 3).content
    do(database, leases.fail, second, "training_diverged", "why")
    assert newest.sha256 not in stored_blobs(database)


def test_same_state_stored_twice_is_still_there_after_one_is_gone(database: Database) -> None:
    """A retried commit stores a state under two numbers."""
    held = claimed(database)
    for _ in range(2):
        record(database, held, 1, step=0)
    first, second = states_of(database)
    assert (first.number, second.number, first.sha256) == (1, 2, second.sha256)
    do(database, leases.go_back, held, second, "damaged")
    with database.read() as connection:
        assert checkpoints.content(connection, first) == saved_state(1).content


# States that cannot be used.


def test_damaged_state_is_forgotten_with_the_epochs_that_only_it_stands_for(database: Database) -> None:
    held = trained(database)
    older, newest = states_of(database)
    do(database, leases.go_back, held, newest, "the stored bytes are damaged")
    assert epochs_of(database) == [1, 2]
    assert states_of(database) == [older]
    assert (read(database).epoch, read(database).best_epoch) == (2, 1)
    last = log(database)[-1]
    assert last.kind is EventKind.CHECKPOINT_DAMAGED
    assert last.data == {"epoch": 2, "reason": "the stored bytes are damaged"}
    assert newest.sha256 not in stored_blobs(database)
    record(database, held, 3, 4, step=3)
    assert epochs_of(database) == [1, 2, 3, 4]
    assert [kept.number for kept in states_of(database)] == [1, 3], "the sound one stays until there are two newer"


def test_both_states_damaged_leave_the_beginning(database: Database) -> None:
    held = trained(database)
    for damaged in reversed(states_of(database)):
        do(database, leases.go_back, held, damaged, "damaged")
    job = read(database)
    assert (job.epoch, job.best_epoch, job.latest, job.best, epochs_of(database)) == (0, None, None, None, [])
    assert [event.data["epoch"] for event in log(database)[-2:]] == [2, 0]


def test_epochs_that_no_state_stands_for_are_forgotten(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, 2)
    do(database, leases.go_back, held, None, "there is none")
    assert (read(database).epoch, epochs_of(database)) == (0, [])
    assert log(database)[-1].data == {"epoch": 0, "reason": "there is none"}


def test_best_epoch_goes_where_its_epoch_goes(database: Database) -> None:
    held = claimed(database)
    do(database, leases.record, held, progress(1), 1, [measured(1)], saved_state(1))
    do(database, leases.record, held, progress(2), 2, [measured(2)], saved_state(2))
    do(database, leases.go_back, held, states_of(database)[-1], "damaged")
    assert read(database).best_epoch is None
    assert read(database).best is None


# Losses.


def test_lost_worker_gives_the_job_back_after_its_lease(database: Database) -> None:
    held = claimed(database)
    sweep(database)
    assert state(database) == JobState.RUNNING
    lose(database)
    assert state(database) == JobState.QUEUED
    assert claim(database) is None, "a pause comes first"
    assert claim_next(database) is None
    make_claimable(database)
    assert claim(database, worker="w2") == Claim("job-1", held.fence + 1, "w2")
    assert kinds(database) == ["submitted", "started", "worker_lost", "started"]
    assert log(database)[2].data == {"attempt": 1}


def test_many_lost_jobs_are_all_taken_back(database: Database) -> None:
    for number in range(5):
        claimed(database, f"job-{number}", f"w{number % 2}")
    with database.write() as connection:
        connection.execute(update(table).values(lease_until=database_time(-1)))
    sweep(database)
    assert [state(database, f"job-{number}") for number in range(5)] == [JobState.QUEUED] * 5


def test_pause_after_a_loss_grows(database: Database) -> None:
    for expected in (BACK_OFF_SECONDS, 4 * BACK_OFF_SECONDS):
        claimed(database)
        lose(database)
        with database.read() as connection:
            now = connection.execute(select(database_time())).scalar_one()
        assert expected - 2 < (column(database, "claimable_at") - now).total_seconds() <= expected


def test_job_that_kills_its_workers_fails(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        claimed(database)
        lose(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "worker_lost")
    assert column(database, "losses") == MAX_LOSSES
    assert kinds(database)[-2:] == ["worker_lost", "failed"]


def test_job_that_stands_still_again_and_again_fails(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        do(database, leases.lose, claimed(database), EventKind.STALLED)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "stalled")
    assert kinds(database).count("stalled") == MAX_LOSSES


def test_losses_count_from_the_last_state_on(database: Database) -> None:
    for epoch in range(1, 4):
        for _ in range(MAX_LOSSES - 1):
            claimed(database)
            lose(database)
        assert column(database, "losses") == MAX_LOSSES - 1
        record(database, claimed(database), epoch, step=0)
        assert column(database, "losses") == 0
        lose(database)
        assert (state(database), column(database, "losses")) == (JobState.QUEUED, 1)
        record(database, claimed(database), step=epoch)
        do(database, leases.hand_back, "w1")
    assert state(database) == JobState.QUEUED


def test_signs_of_life_without_a_state_do_not_forgive_losses(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        held = claimed(database)
        do(database, leases.heartbeat, held)
        do(database, leases.record_progress, held, progress(0))
        lose(database)
    assert state(database) == JobState.FAILED


def test_job_that_loses_its_hundredth_worker_fails_though_each_came_further(database: Database) -> None:
    record(database, claimed(database), 1, step=0)
    do(database, leases.hand_back, "w1")
    change(database, fence=MAX_ATTEMPTS - 2)
    record(database, claimed(database), 2, step=0)
    lose(database)
    assert state(database) == JobState.QUEUED
    record(database, claimed(database), 3, step=0)
    lose(database)
    job = read(database)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "too_many_attempts", MAX_ATTEMPTS)
    assert [kept.epoch for kept in states_of(database)] == [2, 3]


def test_hundredth_attempt_may_succeed_or_be_handed_back(database: Database) -> None:
    stored_job(database)
    change(database, fence=MAX_ATTEMPTS + 5)
    claimed(database)
    do(database, leases.hand_back, "w1")
    assert state(database) == JobState.QUEUED
    do(database, leases.succeed, claimed(database), best_epoch=1, test_metrics=None, version=1)
    assert state(database) == JobState.SUCCEEDED


# The end.


def test_succeeded_job_keeps_no_state(database: Database) -> None:
    before = stored_blobs(database)
    do(database, leases.succeed, trained(database), best_epoch=3, test_metrics={"r2": 0.5}, version=3)
    job = read(database)
    assert (job.state, job.model_version, job.best_epoch, job.test_metrics) == (
        JobState.SUCCEEDED,
        3,
        3,
        {"r2": 0.5},
    )
    assert (job.fraction, job.eta_seconds, epochs_of(database)) == (1.0, 0.0, [1, 2, 3, 4])
    assert (states_of(database), stored_blobs(database)) == ([], before)
    assert log(database)[-1].data == {"version": 3}


def test_failed_job_keeps_its_reason(database: Database) -> None:
    do(database, leases.fail, claimed(database), "training_diverged", "why")
    job = read(database)
    assert (job.state, job.error_code, job.error_detail) == (JobState.FAILED, "training_diverged", "why")
    assert log(database)[-1].data == {"code": "training_diverged", "detail": "why"}


def test_failed_job_keeps_its_states_only_where_they_may_help(database: Database) -> None:
    others = ("training_diverged", "nothing_to_keep", "parity_failed", "unusable_column", "unusable_state", "error")
    for code in (*sorted(RESUMABLE_ERRORS), *others):
        do(database, leases.fail, trained(database, code), code, "why")
        assert len(states_of(database, code)) == (2 if code in RESUMABLE_ERRORS else 0), code
        assert epochs_of(database, code) == [1, 2, 3, 4]


def test_failure_of_a_job_that_is_being_cancelled_is_no_failure(database: Database) -> None:
    held = trained(database)
    do(database, jobs.request_cancel, "job-1")
    do(database, leases.fail, held, "internal_error", "why")
    job = read(database)
    assert (job.state, job.error_code, job.error_detail) == (JobState.CANCELLED, None, None)
    assert states_of(database) == []


def test_split_that_is_drawn_anew_takes_the_place_of_the_first(database: Database) -> None:
    before = stored_blobs(database)
    held = claimed(database)
    for content in (b"a split", b"another", b"another"):
        do(database, leases.record_split, held, content)
    with database.read() as connection:
        assert jobs.split(connection, "job-1") == b"another"
    assert len(stored_blobs(database) - before) == 1


def test_final_job_can_neither_be_cancelled_nor_claimed(database: Database) -> None:
    do(database, leases.succeed, claimed(database), best_epoch=1, test_metrics=None, version=1)
    with pytest.raises(JobIsFinal, match="succeeded"):
        do(database, jobs.request_cancel, "job-1")
    assert claim(database) is None
    cancelled = stored_job(database, "job-2")
    do(database, jobs.request_cancel, cancelled)
    do(database, jobs.request_cancel, cancelled)
    assert kinds(database, cancelled) == ["submitted", "cancelled"]


def test_job_is_deleted_with_all_that_belongs_to_it_only_when_it_has_ended(database: Database) -> None:
    before = stored_blobs(database)
    held = trained(database)
    do(database, leases.record_split, held, b"a split")
    with pytest.raises(JobIsNotFinal):
        do(database, jobs.remove, "job-1")
    do(database, leases.fail, held, "worker_lost", "why")
    assert len(stored_blobs(database) - before) == 3
    do(database, jobs.remove, "job-1")
    with pytest.raises(UnknownJob):
        read(database)
    assert everything(database) == {"blobs": before, "jobs": [], "epochs": [], "events": [], "checkpoints": []}


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING])
def test_job_that_has_not_ended_is_not_deleted(database: Database, state: JobState) -> None:
    brought_to(database, state)
    before = everything(database)
    with pytest.raises(JobIsNotFinal):
        do(database, jobs.remove, "job-1")
    assert everything(database) == before


# Cancel.


def test_queued_job_is_cancelled_at_once_and_not_claimed(database: Database) -> None:
    stored_job(database)
    do(database, jobs.request_cancel, "job-1")
    assert state(database) == JobState.CANCELLED
    assert claim(database) is None
    assert claim_next(database) is None


def test_running_job_hears_of_a_cancel(database: Database) -> None:
    held = claimed(database)
    assert not do(database, leases.heartbeat, held).cancel_requested
    do(database, jobs.request_cancel, "job-1")
    do(database, jobs.request_cancel, "job-1")
    assert state(database) == JobState.CANCELLING
    assert do(database, leases.word, held).cancel_requested
    assert do(database, leases.heartbeat, held).cancel_requested
    assert leave(database, held) == JobState.CANCELLED
    assert kinds(database) == ["submitted", "started", "cancel_requested", "cancelled"]


def test_job_that_is_being_cancelled_cannot_succeed(database: Database) -> None:
    held = claimed(database)
    do(database, jobs.request_cancel, "job-1")
    with pytest.raises(LeaseLost):
        do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)
    assert leave(database, held) == JobState.CANCELLED


def test_cancelled_job_keeps_no_state(database: Database) -> None:
    before = stored_blobs(database)
    held = trained(database, "running")
    do(database, jobs.request_cancel, "running")
    leave(database, held)
    leave(database, trained(database, "queued"), EventKind.HANDED_BACK)
    held = trained(database, "paused")
    do(database, jobs.request_pause, "paused")
    leave(database, held)
    for name in ("queued", "paused"):
        assert len(states_of(database, name)) == 2
        do(database, jobs.request_cancel, name)
    for name in ("running", "queued", "paused"):
        assert (state(database, name), states_of(database, name)) == (JobState.CANCELLED, [])
        assert epochs_of(database, name) == [1, 2, 3, 4]
    assert stored_blobs(database) == before


@pytest.mark.parametrize("kind", [EventKind.WORKER_LOST, EventKind.STALLED])
def test_cancel_survives_the_loss_of_its_worker(database: Database, kind: EventKind) -> None:
    held = trained(database)
    do(database, jobs.request_cancel, "job-1")
    assert do(database, leases.lose, held, kind) == JobState.CANCELLED
    assert kinds(database)[-2:] == [kind.value, "cancelled"]


def test_cancel_survives_every_loss_and_any_number_of_attempts(database: Database) -> None:
    claimed(database)
    change(database, fence=MAX_ATTEMPTS, losses=MAX_LOSSES)
    do(database, jobs.request_cancel, "job-1")
    lose(database)
    assert state(database) == JobState.CANCELLED


def test_cancel_beside_a_worker_that_hands_back_is_never_lost(database: Database) -> None:
    for number in range(15):
        job_id, worker = f"race-{number}", f"w{number}"
        claimed(database, job_id, worker)
        with ThreadPoolExecutor(2) as pool:
            both = [
                pool.submit(do, database, leases.hand_back, worker),
                pool.submit(do, database, jobs.request_cancel, job_id),
            ]
        for done in both:
            done.result()
        do(database, leases.hand_back, worker)
        assert state(database, job_id) == JobState.CANCELLED


# Pause and resume.


def brought_to(database: Database, wanted: JobState) -> Claim | None:
    """Bring the job into a state; return the last claim on it."""
    stored_job(database)
    if wanted is JobState.QUEUED:
        return None
    held = claimed(database)
    match wanted:
        case JobState.PAUSED:
            do(database, jobs.request_pause, "job-1")
            leave(database, held)
        case JobState.CANCELLING:
            do(database, jobs.request_cancel, "job-1")
        case JobState.CANCELLED:
            do(database, jobs.request_cancel, "job-1")
            leave(database, held)
        case JobState.FAILED:
            do(database, leases.fail, held, "worker_lost", "why")
        case JobState.SUCCEEDED:
            do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)
    assert state(database) == wanted
    return held


def test_queued_job_is_paused_at_once_and_leaves_the_line(database: Database) -> None:
    stored_job(database)
    do(database, jobs.request_pause, "job-1")
    job = read(database)
    assert (job.state, job.pause_requested, job.queue_position) == (JobState.PAUSED, False, None)
    assert claim(database) is None
    assert claim_next(database) is None
    with database.read() as connection:
        assert not leases.has_claimable(connection)
    do(database, jobs.resume, "job-1")
    assert claim(database) is not None
    assert kinds(database) == ["submitted", "paused", "resumed", "started"]


def test_running_job_hears_of_a_pause_and_goes_on_later_where_it_was(database: Database) -> None:
    held = claimed(database)
    began = read(database).started_at
    do(database, jobs.request_pause, "job-1")
    job = read(database)
    assert (job.state, job.pause_requested) == (JobState.RUNNING, True)
    assert do(database, leases.word, held).pause_requested
    assert do(database, leases.heartbeat, held).pause_requested
    record(database, held, 1, step=3)
    assert leave(database, held) == JobState.PAUSED
    assert (state(database), read(database).pause_requested) == (JobState.PAUSED, False)
    assert (column(database, "losses"), epochs_of(database)) == (0, [1])
    do(database, jobs.resume, "job-1")
    again = claim(database, worker="w2")
    assert again == Claim("job-1", 2, "w2")
    assert not do(database, leases.word, again).pause_requested
    assert log(database)[-1].data == {"attempt": 2, "worker": "w2", "epoch": 1}
    assert read(database).started_at == began
    assert kinds(database) == [
        "submitted",
        "started",
        "pause_requested",
        "epoch",
        "paused",
        "resumed",
        "started",
    ]


@pytest.mark.parametrize("wanted", [JobState.QUEUED, JobState.RUNNING, JobState.PAUSED])
def test_second_pause_changes_nothing(database: Database, wanted: JobState) -> None:
    brought_to(database, wanted)
    do(database, jobs.request_pause, "job-1")
    before = everything(database)
    do(database, jobs.request_pause, "job-1")
    assert everything(database) == before


@pytest.mark.parametrize("wanted", [JobState.QUEUED, JobState.RUNNING])
def test_resume_changes_nothing_where_nothing_is_paused(database: Database, wanted: JobState) -> None:
    brought_to(database, wanted)
    before = everything(database)
    do(database, jobs.resume, "job-1")
    assert everything(database) == before


@pytest.mark.parametrize("ask", [jobs.request_pause, jobs.resume], ids=["pause", "resume"])
@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (JobState.CANCELLING, JobIsCancelling),
        (JobState.CANCELLED, JobIsFinal),
        (JobState.FAILED, JobIsFinal),
        (JobState.SUCCEEDED, JobIsFinal),
    ],
)
def test_job_that_ends_or_has_ended_is_neither_paused_nor_resumed(
    database: Database, ask: Callable[[Connection, str], None], wanted: JobState, error: type[SelfnormError]
) -> None:
    brought_to(database, wanted)
    before = everything(database)
    with pytest.raises(error):
        do(database, ask, "job-1")
    assert everything(database) == before


def test_unknown_job_is_neither_paused_nor_resumed_nor_tried_again(database: Database) -> None:
    for ask in (jobs.request_pause, jobs.resume, jobs.request_cancel, jobs.remove):
        with pytest.raises(UnknownJob):
            do(database, ask, "nothing")
    with pytest.raises(UnknownJob):
        do(database, jobs.retry, "nothing", "new")


def test_pause_that_is_taken_back_at_once_disturbs_nobody(database: Database) -> None:
    held = claimed(database)
    do(database, jobs.request_pause, "job-1")
    do(database, jobs.resume, "job-1")
    beat = do(database, leases.heartbeat, held)
    assert (beat.pause_requested, beat.cancel_requested) == (False, False)
    assert kinds(database) == ["submitted", "started", "pause_requested", "resumed"]


def test_job_whose_pause_is_taken_back_before_its_worker_has_left_waits_in_line(database: Database) -> None:
    held = claimed(database)
    do(database, jobs.request_pause, "job-1")
    assert do(database, leases.word, held).pause_requested
    do(database, jobs.resume, "job-1")
    assert leave(database, held) == JobState.QUEUED
    assert claim_next(database) is not None


@pytest.mark.parametrize("kind", [EventKind.WORKER_LOST, EventKind.STALLED])
def test_pausing_job_whose_worker_is_lost_is_paused(database: Database, kind: EventKind) -> None:
    held = trained(database)
    do(database, jobs.request_pause, "job-1")
    assert do(database, leases.lose, held, kind) == JobState.PAUSED
    assert kinds(database)[-2:] == [kind.value, "paused"]
    assert not read(database).pause_requested
    assert len(states_of(database)) == 2


def test_pausing_job_is_not_failed_by_any_loss(database: Database) -> None:
    for number in range(1, MAX_LOSSES + 2):
        claimed(database)
        do(database, jobs.request_pause, "job-1")
        lose(database)
        assert (state(database), column(database, "losses")) == (JobState.PAUSED, number)
        do(database, jobs.resume, "job-1")
        with database.read() as connection:
            assert leases.has_claimable(connection), "a resume waits for nothing"
    claimed(database)
    lose(database)
    assert state(database) == JobState.FAILED


def test_cancel_counts_more_than_a_pause(database: Database) -> None:
    held = claimed(database)
    do(database, jobs.request_pause, "job-1")
    do(database, jobs.request_cancel, "job-1")
    beat = do(database, leases.word, held)
    assert (beat.cancel_requested, beat.pause_requested) == (True, True)
    assert leave(database, held) == JobState.CANCELLED
    assert not read(database).pause_requested


def test_job_that_ends_before_its_pause_is_heard_has_ended(database: Database) -> None:
    held = claimed(database, "done")
    do(database, jobs.request_pause, "done")
    do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)
    held = claimed(database, "broken")
    do(database, jobs.request_pause, "broken")
    do(database, leases.fail, held, "training_diverged", "why")
    assert [state(database, name) for name in ("done", "broken")] == [JobState.SUCCEEDED, JobState.FAILED]
    assert not read(database, "done").pause_requested
    assert not read(database, "broken").pause_requested


# A worker that stops.


def test_stopping_worker_hands_back_what_it_holds_without_a_loss(database: Database) -> None:
    trained(database, "mine")
    trained(database, "other", "w2")
    trained(database, "pausing")
    do(database, jobs.request_pause, "pausing")
    trained(database, "cancelling")
    do(database, jobs.request_cancel, "cancelling")
    stored_job(database, "waiting")
    do(database, leases.hand_back, "w1")
    names = ("mine", "other", "pausing", "cancelling", "waiting")
    assert [state(database, name).value for name in names] == ["queued", "running", "paused", "cancelled", "queued"]
    assert column(database, "losses", "mine") == 0
    assert kinds(database, "mine")[-1] == "handed_back"
    assert kinds(database, "pausing")[-2:] == ["handed_back", "paused"]
    assert kinds(database, "cancelling")[-2:] == ["handed_back", "cancelled"]
    assert [len(states_of(database, name)) for name in names] == [2, 2, 2, 0, 0]
    before = everything(database)
    do(database, leases.hand_back, "w1")
    assert everything(database) == before
    assert claim(database, "mine", "w3") is not None, "no pause follows"


def test_any_number_of_hand_backs_fails_no_job(database: Database) -> None:
    for _ in range(2 * MAX_LOSSES):
        leave(database, claimed(database), EventKind.HANDED_BACK)
    assert (state(database), column(database, "losses")) == (JobState.QUEUED, 0)


# The clock.


def needs_sweep(database: Database) -> bool:
    with database.read() as connection:
        return leases.needs_sweep(connection)


def test_sweep_is_not_needed_while_all_is_well(database: Database) -> None:
    stored_job(database, "queued")
    held = claimed(database, "running")
    assert not needs_sweep(database)
    before = [everything(database, name) for name in ("queued", "running")]
    sweep(database)
    do(database, leases.follow_clock)
    do(database, leases.lose_expired)
    assert [everything(database, name) for name in ("queued", "running")] == before
    do(database, leases.lose, held)
    assert not needs_sweep(database), "a pause after a loss is no fault of the clock"
    assert claim_next(database) == Claim("queued", 1, "w1")
    assert claim_next(database) is None


def test_lease_from_before_the_clock_was_set_back_is_shortened(database: Database) -> None:
    held = claimed(database)
    for state_now in (JobState.RUNNING, JobState.CANCELLING):
        change(database, lease_until=database_time(DAY))
        assert needs_sweep(database)
        sweep(database)
        assert not needs_sweep(database)
        with database.read() as connection:
            now = connection.execute(select(database_time())).scalar_one()
        assert 0 < (column(database, "lease_until") - now).total_seconds() <= LEASE_SECONDS
        assert state(database) == state_now
        do(database, leases.heartbeat, held)
        if state_now is JobState.RUNNING:
            do(database, jobs.request_cancel, "job-1")
    change(database, lease_until=database_time(DAY))
    sweep(database)
    lose(database)
    assert state(database) == JobState.CANCELLED


def test_pause_from_before_the_clock_was_set_back_is_over(database: Database) -> None:
    claimed(database)
    lose(database)
    change(database, claimable_at=database_time(DAY))
    assert claim(database) is None
    assert needs_sweep(database)
    sweep(database)
    assert not needs_sweep(database)
    assert claim(database) is not None
    assert column(database, "losses") == 1


def test_clock_that_is_set_forward_costs_one_loss(database: Database) -> None:
    """It is as if every stored time was a day ago."""
    held = trained(database)
    stored_job(database, "waiting")
    with database.write() as connection:
        connection.execute(update(table).values(claimable_at=database_time(-DAY)))
    change(database, lease_until=database_time(-DAY))
    sweep(database)
    assert (state(database), column(database, "losses")) == (JobState.QUEUED, 1)
    with pytest.raises(LeaseLost):
        do(database, leases.heartbeat, held)
    assert claim(database, "waiting") is not None
    record(database, claimed(database), step=4)
    assert column(database, "losses") == 0


def test_sweeper_gives_a_worker_that_lives_the_time_to_renew(database: Database) -> None:
    """After an outage of the database every lease has expired."""
    living, dead = claimed(database, "living"), claimed(database, "dead", "w2")
    for held in (living, dead):
        expire(database, held.job_id)
    sweeper = Sweeper(database)
    sweeper.start()
    time.sleep(SWEEP_SECONDS * 1.5)
    do(database, leases.heartbeat, living)
    deadline = time.monotonic() + 10 * SWEEP_SECONDS
    while state(database, "dead") == JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sweeper.stop()
    assert [state(database, name) for name in ("living", "dead")] == [JobState.RUNNING, JobState.QUEUED]


# Retry.


def failed(database: Database, code: str = "worker_lost") -> Claim:
    """A job that failed after an epoch that no state holds."""
    held = trained(database)
    do(database, leases.record, held, progress(5), 5, [measured(5)])
    do(database, leases.fail, held, code, "why")
    return held


def test_retry_is_a_new_job_that_goes_on_from_the_last_state(database: Database) -> None:
    failed(database)
    before = everything(database)
    do(database, jobs.retry, "job-1", "again")
    old, new = read(database), read(database, "again")
    assert everything(database) == before, "the failed job stays as it is"
    assert (new.state, new.retry_of, new.attempts, new.epoch) == (JobState.QUEUED, "job-1", 0, 4)
    assert (new.spec, new.dataset_id, new.model_name, new.tags, new.epochs) == (
        old.spec,
        old.dataset_id,
        old.model_name,
        old.tags,
        old.epochs,
    )
    assert (new.error_code, new.error_detail, new.finished_at, new.started_at) == (None, None, None, None)
    assert new.best_epoch is None, "the best was in an epoch that has to be trained again"
    assert epochs_of(database, "again") == [1, 2, 3, 4]
    assert states_of(database, "again") == states_of(database)
    assert kinds(database, "again") == ["submitted", *["epoch"] * 4]
    assert [event.data for event in log(database, "again")[1:]] == [
        event.data for event in log(database) if event.kind is EventKind.EPOCH
    ][:4]
    held = claimed(database, "again", "w2")
    assert log(database, "again")[-1].data == {"attempt": 1, "worker": "w2", "epoch": 4}
    record(database, held, 5, step=1)
    assert [kept.number for kept in states_of(database, "again")] == [2, 3]
    assert [kept.epoch for kept in states_of(database)] == [2, 4]


def test_retry_keeps_the_best_epoch_that_its_state_knows(database: Database) -> None:
    held = trained(database)
    do(database, leases.record, held, progress(5), 1, [measured(5)])
    do(database, leases.fail, held, "internal_error", "why")
    do(database, jobs.retry, "job-1", "again")
    assert read(database, "again").best == {"epoch": 1, "loss": 1.0, "val_loss": None}


def test_retry_without_a_state_begins_at_the_beginning(database: Database) -> None:
    failed(database, "training_diverged")
    do(database, jobs.retry, "job-1", "again")
    new = read(database, "again")
    assert (new.epoch, new.best_epoch, new.retry_of, new.fraction) == (0, None, "job-1", None)
    assert (epochs_of(database, "again"), states_of(database, "again")) == ([], [])
    assert kinds(database, "again") == ["submitted"]


@pytest.mark.parametrize("wanted", [wanted for wanted in JobState if wanted is not JobState.FAILED])
def test_only_a_failed_job_is_tried_again(database: Database, wanted: JobState) -> None:
    brought_to(database, wanted)
    before = everything(database)
    with pytest.raises(JobDidNotFail):
        do(database, jobs.retry, "job-1", "again")
    assert everything(database) == before
    with pytest.raises(UnknownJob):
        read(database, "again")


def test_failed_job_may_be_tried_again_more_than_once_and_its_tries_too(database: Database) -> None:
    failed(database)
    for name in ("second", "third"):
        do(database, jobs.retry, "job-1", name)
    do(database, leases.fail, claimed(database, "second"), "out_of_memory", "why")
    do(database, jobs.retry, "second", "fourth")
    assert [read(database, name).retry_of for name in ("second", "third", "fourth")] == ["job-1", "job-1", "second"]
    assert states_of(database, "fourth") == states_of(database) == states_of(database, "third")
    assert read(database, "fourth").epoch == 4


def test_states_that_a_retry_shares_outlive_the_failed_job(database: Database) -> None:
    before = stored_blobs(database)
    failed(database)
    shared = states_of(database)
    do(database, jobs.retry, "job-1", "again")
    do(database, jobs.remove, "job-1")
    assert read(database, "again").retry_of == "job-1"
    with database.read() as connection:
        assert checkpoints.content(connection, shared[-1]) == saved_state(4, 3).content
    do(database, jobs.request_cancel, "again")
    assert stored_blobs(database) == before


def test_states_of_a_failed_job_outlive_its_retry(database: Database) -> None:
    failed(database)
    do(database, jobs.retry, "job-1", "again")
    do(database, leases.succeed, claimed(database, "again"), best_epoch=1, test_metrics=None, version=1)
    with database.read() as connection:
        assert checkpoints.content(connection, states_of(database)[-1]) == saved_state(4, 3).content


def test_states_of_failed_jobs_are_kept_for_a_week(database: Database) -> None:
    for name, content, age in (("old", b"old", KEPT_SECONDS + 60), ("young", b"young", KEPT_SECONDS - 60)):
        held = claimed(database, name)
        do(database, leases.record, held, progress(1), 1, [measured(1)], saved_state(1, 0, content))
        do(database, leases.record, held, progress(2), 1, [measured(2)], saved_state(2))
        do(database, leases.fail, held, "worker_lost", "why")
        change(database, name, finished_at=database_time(-age))
    trained(database, "long running")
    leave(database, trained(database, "waiting", "w2"), EventKind.HANDED_BACK)
    for name in ("long running", "waiting"):
        change(database, name, created_at=database_time(-2 * KEPT_SECONDS))
    before = stored_blobs(database)
    tidy(database)
    names = ("old", "young", "long running", "waiting")
    assert [len(states_of(database, name)) for name in names] == [0, 2, 2, 2]
    assert len(before - stored_blobs(database)) == 1, "the other one has the bytes of another job's"
    do(database, jobs.retry, "old", "again")
    assert read(database, "again").epoch == 0


# Fences.


def harmful(old: Claim) -> dict[str, Callable[[Connection], object]]:
    """Every write that a worker makes."""
    record_all = [measured(epoch) for epoch in range(1, 7)]
    return {
        "word": lambda connection: leases.word(connection, old),
        "heartbeat": lambda connection: leases.heartbeat(connection, old),
        "progress": lambda connection: leases.record_progress(connection, old, progress(6)),
        "epochs": lambda connection: leases.record(connection, old, progress(6), 1, record_all),
        "state": lambda connection: leases.record(connection, old, progress(6), 1, record_all, saved_state(6)),
        "go back": lambda connection: leases.go_back(connection, old, Checkpoint(2, "0" * 64, 4, 3), "damaged"),
        "split": lambda connection: leases.record_split(connection, old, b"another split"),
        "succeed": lambda connection: leases.succeed(connection, old, best_epoch=1, test_metrics=None, version=1),
        "fail": lambda connection: leases.fail(connection, old, "x", "y"),
        "fail for a while": lambda connection: leases.fail(connection, old, "worker_lost", "y"),
        "leave": lambda connection: leases.leave(connection, old),
        "hand back": lambda connection: leases.leave(connection, old, EventKind.HANDED_BACK),
        "lose": lambda connection: leases.lose(connection, old),
        "stall": lambda connection: leases.lose(connection, old, EventKind.STALLED),
    }


def lost_and_claimed(database: Database, held: Claim) -> None:
    lose(database)
    claimed(database, worker="w2")


def cancelled_and_lost(database: Database, held: Claim) -> None:
    do(database, jobs.request_cancel, "job-1")
    lose(database)


def paused_and_left(database: Database, held: Claim) -> None:
    do(database, jobs.request_pause, "job-1")
    leave(database, held)


def cancelling_elsewhere(database: Database, held: Claim) -> None:
    lost_and_claimed(database, held)
    do(database, jobs.request_cancel, "job-1")


def pausing_here_again(database: Database, held: Claim) -> None:
    """The same worker has it under a new fence."""
    lose(database)
    claimed(database)
    do(database, jobs.request_pause, "job-1")


def failed_here(database: Database, held: Claim) -> None:
    do(database, leases.fail, held, "worker_lost", "why")


def succeeded_here(database: Database, held: Claim) -> None:
    do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda database, _held: lose(database),
        lost_and_claimed,
        cancelling_elsewhere,
        pausing_here_again,
        paused_and_left,
        cancelled_and_lost,
        failed_here,
        succeeded_here,
    ],
    ids=[
        "waits again",
        "runs elsewhere",
        "is cancelled elsewhere",
        "is paused under a new fence",
        "paused",
        "cancelled",
        "failed",
        "succeeded",
    ],
)
def test_worker_that_wakes_late_changes_nothing(
    database: Database, meanwhile: Callable[[Database, Claim], None]
) -> None:
    old = trained(database)
    do(database, leases.record_split, old, b"a split")
    meanwhile(database, old)
    before = everything(database)
    for name, write in harmful(old).items():
        with pytest.raises(LeaseLost):
            do(database, write)
        assert everything(database) == before, name


def test_every_write_of_the_list_is_one_that_changes_something(database: Database) -> None:
    """Else the test above would prove nothing."""
    for name in harmful(Claim("job-1", 1, "w1")):
        held = trained(database, name)
        do(database, leases.record_split, held, b"a split")
        change(database, name, lease_until=database_time(1))
        before = everything(database, name)
        if name == "go back":
            do(database, leases.go_back, held, states_of(database, name)[-1], "damaged")
        else:
            do(database, harmful(held)[name])
        assert (everything(database, name) == before) == (name == "word"), name


def test_claim_of_another_job_opens_nothing(database: Database) -> None:
    trained(database)
    before = everything(database)
    for name, write in harmful(Claim("job-2", 1, "w1")).items():
        with pytest.raises(LeaseLost):
            do(database, write)
        assert everything(database) == before, name


# Many hands.


def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    stored_job(database)

    def count_up(_: int) -> None:
        with database.write() as connection:
            connection.execute(update(table).values(losses=table.c.losses + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(80)))
    assert column(database, "losses") == 80


SEED = 20240607


def by_chance(chance: random.Random, ways: Sequence[tuple[int, Callable[[], object]]]) -> None:
    """Go one of some ways, each as often as its number says."""
    [way] = chance.choices([way for _, way in ways], [weight for weight, _ in ways])
    way()


def work_by_chance(database: Database, worker: str, names: list[str]) -> None:
    chance = random.Random(f"{SEED} {worker}")
    for turn in range(20):
        held = claim_next(database, worker)
        if held is None:
            # One of them, for to take many rows at once could be a deadlock of the test's own.
            change(database, chance.choice(list(names)), claimable_at=database_time(-1))
            continue
        with suppress(LeaseLost):
            epoch = read(database, held.job_id).epoch
            for new in range(epoch + 1, epoch + chance.randint(2, 4)):
                time.sleep(0.02 * chance.random())
                # As in life, jobs share states by a retry alone.
                saved = saved_state(new, turn % 3, f"{held} {new} {chance.random()}".encode())
                do(database, leases.record, held, progress(new), 1, [measured(new)], saved)
            code = chance.choice(["worker_lost", "training_diverged"])
            ways: list[tuple[int, Callable[[], object]]] = [
                (1, partial(do, database, leases.fail, held, code, "why")),
                (1, partial(do, database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)),
                (2, partial(do, database, leases.lose, held)),
                (2, partial(do, database, leases.hand_back, worker)),
                (3, partial(leave, database, held, EventKind.HANDED_BACK)),
                (1, partial(expire, database, held.job_id)),
            ]
            by_chance(chance, ways)


def ask_by_chance(database: Database, user: str, names: list[str]) -> None:
    chance = random.Random(f"{SEED} {user}")
    for turn in range(40):
        job_id, new = chance.choice(list(names)), f"{user}-{turn}"

        def retry(job_id: str = job_id, new: str = new) -> None:
            do(database, jobs.retry, job_id, new)
            names.append(new)

        def submit(new: str = new) -> None:
            names.append(stored_job(database, new))

        with suppress(JobIsFinal, JobIsCancelling, JobDidNotFail, JobIsNotFinal, UnknownJob):
            ways: list[tuple[int, Callable[[], object]]] = [
                (3, partial(do, database, jobs.request_pause, job_id)),
                (3, partial(do, database, jobs.resume, job_id)),
                (1, partial(do, database, jobs.request_cancel, job_id)),
                (1, partial(do, database, jobs.remove, job_id)),
                (1, retry),
                (1, submit),
                (2, partial(sweep, database)),
            ]
            by_chance(chance, ways)


def test_any_order_of_everything_leaves_every_job_sound(database: Database) -> None:
    """Users, workers and sweepers at once, by chance; the fixture looks at what is left."""
    names = [stored_job(database, f"job-{number}") for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        parts = [pool.submit(work_by_chance, database, f"w{number}", names) for number in range(4)]
        parts += [pool.submit(ask_by_chance, database, f"u{number}", names) for number in range(4)]
    for part in parts:
        part.result()


def test_retry_beside_the_deletion_of_the_failed_job_has_its_states_or_is_refused(database: Database) -> None:
    for number in range(10):
        name, new = f"job-{number}", f"again-{number}"
        do(database, leases.fail, trained(database, name), "worker_lost", "why")
        with ThreadPoolExecutor(2) as pool:
            retried = pool.submit(do, database, jobs.retry, name, new)
            removed = pool.submit(do, database, jobs.remove, name)
        removed.result()
        if isinstance(retried.exception(), UnknownJob):
            continue
        retried.result()
        with database.read() as connection:
            newest = checkpoints.newest(connection, new)
            assert newest is not None
            assert blobs.get(connection, newest.sha256) == saved_state(4, 3).content
