"""Read an uploaded CSV file (comma, UTF-8, one header line) into an Arrow table.

Every column is read as text first and then taken as integers, numbers or booleans only where every cell is one, so a
column's kind never depends on how far a parser had looked when it guessed.
"""

import csv
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from service.domain.bounds import shown
from service.domain.errors import InvalidTable, Violation

MAX_COLUMNS = 10_000
MAX_NAME_LENGTH = 1_000
BLOCK_BYTES = 16 << 20
"""The longest row."""
MISSING = ("", "NA", "NaN", "nan", "null")
FLOAT32_MAX = 3.4028234663852886e38

_INTEGER = re.compile(r"^\s*[+-]?(0|[1-9]\d{0,17})\s*$").pattern
_NUMBER = re.compile(r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$").pattern
_LEADING_ZERO = re.compile(r"^\s*[+-]?0\d").pattern
_BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")


def read(path: Path) -> pa.Table:
    """Read a CSV file.

    Raises:
        InvalidTable: it is empty, not UTF-8, ragged, or its header or its numbers cannot be used.
    """
    names = _header(path)
    try:
        text = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=1, block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _invalid(f"cannot be read as CSV with {len(names)} column(s): {_first_line(error)}") from None
    if text.num_rows == 0:
        raise _invalid("has a header and no rows")
    return pa.table([_typed(name, text.column(name)) for name in names], names=names)


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        start = file.read(1 << 20)
    if not start.strip():
        raise _invalid("is empty; send a CSV file with a header line")
    if b"\0" in start:
        raise _invalid("holds NUL bytes, so it is no CSV text; send UTF-8 text with a header line")
    first_line = re.split(rb"\r\n|\n|\r", start, maxsplit=1)[0]
    try:
        header = first_line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    if not header.strip():
        raise _invalid("has an empty first line; the first line must name the columns")
    try:
        names = [name.strip() for name in next(csv.reader([header], strict=True))]
    except csv.Error as error:
        raise _invalid(f"has a first line that cannot be read: {error}") from None
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise _invalid(f"seems to be separated by {separator!r}; send it with commas")
    _check_names(names)
    return names


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise _invalid(f"has {len(names):,} columns; at most {MAX_COLUMNS:,} are allowed")
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name:
            raise _invalid(f"has no name for column {position}; every column needs one in the first line")
        if name in seen:
            raise _invalid(f"names two columns {shown(name)}; names must differ")
        if len(name) > MAX_NAME_LENGTH or any(ord(character) < 32 for character in name):
            raise _invalid(
                f"column {position} is named {shown(name)}; names are at most {MAX_NAME_LENGTH} printable characters"
            )
        seen.add(name)
    if all(_is_number(name) for name in names):
        raise _invalid("has no header line: its first line holds only numbers; add a line with the column names")


def _typed(name: str, text: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(text)
    present = pc.if_else(pc.is_in(trimmed, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), trimmed)
    given = present.drop_null()
    if len(given) == 0:
        return present
    unsigned = pc.replace_substring_regex(present, r"^\+", "")
    if _all(given, _INTEGER):
        return unsigned.cast(pa.int64())
    if _all(given, _NUMBER) and not pc.any(pc.match_substring_regex(given, _LEADING_ZERO)).as_py():
        numbers = pc.add(unsigned.cast(pa.float64()), 0.0)  # -0.0 becomes 0.0: they are one value, and one class
        _check_range(name, numbers)
        return numbers
    if pc.all(pc.is_in(given, value_set=pa.array(_BOOLEANS))).as_py():
        return pc.equal(pc.utf8_lower(present), "true")
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _all(values: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _check_range(name: str, numbers: pa.ChunkedArray) -> None:
    bounds = pc.min_max(numbers).as_py()
    for value in (bounds["min"], bounds["max"]):
        if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
            raise _invalid(f"column {shown(name)} holds {value:g}; numbers must lie within ±3.4e38 (float32)")


def _is_number(text: str) -> bool:
    return re.match(_NUMBER, text) is not None


def _first_line(error: Exception) -> str:
    if "straddling" in str(error):
        return f"a row is longer than {BLOCK_BYTES:,} bytes, or a quote is not closed"
    return str(error).removeprefix("CSV parse error: ").splitlines()[0][:200]


def _invalid(detail: str) -> InvalidTable:
    return InvalidTable([Violation("#", f"the file {detail}")])
