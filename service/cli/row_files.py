"""Rows of a file, or of stdin, a piece at a time: no more of a large file is in memory than what is asked about."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import typer

from service.cli.printing import reason

PIECE_ROWS = 10_000
PIECE_BYTES = 4 * 2**20
"""Of text; a body of JSON that holds names and texts may have twice as much."""
DELIMITERS = ",;\t|"


class RowFormat(StrEnum):
    """How rows are written."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"
    PARQUET = "parquet"


SUFFIXES = {
    ".csv": RowFormat.CSV,
    ".tsv": RowFormat.CSV,
    ".txt": RowFormat.CSV,
    ".ndjson": RowFormat.NDJSON,
    ".jsonl": RowFormat.NDJSON,
    ".json": RowFormat.JSON,
    ".parquet": RowFormat.PARQUET,
}


@dataclass(frozen=True)
class Piece:
    """Some rows, one behind the other, with the names of their columns."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    start: int
    """How many rows of the file come before."""
    is_text: bool
    """Whether the cells are text as it stands in a CSV file; else they are values of JSON."""

    def only(self, wanted: Sequence[str]) -> Any:
        """Return the wanted columns, as far as they are here, in the form in which a service is asked about them."""
        places = [(name, self.names.index(name)) for name in wanted if name in self.names]
        if not self.is_text:
            return [{name: row[place] for name, place in places if row[place] is not ...} for row in self.rows]
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow([name for name, _ in places])
        writer.writerows([row[place] for _, place in places] for row in self.rows)
        return written.getvalue().encode()


def pieces_of(path: Path | None, form: RowFormat | None, wanted: Sequence[str]) -> Iterator[Piece]:
    """Read the rows of a file, of stdin where there is no path; ``wanted`` are the columns that matter.

    Raises:
        typer.BadParameter: it cannot be read, or its name does not say how it is written.
    """
    form = form or (RowFormat.CSV if path is None else SUFFIXES.get(path.suffix.lower()))
    if form is None:
        raise typer.BadParameter(
            f"the name {path} does not say how its rows are written; name a {', '.join(SUFFIXES)} file, or say --format"
        )
    try:
        with ExitStack() as stack:
            stream = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
            yield from _READERS[form](stream, wanted)
    except (OSError, ValueError, csv.Error) as error:
        raise typer.BadParameter(f"{path or 'stdin'} cannot be read as {form}: {reason(error)}") from None


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
        rows = (row for row in csv.reader(text, delimiter=delimiter, strict=True) if row)
        for start, found in _cut(rows):
            for place, row in enumerate(found, start):
                if len(row) != len(names):
                    has = f"has {len(row)} cells, the line of names {len(names)}"
                    raise ValueError(f"row {place} (the first is 0) {has}")
            yield Piece(names, found, start, is_text=True)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _ndjson(stream: IO[bytes], wanted: Sequence[str]) -> Iterator[Piece]:
    with _text(stream) as text:
        yield from _objects((json.loads(line) for line in text if line.strip()), wanted)


def _json(stream: IO[bytes], wanted: Sequence[str]) -> Iterator[Piece]:
    found = json.load(stream)
    if not isinstance(found, list):
        raise ValueError("it must hold a list of rows")
    return _objects(found, wanted)


def _parquet(stream: IO[bytes], _wanted: Sequence[str]) -> Iterator[Piece]:
    import pyarrow.parquet

    source = stream if stream.seekable() else io.BytesIO(stream.read())
    start = 0
    for batch in pyarrow.parquet.ParquetFile(source).iter_batches(PIECE_ROWS):
        rows = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        yield Piece(batch.schema.names, rows, start, is_text=False)
        start += len(rows)


_READERS = {RowFormat.CSV: _csv, RowFormat.NDJSON: _ndjson, RowFormat.JSON: _json, RowFormat.PARQUET: _parquet}


def _objects(rows: Iterable[Any], wanted: Sequence[str]) -> Iterator[Piece]:
    """Give rows that are objects by column name, or arrays in the order of the wanted columns.

    The columns are those of the first piece; a cell that a row lacks is an ellipsis.
    """
    names: list[str] = []
    for start, found in _cut(_named(place, row, wanted) for place, row in enumerate(rows)):
        names = names or list(dict.fromkeys(name for row in found for name in row))
        yield Piece(names, [[row.get(name, ...) for name in names] for row in found], start, is_text=False)


def _named(place: int, row: Any, wanted: Sequence[str]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if not isinstance(row, list):
        raise ValueError(f"row {place} (the first is 0) is neither an object nor an array")
    if len(row) != len(wanted):
        raise ValueError(f"row {place} (the first is 0) has {len(row)} cells, the model takes {len(wanted)}")
    return dict(zip(wanted, row, strict=True))


def _cut(rows: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Cut rows into pieces, and say how many come before each."""
    start, size = 0, 0
    piece: list[Any] = []
    for row in rows:
        piece.append(row)
        size += sum(len(str(cell)) for cell in (row.values() if isinstance(row, dict) else row))
        if len(piece) == PIECE_ROWS or size >= PIECE_BYTES:
            yield start, piece
            start, size, piece = start + len(piece), 0, []
    if piece:
        yield start, piece
