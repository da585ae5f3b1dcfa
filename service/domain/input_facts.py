"""What a data set's description tells of the inputs of a network, without reading a row."""

import math
from collections.abc import Iterable, Sequence

from service.domain.datasets import Column, Dataset
from service.domain.features import encoded_as, encoded_width
from service.domain.findings import InputFacts
from service.domain.spec import JobSpec

FEWEST_ROWS = 5
FEWEST_SHARE = 0.01
"""A rarer category has no number of its own (``service.encoding``)."""


def described(spec: JobSpec, dataset: Dataset) -> InputFacts:
    """Gather what the columns of a completed spec are described by; what is not described is left open."""
    known = {column.name: column for column in dataset.columns}
    columns = [known[name] for name in spec.features or ()]
    categorical = [column for column in columns if encoded_as(column) == "categorical"]
    farthest, where = _farthest(column for column in columns if encoded_as(column) == "numeric")
    constants = tuple(column.name for column in columns if is_constant(column))
    width = encoded_width(columns, spec.preparation)
    mean, variance = (0.0, 1.0) if spec.network.standardize else _moments(spec, columns)
    target = known.get(spec.target or "")
    return InputFacts(
        width=width,
        source="profile",
        one_hot=encoded_width(categorical, spec.preparation),
        rarest=_rarest(categorical, dataset.rows, spec.preparation.max_categories),
        constants=constants,
        farthest=farthest,
        farthest_feature=where,
        mean=mean,
        variance=variance,
        target_farthest=None if target is None or spec.task != "regression" else _farthest([target])[0],
    )


def _farthest(columns: Iterable[Column]) -> tuple[float | None, str | None]:
    """Return the largest distance from a mean in standard deviations, and the column."""
    found: tuple[float | None, str | None] = (None, None)
    for column in columns:
        if not (isinstance(column.min, float | int) and isinstance(column.max, float | int)):
            continue
        if column.mean is None or not column.std:
            continue
        far = max(column.max - column.mean, column.mean - column.min) / column.std
        if math.isfinite(far) and (found[0] is None or far > found[0]):
            found = far, column.name
    return found


def is_constant(column: Column) -> bool:
    """Say whether a column is known to have one value in every row; gaps beside it are a second one."""
    return column.unique == 1 and not column.missing


def _rarest(columns: Sequence[Column], rows: int, most: int) -> float | None:
    """Return the share of the rarest known category that has a number of its own."""
    fewest = max(1, min(FEWEST_ROWS, int(rows * FEWEST_SHARE)))
    counts = [count for column in columns for _, count in column.top[:most] if count >= fewest]
    return min(counts) / rows if counts and rows else None


def _moments(spec: JobSpec, columns: Sequence[Column]) -> tuple[float | None, float | None]:
    """Return mean and variance over rows and columns; None where a column is no plain number, or is not described."""
    if (
        not columns
        or spec.preparation.numeric != "standard"
        or any(encoded_as(column) != "numeric" or column.mean is None or column.std is None for column in columns)
    ):
        return None, None
    means = [column.mean or 0.0 for column in columns]
    moments = [(column.std or 0.0) ** 2 + (column.mean or 0.0) ** 2 for column in columns]
    mean = sum(means) / len(means)
    return mean, sum(moments) / len(moments) - mean**2
