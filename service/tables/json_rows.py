"""Read rows from JSON: a file whose lines are objects, or one list of objects; row by row, never the whole at once."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from service.domain import strict_json
from service.domain.strict_json import NotStrictJson
from service.domain.wording import shown
from service.tables import utf8
from service.tables.allowance import Allowance
from service.tables.cells import TypedColumn, TypedTable, Words, understood
from service.tables.dialect import check_names
from service.tables.parallel import in_parallel
from service.tables.refusals import refused
from service.tables.request import ImportRequest

MAX_ROW_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
MAX_PART_ROWS = 4_096
MAX_PART_CELLS = 1 << 18
"""As Python objects, cells take ten times the memory that they take in columns."""
LINES = "lines of JSON objects in UTF-8"
LIST = "a JSON list of objects in UTF-8"

_TYPES: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "text"}
_OTHERS: dict[type, str] = {list: "a list", dict: "an object"}


def read_lines(source: BinaryIO, request: ImportRequest, allowance: Allowance) -> TypedTable:
    """Read a file whose lines are JSON objects.

    Raises:
        InvalidTable: a line is none, or their cells make no table; names the row.
    """
    start = utf8.check_text(source, LINES)
    return _read(_values_of_lines(source, start), start, request, allowance)


def read_list(source: BinaryIO, request: ImportRequest, allowance: Allowance) -> TypedTable:
    """Read a file that is a JSON list of objects.

    Raises:
        InvalidTable: it is none, or their cells make no table; names the row.
    """
    start = utf8.check_text(source, LIST)
    return _read(_values_of_list(source, start), start, request, allowance)


def _read(values: Iterator[Any], start: bytes, request: ImportRequest, allowance: Allowance) -> TypedTable:
    rows = _Rows(allowance)
    for part in _parts(values):
        rows.add(part)
    if not rows.columns:
        raise refused("has no rows" if not rows.count else "has rows without any cells")
    check_names(tuple(rows.columns), allowance.max_columns)
    words = Words(request.missing or ())

    def understand(column: "_Growing") -> TypedColumn:
        return understood(column.name, column.to_arrow(), words, request.kinds.get(column.name))

    columns = in_parallel(understand, rows.columns.values())
    return TypedTable(columns, {"encoding": "utf-8", "bom": start.startswith(utf8.BOM)})


def _parts(values: Iterator[Any]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    cells = 0
    for number, value in enumerate(values, start=1):
        part.append(_row(value, number))
        cells += len(part[-1])
        if len(part) == MAX_PART_ROWS or cells >= MAX_PART_CELLS:
            yield part
            part, cells = [], 0
    if part:
        yield part


def _row(value: Any, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        what = _OTHERS.get(type(value), shown(value))
        raise refused(f"holds {what} as row {number:,}; each row must be an object with column names as its keys")
    return value


def _values_of_lines(source: BinaryIO, start: bytes) -> Iterator[Any]:
    source.seek(len(utf8.BOM) if start.startswith(utf8.BOM) else 0)
    row = 1
    while line := source.readline(MAX_ROW_BYTES + 1):
        if len(line) > MAX_ROW_BYTES:
            raise refused(f"has more than {MAX_ROW_BYTES:,} bytes in row {row:,}")
        if not line.strip():
            continue
        try:
            yield _only_value(line.decode(), row)
        except UnicodeDecodeError:
            raise utf8.not_utf8(source) from None
        row += 1


def _only_value(line: str, row: int) -> Any:
    try:
        value, end = strict_json.first_value(line)
    except NotStrictJson as error:
        raise refused(f"cannot be read in row {row:,}: it {error}") from None
    if strict_json.after_blanks(line, end) < len(line):
        raise refused(f"goes on after the end of row {row:,} with {shown(line[end:].strip())}; write one object a line")
    return value


def _values_of_list(source: BinaryIO, start: bytes) -> Iterator[Any]:
    source.seek(len(utf8.BOM) if start.startswith(utf8.BOM) else 0)
    text = _Text(source)
    if (first := text.take()) != "[":
        raise refused(f"begins with {shown(first)}; send a list of objects, or lines of them as application/x-ndjson")
    row, mark = 0, ","
    if text.peek() == "]":
        mark = text.take()
    while mark == ",":
        row += 1
        yield text.value(row)
        mark = text.take()
    if mark != "]":
        if not mark:
            raise refused(f"ends after row {row:,}, before its list does; it may be cut off")
        raise refused(f"goes on with {shown(mark)} after row {row:,}, where a comma or the end of the list must come")
    if text.peek():
        raise refused(f"goes on with {shown(text.peek())} after the end of its list")


class _Text:
    """The text of a file, a part at a time."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._has_ended = "", 0, False

    def peek(self) -> str:
        """Return the next character that is no blank, or nothing at the end."""
        self._at = strict_json.after_blanks(self._text, self._at)
        while self._at == len(self._text) and self._read_on(0):
            self._at = strict_json.after_blanks(self._text, self._at)
        return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """Return the next character that is no blank, and go on behind it."""
        character = self.peek()
        self._at += len(character)
        return character

    def value(self, row: int) -> Any:
        """Return the next value, and go on behind it."""
        while True:
            try:
                value, end = strict_json.first_value(self._text, self._at)
            except NotStrictJson as error:  # or it has not been read to its end yet
                if not self._read_on(row):
                    what = "it ends within the row" if self.peek() == "" else f"it {error}"
                    raise refused(f"cannot be read in row {row:,}: {what}") from None
            else:
                self._check_length(end - self._at, row)
                self._at = end
                return value

    def _check_length(self, length: int, row: int) -> None:
        if length > MAX_ROW_BYTES:
            raise refused(
                f"cannot be read in row {row:,}: it is no JSON, or has more than {MAX_ROW_BYTES:,} characters"
            )

    def _read_on(self, row: int) -> bool:
        """Read more behind what is still needed; at least as much again, so that long rows do not take ever longer."""
        if self._has_ended:
            return False
        rest = self._text[self._at :]
        if len(rest) > MAX_ROW_BYTES:
            raise refused(
                f"cannot be read in row {row:,}: it is no JSON, or has more than {MAX_ROW_BYTES:,} characters"
            )
        part = self._source.read(max(CHUNK_BYTES, len(rest)))
        try:
            self._text, self._at = rest + self._decoder.decode(part, final=not part), 0
        except UnicodeDecodeError:
            raise utf8.not_utf8(self._source) from None
        self._has_ended = not part
        return True


