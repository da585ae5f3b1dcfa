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
    constants = tuple(column.name for column in columns if column.unique == 1)
    width = encoded_width(columns, spec.preparation)
    mean, variance = (0.0, 1.0) if spec.network.standardize else _moments(columns)
    target = known.get(spec.target or "")
    return InputFacts(
        width=width,
        source="profile",
        one_hot=encoded_width(categorical, spec.preparation),
        rarest=_rarest(categorical, dataset.rows),
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


def _rarest(columns: Sequence[Column], rows: int) -> float | None:
    """Return the share of the rarest category that is frequent enough for a number of its own."""
    fewest = max(1, min(FEWEST_ROWS, int(rows * FEWEST_SHARE)))
    counts = [count for column in columns for _, count in column.top if count >= fewest]
    return min(counts) / rows if counts and rows else None


def _moments(columns: Sequence[Column]) -> tuple[float | None, float | None]:
    """Return mean and variance over rows and columns; None where a column is no number, or is not described."""
    if not columns or any(
        encoded_as(column) != "numeric" or column.mean is None or column.std is None for column in columns
    ):
        return None, None
    means = [column.mean or 0.0 for column in columns]
    moments = [(column.std or 0.0) ** 2 + (column.mean or 0.0) ** 2 for column in columns]
    mean = sum(means) / len(means)
    return mean, sum(moments) / len(moments) - mean**2
