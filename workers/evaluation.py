"""Hold a prediction's answers against what was true, as a training does with its test part."""

from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.domain.jobs import Measure
from service.domain.models import Outputs
from service.domain.predictions import Evaluation, ResultColumns
from service.domain.wording import listed, shown
from service.tables.parquet import read_columns
from workers import calibration, metrics

MAX_LISTED = 3

Codes = NDArray[np.int64]
Measured = tuple[dict[str, Measure], calibration.Calibration | None]
NOTHING: Measured = {}, None
PART = {"part": "dataset"}


def evaluate(result: BinaryIO, target: str, columns: ResultColumns, outputs: Outputs) -> tuple[Evaluation, list[str]]:
    """Measure the answers in a result, where a truth is known; say in plain words which rows are left out.

    ``target`` is a kept column of the result, whose other columns are ``columns``. A regression's metrics are in the
    target's units. Classes that the model does not know are left out, for it gives them no probability.
    """
    answers = _answers(result, columns)
    cells = read_columns(result, [target]).column(0).combine_chunks()
    is_answered = np.isfinite(answers).all(axis=1)
    warnings = _about_missing(cells, target)
    if outputs.task == "classification":
        places, about_unknown = _class_places(cells, outputs, target)
        warnings += about_unknown
        usable = is_answered & (places >= 0)
        measured = _measured_classes(places[usable], answers[usable])
    else:
        numbers = np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        usable = is_answered & np.isfinite(numbers)
        measured = _measured_numbers(numbers[usable], answers[usable, 0].astype(np.float64), outputs.scale)
    return Evaluation(target, int(usable.sum()), *measured), warnings


def _measured_classes(truth: Codes, probabilities: NDArray[np.floating]) -> Measured:
    if not len(truth):
        return NOTHING
    return metrics.of_classes(truth, probabilities), PART | calibration.of_classes(truth, probabilities)


def _measured_numbers(truth: NDArray[np.float64], predicted: NDArray[np.float64], scale: float) -> Measured:
    if not len(truth):
        return NOTHING
    return metrics.of_numbers(truth, predicted, scale), PART | calibration.of_numbers(truth, predicted, scale)


def _answers(result: BinaryIO, columns: ResultColumns) -> NDArray[np.floating]:
    """Return probabilities, (rows, classes), or numbers, (rows, 1); NaN where a row has no answer."""
    table = read_columns(result, columns.probabilities or [columns.answer])
    answers = np.empty((table.num_rows, table.num_columns), np.float32 if columns.probabilities else np.float64)
    for place, column in enumerate(table.columns):
        answers[:, place] = column.to_numpy()
    return answers


def _class_places(cells: pa.Array, outputs: Outputs, target: str) -> tuple[Codes, list[str]]:
    """Return which class each cell holds, (rows,), -1 for none of them, and say which are none of them."""
    coded = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
    values = coded.dictionary.to_pylist()
    known = {label: place for place, label in enumerate(outputs.classes)}
    places = np.array([*(known.get(value, -1) for value in values), -1], np.int64)
    codes = coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(places))
    strange = [place for place, value in enumerate(values) if value not in known and value == value and counts[place]]
    if not strange:
        return places[codes], []
    few = listed([values[place] for place in strange], MAX_LISTED)
    said = (
        f"column {shown(target)}: {counts[strange].sum():,} row(s) hold {len(strange):,} class(es) that the model does "
        f"not know, such as {few}; the evaluation leaves these rows out"
    )
    return places[codes], [said]


def _about_missing(cells: pa.Array, target: str) -> list[str]:
    count = pc.sum(cells.is_null(nan_is_null=True)).as_py()
    said = f"column {shown(target)}: {count:,} cell(s) are missing; the evaluation leaves these rows out"
    return [said] if count else []
