"""A training that leaves its worker and goes on later, to the same weights; checkpoints that cannot be used."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from service.domain.jobs import MAX_LOSSES, Checkpoint, EventKind, JobState, SavedState
from service.domain.owners import DEFAULT_OWNER
from service.storage import blobs, checkpoints, jobs, leases, retries
from service.storage.database import Database
from service.storage.tables import blob_parts, model_versions
from service.storage.tables import checkpoints as checkpoint_table
from tests.factories import measured, progress, stored_job
from tests.training.attempts import (
    ENDLESS,
    ask,
    claimed,
    epochs_of,
    finish,
    losses_of,
    lost,
    newest,
    promised,
    read,
    run,
    run_beside,
    start,
    told,
)
from tests.training.support import PLATEAU_AND_SAMPLE_WEIGHTS, case, described
from workers.epochs import EpochEnd
from workers.lease import Lease, Leaving
from workers.recorder import Recorder
from workers.training import train


def long(epochs: int, **network: Any) -> dict[str, Any]:
    training = {"epochs": epochs, "early_stopping": None, "test_fraction": 0.2, "learning_rate": 0.001}
    return {"network": {"hidden_layers": 2, "units": 16, **network}, "training": training}


LONG = {"plain": long(3600), "dropout": long(1800, dropout=0.1), "longest": long(4500, dropout=0.1)}
"""Some seconds each, for a word is heard after a second only."""


@pytest.fixture(scope="module")
def undisturbed(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The hash of the weights of a job that nobody disturbs."""

    @cache
    def weights_of(name: str) -> str:
        path = tmp_path_factory.mktemp("undisturbed") / "selfnorm.db"
        shutil.copy(stocked_sqlite, path)
        database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
        stored_job(database, **LONG[name])
        run(database)
        assert read(database).attempts == 1
        found = weights(database)
        database.close()
        return found

    return weights_of


def weights(database: Database, job_id: str = "job-1") -> str:
    """The hash of a job's weights; it has ended well and has left nothing behind."""
    job = read(database, job_id)
    assert job.state == JobState.SUCCEEDED, job.error_detail
    assert epochs_of(database, job_id) == list(range(1, job.epochs + 1))
    assert newest(database, job_id) is None
    with database.read() as connection:
        query = select(model_versions.c.weights_sha256, model_versions.c.warnings)
        row = connection.execute(query.where(model_versions.c.job_id == job_id)).one()
    assert not row.warnings
    return str(row.weights_sha256)


def stop(database: Database, job_id: str = "job-1") -> Checkpoint:
    """Run an attempt, end its worker once it has come further, and return where the job stands."""
    stopping = threading.Event()
    thread = run_beside(database, job_id, stopping=stopping)
    with promised():
        stopping.set()
        finish(thread)
    job, left = read(database, job_id), newest(database, job_id)
    assert (job.state, losses_of(database, job_id)) == (JobState.QUEUED, 0)
    assert told(database, EventKind.HANDED_BACK, job_id)[-1] == {"attempt": job.attempts}
    assert left is not None
    assert 1 <= left.epoch == job.epoch < job.epochs
    return left


def test_stopped_training_goes_on_in_another_attempt_to_the_same_weights(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["plain"])
    left = stop(database)
    run(database)
    assert weights(database) == undisturbed("plain")
    assert [entry["epoch"] for entry in told(database, EventKind.STARTED)] == [0, left.epoch]
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database), "none twice"