@dataclass(slots=True)
class _Growing:
    """A column whose rows come in parts."""

    name: str
    kind: str | None = None
    """What its cells are; None while all are missing."""
    parts: list[pa.Array] = field(default_factory=list)

    def add(self, cells: list[Any], first_row: int) -> int:
        """Add cells and return how many bytes they take.

        Raises:
            InvalidTable: names the first row whose cell is not of the kind of those before, or cannot be stored.
        """
        kinds = {_TYPES.get(kind, "no cell") for kind in set(map(type, cells)) - {type(None)}}
        if kinds - {self.kind}:
            self._check_kinds(cells, first_row)
        try:
            part = _array(cells)
        except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
            raise self._unusable(cells, first_row) from None
        self.parts.append(part)
        return int(part.nbytes)

    def to_arrow(self) -> pa.ChunkedArray:
        """Return the column: int64, float64, bool or string."""
        kinds = {part.type for part in self.parts} - {pa.null()}
        kind = pa.float64() if len(kinds) == 2 else next(iter(kinds), pa.string())
        return pa.chunked_array([part.cast(kind, safe=False) for part in self.parts])

    def _check_kinds(self, cells: list[Any], first_row: int) -> None:
        for row, cell in enumerate(cells, start=first_row):
            if cell is None:
                continue
            kind = _TYPES.get(type(cell))
            if kind is None:
                raise refused(
                    f"holds {_OTHERS[type(cell)]} in column {shown(self.name)}, row {row:,}; cells are numbers, text, "
                    "true, false or null: make columns of its parts"
                )
            if self.kind not in (None, kind):
                raise refused(
                    f"holds {shown(cell)} in column {shown(self.name)}, row {row:,}, where the rows before hold "
                    f"{self.kind}; a column holds numbers, text, or true and false, and null where a cell is missing"
                )
            self.kind = kind

    def _unusable(self, cells: list[Any], first_row: int) -> Exception:
        """Return the error that names the first cell that cannot be stored."""
        for row, cell in enumerate(cells, start=first_row):
            where = f"in column {shown(self.name)}, row {row:,}"
            try:
                _array([cell])
            except UnicodeEncodeError:
                return refused(f"holds a lone surrogate, which is no character, {where}")
            except (OverflowError, pa.ArrowInvalid):
                return refused(f"holds an integer of more than 64 bits {where}; send a number with a point, or text")
        raise AssertionError("each cell can be stored, all together cannot")


class _Rows:
    """Rows that come in parts, turned into columns part by part."""

    def __init__(self, allowance: Allowance) -> None:
        self.columns: dict[str, _Growing] = {}
        self.count = 0
        self._bytes = 0
        self._allowance = allowance

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add rows; a key that one does not have is a missing cell."""
        for number, row in enumerate(rows, start=self.count + 1):
            if not row.keys() <= self.columns.keys():
                self._add_columns(row, number)
        self._allowance.check_shape(self.count + len(rows), len(self.columns))
        for column in self.columns.values():
            self._bytes += column.add([row.get(column.name) for row in rows], self.count + 1)
        self.count += len(rows)
        self._allowance.check_decoded(self._bytes)

    def _add_columns(self, row: dict[str, Any], number: int) -> None:
        for name in [name for name in row if name not in self.columns]:
            if len(self.columns) == self._allowance.max_columns:
                raise refused(f"has more than {len(self.columns):,} columns, those allowed, from row {number:,} on")
            try:
                strict_json.check_text(name)
            except NotStrictJson as error:
                raise refused(f"{error} (in a column name of row {number:,})") from None
            self.columns[name] = _Growing(name, parts=[pa.nulls(self.count)] if self.count else [])


def _array(cells: list[Any]) -> pa.Array:
    """Make an array of cells of one kind: int64, float64, bool, string, or null where all are missing."""
    kinds = set(map(type, cells)) - {type(None)}
    if float in kinds and int in kinds:
        pa.array([cell for cell in cells if type(cell) is int], pa.int64())  # refuses what int64 does not hold
        cells = [None if cell is None else float(cell) for cell in cells]
    kind = {bool: pa.bool_(), str: pa.string(), float: pa.float64(), int: pa.int64()}
    return pa.array(cells, next((kind[known] for known in (float, int, bool, str) if known in kinds), pa.null()))
