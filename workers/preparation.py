"""From a table to arrays: the split, the classes, encoders and standardization fitted on training rows only."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import encoding
from service.domain.datasets import Column
from service.domain.encoders import Encoder, encode
from service.domain.limits import RESIDENT_BYTES
from service.domain.models import NEVER_CHANGED, ClassLabel, Inputs, Outputs
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.training_errors import NoRoom, UnusableColumn
from workers import weighting
from workers.engine.feeds import Examples
from workers.splits import Drawing, Rows, Split, draw

CHUNK_ROWS = 8192
PROBE_ROWS = 512


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a training needs of its table."""

    inputs: Inputs
    outputs: Outputs
    rows: int
    """How many rows the table has."""
    split: Split
    training: Examples
    validation: Examples
    test: Examples
    test_table: Table
    """The columns of the test part as they came."""
    probe: NDArray[np.float32]
    """Some rows of every part as the network takes them ..."""
    raw_probe: list[dict[str, Any]]
    """... and as a client sends them, for comparing the served form with Keras."""

    def encoded_test_rows(self) -> Iterator[NDArray[np.float64]]:
        """Give the test part as the served form takes it, (some rows, encoded columns) at a time."""
        return _encoded(self.test_table, np.arange(self.test_table.rows), self.inputs)


def prepare(
    spec: JobSpec,
    table: Table,
    columns: Mapping[str, Column],
    official_test_rows: int = 0,
    missing_words: Sequence[str] = (),
    on_wait: Callable[[], None] = lambda: None,
    resident_bytes: int = RESIDENT_BYTES,
) -> Prepared:
    """Split, encode and standardize the table of a completed spec; ``on_wait`` is called now and then.

    Encoded rows that take more than ``resident_bytes`` are kept in a temporary file.

    Raises:
        UnusableColumn: values of a column cannot be taken.
        UnusableSplit: the rows cannot be divided as the spec asks.
        UnusableClassWeights, UnusableSampleWeights: they do not fit the rows.
    """
    assert spec.features is not None
    assert spec.target is not None
    usable = np.flatnonzero(_given(table.columns[spec.target]))
    classes, target = _encode_target(spec, table.columns[spec.target], usable, columns[spec.target], on_wait)
    split = _split(spec, table, columns, usable, target if classes else None, official_test_rows)
    on_wait()
    inputs = _fit_inputs(spec, table, columns, split.training, missing_words, on_wait)
    if classes:
        outputs = Outputs("classification", spec.target, classes)
    else:
        mean, scale = encoding.moments(target[split.training])
        # A target that is constant in training has no scale; its errors count as they are.
        is_constant = scale == NEVER_CHANGED
        outputs = Outputs("regression", spec.target, mean=float(mean), scale=1.0 if is_constant else float(scale))
        target = _standardized_target(target, usable, outputs)
    is_resident = 4 * len(usable) * len(inputs.mean) <= resident_bytes
    for_loss, for_metrics = weighting.of_rows(spec.training, table, target, outputs.classes, split)
    training, validation, test = (
        Examples(
            _network_rows(table, rows, inputs, on_wait, is_resident=is_resident),
            target[rows],
            for_loss[rows],
            for_metrics[rows],
        )
        for rows in (split.training, split.validation, split.test)
    )
    probe = usable[np.linspace(0, len(usable) - 1, min(PROBE_ROWS, len(usable))).astype(np.int64)]
    return Prepared(
        inputs,
        outputs,
        table.rows,
        split,
        training,
        validation,
        test,
        Table(table.part(split.test, spec.features)),
        probe=_network_rows(table, probe, inputs, on_wait),
        raw_probe=Table(table.part(probe, spec.features)).objects(),
    )


def standardize(encoded: NDArray[np.float64], inputs: Inputs) -> NDArray[np.float32]:
    """Return encoded rows as the network takes them; the arithmetic is float64, as in serving."""
    with np.errstate(over="ignore"):  # the caller names the column
        return np.asarray((encoded - np.array(inputs.mean)) / np.array(inputs.scale), np.float32)


