"""A worker's attempts at predictions over stored tables: what they make, and what becomes of them on the way."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import select, update

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.errors import InvalidRows, LeaseLost
from service.domain.jobs import Claim, EventKind, JobState, Progress, SavedState
from service.domain.models import Outputs
from service.storage import blobs, datasets, leases, models, predictions
from service.storage.database import Connection, Database, database_time
from service.storage.tables import blob_parts
from service.storage.tables import blobs as blob_table
from service.storage.tables import datasets as dataset_table
from service.storage.tables import jobs as job_table
from service.tables import parquet
from service.use_cases.serving import Serving
from tests.asking import predict
from tests.factories import stored_job
from tests.patience import until
from tests.predictions import read, register, result_table, store_numbers, store_table, submit
from tests.training.attempts import add_table, ask, finish, losses_of, lost, run, start, told
from tests.training.support import output_of, start_python
from tests.training.test_database_trouble import break_writes
from workers.lease import Cancelled, Lease, Leaving
from workers.prediction import Prediction

SMALL: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 3}}
HEAVY_ROWS = 40_000
"""Of a heavy model, so many take some seconds."""
OUTPUTS = Outputs("classification", "y", ("no", "yes"))


class EndsAfter(threading.Event):
    """The end of a worker that comes when it was asked for so often: in the middle, however fast the machine is."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def is_set(self) -> bool:
        """Count down."""
        self._left -= 1
        return self._left < 0


def claim(database: Database, prediction_id: str = "p1") -> Claim:
    with database.write() as connection:
        held = leases.claim(connection, prediction_id, "w1")
    assert held is not None
    return held


def run_in_parts(database: Database, prediction_id: str = "p1") -> None:
    """Run an attempt that stores every group of rows as a part."""
    held = claim(database, prediction_id)
    with Lease(database, held) as lease:
        prediction = Prediction(database, lease, None, part_seconds=0.0)
        try:
            prediction.run()
        except Leaving as leaving:
            with database.write() as connection:
                prediction.store_rest(connection, prediction.saved_state())
                leases.leave(connection, held, leaving.kind)


def parts(database: Database, prediction_id: str = "p1") -> list[int]:
    """The rows at which the stored parts end."""
    with database.read() as connection:
        return [part.epoch for part in predictions.parts(connection, prediction_id)]


def interrupted(database: Database, count: int = 2) -> None:
    """Let a worker store some parts of a prediction and be lost."""

    def attempt() -> None:
        with suppress(LeaseLost):
            run_in_parts(database)

    thread = threading.Thread(target=attempt)
    thread.start()
    until(lambda: len(parts(database)) >= count)
    lost(database)
    finish(thread)
    assert read(database).state is JobState.QUEUED


MIXED = "id,size,city,flat,since,floor,price\n" + "".join(
    f"{place},{'' if place % 9 == 0 else 40 + place % 50 + 0.5},{'' if place % 11 == 0 else f'city {place % 4}'},"
    f"{'true' if place % 2 else 'false'},{1 + place % 28:02d}.03.2020,{place % 3},{place % 50 * 10 + place % 4}\n"
    for place in range(120)
)


@pytest.mark.parametrize(("target", "task"), [("price", "regression"), ("city", "classification")])
def test_answers_are_those_of_predict(database: Database, tmp_path: Path, target: str, task: str) -> None:
    """Categories, gaps, booleans, whole numbers and dates of a real network."""
    add_table(database, tmp_path, MIXED, "rows")
    stored_job(database, dataset="rows", target=target, task=task, model="m", **SMALL)
    run(database)
    submit(database, keep=["id"])
    run(database, "p1")
    table = result_table(database)
    with database.read() as connection:
        dataset = datasets.get(connection, "rows")
        assert dataset.sha256 is not None
        rows = parquet.read_rows(blobs.get(connection, dataset.sha256), 0, dataset.rows)
    features = [{name: cell for name, cell in row.items() if name not in ("id", target)} for row in rows]
    expected = predict(Serving(database), "m", features)
    assert table.column("id").to_pylist() == [row["id"] for row in rows]
    if task == "regression":
        numbers = np.array(expected.predictions, np.float64)
        np.testing.assert_allclose(table.column("prediction").to_numpy(), numbers, rtol=1e-6)
        return
    assert table.column_names[2:] == [f"probability: {label}" for label in expected.classes or ()]
    assert table.column("prediction").to_pylist() == expected.predictions
    probabilities = np.column_stack([column.to_numpy() for column in table.columns[2:]])
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, np.array(expected.probabilities, np.float64), atol=1e-6)


