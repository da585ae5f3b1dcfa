"""Pause and resume."""

from collections.abc import Callable

import pytest

from service.domain.errors import JobIsCancelling, JobIsFinal, SelfnormError, UnknownJob
from service.domain.jobs import MAX_LOSSES, Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, leases, losses, retries
from service.storage.database import Connection, Database
from tests.factories import stored_job
from tests.integration.job_life.hands import (
    brought_to,
    claim,
    claim_next,
    claimed,
    column,
    do,
    epochs_of,
    everything,
    kinds,
    leave,
    log,
    lose,
    read,
    record,
    state,
    states_of,
    trained,
)


def test_queued_job_is_paused_at_once_and_leaves_the_line(database: Database) -> None:
    stored_job(database)
    do(database, jobs.request_pause, "job-1")
    job = read(database)
    assert (job.state, job.pause_requested, job.queue_position) == (JobState.PAUSED, False, None)
    assert claim(database) is None
    assert claim_next(database) is None
    with database.for_everybody().read() as connection:
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
    assert again == Claim("job-1", 2, "w2", DEFAULT_OWNER)
    assert not do(database, leases.word, again).pause_requested
    assert log(database)[-1].data == {"attempt": 2, "worker": "w2", "epoch": 1}
    assert read(database).started_at == began
    assert kinds(database) == ["submitted", "started", "pause_requested", "epoch", "paused", "resumed", "started"]


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
        do(database, retries.retry, "nothing", "new")


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
    assert do(database, losses.lose, held, kind) == JobState.PAUSED
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
        with database.for_everybody().read() as connection:
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
