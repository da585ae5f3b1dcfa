"""From a table to arrays: the split, the classes, the standardization fitted on training rows only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from service.domain.completion import PartSizes
from service.domain.errors import UnusableColumn
from service.domain.models import ClassLabel, Inputs, Outputs
from service.domain.spec import JobSpec
from service.domain.table import Table

CHUNK_ROWS = 8192
LabelArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows as the network takes them, float32 (rows, features), and what it should answer, (rows,)."""

    rows: NDArray[np.float32]
    target: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a training needs of its table."""

    inputs: Inputs
    outputs: Outputs
    training: Part
    validation: Part
    test: Part
    raw_test_rows: NDArray[np.float64]
    raw_probe_rows: NDArray[np.float64]
    """Some raw rows of every part, for comparing the served form with Keras."""


def prepare(spec: JobSpec, table: Table, sizes: PartSizes, kinds: tuple[str, ...], probe_rows: int = 512) -> Prepared:
    """Split, encode and standardize the table of a completed spec."""
    assert spec.features is not None
    assert spec.target is not None
    values = table.matrix(spec.features)
    classes, target = _encode_target(spec, table.columns[spec.target])
    split = split_rows(spec, sizes, target if classes else None, table.rows)
    inputs = _fit_inputs(spec, values, split.training, kinds)
    if classes:
        outputs = Outputs("classification", spec.target, classes)
    else:
        mean, scale = _moments(target[split.training])
        outputs = Outputs("regression", spec.target, mean=float(mean), scale=float(scale))
        target = ((target - outputs.mean) / outputs.scale).astype(np.float32)
    training, validation, test = (
        Part(standardize(values, rows, inputs), target[rows]) for rows in (split.training, split.validation, split.test)
    )
    for part in (training, validation, test):
        _check_finite(part.rows, spec.features)
    probe = np.linspace(0, table.rows - 1, min(probe_rows, table.rows)).astype(np.int64)
    return Prepared(
        inputs,
        outputs,
        training,
        validation,
        test,
        raw_test_rows=values[split.test].astype(np.float64),
        raw_probe_rows=values[probe].astype(np.float64),
    )


def split_rows(spec: JobSpec, sizes: PartSizes, classes: LabelArray | None, rows: int) -> Split:
    """Choose the rows of each part from the seed; a classification keeps the share of every class.

    Without a ``test_fraction`` the last rows, the official test part, are the test part.
    """
    everything = np.arange(rows)
    seed = spec.training.seed
    if spec.training.test_fraction is None:
        rest, test = everything[: rows - sizes.test], everything[rows - sizes.test :]
    else:
        rest, test = _divide(everything, sizes.test, classes, seed)
    training, validation = _divide(rest, sizes.validation, classes, seed)
    return Split(training, validation, test)


def standardize(values: NDArray[Any], rows: NDArray[np.int64], inputs: Inputs) -> NDArray[np.float32]:
    """Return the chosen rows standardized, float32 (rows, features); the arithmetic is float64, as in serving."""
    mean, scale = np.array(inputs.mean), np.array(inputs.scale)
    result = np.empty((len(rows), values.shape[1]), np.float32)
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        with np.errstate(over="ignore"):  # the caller names the column
            result[chunk] = (values[rows[chunk]].astype(np.float64) - mean) / scale
    return result


def _check_finite(rows: NDArray[np.float32], features: tuple[str, ...]) -> None:
    """Refuse columns whose standardized values do not fit float32.

    Raises:
        UnusableColumn: names the first one.
    """
    lost = np.flatnonzero(~np.isfinite(rows).all(axis=0))
    if len(lost):
        raise UnusableColumn(features[lost[0]])


def _encode_target(spec: JobSpec, column: NDArray[Any]) -> tuple[tuple[ClassLabel, ...], NDArray[Any]]:
    if spec.task == "regression":
        return (), column.astype(np.float64)
    classes, indices = np.unique(column, return_inverse=True)
    labels: tuple[ClassLabel, ...] = tuple(classes.tolist())
    return labels, indices.astype(np.int64)


def _fit_inputs(spec: JobSpec, values: NDArray[Any], training: NDArray[np.int64], kinds: tuple[str, ...]) -> Inputs:
    assert spec.features is not None
    if not spec.network.standardize:
        return Inputs(spec.features, kinds, (0.0,) * len(spec.features), (1.0,) * len(spec.features))
    mean, scale = _moments(values[training])
    return Inputs(spec.features, kinds, tuple(mean.tolist()), tuple(scale.tolist()))


def _moments(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation down the rows; a constant column gets scale 1, so that it becomes 0."""
    mean = values.mean(axis=0, dtype=np.float64)
    scale = values.std(axis=0, dtype=np.float64)
    spread_is_noise = scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return mean, np.where(spread_is_noise, 1.0, scale)


def _divide(
    rows: NDArray[np.int64], held_out: int, classes: LabelArray | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold some rows out; rows of a class that has only one stay in the larger part."""
    if held_out == 0:
        return rows, rows[:0]
    lonely = np.zeros(len(rows), bool)
    if classes is not None:
        _, inverse, counts = np.unique(classes[rows], return_inverse=True, return_counts=True)
        lonely = counts[inverse] < 2
        remaining = np.count_nonzero(counts >= 2)
        can_stratify = remaining <= held_out <= np.count_nonzero(~lonely) - remaining
        if not can_stratify:
            classes, lonely = None, np.zeros(len(rows), bool)
    labels = None if classes is None else classes[rows[~lonely]]
    kept, out = train_test_split(rows[~lonely], test_size=held_out, random_state=seed, stratify=labels)
    return np.sort(np.concatenate([kept, rows[lonely]])), np.sort(out)
