"""Read a table as an upload is read, in this process."""

import io
from dataclasses import replace
from typing import Any

from service.domain.datasets import ImportedTable
from service.domain.limits import TableLimits
from service.domain.table_formats import TableFormat
from service.tables import parquet, reading
from service.tables.allowance import Allowance
from service.tables.request import ImportRequest

_LIMITS = TableLimits()
ALLOWANCE = Allowance(
    _LIMITS.max_rows, _LIMITS.max_columns, _LIMITS.max_cells, _LIMITS.max_decoded_bytes, _LIMITS.max_categories
)
EVERYTHING = 1_000_000


def upload(
    content: bytes, form: TableFormat = "csv", *, allowed: dict[str, int] | None = None, **asked: Any
) -> tuple[ImportedTable, list[dict[str, Any]]]:
    """Return what was found, and every row as it is stored; ``allowed`` bounds the table."""
    output = io.BytesIO()
    request = ImportRequest(form, **asked)
    table = reading.read(io.BytesIO(content), output, request, replace(ALLOWANCE, **(allowed or {})))
    return table, parquet.read_rows(output.getvalue(), 0, EVERYTHING)


def column(rows: list[dict[str, Any]], name: str = "a") -> list[Any]:
    """Return the cells of one column."""
    return [row[name] for row in rows]
