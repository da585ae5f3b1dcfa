"""A worker's attempt at a job, on both databases, with real training."""

import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete, event, select, update
from sqlalchemy.exc import OperationalError

from service.domain.datasets import ARTICLE_TABLES, BOSTON_FEATURES
from service.domain.errors import InvalidRows, LeaseLost
from service.domain.jobs import MAX_LOSSES, Checkpoint, Claim, EventKind, Job, JobState, SavedState
from service.domain.limits import TableLimits
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable
from service.inference.sessions import SessionCache
from service.storage import blobs, checkpoints, datasets, events, jobs, leases, models
from service.storage.database import Connection, Database, database_time, is_full
from service.storage.pages import PageRequest
from service.storage.tables import blob_parts, model_versions
from service.storage.tables import checkpoints as checkpoint_table
from service.storage.tables import datasets as dataset_table
from service.storage.tables import jobs as job_table
from service.tables.importer import ImportRequest, import_table
from service.use_cases import jobs as use_cases
from service.use_cases.predict import predict
from tests.factories import measured, progress, stored_job
from tests.training.support import PLATEAU_AND_SAMPLE_WEIGHTS, case, described
from workers import attempt, background
from workers.datasets import load
from workers.epochs import EpochEnd
from workers.lease import CANCEL_LOOKS, GIVE_UP_SECONDS, LOOK_SECONDS, Cancelled, Lease, Leaving, patiently
from workers.recorder import Recorder
from workers.training import train

SMALL: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 3, "test_fraction": 0.2}}
ENDLESS: dict[str, Any] = {**SMALL, "training": {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-6}}


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def run(database: Database, job_id: str = "job-1", datasets_dir: Path | None = None, **options: Any) -> None:
    """Claim a job and run an attempt at it, if it is to be had."""
    with database.write() as connection:
        claim = leases.claim(connection, job_id, "w1")
    if claim is not None:
        attempt.run(database, claim, datasets_dir, **options)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


def start(database: Database, job_id: str = "job-1", **options: Any) -> threading.Thread:
    """Start an attempt in a thread."""
    thread = threading.Thread(target=run, args=(database, job_id), kwargs=options)
    thread.start()
    return thread


def run_beside(database: Database, job_id: str = "job-1", **options: Any) -> threading.Thread:
    """Start an attempt in a thread and return when it has stored a checkpoint that goes further than any before."""
    before = newest(database, job_id)
    thread = start(database, job_id, **options)

    def is_further() -> bool:
        found = newest(database, job_id)
        return found is not None and (before is None or found.epoch > before.epoch)

    wait_until(is_further)
    return thread


def finish(thread: threading.Thread, seconds: float = 10) -> None:
    thread.join(seconds)
    assert not thread.is_alive()


def newest(database: Database, job_id: str = "job-1") -> Checkpoint | None:
    with database.read() as connection:
        return checkpoints.newest(connection, job_id)


def epochs_of(database: Database, job_id: str = "job-1") -> list[int]:
    with database.read() as connection:
        return [stored.epoch for stored in jobs.epoch_records(connection, job_id)]


def told(database: Database, kind: EventKind, job_id: str = "job-1") -> list[dict[str, Any]]:
    """What the log says of events of a kind; its numbers have no gaps."""
    with database.read() as connection:
        found = events.read(connection, job_id, limit=1_000_000)
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    return [entry.data for entry in found if entry.kind is kind]


def losses(database: Database, job_id: str = "job-1") -> int:
    with database.read() as connection:
        found: int = connection.execute(select(job_table.c.losses).where(job_table.c.id == job_id)).scalar_one()
    return found


def ask(database: Database, request: Callable[[Connection, str], None], job_id: str = "job-1") -> None:
    with database.write() as connection:
        request(connection, job_id)


def add_table(database: Database, tmp_path: Path, text: str, name: str = "mine") -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with path.open("rb") as source, tempfile.TemporaryFile() as file:
        table = import_table(source, file, ImportRequest("csv"), TableLimits())
        with database.write() as connection:
            datasets.add_imported(connection, name, name, table, file)


