"""How a job ends: with a model, failed, cancelled; and what is deleted with it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.domain.errors import JobIsFinal, JobIsNotFinal, LeaseLost, UnknownJob
from service.domain.jobs import MAX_ATTEMPTS, MAX_LOSSES, RESUMABLE_ERRORS, EventKind, JobState
from service.storage import jobs, leases, losses
from service.storage.database import Database
from tests.factories import stored_job
from tests.integration.job_life.hands import (
    brought_to,
    change,
    claim,
    claim_next,
    claimed,
    do,
    epochs_of,
    everything,
    kinds,
    leave,
    log,
    lose,
    read,
    state,
    states_of,
    stored_blobs,
    trained,
)


def test_succeeded_job_keeps_no_state(database: Database) -> None:
    before = stored_blobs(database)
    do(database, leases.succeed, trained(database), best_epoch=3, test_metrics={"r2": 0.5}, version=3)
    job = read(database)
    assert (job.state, job.model_version, job.best_epoch, job.test_metrics) == (JobState.SUCCEEDED, 3, 3, {"r2": 0.5})
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
    nothing: dict[str, object] = {which: [] for which in ("jobs", "epochs", "diagnostics", "events", "checkpoints")}
    assert everything(database) == {"blobs": before, **nothing}


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING])
def test_job_that_has_not_ended_is_not_deleted(database: Database, state: JobState) -> None:
    brought_to(database, state)
    before = everything(database)
    with pytest.raises(JobIsNotFinal):
        do(database, jobs.remove, "job-1")
    assert everything(database) == before


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
    assert do(database, losses.lose, held, kind) == JobState.CANCELLED
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
