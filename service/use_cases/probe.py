"""Feed the untrained network of a spec with real rows: what its layers make of them, before anybody trains it."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.completion import CompletedSpec, complete_spec
from service.domain.datasets import Dataset
from service.domain.diagnostics import Diagnosis
from service.domain.encoders import CategoricalEncoder, Encoder, NumericEncoder, encode
from service.domain.errors import DatasetNotHere, InvalidSpec, UnknownDataset, Violation
from service.domain.findings import Finding, InputFacts
from service.domain.input_facts import is_constant
from service.domain.limits import Limits
from service.domain.lint import lint
from service.domain.models import NEVER_CHANGED
from service.domain.signal import Signal, propagate
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.verdict import Verdict, judge
from service.inference.diagnosis import Probe, fresh_layers, look, probe_rows
from service.storage import datasets
from service.storage.database import Database
from service.tables import article_files

MOST_ROWS = 2048
"""Encoders and standardization are fitted on so many rows, spread over the table."""
MOST_CELLS = 1_000_000
"""Encoded cells; wide tables are read in fewer rows."""
FEWEST_ROWS = 2
MOST_PARAMETERS = 10_000_000
"""What a larger network takes, no single request should."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found."""

    rows: int
    read_rows: int
    inputs: int
    signal: Signal
    """What was to be expected of the spec ..."""
    diagnosis: Diagnosis
    """... and what the rows gave."""
    verdict: Verdict
    findings: list[Finding]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Some rows as numbers."""

    encoders: tuple[Encoder, ...]
    cells: NDArray[np.float64]
    """(rows, encoded columns), not standardized."""
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    farthest: float | None
    """The largest distance of a number, as it came, from its mean in standard deviations ..."""
    farthest_feature: str | None
    """... and where it is."""

    @property
    def standardized(self) -> NDArray[np.float32]:
        """The cells with mean 0 and standard deviation 1; constant columns are 0."""
        return np.asarray((self.cells - self.mean) / self.scale, np.float32)


def probe(database: Database, spec: JobSpec, limits: Limits, datasets_dir: Path | None) -> Probed:
    """Draw the network of a spec and look at its layers on rows of the data set.

    Raises:
        InvalidSpec: the spec does not fit its data set or the limits, or its rows cannot be used.
        DatasetNotHere: it is one of the article's tables and its files are not on this machine.
        CorruptBlob: the stored table is damaged.
    """
    began = time.perf_counter()
    completed, dataset, table = _read(database, spec, limits, datasets_dir)
    target, outputs = _target(completed.spec, dataset, table)
    encoded = _encode(completed.spec, dataset, table)
    del table
    rows = encoded.standardized if completed.spec.network.standardize else encoded.cells.astype(np.float32)
    _check(encoded, rows, completed.spec)
    count = probe_rows(len(rows), rows.shape[1], completed.spec.network.widths, outputs)
    places = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    is_classification = completed.spec.task == "classification"
    network = completed.spec.network
    drawn = fresh_layers(network, rows.shape[1], outputs, completed.spec.training.seed)
    diagnosis = look(network, drawn, Probe(rows[places], target[places], is_classification))
    facts = _facts(encoded, dataset, rows, target, is_classification=is_classification)
    return Probed(
        rows=count,
        read_rows=len(rows),
        inputs=rows.shape[1],
        signal=propagate(network, rows.shape[1], facts.mean or 0.0, facts.variance or 0.0),
        diagnosis=diagnosis,
        verdict=judge(None, diagnosis, network),
        findings=lint(completed.spec, facts, outputs if is_classification else None),
        seconds=time.perf_counter() - began,
    )


def _read(
    database: Database, spec: JobSpec, limits: Limits, datasets_dir: Path | None
) -> tuple[CompletedSpec, Dataset, Table]:
    with tempfile.TemporaryFile() as file:
        with database.read() as connection:
            try:
                dataset = datasets.get(connection, spec.dataset, for_use=True)
            except UnknownDataset as error:
                raise InvalidSpec([Violation("#/dataset", str(error))]) from None
            completed = complete_spec(spec, dataset, limits)
            _check_size(completed)
            if dataset.sha256 is not None:
                datasets.copy_content(connection, dataset.sha256, file)
        assert completed.spec.target is not None
        names = [*(completed.spec.features or ()), completed.spec.target]
        most = max(FEWEST_ROWS, min(MOST_ROWS, MOST_CELLS // max(1, completed.cost.cells // max(1, dataset.rows))))
        if dataset.sha256 is not None:
            from service.tables import parquet  # pyarrow takes 40 MB; most processes never need it

            return completed, dataset, parquet.sample(file, names, most)
    if datasets_dir is not None and article_files.has(datasets_dir, dataset.id):
        return completed, dataset, article_files.read(datasets_dir, dataset.id, slice(0, most))
    raise DatasetNotHere(dataset.id)


def _check_size(completed: CompletedSpec) -> None:
    if completed.cost.parameters > MOST_PARAMETERS:
        detail = (
            f"has {completed.cost.parameters:,} parameters; a probe takes {MOST_PARAMETERS:,} at most. Take fewer "
            "units or hidden_layers: what is said of the layers depends little on their width"
        )
        raise InvalidSpec([Violation("#/network", detail)])


def _target(spec: JobSpec, dataset: Dataset, table: Table) -> tuple[NDArray[Any], int]:
    """Return class indices, or standardized numbers, of the rows, and how many outputs the network has.

    Rows without a target count as the first class, or as the mean: they are as good a probe as any other.
    """
    assert spec.target is not None
    cells = table.columns[spec.target]
    if spec.task == "regression":
        numbers = cells.astype(np.float64)
        given = numbers[~np.isnan(numbers)]
        if not len(given):
            return np.zeros(len(numbers), np.float32), 1
        return np.asarray(np.nan_to_num((numbers - given.mean()) / (given.std() or 1.0)), np.float32), 1
    is_missing = np.array([cell is None or cell != cell for cell in cells.tolist()], bool)
    codes = np.zeros(len(cells), np.int64)
    _, codes[~is_missing] = np.unique(cells[~is_missing].astype(str), return_inverse=True)
    column = dataset.column(spec.target)
    known = column.unique if column is not None and column.unique else 0
    return codes, max(2, known, int(codes.max(initial=0)) + 1)


def _encode(spec: JobSpec, dataset: Dataset, table: Table) -> _Encoded:
    from service import encoding  # with scikit-learn, where a column has categories

    columns = {column.name: column for column in dataset.columns}
    names = spec.features or ()
    encoders = tuple(
        encoding.fit(columns[name], table.columns[name], spec.preparation, dataset.report.missing_words)
        for name in names
    )
    cells = encode({name: table.columns[name] for name in names}, encoders)
    return _Encoded(encoders, cells, *encoding.moments(cells), *_farthest(encoders, table))


def _farthest(encoders: Sequence[Encoder], table: Table) -> tuple[float | None, str | None]:
    """Return how far the farthest number lies from its mean in standard deviations, and its feature."""
    found: tuple[float | None, str | None] = (None, None)
    for encoder in encoders:
        if not isinstance(encoder, NumericEncoder):
            continue
        numbers = table.columns[encoder.name].astype(np.float64)
        numbers = numbers[~np.isnan(numbers)]
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = float(numbers.std()) if len(numbers) else 0.0
            far = float(np.abs(numbers - numbers.mean()).max() / deviation) if deviation > 0 else 0.0
        if np.isfinite(far) and (found[0] is None or far > found[0]):
            found = far, encoder.name
    return found


def _check(encoded: _Encoded, rows: NDArray[np.float32], spec: JobSpec) -> None:
    """Refuse rows that overflow, as a training would.

    Raises:
        InvalidSpec: names the first column.
    """
    lost = np.flatnonzero(~np.isfinite(rows).all(axis=0))
    if len(lost):
        names = [
            name
            for encoder, feature in zip(encoded.encoders, spec.features or (), strict=True)
            for name in [feature] * encoder.width
        ]
        detail = f"column {names[lost[0]][:64]!r} has values so far from its mean that they overflow; leave it out"
        raise InvalidSpec([Violation("#/features", detail)])


def _facts(
    encoded: _Encoded, dataset: Dataset, rows: NDArray[np.float32], target: NDArray[Any], *, is_classification: bool
) -> InputFacts:
    """Measure what the lint goes by; what the data set's description knows of all rows counts more."""
    one_hot = [encoder.width if isinstance(encoder, CategoricalEncoder) else 0 for encoder in encoded.encoders]
    return InputFacts(
        width=rows.shape[1],
        source="rows",
        one_hot=sum(one_hot),
        rarest=_rarest(encoded),
        constants=_constants(encoded, dataset),
        farthest=encoded.farthest,
        farthest_feature=encoded.farthest_feature,
        mean=float(rows.mean(dtype=np.float64)),
        variance=float(rows.var(dtype=np.float64)),
        target_farthest=None if is_classification else float(np.abs(target).max()),
    )


def _rarest(encoded: _Encoded) -> float | None:
    """Return the share of the rarest category that has a column of its own."""
    shares: list[float] = []
    for encoder, place in _places(encoded.encoders):
        if isinstance(encoder, CategoricalEncoder) and encoder.categories:
            shares.append(float(encoded.mean[place : place + len(encoder.categories)].min()))
    return min(shares, default=None)


def _constants(encoded: _Encoded, dataset: Dataset) -> tuple[str, ...]:
    """Name the features that never change; the rows decide where the description does not know."""
    known = {column.name: column for column in dataset.columns}
    is_still = encoded.scale == NEVER_CHANGED
    return tuple(
        encoder.name
        for encoder, place in _places(encoded.encoders)
        if (
            is_constant(known[encoder.name])
            if known[encoder.name].unique is not None
            else is_still[place : place + encoder.width].all()
        )
    )


def _places(encoders: Sequence[Encoder]) -> Iterator[tuple[Encoder, int]]:
    """Give every encoder with the place of its first column."""
    place = 0
    for encoder in encoders:
        yield encoder, place
        place += encoder.width
