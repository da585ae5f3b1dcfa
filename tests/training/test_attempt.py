"""A worker's attempt at a job, on both databases, with real training."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete, event, update
from sqlalchemy.exc import OperationalError

from service.domain.datasets import ARTICLE_TABLES, BOSTON_FEATURES
from service.domain.errors import InvalidRows
from service.domain.jobs import Job, JobState
from service.domain.limits import TableLimits
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable
from service.inference.sessions import SessionCache
from service.storage import datasets, jobs, leases, models
from service.storage.database import Database, database_time
from service.storage.pages import PageRequest
from service.storage.tables import datasets as dataset_table
from service.storage.tables import jobs as job_table
from service.tables.importer import ImportRequest, import_table
from service.use_cases import jobs as use_cases
from service.use_cases.predict import predict
from tests.factories import stored_job
from workers import attempt
from workers.datasets import load
from workers.lease import Cancelled

SMALL: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 3, "test_fraction": 0.2}}
ENDLESS: dict[str, Any] = {**SMALL, "training": {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-6}}


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def run_beside(database: Database) -> threading.Thread:
    """Start an attempt in a thread and return when it has finished an epoch."""
    thread = threading.Thread(target=attempt.run, args=(database, "job-1", "w1", None))
    thread.start()
    deadline = time.monotonic() + 60
    while read(database).epoch < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return thread


def add_table(database: Database, tmp_path: Path, text: str, name: str = "mine") -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with path.open("rb") as source, tempfile.TemporaryFile() as file:
        table = import_table(source, file, ImportRequest("csv"), TableLimits())
        with database.write() as connection:
            datasets.add_imported(connection, name, name, table, file)


def test_attempt_ends_with_a_model_that_answers(database: Database) -> None:
    stored_job(database, **SMALL)
    attempt.run(database, "job-1", "w1", None)
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
    attempt.run(database, "job-1", "w1", None)
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
        attempt.run(database, f"job-{number}", "w1", None)
        assert read(database, f"job-{number}").test_metrics is not None
        with database.read() as connection:
            weights.append(models.get_version(connection, f"table-{number}").weights_sha256)
    assert weights[0] == weights[1]


def test_message_that_comes_again_makes_no_second_model(database: Database) -> None:
    stored_job(database, **SMALL)
    for _ in range(3):
        attempt.run(database, "job-1", "w1", None)
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
    attempt.run(sqlite_database, "job-1", "w1", None)
    assert read(sqlite_database).error_detail is None
    answer = predict(sqlite_database, SessionCache(), "mine", [[1, True], {"flag": False, "a": 3}])
    assert answer.classes == classes
    assert set(answer.predictions) <= set(classes)
    assert [type(label) for label in answer.classes] == [type(label) for label in classes]


def test_cancel_ends_a_running_training_within_5_seconds(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    asked = time.monotonic()
    with database.write() as connection:
        jobs.request_cancel(connection, "job-1")
    thread.join(10)
    assert time.monotonic() - asked < 5
    assert read(database).state == JobState.CANCELLED
    with database.read() as connection:
        assert models.list_page(connection, PageRequest()).items == []


def test_worker_that_lost_its_lease_stops_and_writes_nothing_more(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    with database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
        leases.sweep(connection)
        connection.execute(update(job_table).values(claimable_at=database_time(-1)))
        again = leases.claim(connection, "job-1", "w2")
    assert again is not None
    thread.join(10)
    assert not thread.is_alive()
    job = read(database)
    assert (job.state, job.attempts, job.epoch) == (JobState.RUNNING, 2, 0)
    with database.read() as connection:
        assert jobs.epoch_records(connection, "job-1") == []


def break_writes(database: Database, times: int, *, after_commit: bool = False) -> Callable[[], None]:
    """Make the database fail for a while: each commit that stored an epoch raises, before it or after it."""
    left = [times]
    stored = [False]

    def before_execute(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        stored[0] = stored[0] or statement.startswith("INSERT INTO epochs")

    def on_commit(connection: Any) -> None:
        if not stored[0] or left[0] == 0:
            return
        stored[0], left[0] = False, left[0] - 1
        if after_commit:
            connection.connection.dbapi_connection.commit()
        raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

    event.listen(database.engine, "before_cursor_execute", before_execute)
    event.listen(database.engine, "commit", on_commit)
    return lambda: left.__setitem__(0, 0)


@pytest.mark.parametrize("after_commit", [False, True], ids=["nothing stored", "answer lost"])
def test_training_outlives_a_database_that_fails(database: Database, *, after_commit: bool) -> None:
    stored_job(database, **SMALL)
    break_writes(database, 2, after_commit=after_commit)
    attempt.run(database, "job-1", "w1", None)
    assert read(database).state == JobState.SUCCEEDED
    with database.read() as connection:
        assert [record.epoch for record in jobs.epoch_records(connection, "job-1")] == [1, 2, 3]


def test_cancel_is_heard_while_an_epoch_cannot_be_written(database: Database) -> None:
    stored_job(database, **SMALL)
    mend = break_writes(database, 1000)
    thread = threading.Thread(target=attempt.run, args=(database, "job-1", "w1", None))
    thread.start()
    time.sleep(6)
    with database.write() as connection:
        jobs.request_cancel(connection, "job-1")
    thread.join(10)
    mend()
    assert not thread.is_alive()
    assert read(database).state == JobState.CANCELLED


def test_job_lost_at_its_very_end_is_left_alone(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_job(sqlite_database, **SMALL)

    def lose_and_cancel(*_: Any, **__: Any) -> None:
        with sqlite_database.write() as connection:
            connection.execute(update(job_table).values(lease_until=database_time(-1)))
            leases.sweep(connection)
        raise Cancelled

    monkeypatch.setattr(attempt, "train", lose_and_cancel)
    attempt.run(sqlite_database, "job-1", "w1", None)
    assert read(sqlite_database).state == JobState.QUEUED


def test_diverged_training_fails_with_its_reason(database: Database) -> None:
    network = {"hidden_layers": 8, "units": 64}
    training = {"optimizer": "sgd", "learning_rate": 10.0, "epochs": 20}
    stored_job(database, dataset="diabetes", network=network, training=training)
    attempt.run(database, "job-1", "w1", None)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "training_diverged")
    assert job.error_detail is not None
    assert "epoch 1, step " in job.error_detail
    assert "gave infinite activations" in job.error_detail


def test_epochs_before_a_failure_are_stored(database: Database, tmp_path: Path) -> None:
    """They come several at a time, and a training that fails has some left."""
    rows = [f"{x},{x % 7}" for x in range(200)]
    add_table(database, tmp_path, "x,y\n" + "\n".join(rows) + "\n")
    training = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 3.0, "epochs": 1000, "early_stopping": None}
    network = {"hidden_layers": 2, "units": 8}
    stored_job(database, dataset="mine", target="y", task="regression", network=network, training=training)
    attempt.run(database, "job-1", "w1", None)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "training_diverged")
    assert job.error_detail is not None
    failed_in = int(job.error_detail.partition("epoch ")[2].partition(",")[0])
    with database.read() as connection:
        assert [stored.epoch for stored in jobs.epoch_records(connection, "job-1")] == list(range(1, failed_in))


def test_data_set_that_is_gone_fails_the_job(database: Database) -> None:
    stored_job(database, **SMALL)
    with database.write() as connection:
        connection.execute(delete(dataset_table).where(dataset_table.c.id == "iris"))
    attempt.run(database, "job-1", "w1", None)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "dataset_unavailable")


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