def test_training_with_dropout_stopped_several_times_ends_with_the_same_weights(
    sqlite_database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(sqlite_database, **LONG["longest"])
    left = [stop(sqlite_database).epoch for _ in range(3)]
    run(sqlite_database)
    assert weights(sqlite_database) == undisturbed("longest")
    assert [entry["epoch"] for entry in told(sqlite_database, EventKind.STARTED)] == [0, *left]
    assert [entry["epoch"] for entry in told(sqlite_database, EventKind.EPOCH)] == epochs_of(sqlite_database)


def test_paused_training_goes_on_to_the_same_weights_when_it_is_resumed(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["plain"])
    thread = run_beside(database)
    with promised():
        ask(database, jobs.request_pause)
        finish(thread)
    job, left = read(database), newest(database)
    assert (job.state, job.pause_requested) == (JobState.PAUSED, False)
    assert left is not None
    assert 1 <= left.epoch == job.epoch < job.epochs
    run(database)
    assert read(database) == job, "nobody may claim it"
    ask(database, jobs.resume)
    run(database)
    assert weights(database) == undisturbed("plain")
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database)


def test_worker_that_stops_before_the_first_epoch_hands_the_job_back(sqlite_database: Database) -> None:
    stored_job(sqlite_database, **ENDLESS)
    stopping = threading.Event()
    stopping.set()
    finish(start(sqlite_database, stopping=stopping))
    assert (read(sqlite_database).state, losses_of(sqlite_database)) == (JobState.QUEUED, 0)
    assert told(sqlite_database, EventKind.HANDED_BACK) == [{"attempt": 1}]


def test_stop_that_comes_with_the_end_of_an_epoch_loses_no_epoch(sqlite_database: Database) -> None:
    """It is heard between the epoch's last chunk and its end."""
    held, stopping, small = claimed(sqlite_database), threading.Event(), case(PLATEAU_AND_SAMPLE_WEIGHTS)
    with Lease(sqlite_database, held, stopping) as lease:
        recorder = Recorder(sqlite_database, lease)

        def on_epoch(end: EpochEnd) -> None:
            if end.record.epoch == 2:
                stopping.set()
                time.sleep(1.5)
            recorder.take_epoch(end)

        with pytest.raises(Leaving):
            train(small.spec, small.table, described(small.table), on_chunk=recorder.take_chunk, on_epoch=on_epoch)
    saved = recorder.saved_state()
    with sqlite_database.write() as connection:
        recorder.store_rest(connection, saved)
    left = newest(sqlite_database)
    assert left is not None
    assert (left.epoch, epochs_of(sqlite_database)) == (2, [1, 2])


def test_job_of_a_lost_worker_goes_on_after_its_last_checkpoint(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["plain"])
    thread = run_beside(database)
    lost(database)
    left = newest(database)
    finish(thread)
    assert newest(database) == left
    run(database)
    assert left is not None
    assert [entry["epoch"] for entry in told(database, EventKind.STARTED)] == [0, left.epoch]
    assert weights(database) == undisturbed("plain")