def test_cells_are_taken_as_predict_takes_them(sqlite_database: Database) -> None:
    """Words and numbers that stand for a gap, booleans as numbers, numbers as categories, dates with a time."""
    encoders = (
        NumericEncoder("n", gaps=True, fill=3.0, missing_tokens=("-999",)),
        BooleanEncoder("b", gaps=True, fill=0.25),
        CategoricalEncoder("c", ("x", "y"), other=True, gaps=True, rare=("z",), missing_tokens=("?",)),
        CategoricalEncoder("k", (1, 2.5), holds="number", missing_tokens=("-1",), gaps=True),
        CategoricalEncoder("f", (False, True), holds="boolean", gaps=True),
        DateEncoder("d", "%d.%m.%Y", has_time=True, gaps=True, fill=(0.5,) * 9),
    )
    register(sqlite_database, encoders=encoders)
    columns: dict[str, list[Any]] = {
        "n": [1, -999, None, 7],
        "b": [0, 1, None, 1],
        "c": ["x", " ? ", None, "new"],
        "k": [1.0, -1.0, None, 2.5],
        "f": [True, False, None, True],
        "d": ["01.02.2020", "2020-02-01T10:30", None, "31.12.1969"],
    }
    store_table(sqlite_database, columns)
    submit(sqlite_database)
    run(sqlite_database, "p1")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    expected = predict(Serving(sqlite_database), "m", rows)
    assert result_table(sqlite_database).column("prediction").to_pylist() == expected.predictions
    result = read(sqlite_database).result
    assert result is not None
    assert result.warnings == [
        "column 'c': 1 cell(s) hold categories that training did not see, such as 'new'; they are taken as the rare "
        "categories are"
    ]


def test_row_that_the_model_cannot_answer_has_none_and_is_named(database: Database) -> None:
    encoders = (NumericEncoder("a"), NumericEncoder("b"), DateEncoder("d", "iso"), BooleanEncoder("f"))
    register(database, encoders=encoders, outputs=OUTPUTS)
    cells: dict[str, list[Any]] = {
        "a": [1.0, None, 3.0, 3e38, 5.0, 6.0],
        "b": [1.0, 2.0, 3.0, 3e38, 5.0, 6.0],
        "d": ["2020-01-01", "2020-01-01", "soon", "2020-01-01", "2020-01-01", "2020-01-01"],
        "f": [True, True, True, True, None, True],
    }
    store_table(database, cells)
    submit(database)
    run(database, "p1")
    table, found = result_table(database), read(database)
    assert table.column("prediction").to_pylist() == ["yes", None, None, None, None, "yes"]
    assert [cell is None for cell in table.column("probability: yes").to_pylist()] == [False, *[True] * 4, False]
    assert found.result is not None
    assert (found.result.rows, found.result.unanswered) == (6, 4)
    assert found.result.warnings == [
        "4 of 6 row(s) have no prediction: 1, 2, 3, 4 (rows count from 0)",
        "1 row(s), the first of them row 3, have values too far from those that the model was trained on; it has no "
        "answer for them",
        "column 'a': 1 cell(s) are missing, and training saw no gaps in it; the first in row 1",
        "column 'd': 1 cell(s) are no dates such as 2020-01-31; the first in row 2",
        "column 'f': 1 cell(s) are missing, and training saw no gaps in it; the first in row 4",
    ]
    answered = predict(Serving(database), "m", [{name: values[0] for name, values in cells.items()}])
    assert answered.probabilities is not None
    assert answered.probabilities[0][1] == pytest.approx(table.column("probability: yes")[0].as_py())
    for row in (1, 2, 3, 4):
        with pytest.raises(InvalidRows):
            predict(Serving(database), "m", [{name: values[row] for name, values in cells.items()}])


def test_kept_columns_stay_as_they_are_and_names_stay_unique(sqlite_database: Database) -> None:
    register(sqlite_database, outputs=OUTPUTS)
    columns: dict[str, list[Any]] = {
        "a": [1.5, -2.5],
        "b": [0.0, 0.0],
        "prediction": ["mine", None],
        "probability: yes": [2**60 + 1, None],
        "a.b": [True, False],
        "id": ["x", "y"],
    }
    store_table(sqlite_database, columns)
    kept = ["id", "prediction", "probability: yes", "a.b"]
    submit(sqlite_database, keep=kept)
    run(sqlite_database, "p1")
    table = result_table(sqlite_database)
    assert table.column_names == [*kept, "prediction (2)", "probability: no", "probability: yes (2)"]
    for name in kept:
        assert table.column(name).to_pylist() == columns[name]
    assert table.column("prediction (2)").to_pylist() == ["yes", "no"]
    assert table.schema.field("id").type == pa.string()
    result = read(sqlite_database).result
    assert result is not None
    assert list(result.columns) == table.column_names


