"""Read an upload in this process: understand its cells, describe it, and write it as Parquet."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from service.domain.datasets import MISSING_TOKENS, Column, ImportedTable, TableReport
from service.domain.errors import InvalidTable, Violation
from service.domain.table_formats import TableFormat
from service.domain.wording import listed, shown
from service.tables import parquet, profile, relations
from service.tables.allowance import Allowance
from service.tables.cells import TypedColumn, TypedTable, is_text
from service.tables.distinct import Distinct
from service.tables.parallel import in_parallel
from service.tables.refusals import KINDS_POINTER, refused
from service.tables.request import ImportRequest

MAX_CELL_BYTES = 1 << 20
"""A page of rows is shown whole, so no cell may be so long that a hundred of them fill the memory."""
MAX_DESCRIPTION_LENGTH = 16 << 20
"""So much JSON may describe the columns of one table; whoever reads it takes ten times as much memory."""


def read(source: BinaryIO, output: BinaryIO, request: ImportRequest, allowance: Allowance) -> ImportedTable:
    """Read a file and write it as Parquet.

    Raises:
        InvalidTable: it is no table, or too large, or a column cannot have the kind that its owner asks for.
    """
    table = _reader(request.format)(source, request, allowance)
    check_kinds([column.name for column in table.columns], request)
    for column in table.columns:
        _check_cells(column)
    rows = len(table.columns[0].values)
    arrow = pa.table({column.name: column.values for column in table.columns})
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(parquet.write, arrow, output)  # it takes a core for as long as the rest takes the others
        described = _described(table, request, allowance)
        duplicates = relations.count_duplicates(table.columns)
        related = relations.find_related(table.columns, described)
        sha256, size_bytes = written.result()
    warnings = (*table.warnings, *relations.warnings(described, rows, duplicates, related))
    report = TableReport(
        {"format": request.format, **table.source}, _missing_words(request), duplicates, related, warnings
    )
    return _in_bounds(ImportedTable(rows, tuple(described), report, sha256, size_bytes))


def _reader(form: TableFormat) -> Callable[[BinaryIO, ImportRequest, Allowance], TypedTable]:
    """Import what reads one format: JSON's brings pydantic, Parquet's and CSV's do not need it."""
    if form == "csv":
        from service.tables import csv

        return csv.read
    if form == "parquet":
        from service.tables import parquet_import

        return parquet_import.read
    from service.tables import json_rows

    return json_rows.read_lines if form == "ndjson" else json_rows.read_list


def check_kinds(names: list[str], request: ImportRequest) -> None:
    """Refuse kinds of columns that are not there.

    Raises:
        InvalidTable: names them, and the columns.
    """
    if unknown := [name for name in request.kinds if name not in set(names)]:
        detail = f"names {listed(unknown)}, which the file has not; its columns are {listed(names)}"
        raise InvalidTable([Violation(KINDS_POINTER, detail)])


def _missing_words(request: ImportRequest) -> tuple[str, ...]:
    """Return the words that stood for a missing cell; in formats that have gaps of their own, only those asked for."""
    if request.missing is not None:
        return request.missing
    return MISSING_TOKENS if request.format == "csv" else ()


def _check_cells(column: TypedColumn) -> None:
    """Refuse text that is longer than a cell may be.

    Raises:
        InvalidTable: names the column.
    """
    if not is_text(column.values.type):
        return
    cells = column.distinct.cells if column.distinct else Distinct.of(column.values).cells
    longest = pc.max(pc.binary_length(cells)).as_py() or 0
    if longest > MAX_CELL_BYTES:
        detail = f"a cell of {longest:,} bytes in column {shown(column.name)}; at most {MAX_CELL_BYTES:,} are allowed"
        raise refused(f"holds {detail}. Shorten it, or leave the column out")


def _in_bounds(table: ImportedTable) -> ImportedTable:
    """Leave out of thousands of columns what takes much room to describe."""
    if len(json.dumps([column.to_dict() for column in table.columns])) <= MAX_DESCRIPTION_LENGTH:
        return table
    light: dict[str, Any] = {"quantiles": None, "histogram": None, "top": (), "examples": (), "missing_tokens": {}}
    warning = (
        f"the columns are so many ({len(table.columns):,}) or their cells so long that their quantiles, histograms, "
        "examples and most frequent values are not kept"
    )
    report = replace(table.report, warnings=(*table.report.warnings, warning))
    return replace(table, columns=tuple(replace(column, **light) for column in table.columns), report=report)


def _described(table: TypedTable, request: ImportRequest, allowance: Allowance) -> list[Column]:
    def describe(column: TypedColumn) -> Column:
        kind = request.kinds.get(column.name)
        return profile.describe_column(column, allowance.max_categories, table.date_formats, kind)

    return in_parallel(describe, table.columns)