def test_failed_job_is_tried_again_to_the_same_weights(
    sqlite_database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(sqlite_database, **LONG["dropout"])
    thread = run_beside(sqlite_database)
    lost(sqlite_database)
    finish(thread)
    for _ in range(MAX_LOSSES - 1):
        with sqlite_database.write() as connection:
            assert leases.claim(connection, "job-1", "w2") is not None
        lost(sqlite_database)
    job, left = read(sqlite_database), newest(sqlite_database)
    assert (job.state, job.error_code) == (JobState.FAILED, "worker_lost")
    assert left is not None
    with sqlite_database.write() as connection:
        retries.retry(connection, "job-1", "again")
    run(sqlite_database, "again")
    assert told(sqlite_database, EventKind.STARTED, "again")[0]["epoch"] == left.epoch
    assert weights(sqlite_database, "again") == undisturbed("dropout")
    assert newest(sqlite_database) == left


def kept(database: Database, job_id: str = "job-1") -> list[Checkpoint]:
    """The checkpoints of a job, oldest first."""
    with database.read() as connection:
        which = checkpoint_table.c
        query = select(which.number, which.sha256, which.epoch, which.step).where(which.job_id == job_id)
        return [Checkpoint(*row) for row in connection.execute(query.order_by(which.number))]


def stopped_with_two_states(database: Database) -> tuple[Checkpoint, Checkpoint]:
    """Stop a training, and again where the same state was stored twice: one that was saved before validation."""
    while True:
        stop(database)
        before, last = kept(database)
        if before.sha256 != last.sha256:
            return before, last


def flip_a_byte(database: Database, checkpoint: Checkpoint) -> None:
    is_it = (blob_parts.c.sha256 == checkpoint.sha256) & (blob_parts.c.part == 0)
    with database.write() as connection:
        content = bytearray(connection.execute(select(blob_parts.c.data).where(is_it)).scalar_one())
        content[len(content) // 2] ^= 1
        connection.execute(update(blob_parts).where(is_it).values(data=bytes(content)))


def lose_its_bytes(database: Database, checkpoint: Checkpoint) -> None:
    with database.write() as connection:
        connection.execute(delete(blob_parts).where(blob_parts.c.sha256 == checkpoint.sha256))


def put_another_file(database: Database, checkpoint: Checkpoint) -> None:
    """The hash is right, and it is no state."""
    with database.write() as connection:
        sha256 = blobs.put(connection, b"no state at all")
        is_it = checkpoint_table.c.number == checkpoint.number
        connection.execute(update(checkpoint_table).where(is_it).values(sha256=sha256))
        blobs.delete_unused(connection, checkpoint.sha256)


@pytest.mark.parametrize("damage", [flip_a_byte, lose_its_bytes, put_another_file])
def test_damaged_checkpoint_costs_the_way_from_the_one_before(
    sqlite_database: Database,
    undisturbed: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Database, Checkpoint], None],
) -> None:
    stored_job(sqlite_database, **LONG["dropout"])
    before, last = stopped_with_two_states(sqlite_database)
    damage(sqlite_database, last)
    run(sqlite_database)
    assert weights(sqlite_database) == undisturbed("dropout")
    [said] = told(sqlite_database, EventKind.CHECKPOINT_DAMAGED)
    assert said["epoch"] == before.epoch
    assert said["reason"]
    assert any(entry.levelno == logging.CRITICAL for entry in caplog.records)
    assert [entry["epoch"] for entry in told(sqlite_database, EventKind.EPOCH)] == [
        *range(1, last.epoch + 1),
        *range(before.epoch + 1, read(sqlite_database).epochs + 1),
    ]


def test_training_whose_checkpoints_are_all_damaged_begins_anew(
    sqlite_database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(sqlite_database, **LONG["plain"])
    before, last = stopped_with_two_states(sqlite_database)
    for damaged in (before, last):
        flip_a_byte(sqlite_database, damaged)
    run(sqlite_database)
    assert weights(sqlite_database) == undisturbed("plain")
    assert [entry["epoch"] for entry in told(sqlite_database, EventKind.CHECKPOINT_DAMAGED)] == [before.epoch, 0]
    assert told(sqlite_database, EventKind.FAILED) == []


def test_checkpoint_of_another_training_is_not_used(
    sqlite_database: Database, undisturbed: Callable[[str], str]
) -> None:
    """It is sound, so that only the training itself can tell."""
    other = {**LONG["plain"], "training": {**LONG["plain"]["training"], "seed": 1}}
    stored_job(sqlite_database, "other", **other)
    foreign = stop(sqlite_database, "other")
    with sqlite_database.write() as connection:
        content = checkpoints.content(connection, foreign)
        jobs.request_cancel(connection, "other")
    held = claimed(sqlite_database, **LONG["plain"])
    with sqlite_database.write() as connection:
        done = [measured(epoch) for epoch in range(1, foreign.epoch + 1)]
        saved = SavedState(content, foreign.epoch, foreign.step)
        leases.record(connection, held, progress(foreign.epoch), 1, done, saved)
        leases.leave(connection, held, EventKind.HANDED_BACK)
    run(sqlite_database)
    assert weights(sqlite_database) == undisturbed("plain")
    [said] = told(sqlite_database, EventKind.CHECKPOINT_DAMAGED)
    assert said["epoch"] == 0
    assert "another spec or another split" in said["reason"]
