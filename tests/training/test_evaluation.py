"""What a prediction whose table says what was true is measured to be, and which rows are left out of that."""

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as exact
from sqlalchemy import event

from service.domain.errors import InvalidSpec
from service.domain.jobs import JobState
from service.domain.models import Outputs
from service.domain.prediction_completion import complete_prediction
from service.domain.predictions import Evaluation, PredictionSpec
from service.storage import datasets, jobs
from service.storage.database import Database
from tests.factories import stored_job
from tests.predictions import read, register, result_table, store_table, submit
from tests.training.attempts import add_table, run
from tests.training.test_prediction import HEAVY_ROWS, interrupted, parts

TWO = Outputs("classification", "y", ("no", "yes"))
SMALL: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 2, "split": "column"}}


def evaluation(database: Database, prediction_id: str = "p1") -> Evaluation:
    result = read(database, prediction_id).result
    assert result is not None, read(database, prediction_id).error_detail
    assert result.evaluation is not None
    return result.evaluation


def warnings(database: Database) -> list[str]:
    result = read(database).result
    assert result is not None
    return list(result.warnings)


def table_of(rows: int, task: str) -> dict[str, Any]:
    """A third of the rows for each part; the target hangs on both features."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    noisy = a - b + rng.normal(size=rows)
    y = noisy * 40 + 7 if task == "regression" else np.where(noisy > 0, "up", "down")
    return {"a": a, "b": b, "y": y, "part": np.array(["train", "validation", "test"])[np.arange(rows) % 3]}


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_evaluation_on_the_test_rows_says_what_the_training_said(database: Database, tmp_path: Path, task: str) -> None:
    columns = table_of(240, task)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    add_table(database, tmp_path, "\n".join(lines), "rows")
    training = SMALL["training"] | {"split_column": "part"}
    stored_job(database, dataset="rows", target="y", task=task, model="m", **(SMALL | {"training": training}))
    run(database)
    store_table(database, {name: cells[2::3] for name, cells in columns.items()}, "test rows")
    submit(database, dataset="test rows", target="y")
    run(database, "p1")
    with database.read() as connection:
        measured = jobs.get(connection, "job-1").test_metrics
    assert measured is not None
    found = evaluation(database)
    assert (found.target, found.rows) == ("y", 80)
    assert found.metrics.keys() == measured.keys()
    for name, value in found.metrics.items():
        assert value == pytest.approx(measured[name], rel=1e-5), name
    assert found.calibration is not None
    assert (found.calibration["part"], found.calibration["rows"]) == ("dataset", 80)


def test_numbers_are_held_against_the_truth_in_the_targets_units(sqlite_database: Database) -> None:
    register(sqlite_database, outputs=Outputs("regression", "y", mean=5.0, scale=2.0))
    a, y = [1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 1.0, 8.0]
    store_table(sqlite_database, {"a": a, "b": [0.0] * 4, "truth": y})
    submit(sqlite_database, target="truth")
    run(sqlite_database, "p1")
    found = evaluation(sqlite_database)
    residuals = np.array(y) - np.array(a)
    assert found.metrics["loss"] == pytest.approx(np.mean((residuals / 2.0) ** 2))
    assert found.metrics["mae"] == pytest.approx(np.abs(residuals).mean())
    assert found.metrics["rmse"] == pytest.approx(np.sqrt((residuals**2).mean()))
    assert found.metrics["r2"] == pytest.approx(1 - (residuals**2).sum() / ((np.array(y) - np.mean(y)) ** 2).sum())
    assert found.calibration is not None
    assert found.calibration["mean_residual"] == pytest.approx(residuals.mean())
    assert result_table(sqlite_database).column_names == ["truth", "prediction"]
    assert warnings(sqlite_database) == []


@pytest.mark.parametrize(
    ("classes", "cells"),
    [
        (("no", "yes"), ["yes", "no", "no", "yes"]),
        ((0, 1), [1, 0, 0, 1]),
        ((0, 1), [1.0, 0.0, 0.0, 1.0]),
        ((False, True), [True, False, False, True]),
        ((0.5, 1.5), [1.5, 0.5, 0.5, 1.5]),
    ],
)
def test_classes_are_found_among_cells_of_their_kind(
    sqlite_database: Database, classes: tuple[Any, Any], cells: list[Any]
) -> None:
    """Four rows of which the third is answered wrongly."""
    register(sqlite_database, outputs=Outputs("classification", "y", classes))
    a = [1.0, -1.0, 0.25, 2.0]
    store_table(sqlite_database, {"a": a, "b": [0.0] * 4, "y": cells})
    submit(sqlite_database, target="y")
    run(sqlite_database, "p1")
    found = evaluation(sqlite_database)
    assert (found.rows, found.metrics["accuracy"], found.metrics["auc"]) == (4, 0.75, 1.0)
    right = [1 / (1 + math.exp(-2 * value)) for value in (1.0, 1.0, -0.25, 2.0)]  # the graph's logits are -a and a
    assert found.metrics["loss"] == pytest.approx(-np.mean(np.log(right)), rel=1e-5)


def test_rows_without_truth_or_answer_are_left_out_and_told_of(database: Database) -> None:
    register(database, outputs=TWO)
    columns = {
        "a": [1.0, -1.0, None, 1.0, 1.0, -1.0, 1.0],
        "b": [0.0] * 7,
        "y": ["yes", "no", "yes", None, "maybe", "yes", "maybe"],
    }
    store_table(database, columns)
    submit(database, target="y")
    run(database, "p1")
    found = evaluation(database)
    assert found.rows == 3
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert warnings(database)[-2:] == [
        "column 'y': 1 cell(s) are missing; the evaluation leaves these rows out",
        "column 'y': 2 row(s) hold 1 class(es) that the model does not know, such as 'maybe'; the evaluation leaves "
        "these rows out",
    ]
    assert result_table(database).column("y").to_pylist() == columns["y"]


@pytest.mark.parametrize(
    ("outputs", "columns"),
    [
        (TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0], "y": ["x", "z"]}),
        (Outputs("regression", "y"), {"a": [1.0, None], "b": [1.0, 2.0], "y": [None, 3.0]}),
    ],
)
def test_where_no_answer_meets_a_truth_nothing_is_measured(
    sqlite_database: Database, outputs: Outputs, columns: dict[str, Any]
) -> None:
    register(sqlite_database, outputs=outputs)
    store_table(sqlite_database, columns)
    submit(sqlite_database, target="y")
    run(sqlite_database, "p1")
    found = evaluation(sqlite_database)
    assert (found.rows, found.metrics, found.calibration) == (0, {}, None)


def test_integers_that_are_too_large_for_a_float_are_rounded(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_table(sqlite_database, {"a": [1.0, 2.0], "b": [0.0, 0.0], "y": [2**60 + 1, 5]})
    submit(sqlite_database, target="y")
    run(sqlite_database, "p1")
    assert evaluation(sqlite_database).metrics["mae"] == pytest.approx((2.0**60 + 3) / 2)


def test_prediction_that_was_lost_is_measured_whole(database: Database) -> None:
    """What is measured does not hang on where the parts of the result end, nor on texts that only some of them hold."""
    register(database, outputs=TWO, is_heavy=True)
    rng = np.random.default_rng(1)
    a = rng.normal(size=HEAVY_ROWS)
    y = np.where(a + rng.normal(size=HEAVY_ROWS) > 0, "yes", "no").astype(object)
    y[-2000:] = "no"
    y[-1] = "perhaps"
    store_table(database, {"a": a, "b": np.zeros(HEAVY_ROWS), "y": pa.array(y, pa.string())})
    for prediction_id in ("undisturbed", "p1"):
        submit(database, prediction_id, target="y")
    run(database, "undisturbed")
    interrupted(database)
    run(database, "p1")
    found = evaluation(database)
    assert found == evaluation(database, "undisturbed")
    assert read(database).attempts == 2
    known = y != "perhaps"
    assert found.rows == known.sum() == HEAVY_ROWS - 1
    assert found.metrics["accuracy"] == pytest.approx(((a > 0) == (y == "yes"))[known].mean())
    assert found.metrics["auc"] == pytest.approx(exact.roc_auc_score(y[known] == "yes", a[known]))


def test_result_without_a_target_has_no_evaluation(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_table(sqlite_database, {"a": [1.0], "b": [2.0], "y": [3.0]})
    submit(sqlite_database)
    run(sqlite_database, "p1")
    result = read(sqlite_database).result
    assert read(sqlite_database).state is JobState.SUCCEEDED
    assert result is not None
    assert result.evaluation is None


def test_answers_are_stored_before_they_are_measured(database: Database) -> None:
    """A worker that ends while it measures leaves all of them to the next one."""
    register(database, outputs=TWO)
    store_table(database, {"a": [1.0, -1.0], "b": [0.0, 0.0], "y": ["yes", "yes"]})
    submit(database, target="y")
    stopping = threading.Event()

    def end_worker(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO checkpoints "):
            stopping.set()

    event.listen(database.engine, "before_cursor_execute", end_worker)
    run(database, "p1", stopping=stopping)
    assert read(database).state is JobState.QUEUED
    assert parts(database) == [2]
    run(database, "p1")
    assert read(database).attempts == 2
    assert evaluation(database).metrics["accuracy"] == 0.5
    assert result_table(database).column("prediction").to_pylist() == ["yes", "no"]


def test_weights_of_the_training_are_told_of(sqlite_database: Database) -> None:
    version = register(sqlite_database)
    store_table(sqlite_database, {"a": [1.0], "b": [2.0], "y": [3.0]})
    with sqlite_database.read() as connection:
        dataset = datasets.get(connection, "rows")
    weighted = replace(version, spec={"training": {"sample_weight_column": "w"}})
    spec = PredictionSpec(model="m", dataset="rows", target="y")
    assert complete_prediction(spec, weighted, dataset).warnings == (
        "m version 1 was trained, and its test part measured, with the weights in column 'w'; the evaluation counts "
        "every row the same",
    )
    assert complete_prediction(spec, version, dataset).warnings == ()
    assert complete_prediction(spec.model_copy(update={"target": None}), weighted, dataset).warnings == ()


def test_large_table_whose_target_is_text_can_be_evaluated(sqlite_database: Database) -> None:
    """Only texts that the client keeps may be as large as the table."""
    version = register(sqlite_database, outputs=TWO)
    store_table(sqlite_database, {"a": [1.0], "b": [2.0], "y": ["yes"], "note": ["long"]})
    with sqlite_database.read() as connection:
        dataset = replace(datasets.get(connection, "rows"), size_bytes=2**31)
    spec = PredictionSpec(model="m", dataset="rows", target="y")
    assert complete_prediction(spec, version, dataset).spec.keep == ("y",)
    with pytest.raises(InvalidSpec, match="the result could take"):
        complete_prediction(spec.model_copy(update={"keep": ("note",)}), version, dataset)
