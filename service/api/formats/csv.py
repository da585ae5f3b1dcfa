"""CSV: the model's columns by the names in the first line, or in its order where the media type says header=absent.

Imports pyarrow, so it is imported by the first request that needs it. Its reader gets the types from the model, so that
``00202`` stays text where it is a category.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from service.api.formats import limits
from service.api.formats.tables import Chosen, CodedColumn, Convert, NumberColumn, TextAllowance, check, choose
from service.domain.datasets import MISSING_TOKENS, NUMERIC_MISSING_TOKENS
from service.domain.encoders import CategoricalEncoder, Category, Encoder
from service.domain.errors import InvalidRows, MalformedRequest
from service.inference.columns import row_problem
from service.inference.rows import MAX_ROWS, CheckedRows
from service.use_cases.serving import Served

WANTED = "CSV in UTF-8, separated by commas"
ADVICE = "Cells are separated by commas; without a line of names, send Content-Type: text/csv; header=absent"
BLOCK_BYTES = 4 << 20
"""A row may take as much."""
MAX_HEADER_BYTES = 1 << 20

LF, CR, QUOTE = b'\n\r"'

_BOOLEANS = {"true": True, "false": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_LINE_END = re.compile(rb"\r\n|\n|\r")
_RAGGED = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
_SOMETHING = re.compile(rb"\S")
_ROW = re.compile(rb"[^\r\n]")


class _NotAllNumbers(Exception):
    """A cell of a column of numbers is none, or a gap that Arrow does not know."""


def read(
    body: bytes | bytearray, served: Served, *, header: bool = True, block_bytes: int = BLOCK_BYTES
) -> CheckedRows:
    """Read rows, as many at once as ``block_bytes`` hold; a gap is an empty cell or a word that is one in an upload.

    Raises:
        MalformedRequest: it is no CSV in UTF-8.
        InvalidRows: the model cannot take its columns or rows.
    """
    start = len(codecs.BOM_UTF8) if body.startswith(codecs.BOM_UTF8) else 0
    if not _SOMETHING.search(body, start):
        raise limits.empty(WANTED)
    if (nul := body.find(0)) >= 0:
        raise MalformedRequest(f"the body holds a NUL at byte {nul:,}, so it is no text in UTF-8; send {WANTED}")
    names: Sequence[str] = served.version.inputs.features
    if header:
        names, start = _header(body, start)
    chosen = choose(names, served, ADVICE)
    _check_quotes(body, start)
    try:
        return _read(body, _blocks(body, start, block_bytes), names, served, chosen)
    except _NotAllNumbers:  # by their different texts it is found out which cells are wrong, if any
        return _read(body, _blocks(body, start, block_bytes), names, served, chosen, as_numbers=False)


def _read(
    body: bytes | bytearray,
    blocks: Iterator[tuple[int, int]],
    names: Sequence[str],
    served: Served,
    chosen: Chosen,
    *,
    as_numbers: bool = True,
) -> CheckedRows:
    """Read the rows in some blocks; ``as_numbers`` reads columns of numbers as such at once."""
    allowance, most = TextAllowance(), min(MAX_ROWS, body.count(b"\n") + body.count(b"\r") + 1)
    columns: dict[str, NumberColumn | CodedColumn] = {}
    for encoder in served.version.inputs.encoders:
        if encoder.name in chosen.places:
            is_number = as_numbers and encoder.kind == "numeric"
            columns[encoder.name] = NumberColumn(most) if is_number else CodedColumn(_converter(encoder), allowance)
    text = pa.dictionary(pa.int32(), pa.string())
    types = {name: pa.float64() if type(found) is NumberColumn else text for name, found in columns.items()}
    converting = pacsv.ConvertOptions(column_types=types, include_columns=list(types), null_values=_gap_words(served))
    rows = 0
    for begin, end in blocks:
        block = _read_block(body, begin, end, names, converting, rows)
        rows += block.num_rows
        limits.check_shape(rows, len(names))
        for column, cells in zip(columns.values(), block.columns, strict=True):
            column.add(cells.chunk(0))  # there is one, for Arrow's block is as large as this one
    return check(served, columns, rows, chosen)


def _blocks(body: bytes | bytearray, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut the rows that begin at a byte into blocks of whole rows; blocks of blank lines are left out.

    Arrow would cut by itself, but reads ahead in threads that may outlive an error, and takes a line end within quotes
    apart where a block ends between CR and LF.

    Raises:
        MalformedRequest: a row is longer than a block.
    """
    while _ROW.search(body, start):
        end = len(body)
        if end - start > size:
            end = _row_end(body, start, start + size)
        if _ROW.search(body, start, end):
            yield start, end
        start = end


def _row_end(body: bytes | bytearray, start: int, end: int) -> int:
    """Return where the last row ends that ends before a byte: at a line end with an even number of quotes before it."""
    block = np.frombuffer(body, np.uint8, end - start, start)
    ends = (block == LF) | (block == CR)
    if body.find(b'"', start, end) >= 0:
        ends &= ~np.logical_xor.accumulate(block == QUOTE)
    places = np.flatnonzero(ends)
    if not len(places):
        problem = f"the body holds a row of more than {end - start:,} bytes, or a quote in a cell without quotes"
        raise MalformedRequest(f"{problem}; send {WANTED}")
    last = start + int(places[-1])
    return last + (2 if body[last : last + 2] == b"\r\n" else 1)