@pytest.mark.parametrize("classes", [("no", "yes"), (0, 1), (False, True), (0.5, 1.5)])
def test_labels_are_what_the_classes_are(sqlite_database: Database, classes: tuple[Any, Any]) -> None:
    register(sqlite_database, outputs=Outputs("classification", "y", classes))
    store_table(sqlite_database, {"a": [1.0, -1.0], "b": [0.0, 0.0]})
    submit(sqlite_database, probabilities=False)
    run(sqlite_database, "p1")
    table = result_table(sqlite_database)
    assert table.column_names == ["prediction"]
    assert list(map(repr, table.column("prediction").to_pylist())) == [repr(classes[1]), repr(classes[0])]


def test_built_in_table_that_lies_in_files_is_read(sqlite_database: Database, tmp_path: Path) -> None:
    names = ("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT", "MEDV")
    lines = [",".join(names), *(",".join(str(row + place) for place in range(14)) for row in range(506))]
    (tmp_path / "boston_housing.csv").write_text("\n".join(lines))
    register(sqlite_database, encoders=(NumericEncoder("CRIM"), NumericEncoder("ZN")))
    submit(sqlite_database, dataset="boston_housing", keep=["CRIM", "ZN"])
    run(sqlite_database, "p1", tmp_path)
    table = result_table(sqlite_database)
    crim, zn = table.column("CRIM").to_numpy(), table.column("ZN").to_numpy()
    assert sorted(crim) == list(range(506))
    np.testing.assert_array_equal(table.column("prediction").to_numpy(), crim + zn)


def test_prediction_that_was_lost_goes_on_with_its_parts_to_the_same_bytes(database: Database) -> None:
    register(database, is_heavy=True)
    store_numbers(database, HEAVY_ROWS)
    submit(database, "undisturbed", keep=["a"])
    run(database, "undisturbed")
    submit(database, keep=["a"])
    interrupted(database)
    kept = parts(database)
    assert losses_of(database, "p1") == 1
    run_in_parts(database)
    found, undisturbed = read(database), read(database, "undisturbed")
    assert told(database, EventKind.STARTED, "p1")[-1]["epoch"] == kept[-1]
    assert found.attempts == 2
    assert found.result == undisturbed.result
    assert parts(database) == []
    assert losses_of(database, "p1") == 0
    table = result_table(database)
    assert table.num_rows == HEAVY_ROWS


def test_part_is_stored_when_the_worker_ends(database: Database) -> None:
    register(database, is_heavy=True)
    store_numbers(database, HEAVY_ROWS)
    submit(database)
    run(database, "p1", stopping=EndsAfter(60))  # a group of rows is answered in 25 pieces, and each asks once
    left = read(database)
    assert (left.state, losses_of(database, "p1")) == (JobState.QUEUED, 0)
    [done] = parts(database)
    assert 0 < done < HEAVY_ROWS
    run(database, "p1")
    assert read(database).state is JobState.SUCCEEDED
    assert told(database, EventKind.STARTED, "p1")[-1]["epoch"] == done
    assert result_table(database).num_rows == HEAVY_ROWS


def test_findings_are_those_of_all_parts(sqlite_database: Database) -> None:
    """Rows that have no answer lie before and after the place where the worker was lost."""
    register(sqlite_database, is_heavy=True)
    a = np.ones(HEAVY_ROWS)
    a[[3, HEAVY_ROWS - 1]] = np.nan
    store_table(sqlite_database, {"a": pa.array(a, from_pandas=True), "b": np.ones(HEAVY_ROWS)})
    submit(sqlite_database)
    interrupted(sqlite_database)
    run(sqlite_database, "p1")
    result = read(sqlite_database).result
    assert result is not None
    assert result.unanswered == 2
    assert result.warnings[0] == f"2 of 40,000 row(s) have no prediction: 3, {HEAVY_ROWS - 1} (rows count from 0)"
    assert result_table(sqlite_database).column("prediction").null_count == 2


