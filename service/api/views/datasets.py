"""What HTTP shows of data sets and their columns."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal

from service.api.views.base import View
from service.domain.datasets import Cell, Column, ColumnKind, Dataset, Stored


class HistogramView(View):
    """How many cells lie between neighbouring edges; of a date column, in days since 1970."""

    edges: list[float]
    counts: list[int]


class FrequentValueView(View):
    """One of the most frequent values of a column."""

    value: Cell
    count: int


class ColumnView(View):
    """A column of a data set; ``min`` and ``max`` of a date column are ISO 8601 text."""

    name: str
    kind: ColumnKind
    stored: Stored
    is_integer: bool
    missing: int | None
    unique: int | None
    mean: float | None
    std: float | None
    min: float | str | None
    max: float | str | None
    examples: list[Cell]
    quantiles: dict[str, float] | None
    histogram: HistogramView | None
    top: list[FrequentValueView]
    missing_tokens: dict[str, int]
    date_format: str | None
    warnings: list[str]

    @classmethod
    def of(cls, column: Column) -> "ColumnView":
        """Show a column."""
        return cls(
            name=column.name,
            kind=column.kind,
            stored=column.stored,
            is_integer=column.is_integer,
            missing=column.missing,
            unique=column.unique,
            mean=column.mean,
            std=column.std,
            min=column.min,
            max=column.max,
            examples=list(column.examples),
            quantiles=column.quantiles,
            histogram=_histogram(column),
            top=[FrequentValueView(value=value, count=count) for value, count in column.top],
            missing_tokens=column.missing_tokens,
            date_format=column.date_format,
            warnings=list(column.warnings),
        )

    @classmethod
    def summary(cls, column: Column) -> "ColumnView":
        """Show a column in a list, without what takes much room."""
        return cls.of(replace(column, quantiles=None, histogram=None, top=()))


class RelatedView(View):
    """Two columns that say nearly the same: a suspect of leakage where one of them is the target."""

    first: str
    second: str
    how: Literal["equal", "correlated", "one_to_one"]
    strength: float


class DatasetView(View):
    """A data set; ``sha256`` is of its stored Parquet form, null where it is read from files."""

    id: str
    name: str
    rows: int
    columns: list[ColumnView]
    source: dict[str, Any]
    """The format that it came in and, for CSV, how it was written."""
    duplicate_rows: int | None
    related: list[RelatedView]
    warnings: list[str]
    sha256: str | None
    size_bytes: int
    builtin: bool
    created_at: datetime

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetView":
        """Show a data set."""
        return cls._of(dataset, [ColumnView.of(column) for column in dataset.columns])

    @classmethod
    def summary(cls, dataset: Dataset) -> "DatasetView":
        """Show a data set in a list."""
        return cls._of(dataset, [ColumnView.summary(column) for column in dataset.columns])

    @classmethod
    def _of(cls, dataset: Dataset, columns: list[ColumnView]) -> "DatasetView":
        report = dataset.report
        return cls(
            id=dataset.id,
            name=dataset.name,
            rows=dataset.rows,
            columns=columns,
            source=report.source,
            duplicate_rows=report.duplicate_rows,
            related=[RelatedView(**asdict(pair)) for pair in report.related],
            warnings=list(report.warnings),
            sha256=dataset.sha256,
            size_bytes=dataset.size_bytes,
            builtin=dataset.builtin,
            created_at=dataset.created_at,
        )


def _histogram(column: Column) -> HistogramView | None:
    found = column.histogram
    return None if found is None else HistogramView(edges=list(found.edges), counts=list(found.counts))
