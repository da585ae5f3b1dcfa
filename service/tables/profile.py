"""Describe the columns of a table: kind, gaps, distinct values, moments, shape, examples."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.domain.datasets import Column, ColumnKind
from service.domain.kinds import counting_warning, guess_kind, left_out_warning, refusal
from service.tables import date_cells, measures
from service.tables.cells import TypedColumn, is_text
from service.tables.distinct import Distinct
from service.tables.measures import EXAMPLES, shortened
from service.tables.refusals import refused_kind

MAX_CATEGORIES = 1_000
"""As in ``service.domain.limits.TableLimits``."""
MAX_CODE_LENGTH = 64


def describe(table: pa.Table, max_categories: int = MAX_CATEGORIES) -> tuple[Column, ...]:
    """Profile every column of an Arrow table of numbers, booleans and text."""
    return tuple(
        describe_column(TypedColumn(name, table.column(name)), max_categories, date_cells.ISO_ONLY)
        for name in table.column_names
    )


def describe_column(
    column: TypedColumn, max_categories: int, date_formats: tuple[str, ...], kind: ColumnKind | None = None
) -> Column:
    """Measure a column and guess its kind, or give it the kind that its owner asks for.

    Raises:
        InvalidTable: it cannot have that kind.
    """
    rows = len(column.values)
    looks_like_code = False
    if pa.types.is_boolean(column.values.type):
        described = _booleans(column)
    elif not is_text(column.values.type):
        described = _numbers(column)
    else:
        distinct = column.distinct or Distinct.of(column.values)
        described = _texts(column, distinct, date_formats, is_sure=kind == "date")
        looks_like_code = described.unique == rows and _are_codes(distinct)
    guessed = replace(described, kind=guess_kind(described, rows, max_categories, looks_like_code=looks_like_code))
    if kind is None:
        warning = left_out_warning(guessed, max_categories) or counting_warning(guessed, rows)
        return replace(guessed, warnings=(*guessed.warnings, *([warning] if warning else [])))
    if problem := refusal(guessed, kind, max_categories):
        raise refused_kind(column.name, problem)
    return replace(guessed, kind=kind)


def _booleans(column: TypedColumn) -> Column:
    given = column.values.drop_null()
    true = pc.sum(given).as_py() or 0
    counts = {True: true, False: len(given) - true}
    top = sorted(((value, count) for value, count in counts.items() if count), key=lambda pair: -pair[1])
    first = [given[0].as_py()] if len(given) else []
    return Column(
        column.name,
        "boolean",
        "boolean",
        missing=column.values.null_count,
        unique=len(top),
        examples=tuple(first + [not value for value in first if len(top) > 1]),
        top=tuple(top),
        missing_tokens=column.missing_tokens,
        warnings=column.warnings,
    )


def _numbers(column: TypedColumn) -> Column:
    given = column.values.drop_null().to_numpy()
    if given.dtype.kind == "f":
        given = given[~np.isnan(given)].astype(np.float64, copy=False)
    described = Column(
        column.name,
        "numeric",
        "number",
        is_integer=given.dtype.kind == "i",
        missing=len(column.values) - len(given),
        unique=0,
        missing_tokens=column.missing_tokens,
        warnings=column.warnings,
    )
    if len(given) == 0:
        return described
    found = measures.measure(given)
    return replace(
        described,
        unique=found.unique,
        mean=found.mean,
        std=found.std,
        min=found.min,
        max=found.max,
        quantiles=found.quantiles,
        histogram=found.histogram,
        top=found.top,
        examples=found.examples,
    )


def _texts(column: TypedColumn, distinct: Distinct, date_formats: tuple[str, ...], *, is_sure: bool) -> Column:
    places = measures.most_frequent(distinct.counts).tolist()
    found = date_cells.find(column.name, distinct, date_formats, is_sure=is_sure)
    return Column(
        column.name,
        "text",
        "text",
        missing=len(distinct.codes) - distinct.given,
        unique=len(distinct.cells),
        min=found.first,
        max=found.last,
        examples=tuple(map(shortened, distinct.cells.slice(0, EXAMPLES).to_pylist())),
        histogram=found.histogram,
        top=tuple((shortened(distinct.cells[place].as_py()), int(distinct.counts[place])) for place in places),
        missing_tokens=column.missing_tokens,
        date_format=found.written,
        warnings=(*column.warnings, *found.warnings),
    )


def _are_codes(distinct: Distinct) -> bool:
    """Whether all cells are short and hold no blanks."""
    longest = pc.max(pc.utf8_length(distinct.cells)).as_py() or 0
    return longest <= MAX_CODE_LENGTH and not pc.any(pc.match_substring_regex(distinct.cells, r"\s")).as_py()