def test_damaged_part_is_made_again(database: Database) -> None:
    register(database, is_heavy=True)
    store_numbers(database, HEAVY_ROWS)
    submit(database)
    interrupted(database, 3)
    with database.write() as connection:
        damaged = predictions.parts(connection, "p1")[1]
        before = predictions.parts(connection, "p1")[0]
        connection.execute(update(blob_parts).where(blob_parts.c.sha256 == damaged.sha256).values(data=b"rotten"))
    run(database, "p1")
    assert read(database).state is JobState.SUCCEEDED
    assert [told_of["epoch"] for told_of in told(database, EventKind.CHECKPOINT_DAMAGED, "p1")][-1] == before.epoch
    table = result_table(database)
    assert table.num_rows == HEAVY_ROWS
    assert table.column("prediction").null_count == 0


def test_part_whose_commit_was_not_answered_is_stored_once(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_numbers(sqlite_database, 10)
    submit(sqlite_database)
    held = claim(sqlite_database)
    for _ in range(2):
        with sqlite_database.write() as connection:
            predictions.add_part(connection, held, Progress(5, 0.5, 1.0, 5.0), SavedState(b"part", 5, 0))
    assert parts(sqlite_database) == [5]


@pytest.mark.parametrize("after_commit", [False, True], ids=["nothing stored", "answer lost"])
def test_prediction_outlives_a_database_that_fails(database: Database, *, after_commit: bool) -> None:
    register(database)
    store_numbers(database, 10)
    submit(database)
    break_writes(database, 2, "checkpoints", after_commit=after_commit)
    run_in_parts(database)
    break_writes(database, 1, "blob_parts", after_commit=after_commit)
    submit(database, "p2", keep=["a"])
    run(database, "p2")
    for prediction_id in ("p1", "p2"):
        assert read(database, prediction_id).attempts == 1
        assert result_table(database, prediction_id).num_rows == 10


def test_cancel_is_heard_in_the_middle(database: Database) -> None:
    register(database, is_heavy=True)
    store_numbers(database, HEAVY_ROWS)
    submit(database)
    thread = start(database, "p1")
    until(lambda: (read(database).fraction or 0) > 0)
    ask(database, predictions.request_cancel, "p1")
    finish(thread)
    found = read(database)
    assert (found.state, found.result) == (JobState.CANCELLED, None)
    assert parts(database) == []


def test_cancel_that_comes_while_the_result_is_stored_leaves_none(database: Database) -> None:
    register(database)
    store_numbers(database, 10)
    submit(database)
    held = claim(database)
    ask(database, predictions.request_cancel, "p1")
    with pytest.raises(Cancelled):
        Prediction(database, Lease(database, held), None).run()  # a lease that has not begun to listen
    assert (read(database).state, read(database).result) == (JobState.CANCELLING, None)
    with database.read() as connection:
        names = set(connection.execute(select(blob_table.c.sha256)).scalars())
        needed = {*connection.execute(select(dataset_table.c.sha256)).scalars()}
        version = models.get_version(connection, "m")
    assert names - needed == {version.onnx_sha256, version.weights_sha256, version.keras_sha256}


def test_nothing_is_written_when_another_worker_has_the_job(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_numbers(sqlite_database, 10)
    submit(sqlite_database)
    late = claim(sqlite_database)
    with sqlite_database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
    lost(sqlite_database)
    run(sqlite_database, "p1")
    before = read(sqlite_database)
    with Lease(sqlite_database, late) as lease, pytest.raises(LeaseLost):
        Prediction(sqlite_database, lease, None).run()
    assert read(sqlite_database) == before
    assert before.state is JobState.SUCCEEDED


def test_version_that_is_gone_fails_the_prediction_with_its_reason(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_numbers(sqlite_database, 10)
    submit(sqlite_database)

    def forget(connection: Connection) -> None:
        spec = {**read(sqlite_database).spec, "version": 7}
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(spec=spec))

    with sqlite_database.write() as connection:
        forget(connection)
    run(sqlite_database, "p1")
    found = read(sqlite_database)
    assert (found.state, found.error_code) == (JobState.FAILED, "unknown_version")


def test_prediction_that_costs_three_workers_fails(sqlite_database: Database) -> None:
    register(sqlite_database)
    store_numbers(sqlite_database, 10)
    submit(sqlite_database)
    for _ in range(3):
        claim(sqlite_database)
        lost(sqlite_database)
    found = read(sqlite_database)
    assert (found.state, found.error_code, found.attempts) == (JobState.FAILED, "worker_lost", 3)


def test_prediction_needs_no_tensorflow() -> None:
    script = "import sys, workers.prediction; print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    assert output_of(start_python(script)) == "[]"
