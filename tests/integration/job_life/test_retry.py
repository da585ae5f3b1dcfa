"""A failed job is tried again as a new one."""

import pytest

from service.domain.errors import JobDidNotFail, UnknownJob
from service.domain.jobs import Claim, EventKind, JobState
from service.storage import checkpoints, jobs, leases, retries
from service.storage.checkpoints import KEPT_SECONDS
from service.storage.database import Database, database_time
from service.sweeper import tidy
from tests.factories import measured, progress, saved_state
from tests.integration.job_life.hands import (
    brought_to,
    change,
    claimed,
    do,
    epochs_of,
    everything,
    kinds,
    leave,
    log,
    read,
    record,
    states_of,
    stored_blobs,
    trained,
)


def failed(database: Database, code: str = "worker_lost") -> Claim:
    """A job that failed after an epoch that no state holds."""
    held = trained(database)
    do(database, leases.record, held, progress(5), 5, [measured(5)])
    do(database, leases.fail, held, code, "why")
    return held


def test_retry_is_a_new_job_that_goes_on_from_the_last_state(database: Database) -> None:
    failed(database)
    before = everything(database)
    do(database, retries.retry, "job-1", "again")
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
    do(database, retries.retry, "job-1", "again")
    assert read(database, "again").best == {"epoch": 1, "loss": 1.0, "val_loss": None}


def test_retry_without_a_state_begins_at_the_beginning(database: Database) -> None:
    failed(database, "training_diverged")
    do(database, retries.retry, "job-1", "again")
    new = read(database, "again")
    assert (new.epoch, new.best_epoch, new.retry_of, new.fraction) == (0, None, "job-1", None)
    assert (epochs_of(database, "again"), states_of(database, "again")) == ([], [])
    assert kinds(database, "again") == ["submitted"]


@pytest.mark.parametrize("wanted", [wanted for wanted in JobState if wanted is not JobState.FAILED])
def test_only_a_failed_job_is_tried_again(database: Database, wanted: JobState) -> None:
    brought_to(database, wanted)
    before = everything(database)
    with pytest.raises(JobDidNotFail):
        do(database, retries.retry, "job-1", "again")
    assert everything(database) == before
    with pytest.raises(UnknownJob):
        read(database, "again")


def test_failed_job_may_be_tried_again_more_than_once_and_its_tries_too(database: Database) -> None:
    failed(database)
    for name in ("second", "third"):
        do(database, retries.retry, "job-1", name)
    do(database, leases.fail, claimed(database, "second"), "out_of_memory", "why")
    do(database, retries.retry, "second", "fourth")
    assert [read(database, name).retry_of for name in ("second", "third", "fourth")] == ["job-1", "job-1", "second"]
    assert states_of(database, "fourth") == states_of(database) == states_of(database, "third")
    assert read(database, "fourth").epoch == 4


def test_states_that_a_retry_shares_outlive_the_failed_job(database: Database) -> None:
    before = stored_blobs(database)
    failed(database)
    shared = states_of(database)
    do(database, retries.retry, "job-1", "again")
    do(database, jobs.remove, "job-1")
    assert read(database, "again").retry_of == "job-1"
    with database.read() as connection:
        assert checkpoints.content(connection, shared[-1]) == saved_state(4, 3).content
    do(database, jobs.request_cancel, "again")
    assert stored_blobs(database) == before


def test_states_of_a_failed_job_outlive_its_retry(database: Database) -> None:
    failed(database)
    do(database, retries.retry, "job-1", "again")
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
    do(database, retries.retry, "old", "again")
    assert read(database, "again").epoch == 0
