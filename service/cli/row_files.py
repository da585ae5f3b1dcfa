"""Rows of a file, or of stdin, a piece at a time: no more of a large file is in memory than what is asked about."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Any

import typer

from service.cli.printing import reason

PIECE_ROWS = 10_000
PIECE_BYTES = 4 * 2**20
"""Of CSV, or of JSON with the names of its columns, as it is sent; a service takes twice as much of the latter."""
DELIMITERS = ",;\t|"


class RowFormat(StrEnum):
    """How rows are written."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"
    PARQUET = "parquet"


Places = Sequence[tuple[str, int]]
"""Columns by their name, and where they are in a row."""


@dataclass(frozen=True)
class Piece:
    """Some rows, one behind the other, with the names of their columns."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    start: int
    """How many rows of the file come before."""
    chosen: Callable[[Places], Any]
    """Gives the rows with some of their columns, in the form in which a service is asked about them."""

    def only(self, wanted: Sequence[str]) -> Any:
        """Return the wanted columns, as far as they are here, in the form in which a service is asked about them."""
        return self.chosen([(name, self.names.index(name)) for name in wanted if name in self.names])


def pieces_of(path: Path | None, form: RowFormat | None, wanted: Sequence[str]) -> Iterator[Piece]:
    """Read the rows of a file, of stdin where there is no path; ``wanted`` are the columns that matter.

    Raises:
        typer.BadParameter: it cannot be read, or its name does not say how it is written.
    """
    form = form or (RowFormat.CSV if path is None else _by_suffix(path))
    try:
        with ExitStack() as stack:
            stream = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
            yield from _READERS[form](stream, wanted)
    except (OSError, ValueError, csv.Error) as error:
        raise typer.BadParameter(f"{path or 'stdin'} cannot be read as {form}: {reason(error)}") from None


def _by_suffix(path: Path) -> RowFormat:
    from service.domain.table_formats import SUFFIXES

    if (found := SUFFIXES.get(path.suffix.lower())) is None:
        raise typer.BadParameter(
            f"the name {path} does not say how its rows are written; name a {', '.join(SUFFIXES)} file, or say --format"
        )
    return RowFormat(found)


@contextmanager
def _text(stream: IO[bytes]) -> Iterator[IO[str]]:
    """Read a stream as UTF-8, and leave it open to whoever opened it."""
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def _csv(stream: IO[bytes], wanted: Sequence[str]) -> Iterator[Piece]:
    with _text(stream) as text:
        first = text.readline()
        delimiter = max(DELIMITERS, key=lambda each: len({*_cells(first, each)} & {*wanted}))
        names = _cells(first, delimiter)
        # Of a single column, an empty line is a row with a gap.
        blank = [[""]] if len(names) == 1 else []
        rows = (
            each for row in csv.reader(text, delimiter=delimiter, strict=True) for each in ([row] if row else blank)
        )
        for start, found in _cut(rows, lambda row: sum(map(len, row))):
            for place, row in enumerate(found, start):
                if len(row) != len(names):
                    has = f"has {len(row)} cells, the line of names {len(names)}"
                    raise ValueError(f"row {place} (the first is 0) {has}")
            yield Piece(names, found, start, partial(_as_csv, found))


def _as_csv(rows: Sequence[Sequence[str]], places: Places) -> bytes:
    """Return cells as they stand in their file."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([name for name, _ in places])
    writer.writerows([row[place] for _, place in places] for row in rows)
    return written.getvalue().encode()


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _ndjson(stream: IO[bytes], wanted: Sequence[str]) -> Iterator[Piece]:
    with _text(stream) as text:
        yield from _objects((json.loads(line) for line in text if line.strip()), wanted)


def _json(stream: IO[bytes], wanted: Sequence[str]) -> Iterator[Piece]:
    found = json.load(stream)
    if not isinstance(found, list):
        raise ValueError("it must hold a list of rows")
    rows = [_named(place, row, wanted) for place, row in enumerate(found)]
    return _objects(rows, wanted, list(dict.fromkeys(name for row in rows for name in row)))


def _parquet(stream: IO[bytes], _wanted: Sequence[str]) -> Iterator[Piece]:
    import pyarrow.parquet

    # What a file holds stands at its end, so that a stream has to be read as a whole.
    source = stream if stream.seekable() else io.BytesIO(stream.read())
    start = 0
    for batch in pyarrow.parquet.ParquetFile(source).iter_batches(PIECE_ROWS):
        rows = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        yield Piece(batch.schema.names, rows, start, partial(_as_table, batch))
        start += len(rows)


def _as_table(batch: Any, places: Places) -> Any:
    """Return columns as Arrow has them: JSON, with all names in every row, could be more than a service takes."""
    import pyarrow as pa

    return pa.Table.from_batches([batch.select([place for _, place in places])])


_READERS = {RowFormat.CSV: _csv, RowFormat.NDJSON: _ndjson, RowFormat.JSON: _json, RowFormat.PARQUET: _parquet}


def _objects(rows: Iterable[Any], wanted: Sequence[str], names: Sequence[str] = ()) -> Iterator[Piece]:
    """Give rows that are objects by column name, or arrays in the order of the wanted columns.

    The columns are those of the first piece where no names are given; a cell that a row lacks is an ellipsis.

    Raises:
        ValueError: a later piece has another column, for which there is no room in what is written already.
    """
    for start, found in _cut((_named(place, row, wanted) for place, row in enumerate(rows)), _length):
        names = names or list(dict.fromkeys(name for row in found for name in row))
        known = {*names}
        for place, row in enumerate(found, start):
            if not row.keys() <= known:
                new = next(name for name in row if name not in known)
                raise ValueError(
                    f"row {place} (the first is 0) has {new!r}, which none of the first {start:,} rows has; give the "
                    "first row all names, with null where it has nothing"
                )
        cells = [[row.get(name, ...) for name in names] for row in found]
        yield Piece(names, cells, start, partial(_as_objects, cells))


def _length(row: Mapping[str, Any]) -> int:
    """Return how many bytes a row takes in a body of JSON, with what divides it from the next."""
    return len(json.dumps(row)) + len(", ")


def _as_objects(rows: Sequence[Sequence[Any]], places: Places) -> list[dict[str, Any]]:
    return [{name: row[place] for name, place in places if row[place] is not ...} for row in rows]


def _named(place: int, row: Any, wanted: Sequence[str]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if not isinstance(row, list):
        raise ValueError(f"row {place} (the first is 0) is neither an object nor an array")
    if len(row) != len(wanted):
        raise ValueError(f"row {place} (the first is 0) has {len(row)} cells, the model takes {len(wanted)}")
    return dict(zip(wanted, row, strict=True))


def _cut(rows: Iterable[Any], length: Callable[[Any], int]) -> Iterator[tuple[int, list[Any]]]:
    """Cut rows into pieces by their number and their length, and say how many come before each."""
    start, size = 0, 0
    piece: list[Any] = []
    for row in rows:
        piece.append(row)
        size += length(row)
        if len(piece) == PIECE_ROWS or size >= PIECE_BYTES:
            yield start, piece
            start, size, piece = start + len(piece), 0, []
    if piece:
        yield start, piece