def _standardized_target(target: NDArray[Any], usable: Rows, outputs: Outputs) -> NDArray[np.float32]:
    """Return the target as the network answers it.

    Raises:
        UnusableColumn: it overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        standardized: NDArray[np.float32] = ((target - outputs.mean) / outputs.scale).astype(np.float32)
    if not (np.isfinite(standardized[usable]).all() and np.isfinite(outputs.scale)):
        raise UnusableColumn(outputs.target)
    return standardized


def _encoded(table: Table, rows: Rows, inputs: Inputs) -> Iterator[NDArray[np.float64]]:
    """Encode some rows, piece by piece, for the encoded form is float64."""
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        yield encode(table.part(chunk, inputs.features), inputs.encoders)


def _network_rows(
    table: Table, rows: Rows, inputs: Inputs, on_wait: Callable[[], None], *, is_resident: bool = True
) -> NDArray[np.float32]:
    """Encode and standardize some rows.

    Raises:
        UnusableColumn: a column overflows float32; names the first one.
    """
    shape = (len(rows), len(inputs.mean))
    result = np.empty(shape, np.float32) if is_resident or not len(rows) else _in_a_file(shape)
    is_finite = np.ones(len(inputs.mean), bool)
    done = 0
    for encoded in _encoded(table, rows, inputs):
        ready = standardize(encoded, inputs)
        result[done : done + len(encoded)] = ready
        is_finite &= np.isfinite(ready).all(axis=0)
        done += len(encoded)
        on_wait()
    lost = np.flatnonzero(~is_finite)
    if len(lost):
        raise UnusableColumn(inputs.encoded[lost[0]])
    return result


def _in_a_file(shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Return an array in a temporary file without a name, which not even ``kill -9`` leaves behind.

    Raises:
        NoRoom: the disk has not so much room; without taking it first, the process would die of a page it cannot write.
    """
    size = 4 * math.prod(shape)
    with tempfile.TemporaryFile() as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise NoRoom(tempfile.gettempdir(), size, error.strerror or "") from None
        return np.memmap(file, np.float32, "w+", shape=shape)


def _split(
    spec: JobSpec,
    table: Table,
    columns: Mapping[str, Column],
    usable: Rows,
    classes: NDArray[Any] | None,
    official_test_rows: int,
) -> Split:
    name = spec.training.split_column
    by = None if name is None else table.columns[name]
    by_column = None if name is None else columns[name]
    drawing = Drawing(spec.training, usable, classes, by, by_column)
    return draw(drawing, rows=table.rows, official_test_rows=official_test_rows)


def _fit_inputs(
    spec: JobSpec,
    table: Table,
    columns: Mapping[str, Column],
    training: Rows,
    missing_words: Sequence[str],
    on_wait: Callable[[], None],
) -> Inputs:
    assert spec.features is not None
    encoders: list[Encoder] = []
    means: list[float] = []
    scales: list[float] = []
    for name in spec.features:
        values = table.columns[name][training]
        encoder = encoding.fit(columns[name], values, spec.preparation, missing_words)
        encoders.append(encoder)
        mean, scale = encoding.encoded_moments(encoder, values)
        means += mean.tolist()
        scales += scale.tolist()
        on_wait()
    if not spec.network.standardize:
        means, scales = [0.0] * len(means), [1.0] * len(scales)
    return Inputs(tuple(encoders), tuple(means), tuple(scales))


def _encode_target(
    spec: JobSpec, values: NDArray[Any], usable: Rows, column: Column, on_wait: Callable[[], None]
) -> tuple[tuple[ClassLabel, ...], NDArray[Any]]:
    """Return the classes, and the target of every row of the table; rows that are not usable hold nothing of use."""
    if spec.task == "regression":
        return (), values.astype(np.float64)
    given = values[usable]
    if column.is_integer and given.dtype.kind == "f":
        given = given.astype(np.int64)  # gaps had made them floats
    labels, codes = encoding.distinct(given, on_wait)
    classes = np.zeros(len(values), np.int64)
    classes[usable] = codes
    return tuple(labels), classes


def _given(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which cells are there."""
    if column.dtype.kind == "f":
        return np.asarray(~np.isnan(column))
    if column.dtype.kind == "O":
        return np.array([cell is not None for cell in column.tolist()], bool)
    return np.ones(len(column), bool)
