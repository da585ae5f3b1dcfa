"""A worker's attempt at a job, on both databases, with real training."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sqlalchemy import delete, update

from service.domain.errors import InvalidRows
from service.domain.jobs import JobState
from service.domain.model_errors import UnknownModel
from service.storage import jobs, leases, losses, models
from service.storage.database import Database, database_time
from service.storage.tables import datasets as dataset_table
from service.storage.tables import jobs as job_table
from service.use_cases import jobs as use_cases
from service.use_cases.serving import Serving
from tests.asking import predict
from tests.factories import stored_job
from tests.training.attempts import SMALL, add_table, claimed, epochs_of, read, run
from tests.training.support import PLATEAU_AND_SAMPLE_WEIGHTS, case, described
from workers import attempt
from workers.epochs import EpochEnd
from workers.lease import Cancelled, Lease
from workers.recorder import Recorder
from workers.training import train


def test_attempt_ends_with_a_model_that_answers_whose_job_it_is(database: Database) -> None:
    others, database = database, database.owned_by("ann")
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
    with others.read() as connection, pytest.raises(UnknownModel):
        models.get_version(connection, "iris")
    answer = predict(Serving(database), "iris", [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], owner="ann")
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
    serving = Serving(database)
    row: dict[str, Any] = {"size": 60.5, "city": "city 1", "flat": True, "since": "05.03.2020"}
    known = predict(serving, "mine", [row, {**row, "size": None}, {"flat": True, "since": "2020-03-05"}])
    assert len(known.predictions) == 3
    assert known.warnings is None
    unseen = predict(serving, "mine", [{**row, "city": "Atlantis"}])
    assert unseen.warnings == [
        "row 0, column 'city': 'Atlantis' was not seen in training and is taken as none of the known ones"
    ]
    with pytest.raises(InvalidRows, match="column 'flat': is null"):
        predict(serving, "mine", [{**row, "flat": None}])


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
    answer = predict(Serving(sqlite_database), "mine", [[1, True], {"flag": False, "a": 3}])
    assert answer.classes == classes
    assert set(answer.predictions) <= set(classes)
    assert [type(label) for label in answer.classes] == [type(label) for label in classes]


def test_job_lost_at_its_very_end_is_left_alone(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_job(sqlite_database, **SMALL)

    def lose_and_cancel(*_: Any, **__: Any) -> None:
        with sqlite_database.write() as connection:
            connection.execute(update(job_table).values(lease_until=database_time(-1)))
            losses.lose_expired(connection)
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
    # Of sums that grow beyond all numbers, some come to infinity and some to no number, by the order of the processor.
    assert re.search("gave (infinite|NaN) activations", job.error_detail)


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