def test_attempt_ends_with_a_model_that_answers(database: Database) -> None:
    stored_job(database, **SMALL)
    run(database)
    job = read(database)
    assert (job.state, job.model_version, job.epoch, job.attempts) == (JobState.SUCCEEDED, 1, 3, 1)
    assert job.test_metrics is not None
    assert job.best is not None
    assert job.best["epoch"] == job.best_epoch
    with database.read() as connection:
        version = models.get_version(connection, "iris")
        assert len(jobs.epoch_records(connection, "job-1")) == 3
    assert version.metrics["test"] == job.test_metrics
    assert version.parity["max_difference"] <= 1e-5
    assert version.environment["keras"] == keras.__version__
    answer = predict(database, SessionCache(), "iris", [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
    assert answer.classes == ["setosa", "versicolor", "virginica"]
    assert answer.probabilities is not None
    np.testing.assert_allclose(np.sum(answer.probabilities, axis=1), 1, atol=1e-6)


def test_messy_upload_trains_as_it_is_and_answers_raw_rows(database: Database, tmp_path: Path) -> None:
    """Semicolons, decimal commas, categories, dates, gaps, an id and a name: one upload, a target, raw rows back."""
    lines = ["row_id;size;city;flat;since;name;price"]
    for place in range(120):
        size = "?" if place % 9 == 0 else f"{40 + place % 50},5"
        city = "" if place % 11 == 0 else f"city {place % 4}"
        flat = "true" if place % 2 else "false"
        price = "" if place == 7 else f"{place % 50 * 10 + place % 4},25"
        lines.append(f"{place + 1};{size};{city};{flat};{1 + place % 28}.03.2020;{'Some One ' * (1 + place)};{price}")
    add_table(database, tmp_path, "\n".join(lines))
    stored_job(database, dataset="mine", target="price", **SMALL)
    run(database)
    job = read(database)
    assert job.state == JobState.SUCCEEDED, job.error_detail
    assert job.spec["features"] == ["size", "city", "flat", "since"]
    assert any("'row_id' (id), 'name' (text)" in said for said in job.warnings)
    split = use_cases.job_split(database, "job-1")
    assert (split.count("training"), split.count("validation"), split.count("test")) == (76, 19, 24)
    assert split.count("left_out") == 1
    sessions = SessionCache()
    row: dict[str, Any] = {"size": 60.5, "city": "city 1", "flat": True, "since": "05.03.2020"}
    known = predict(database, sessions, "mine", [row, {**row, "size": None}, {"flat": True, "since": "2020-03-05"}])
    assert len(known.predictions) == 3
    assert known.warnings is None
    unseen = predict(database, sessions, "mine", [{**row, "city": "Atlantis"}])
    assert unseen.warnings == [
        "row 0, column 'city': 'Atlantis' was not seen in training and is taken as none of the known ones"
    ]
    with pytest.raises(InvalidRows, match="column 'flat': is null"):
        predict(database, sessions, "mine", [{**row, "flat": None}])


def test_test_part_is_never_touched_by_training(database: Database, tmp_path: Path) -> None:
    """Other targets and features in the held-out rows must give the same network, bit for bit."""

    def table(held_out: str) -> str:
        rows = [f"train,{row % 10},{row % 3}" for row in range(40)] + [f"test,{held_out}"] * 10
        return "part,x,y\n" + "\n".join(rows)

    weights = []
    for number, held_out in enumerate(("5,1", "1000,2")):
        add_table(database, tmp_path, table(held_out), f"table-{number}")
        training = {"split_column": "part", "epochs": 3}
        stored_job(database, f"job-{number}", dataset=f"table-{number}", target="y", training=training)
        run(database, f"job-{number}")
        assert read(database, f"job-{number}").test_metrics is not None
        with database.read() as connection:
            weights.append(models.get_version(connection, f"table-{number}").weights_sha256)
    assert weights[0] == weights[1]


def test_message_that_comes_again_makes_no_second_model(database: Database) -> None:
    stored_job(database, **SMALL)
    for _ in range(3):
        run(database)
    assert read(database).attempts == 1
    with database.read() as connection:
        assert models.get_model(connection, "iris").newest_version == 1


@pytest.mark.parametrize(
    ("column", "classes"),
    [("true,false", [False, True]), ("7,-3,11", [-3, 7, 11]), ("0.5,1.5", [0.5, 1.5]), ("ja,nein", ["ja", "nein"])],
)
def test_classes_of_any_type_come_back_as_they_were(
    sqlite_database: Database, tmp_path: Path, column: str, classes: list[object]
) -> None:
    labels = column.split(",")
    rows = "".join(f"{i % 10},{i % 2 == 0},{labels[i % len(labels)]}\n" for i in range(60))
    add_table(sqlite_database, tmp_path, f"a,flag,y\n{rows}")
    stored_job(sqlite_database, dataset="mine", target="y", task="classification", **SMALL)
    run(sqlite_database)
    assert read(sqlite_database).error_detail is None
    answer = predict(sqlite_database, SessionCache(), "mine", [[1, True], {"flag": False, "a": 3}])
    assert answer.classes == classes
    assert set(answer.predictions) <= set(classes)
    assert [type(label) for label in answer.classes] == [type(label) for label in classes]


def test_cancel_ends_a_running_training_within_5_seconds(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    asked = time.monotonic()
    ask(database, jobs.request_cancel)
    finish(thread)
    assert time.monotonic() - asked < 5
    assert read(database).state == JobState.CANCELLED
    with database.read() as connection:
        assert models.list_page(connection, PageRequest()).items == []


def test_worker_that_lost_its_lease_stops_and_writes_nothing_more(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    with database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
        leases.lose_expired(connection)
        connection.execute(update(job_table).values(claimable_at=database_time(-1)))
        again = leases.claim(connection, "job-1", "w2")
        then = jobs.get(connection, "job-1")
    assert again is not None
    finish(thread)
    assert (then.state, then.attempts) == (JobState.RUNNING, 2)
    assert read(database) == then
    with database.read() as connection:
        assert [stored.epoch for stored in jobs.epoch_records(connection, "job-1")] == list(range(1, then.epoch + 1))


def break_writes(database: Database, times: int, table: str = "epochs", *, after_commit: bool = False) -> list[int]:
    """Make the database fail for a while: each commit that stored a row of a table raises, before it or after it.

    Returns how often it still will, for a test to look at and to change.
    """
    left = [times]
    mark = f"stored {table}"

    def before_execute(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            connection.info[mark] = True

    def on_commit(connection: Any) -> None:
        if not connection.info.pop(mark, False) or left[0] == 0:
            return
        left[0] -= 1
        if after_commit:
            connection.connection.dbapi_connection.commit()
        raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

    event.listen(database.engine, "before_cursor_execute", before_execute)
    event.listen(database.engine, "commit", on_commit)
    event.listen(database.engine, "rollback", lambda connection: connection.info.pop(mark, None))
    return left


@pytest.mark.parametrize("after_commit", [False, True], ids=["nothing stored", "answer lost"])
def test_training_outlives_a_database_that_fails(database: Database, *, after_commit: bool) -> None:
    stored_job(database, **SMALL)
    break_writes(database, 2, after_commit=after_commit)
    run(database)
    assert read(database).state == JobState.SUCCEEDED
    with database.read() as connection:
        assert [record.epoch for record in jobs.epoch_records(connection, "job-1")] == [1, 2, 3]


def test_cancel_is_heard_while_nothing_can_be_written(database: Database) -> None:
    stored_job(database, **SMALL)
    left = break_writes(database, 1000)
    thread = start(database)
    wait_until(lambda: left[0] < 998)
    asked = time.monotonic()
    ask(database, jobs.request_cancel)
    finish(thread)
    assert time.monotonic() - asked < 5
    assert read(database).state == JobState.CANCELLED


def test_checkpoint_that_cannot_be_stored_is_stored_later(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    stored_job(database, **ENDLESS)
    left = break_writes(database, 2, "checkpoints")
    thread = run_beside(database)
    assert left[0] == 0
    assert sum("no checkpoint was stored" in said.message for said in caplog.records) == 2
    ask(database, jobs.request_cancel)
    finish(thread)
    job = read(database)
    assert (job.state, job.attempts) == (JobState.CANCELLED, 1)
    assert epochs_of(database) == list(range(1, job.epoch + 1))
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database)


def test_job_lost_at_its_very_end_is_left_alone(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_job(sqlite_database, **SMALL)

    def lose_and_cancel(*_: Any, **__: Any) -> None:
        with sqlite_database.write() as connection:
            connection.execute(update(job_table).values(lease_until=database_time(-1)))
            leases.lose_expired(connection)
        raise Cancelled

    monkeypatch.setattr(attempt, "train", lose_and_cancel)
    run(sqlite_database)
    assert read(sqlite_database).state == JobState.QUEUED


def test_diverged_training_fails_with_its_reason(database: Database) -> None:
    network = {"hidden_layers": 8, "units": 64}
    training = {"optimizer": "sgd", "learning_rate": 10.0, "epochs": 20}
    stored_job(database, dataset="diabetes", network=network, training=training)
    run(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "training_diverged")
    assert job.error_detail is not None
    assert "epoch 1, step " in job.error_detail
    assert "gave infinite activations" in job.error_detail


def test_epochs_before_a_failure_are_stored(database: Database, tmp_path: Path) -> None:
    """They come several at a time, and a training that fails has some left."""
    rows = [f"{x},{x % 7}" for x in range(200)]
    add_table(database, tmp_path, "x,y\n" + "\n".join(rows) + "\n")
    training = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.3, "epochs": 1000, "early_stopping": None}
    network = {"hidden_layers": 2, "units": 8}
    stored_job(database, dataset="mine", target="y", task="regression", network=network, training=training)
    run(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "training_diverged")
    assert job.error_detail is not None
    failed_in = int(job.error_detail.partition("epoch ")[2].partition(",")[0])
    assert job.epoch == failed_in - 1
    with database.read() as connection:
        assert [stored.epoch for stored in jobs.epoch_records(connection, "job-1")] == list(range(1, failed_in))


def test_epoch_that_ended_just_before_a_failure_counts(sqlite_database: Database) -> None:
    held, small = claimed(sqlite_database), case(PLATEAU_AND_SAMPLE_WEIGHTS)
    with Lease(sqlite_database, held) as lease:
        recorder = Recorder(sqlite_database, lease)

        def on_epoch(end: EpochEnd) -> None:
            recorder.take_epoch(end)
            if end.record.epoch == 3:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            train(small.spec, small.table, described(small.table), on_chunk=recorder.take_chunk, on_epoch=on_epoch)
        with sqlite_database.write() as connection:
            recorder.store_rest(connection)
            leases.fail(connection, held, "internal_error", "why")
    job = read(sqlite_database)
    assert (job.epoch, epochs_of(sqlite_database)) == (3, [1, 2, 3])
    assert job.latest is not None
    assert job.latest["epoch"] == 3


def test_data_set_that_is_gone_fails_the_job(database: Database) -> None:
    stored_job(database, **SMALL)
    with database.write() as connection:
        connection.execute(delete(dataset_table).where(dataset_table.c.id == "iris"))
    run(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "dataset_unavailable")


# A training that leaves its worker and goes on later.


def long(epochs: int, **network: Any) -> dict[str, Any]:
    training = {"epochs": epochs, "early_stopping": None, "test_fraction": 0.2, "learning_rate": 0.001}
    return {"network": {"hidden_layers": 2, "units": 16, **network}, "training": training}


LONG = {"plain": long(3000), "dropout": long(3000, dropout=0.1), "longest": long(8000, dropout=0.1)}
"""Some seconds each, for a word is heard after a second only."""


@pytest.fixture(scope="module")
def undisturbed(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The hash of the weights of a job that nobody disturbs."""

    @cache
    def weights_of(name: str) -> str:
        path = tmp_path_factory.mktemp("undisturbed") / "selfnorm.db"
        shutil.copy(stocked_sqlite, path)
        database = Database(f"sqlite:///{path}")
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
    asked = time.monotonic()
    stopping.set()
    finish(thread)
    assert time.monotonic() - asked < 5
    job, left = read(database, job_id), newest(database, job_id)
    assert (job.state, losses(database, job_id)) == (JobState.QUEUED, 0)
    assert told(database, EventKind.HANDED_BACK, job_id)[-1] == {"attempt": job.attempts}
    assert left is not None
    assert 1 <= left.epoch == job.epoch < job.epochs
    return left


@pytest.mark.parametrize("name", ["plain", "dropout"])
def test_stopped_training_goes_on_in_another_attempt_to_the_same_weights(
    database: Database, undisturbed: Callable[[str], str], name: str
) -> None:
    stored_job(database, **LONG[name])
    left = stop(database)
    run(database)
    assert weights(database) == undisturbed(name)
    assert [entry["epoch"] for entry in told(database, EventKind.STARTED)] == [0, left.epoch]
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database), "none twice"


def test_training_stopped_several_times_ends_with_the_same_weights(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["longest"])
    left = [stop(database).epoch for _ in range(3)]
    run(database)
    assert weights(database) == undisturbed("longest")
    assert [entry["epoch"] for entry in told(database, EventKind.STARTED)] == [0, *left]
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database)


def test_paused_training_goes_on_to_the_same_weights_when_it_is_resumed(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["plain"])
    thread = run_beside(database)
    asked = time.monotonic()
    ask(database, jobs.request_pause)
    finish(thread)
    assert time.monotonic() - asked < 5
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
    assert (read(sqlite_database).state, losses(sqlite_database)) == (JobState.QUEUED, 0)
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


def lost(database: Database) -> None:
    """Take the job from a worker that runs it, and let the next one claim it at once."""
    with database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
        leases.lose_expired(connection)
        connection.execute(update(job_table).values(claimable_at=database_time(-1)))


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
        jobs.retry(connection, "job-1", "again")
    run(sqlite_database, "again")
    assert told(sqlite_database, EventKind.STARTED, "again")[0]["epoch"] == left.epoch
    assert weights(sqlite_database, "again") == undisturbed("dropout")
    assert newest(sqlite_database) == left


# Checkpoints that cannot be used.


def kept(database: Database, job_id: str = "job-1") -> list[Checkpoint]:
    """The checkpoints of a job, oldest first."""
    with database.read() as connection:
        which = checkpoint_table.c
        query = select(which.number, which.sha256, which.epoch, which.step).where(which.job_id == job_id)
        return [Checkpoint(*row) for row in connection.execute(query.order_by(which.number))]


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
    database: Database,
    undisturbed: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Database, Checkpoint], None],
) -> None:
    stored_job(database, **LONG["dropout"])
    stop(database)
    before, last = kept(database)
    damage(database, last)
    run(database)
    assert weights(database) == undisturbed("dropout")
    [said] = told(database, EventKind.CHECKPOINT_DAMAGED)
    assert said["epoch"] == before.epoch
    assert said["reason"]
    assert any(entry.levelno == logging.CRITICAL for entry in caplog.records)
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == [
        *range(1, last.epoch + 1),
        *range(before.epoch + 1, read(database).epochs + 1),
    ]


def test_training_whose_checkpoints_are_all_damaged_begins_anew(
    database: Database, undisturbed: Callable[[str], str]
) -> None:
    stored_job(database, **LONG["plain"])
    stop(database)
    before, last = kept(database)
    for damaged in (before, last):
        flip_a_byte(database, damaged)
    run(database)
    assert weights(database) == undisturbed("plain")
    assert [entry["epoch"] for entry in told(database, EventKind.CHECKPOINT_DAMAGED)] == [before.epoch, 0]
    assert told(database, EventKind.FAILED) == []


def test_checkpoint_of_another_training_is_not_used(database: Database, undisturbed: Callable[[str], str]) -> None:
    """It is sound, so that only the training itself can tell."""
    other = {**LONG["plain"], "training": {**LONG["plain"]["training"], "seed": 1}}
    stored_job(database, "other", **other)
    foreign = stop(database, "other")
    with database.write() as connection:
        content = checkpoints.content(connection, foreign)
        jobs.request_cancel(connection, "other")
    held = claimed(database, **LONG["plain"])
    with database.write() as connection:
        done = [measured(epoch) for epoch in range(1, foreign.epoch + 1)]
        saved = SavedState(content, foreign.epoch, foreign.step)
        leases.record(connection, held, progress(foreign.epoch), 1, done, saved)
        leases.leave(connection, held, EventKind.HANDED_BACK)
    run(database)
    assert weights(database) == undisturbed("plain")
    [said] = told(database, EventKind.CHECKPOINT_DAMAGED)
    assert said["epoch"] == 0
    assert "another spec or another split" in said["reason"]


# What nothing can interrupt.


@pytest.fixture
def slow_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a data set of which somebody who reads it waits for the first byte until the test is over."""
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").touch()
    pipe = folder / "train-labels-idx1-ubyte.gz"
    os.mkfifo(pipe)
    yield tmp_path
    assert background.is_working()
    os.close(os.open(pipe, os.O_WRONLY))
    wait_until(lambda: not background.is_working())


@pytest.mark.parametrize(
    ("request_to", "state"), [(jobs.request_cancel, JobState.CANCELLED), (jobs.request_pause, JobState.PAUSED)]
)
def test_word_is_heard_within_5_seconds_while_the_table_is_read(
    database: Database, slow_folder: Path, request_to: Callable[[Connection, str], None], state: JobState
) -> None:
    stored_job(database, dataset="fashion_mnist", **SMALL)
    thread = start(database, datasets_dir=slow_folder)
    wait_until(background.is_working)
    asked = time.monotonic()
    ask(database, request_to)
    finish(thread)
    assert time.monotonic() - asked < 5
    assert read(database).state == state


def test_stopping_worker_does_not_wait_for_a_table(sqlite_database: Database, slow_folder: Path) -> None:
    stored_job(sqlite_database, dataset="fashion_mnist", **SMALL)
    stopping = threading.Event()
    thread = start(sqlite_database, datasets_dir=slow_folder, stopping=stopping)
    wait_until(background.is_working)
    stopping.set()
    finish(thread, 5)
    assert read(sqlite_database).state == JobState.QUEUED


def claimed(database: Database, job_id: str = "job-1", **spec: Any) -> Claim:
    stored_job(database, job_id, **spec)
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w1")
    assert held is not None
    return held


def test_cancelled_training_that_hears_nothing_is_abandoned(database: Database) -> None:
    said: list[str] = []
    with Lease(database, claimed(database), abandon=said.append):
        asked = time.monotonic()
        ask(database, jobs.request_cancel)
        wait_until(lambda: said, 10)
        assert CANCEL_LOOKS * LOOK_SECONDS < time.monotonic() - asked < 5
        assert read(database).state == JobState.CANCELLED
    assert said == ["job job-1 was cancelled while nothing could interrupt it"]


def test_training_that_has_heard_of_its_cancel_is_waited_for(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append) as lease:
        ask(sqlite_database, jobs.request_cancel)
        with pytest.raises(Cancelled):
            wait_until(lease.check, 10)
        time.sleep((CANCEL_LOOKS + 2) * LOOK_SECONDS)
    assert (said, read(sqlite_database).state) == ([], JobState.CANCELLING)


def test_training_that_stands_still_is_abandoned(database: Database) -> None:
    said: list[str] = []
    with Lease(database, claimed(database), abandon=said.append, stall_looks=1) as lease:
        began = time.monotonic()
        wait_until(lambda: said, 10)
        assert time.monotonic() - began > 1
        job = read(database)
        assert (job.state, losses(database)) == (JobState.QUEUED, 1)
        assert told(database, EventKind.STALLED) == [{"attempt": 1}]
        wait_until(lambda: is_lost(lease), 10)
    assert said[0].startswith("job job-1 stood still for ")


def is_lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return True
    return False


def test_training_that_stands_still_after_it_has_moved_is_abandoned(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, stall_looks=1) as lease:
        for _ in range(15):
            time.sleep(0.1)
            lease.check()
        assert said == []
        wait_until(lambda: said, 10)
    assert told(sqlite_database, EventKind.STALLED) == [{"attempt": 1}]


def test_training_that_always_takes_long_does_not_stand_still(sqlite_database: Database) -> None:
    """Five seconds are less than ten times what it took before."""
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, stall_looks=2) as lease:
        for seconds in (1.5, 1.5, 1.5, 5.0):
            lease.check()
            time.sleep(seconds)
    assert (said, read(sqlite_database).state) == ([], JobState.RUNNING)


def test_training_that_nobody_can_abandon_is_waited_for(sqlite_database: Database) -> None:
    with Lease(sqlite_database, claimed(sqlite_database), stall_looks=1):
        time.sleep(4)
    assert read(sqlite_database).state == JobState.RUNNING


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lost_looks": 2}, "belongs to another worker, and nothing could interrupt it here"),
        ({"stall_looks": 2}, "stood still for 3 s"),
    ],
)
def test_training_that_does_not_hear_that_another_worker_has_its_job_is_abandoned(
    database: Database, options: dict[str, Any], reason: str
) -> None:
    said: list[str] = []
    held = claimed(database)
    lost(database)
    with database.write() as connection:
        assert leases.claim(connection, "job-1", "w2") is not None
    before = read(database)
    with Lease(database, held, abandon=said.append, **options):
        began = time.monotonic()
        wait_until(lambda: said, 10)
        assert time.monotonic() - began > 2
    assert said[0] == f"job job-1 {reason}"
    assert read(database) == before


# A database that does not answer, or has no room.


def test_lease_is_renewed_again_after_the_database_was_down(database: Database) -> None:
    held, left = claimed(database), [3]

    def before_execute(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE jobs SET lease_until") and left[0]:
            left[0] -= 1
            raise OperationalError(statement, {}, Exception("the server closed the connection"))

    event.listen(database.engine, "before_cursor_execute", before_execute)
    with Lease(database, held) as lease:
        began = lease.renewed_at
        wait_until(lambda: lease.renewed_at > began, 10)
        lease.check()
    assert left == [0]
    assert read(database).state == JobState.RUNNING


def refuse(connection: Connection) -> None:
    """Fail for want of room: SQLite is given none, PostgreSQL says what it says of a full disk."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$")
    try:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        blobs.put(connection, bytes(1_000_000))
    finally:
        connection.exec_driver_sql("PRAGMA max_page_count=4294967294")


def test_room_on_the_disk_is_waited_for_longer_than_anything_else(database: Database) -> None:
    tries: list[int] = []
    lease = Lease(database, claimed(database))
    lease.renewed_at = time.monotonic() + 2 * GIVE_UP_SECONDS  # it is renewed all the while

    def work(connection: Connection) -> str:
        tries.append(1)
        if len(tries) < 3:
            refuse(connection)
        return "done"

    def work_in_vain(connection: Connection) -> str:
        tries.append(1)
        raise OperationalError("", {}, Exception("anything else"))

    with pytest.raises(OperationalError) as found, database.write() as connection:
        refuse(connection)
    assert is_full(found.value)
    assert patiently(database.write, lease, work) == "done"
    assert len(tries) == 3
    with pytest.raises(OperationalError, match="anything else"):
        patiently(database.write, lease, work_in_vain)
    assert len(tries) == 4


def test_job_waits_for_room_on_the_disk(sqlite_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    pages = 1

    def limit(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    held = claimed(sqlite_database, network={"hidden_layers": 3, "units": 128}, training={"epochs": 3})
    event.listen(sqlite_database.engine, "checkout", limit)
    thread = threading.Thread(target=attempt.run, args=(sqlite_database, held, None))
    thread.start()
    wait_until(lambda: sum("disk is full" in said.message for said in caplog.records) >= 3)
    assert read(sqlite_database).state == JobState.RUNNING
    pages = 4294967294
    finish(thread, 30)
    assert (read(sqlite_database).state, read(sqlite_database).attempts) == (JobState.SUCCEEDED, 1)
    assert epochs_of(sqlite_database) == [1, 2, 3]


def test_damaged_file_of_a_local_data_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "boston_housing.csv").write_text("CRIM,ZN\nx,y\n")
    with pytest.raises(DatasetUnavailable, match="cannot be read"):
        load("boston_housing", tmp_path)


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", unreachable)
    with pytest.raises(DatasetUnavailable, match=r"URL fetch failure.*SELFNORM_DATASETS_DIR"):
        load("cifar10", None)


def test_downloaded_tables_have_training_rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form that Keras gives: two pairs of arrays, CIFAR-10's labels as a column."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    labels = np.array([[3], [1], [2]], np.uint8)
    monkeypatch.setattr(
        keras.datasets.cifar10, "load_data", lambda: ((pixels[:2], labels[:2]), (pixels[2:], labels[2:]))
    )
    rooms = rng.normal(size=(5, 13))
    prices = rng.normal(size=5)
    monkeypatch.setattr(
        keras.datasets.boston_housing, "load_data", lambda: ((rooms[:3], prices[:3]), (rooms[3:], prices[3:]))
    )
    images, boston = load("cifar10", None), load("boston_housing", None)
    assert images.columns["label"].tolist() == [3, 1, 2]
    np.testing.assert_array_equal(
        pixels.reshape(3, -1) / np.float32(255), _matrix(images, ARTICLE_TABLES["cifar10"].features)
    )
    np.testing.assert_array_equal(rooms, _matrix(boston, BOSTON_FEATURES))
    np.testing.assert_array_equal(prices, boston.columns["MEDV"])


def _matrix(table: Table, names: Sequence[str]) -> NDArray[Any]:
    return np.column_stack([table.columns[name] for name in names])
