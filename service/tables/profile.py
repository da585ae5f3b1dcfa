"""Describe the columns of a table: kind, gaps, distinct values, moments, examples."""

import pyarrow as pa
import pyarrow.compute as pc

from service.domain.datasets import Column, ColumnKind

EXAMPLES = 3
MAX_CATEGORIES = 50
"""A text column with more distinct values than this is taken as free text."""
MAX_EXAMPLE_LENGTH = 64


def describe(table: pa.Table) -> tuple[Column, ...]:
    """Profile every column of an Arrow table."""
    return tuple(_describe(name, table.column(name)) for name in table.column_names)


def _describe(name: str, values: pa.ChunkedArray) -> Column:
    unique = pc.unique(values).drop_null()
    examples = tuple(_short(value) for value in unique.slice(0, EXAMPLES).to_pylist())
    if pa.types.is_boolean(values.type):
        return Column(name, "boolean", missing=values.null_count, unique=len(unique), examples=examples)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        kind: ColumnKind = "categorical" if len(unique) <= MAX_CATEGORIES else "text"
        return Column(name, kind, missing=values.null_count, unique=len(unique), examples=examples)
    bounds = pc.min_max(values).as_py()
    return Column(
        name,
        "numeric",
        is_integer=pa.types.is_integer(values.type),
        missing=values.null_count,
        unique=len(unique),
        mean=pc.mean(values).as_py(),
        std=pc.stddev(values).as_py(),
        min=bounds["min"],
        max=bounds["max"],
        examples=examples,
    )


def _short(value: object) -> str | int | float | bool | None:
    if isinstance(value, str):
        return value[:MAX_EXAMPLE_LENGTH]
    assert value is None or isinstance(value, int | float | bool)
    return value
