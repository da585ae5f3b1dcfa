"""Read a CSV file: every cell as text first, and then each column as what all of its cells are.

So a column's type never depends on how far a parser had looked when it guessed.
"""

import os
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv

from service.domain import dates
from service.domain.datasets import ColumnKind
from service.domain.errors import InvalidTable
from service.tables import csv_faults, decimal_mark, utf8
from service.tables.allowance import Allowance
from service.tables.cells import (
    WORDS_OF_TEXT_FILES,
    TypedColumn,
    TypedTable,
    Words,
    forced_numbers,
    is_text,
    typed,
)
from service.tables.dialect import Dialect, detect
from service.tables.distinct import Distinct
from service.tables.parallel import in_parallel
from service.tables.refusals import refused
from service.tables.request import ImportRequest

BLOCK_BYTES = 4 << 20
WIDE_BLOCK_BYTES = 32 << 20
"""A column has one chunk per block: of many columns, small blocks make millions of chunks."""
WIDE_COLUMNS = 1_000
NO_ROWS = "has a header and no rows"


def read(source: BinaryIO, request: ImportRequest, allowance: Allowance) -> TypedTable:
    """Read a CSV file.

    Raises:
        InvalidTable: it is no CSV, or too large, or a column cannot be read as its owner asks for.
    """
    dialect = detect(source, allowance.max_columns)
    texts = read_text(source, dialect, allowance)
    words = WORDS_OF_TEXT_FILES if request.missing is None else Words(request.missing)
    commas = dialect.separator != ","

    def understand(place: int) -> TypedColumn:
        name, text = dialect.names[place], texts[place]
        texts[place] = None  # the text of a column takes more memory than its numbers
        return _typed(name, text, words, request.kinds.get(name), commas=commas)

    columns, mark, warnings = decimal_mark.settle(in_parallel(understand, range(len(texts))))
    return TypedTable(columns, {**dialect.to_dict(), "decimal": mark}, warnings, dates.FORMATS)


def read_text(source: BinaryIO, dialect: Dialect, allowance: Allowance) -> list[pa.ChunkedArray]:
    """Read the records, one array of strings per column.

    Raises:
        InvalidTable: there are none, or too many, or one has not as many fields as the first line has names, or a quote
            is not closed, or a row is too long, or a byte is no UTF-8.
    """
    size = source.seek(0, os.SEEK_END)
    allowance.check_decoded(size)
    if size == dialect.data_start:
        raise refused(NO_ROWS)
    block_bytes = WIDE_BLOCK_BYTES if len(dialect.names) > WIDE_COLUMNS else BLOCK_BYTES
    try:
        table = _read(source, dialect, block_bytes)
    except pa.ArrowInvalid as error:
        raise _fault(source, dialect, block_bytes, str(error)) from None
    if table.num_rows == 0:
        raise refused(NO_ROWS)
    allowance.check_shape(table.num_rows, table.num_columns)
    allowance.check_decoded(table.nbytes)
    if _may_end_inside_quotes(source, dialect, table) and (
        fault := csv_faults.first_fault(source, dialect, block_bytes)
    ):
        raise fault
    return list(table.columns)


def _typed(name: str, text: pa.ChunkedArray, words: Words, kind: ColumnKind | None, *, commas: bool) -> TypedColumn:
    column = typed(name, text, words, commas=commas)
    if kind == "numeric" and (is_text(column.values.type) or pa.types.is_boolean(column.values.type)):
        return forced_numbers(name, Distinct.of(text), words, commas=commas)
    return column


def _read(source: BinaryIO, dialect: Dialect, block_bytes: int) -> pa.Table:
    line_breaks = _holds(source, dialect.quote.encode())
    source.seek(dialect.data_start - 1)  # a line end; of what comes first, Arrow would leave out a byte order mark
    names = [str(position) for position in range(len(dialect.names))]
    return pacsv.read_csv(
        pa.PythonFile(_Blocks(source), mode="r"),
        read_options=pacsv.ReadOptions(column_names=names, block_size=block_bytes),
        parse_options=pacsv.ParseOptions(
            delimiter=dialect.delimiter, quote_char=dialect.quote, newlines_in_values=line_breaks
        ),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )


def _holds(source: BinaryIO, byte: bytes) -> bool:
    """Whether a file holds a byte anywhere.

    Without quotes no cell holds a line break, and Arrow divides the file into blocks a third faster. With them it must
    be told: it finds most, not all, of the cells that it then cuts in two.
    """
    source.seek(0)
    return any(byte in chunk for chunk in iter(lambda: source.read(utf8.CHUNK_BYTES), b""))


class _Blocks:
    """A file as Arrow is to read it: it may not close it, and no block ends between CR and LF.

    Where one does, Arrow leaves the LF out, which is right between two lines and wrong within quotes.
    """

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        block = self._file.read(size)
        if len(block) > 1 and block.endswith(b"\r"):
            self._file.seek(-1, os.SEEK_CUR)
            return block[:-1]
        return block

    def close(self) -> None:
        """Leave it open."""


def _fault(source: BinaryIO, dialect: Dialect, block_bytes: int, message: str) -> InvalidTable:
    """Return the error that says what is wrong with a file that Arrow could not read."""
    if "Empty CSV" in message:
        return refused(NO_ROWS)
    if "invalid UTF8" in message:
        return utf8.not_utf8(source)
    if fault := csv_faults.first_fault(source, dialect, block_bytes):
        return fault
    if "straddling" in message:
        return refused(f"holds a row of more than {block_bytes:,} bytes")
    return refused(f"cannot be read as CSV with {len(dialect.names):,} column(s): {message.splitlines()[0][:200]}")


def _may_end_inside_quotes(source: BinaryIO, dialect: Dialect, table: pa.Table) -> bool:
    """Whether the last cell seems to open a quote that is never closed: Arrow takes all that follows for its text."""
    quote = dialect.quote
    cell = table.column(table.num_columns - 1)[-1].as_py()
    opened = (quote + cell.replace(quote, quote * 2)).encode()
    end = source.seek(0, os.SEEK_END)
    source.seek(max(0, end - len(opened) - 1))
    tail = source.read()
    return tail[1:] == opened and tail[:1] in {b"\n", b"\r", dialect.delimiter.encode()}
