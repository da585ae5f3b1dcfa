"""The life of a job in the database, on both systems; time is moved by changing the stored lease."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from service.domain.errors import JobIsFinal, JobIsNotFinal, LeaseLost, UnknownJob
from service.domain.jobs import MAX_LOSSES, Claim, EpochRecord, Job, JobState, Progress
from service.storage import jobs, leases
from service.storage.database import Database, database_time
from service.storage.tables import jobs as table
from tests.factories import stored_job


def claim(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim | None:
    with database.write() as connection:
        return leases.claim(connection, job_id, worker)


def claimed(database: Database) -> Claim:
    stored_job(database)
    held = claim(database)
    assert held is not None
    return held


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def record(database: Database, held: Claim, epoch: int = 1) -> None:
    with database.write() as connection:
        measured = EpochRecord(epoch, {"loss": 1.0 / epoch, "val_loss": None}, 0.001, 0.5)
        leases.record_progress(connection, held, Progress(epoch, epoch / 10, 100.0, 2.0), epoch, [measured])


def expire(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(table).values(lease_until=database_time(-1)))


def sweep(database: Database) -> list[str]:
    with database.write() as connection:
        return leases.sweep(connection)


def make_claimable(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(table).values(claimable_at=database_time(-1)))


def cancel(database: Database, job_id: str = "job-1") -> None:
    with database.write() as connection:
        jobs.request_cancel(connection, job_id)


def test_new_job_waits_in_line(database: Database) -> None:
    stored_job(database, "a")
    stored_job(database, "b")
    assert [read(database, name).queue_position for name in ("a", "b")] == [1, 2]
    assert read(database, "a").state == JobState.QUEUED


def test_claimed_job_runs_and_counts_attempts(database: Database) -> None:
    held = claimed(database)
    job = read(database)
    assert (job.state, job.attempts, job.queue_position) == (JobState.RUNNING, 1, None)
    assert held.fence == 1
    assert job.started_at is not None
    assert job.started_at >= job.created_at


def test_second_message_claims_nothing(database: Database) -> None:
    claimed(database)
    assert claim(database, worker="w2") is None


def test_many_workers_at_once_make_one_claim(database: Database) -> None:
    stored_job(database)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: claim(database, worker=f"w{number}"), range(8)))
    assert sum(found is not None for found in claims) == 1


def test_epoch_is_stored_with_the_progress(database: Database) -> None:
    held = claimed(database)
    record(database, held)
    job = read(database)
    assert (job.epoch, job.best_epoch, job.rows_per_second) == (1, 1, 100.0)
    assert job.latest == {"epoch": 1, "loss": 1.0, "val_loss": None} == job.best
    with database.read() as connection:
        assert [epoch.metrics["loss"] for epoch in jobs.epoch_records(connection, "job-1")] == [1.0]


def test_queued_job_is_cancelled_at_once_and_not_claimed(database: Database) -> None:
    stored_job(database)
    cancel(database)
    assert read(database).state == JobState.CANCELLED
    assert read(database).finished_at is not None
    assert claim(database) is None


def test_running_job_hears_of_a_cancel_by_heartbeat(database: Database) -> None:
    held = claimed(database)
    with database.write() as connection:
        assert not leases.heartbeat(connection, held).cancel_requested
    cancel(database)
    assert read(database).state == JobState.CANCELLING
    with database.write() as connection:
        assert leases.heartbeat(connection, held).cancel_requested
        leases.finish_cancel(connection, held)
    assert read(database).state == JobState.CANCELLED


def test_job_that_is_being_cancelled_cannot_succeed(database: Database) -> None:
    held = claimed(database)
    cancel(database)
    with pytest.raises(LeaseLost), database.write() as connection:
        leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=1)


def test_cancel_beside_a_worker_that_hands_back_is_never_lost(database: Database) -> None:
    for number in range(15):
        job_id = stored_job(database, f"race-{number}")
        assert claim(database, job_id, worker=f"w{number}") is not None

        def hand_back(worker: str = f"w{number}") -> None:
            with database.write() as connection:
                leases.hand_back(connection, worker)

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(hand_back), pool.submit(cancel, database, job_id)]
        for done in both:
            done.result()
        hand_back()
        assert read(database, job_id).state == JobState.CANCELLED


def test_final_job_can_neither_be_cancelled_nor_claimed(database: Database) -> None:
    held = claimed(database)
    with database.write() as connection:
        leases.succeed(connection, held, best_epoch=1, test_metrics={"r2": 0.5}, version=3)
    job = read(database)
    assert (job.state, job.model_version, job.test_metrics) == (JobState.SUCCEEDED, 3, {"r2": 0.5})
    with pytest.raises(JobIsFinal, match="succeeded"):
        cancel(database)
    assert claim(database) is None
    cancelled = stored_job(database, "job-2")
    cancel(database, cancelled)
    cancel(database, cancelled)


def test_failed_job_keeps_its_reason(database: Database) -> None:
    held = claimed(database)
    with database.write() as connection:
        leases.fail(connection, held, "training_diverged", "why")
    job = read(database)
    assert (job.state, job.error_code, job.error_detail) == (JobState.FAILED, "training_diverged", "why")


def test_lost_worker_gives_the_job_back_after_its_lease(database: Database) -> None:
    held = claimed(database)
    assert sweep(database) == []
    expire(database)
    sweep(database)
    assert read(database).state == JobState.QUEUED
    assert claim(database) is None, "a pause comes first"
    make_claimable(database)
    assert sweep(database) == ["job-1"], "the doorbell rings again"
    again = claim(database, worker="w2")
    assert again is not None
    assert again.fence == held.fence + 1


def test_worker_that_wakes_late_changes_nothing(database: Database) -> None:
    old = claimed(database)
    record(database, old)
    expire(database)
    sweep(database)
    make_claimable(database)
    assert claim(database, worker="w2") is not None
    for write in (
        lambda connection: leases.heartbeat(connection, old),
        lambda connection: leases.finish_cancel(connection, old),
        lambda connection: leases.fail(connection, old, "x", "y"),
        lambda connection: leases.succeed(connection, old, best_epoch=1, test_metrics=None, version=1),
    ):
        with pytest.raises(LeaseLost), database.write() as connection:
            write(connection)
    with pytest.raises(LeaseLost):
        record(database, old, epoch=2)
    job = read(database)
    assert (job.state, job.epoch, job.attempts) == (JobState.RUNNING, 0, 2)


def test_job_that_kills_its_workers_fails(database: Database) -> None:
    stored_job(database)
    for _ in range(MAX_LOSSES):
        make_claimable(database)
        assert claim(database) is not None
        expire(database)
        sweep(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "worker_lost")
    assert job.finished_at is not None


def test_cancel_survives_the_loss_of_its_worker(database: Database) -> None:
    claimed(database)
    cancel(database)
    expire(database)
    sweep(database)
    assert read(database).state == JobState.CANCELLED


def test_stopping_worker_hands_back_what_it_holds_without_a_loss(database: Database) -> None:
    claimed(database)
    stored_job(database, "other")
    assert claim(database, "other", worker="w2") is not None
    with database.write() as connection:
        leases.hand_back(connection, "w1")
    assert read(database).state == JobState.QUEUED
    assert read(database, "other").state == JobState.RUNNING
    assert sweep(database) == ["job-1"]


def test_job_whose_doorbell_nobody_heard_rings_again_and_not_too_often(database: Database) -> None:
    stored_job(database)
    assert sweep(database) == [], "it rang when it was submitted"
    with database.write() as connection:
        connection.execute(update(table).values(rung_at=database_time(-11)))
    with database.read() as connection:
        assert leases.needs_sweep(connection)
    assert sweep(database) == ["job-1"]
    assert sweep(database) == []
    with database.read() as connection:
        assert not leases.needs_sweep(connection)


def test_job_is_deleted_with_its_epochs_only_when_it_has_ended(database: Database) -> None:
    held = claimed(database)
    record(database, held)
    with pytest.raises(JobIsNotFinal), database.write() as connection:
        jobs.remove(connection, "job-1")
    with database.write() as connection:
        leases.finish_cancel(connection, held)
        jobs.remove(connection, "job-1")
    with pytest.raises(UnknownJob):
        read(database)
    with database.read() as connection:
        assert jobs.epoch_records(connection, "job-1") == []


def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    stored_job(database)

    def count_up(_: int) -> None:
        with database.write() as connection:
            connection.execute(update(table).values(losses=table.c.losses + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(80)))
    with database.read() as connection:
        assert connection.execute(table.select()).mappings().one()["losses"] == 80
