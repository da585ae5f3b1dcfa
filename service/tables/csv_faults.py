"""Find the first record at which a CSV file stops being a table; slow, and only for files that are refused."""

import csv
import io
from typing import BinaryIO

from service.domain.errors import InvalidTable
from service.domain.wording import shown
from service.tables.dialect import Dialect, long_fields
from service.tables.refusals import refused


def first_fault(source: BinaryIO, dialect: Dialect, max_row_bytes: int) -> InvalidTable | None:
    """Return the error that names the first faulty record by row and line, or None where none is found."""
    source.seek(dialect.data_start)
    text = io.TextIOWrapper(source, "utf-8", errors="replace", newline="")
    try:
        with long_fields(max_row_bytes):
            return _first_fault(text, dialect, max_row_bytes)
    finally:
        text.detach()


def _first_fault(text: io.TextIOWrapper, dialect: Dialect, max_row_bytes: int) -> InvalidTable | None:
    reader = csv.reader(text, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
    row, first_line = 1, 2
    try:
        for record in reader:
            last_line = reader.line_num + 1  # the reader has not seen the first line
            if record and len(record) != len(dialect.names):
                return _ragged(row, first_line, last_line, record, dialect)
            row, first_line = row + bool(record), last_line + 1
    except csv.Error as error:
        where = f"row {row:,} (line {first_line:,})"
        if "unexpected end" in str(error):
            return refused(f"opens a quote in {where} and does not close it")
        if "field limit" in str(error):
            return refused(
                f"holds a cell of more than {max_row_bytes:,} bytes in {where}, or a quote is not closed there"
            )
        return refused(f"cannot be read as CSV in {where}: {error}")
    return None


def _ragged(row: int, first_line: int, last_line: int, record: list[str], dialect: Dialect) -> InvalidTable:
    detail = (
        f"has {len(record):,} field(s) in row {row:,} (line {first_line:,}), which begins {shown(record[0])}; every "
        f"row must have {len(dialect.names):,}, as the first line has, separated by {shown(dialect.separator)}"
    )
    if last_line > first_line:
        return refused(f"{detail}. The row goes on to line {last_line:,}: a quote is perhaps not closed")
    return refused(f"{detail}. Quote a cell that holds the separator, and leave an empty cell empty")