def _read_block(
    body: bytes | bytearray, begin: int, end: int, names: Sequence[str], converting: Any, first_row: int
) -> Any:
    """Return the rows of a block as an Arrow table.

    Raises:
        _NotAllNumbers: a cell of a column of numbers is none.
        MalformedRequest: it is no CSV in UTF-8.
        InvalidRows: a row has too few or too many cells.
    """
    # Without threads it counts the rows, so that a faulty one can be named.
    reading = pacsv.ReadOptions(column_names=list(names), block_size=end - begin + 1, use_threads=False)
    parsing = pacsv.ParseOptions(newlines_in_values=body.find(b'"', begin, end) >= 0)
    source = pa.BufferReader(pa.py_buffer(memoryview(body)[begin:end]))
    try:
        return pacsv.read_csv(source, reading, parsing, converting)
    except pa.ArrowInvalid as error:
        raise _fault(body, first_row, str(error)) from None


class _Lines:
    """The lines of a body with their ends, one when it is asked for; ``at`` is where the next begins."""

    def __init__(self, body: bytes | bytearray, start: int, errors: str = "strict") -> None:
        self.at = start
        self._body = body
        self._errors = errors

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.at >= len(self._body):
            raise StopIteration
        end = _LINE_END.search(self._body, self.at)
        line = self._body[self.at : end.end() if end else len(self._body)]
        self.at += len(line)
        return line.decode(errors=self._errors)


def _header(body: bytes | bytearray, start: int) -> tuple[list[str], int]:
    """Return the names in the first line, and where the rows begin."""
    end = _LINE_END.search(body, start, start + MAX_HEADER_BYTES)
    if end is None and len(body) - start > MAX_HEADER_BYTES:
        raise MalformedRequest(f"the first line has more than {MAX_HEADER_BYTES:,} bytes; {ADVICE}")
    lines = _Lines(body, start)
    try:
        names = next(record for record in csv.reader(lines, strict=True) if record)
    except UnicodeDecodeError:
        raise _not_utf8(body) from None
    except csv.Error as error:
        raise MalformedRequest(f"the first line cannot be read as names: {error}; {ADVICE}") from None
    return names, lines.at


def _check_quotes(body: bytes | bytearray, start: int) -> None:
    """Refuse a quote that is not closed: Arrow would take all that follows for the text of one cell."""
    if body.count(b'"', start) % 2 == 0:
        return
    row = 0
    try:
        for record in csv.reader(_Lines(body, start, "replace"), strict=True):
            row += bool(record)
    except csv.Error as error:
        problem = "opens a quote that is not closed" if "unexpected end" in str(error) else f"is no CSV: {error}"
        raise MalformedRequest(f"row {row} {problem}; put a quote within quotes twice") from None


def _fault(body: bytes | bytearray, first_row: int, message: str) -> Exception:
    """Return the error that says what is wrong with a body that Arrow could not read."""
    if ragged := _RAGGED.match(message):
        row, wanted, came = map(int, ragged.groups())
        problem = f"has {came:,} cell(s), separated by commas; it must have {wanted:,}"
        return InvalidRows([row_problem(first_row + row - 1, problem)])
    if "invalid UTF8" in message:
        return _not_utf8(body)
    if "conversion error" in message:
        return _NotAllNumbers()
    return MalformedRequest(f"the body cannot be read as CSV: {message.splitlines()[0][:200]}; send {WANTED}")


def _not_utf8(body: bytes | bytearray) -> MalformedRequest:
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    while at < len(body):
        pending = len(decoder.getstate()[0])
        piece = bytes(body[at : at + BLOCK_BYTES])
        try:
            decoder.decode(piece, final=at + len(piece) == len(body))
        except UnicodeDecodeError as error:
            return MalformedRequest(f"the body is not UTF-8 at byte {at - pending + error.start:,}; send {WANTED}")
        at += len(piece)
    return MalformedRequest(f"the body is not UTF-8; send {WANTED}")


def _gap_words(served: Served) -> list[str]:
    """Return the words that no column of numbers takes for one."""
    own = {word for encoder in served.version.inputs.encoders for word in encoder.missing_tokens}
    return ["", *MISSING_TOKENS, *NUMERIC_MISSING_TOKENS, *(word for word in own if not _NUMBER.fullmatch(word))]


def _converter(encoder: Encoder) -> Convert:
    """Return what makes JSON values of the different texts of a column."""
    words = {"", *MISSING_TOKENS, *encoder.missing_tokens}
    understand = _UNDERSTAND[encoder.holds if isinstance(encoder, CategoricalEncoder) else encoder.kind]
    if isinstance(encoder, CategoricalEncoder):
        # NA may be a gap, and North America.
        words -= {category for category in (*encoder.categories, *encoder.rare) if isinstance(category, str)}
    elif encoder.kind == "numeric":
        words.update(NUMERIC_MISSING_TOKENS)

    def convert(cells: Any) -> list[Category | None]:
        return [None if text.strip() in words else understand(text) for text in cells.to_pylist()]

    return convert


def _as_number(text: str) -> Category:
    """Return the number that a text is, or the text."""
    trimmed = text.strip()
    if _INTEGER.fullmatch(trimmed):
        return int(trimmed)
    return float(trimmed) if _NUMBER.fullmatch(trimmed) else text


def _as_boolean(text: str) -> Category:
    """Return true or false where a text is one, or the text."""
    return _BOOLEANS.get(text.strip().lower(), text)


def _as_boolean_or_number(text: str) -> Category:
    found = _as_boolean(text)
    return _as_number(text) if isinstance(found, str) else found


def _as_text(text: str) -> Category:
    return text


_UNDERSTAND: dict[str, Callable[[str], Category]] = {
    "numeric": _as_number,
    "number": _as_number,
    "boolean": _as_boolean_or_number,
    "date": _as_text,
    "text": _as_text,
}
"""By what a column holds."""
