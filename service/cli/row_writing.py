"""Rows on their way out: as CSV or as a JSON list, to stdout or to a file that is whole or not there."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

from service.cli.printing import FULL, harmless, reason


class CsvWriter:
    """Writes a line of names, then a line for each row."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = csv.writer(stream, lineterminator="\n")
        self._shown = harmless if stream.isatty() else str

    def begin(self, names: Sequence[str]) -> None:
        """Write the names of the columns."""
        self._writer.writerow(map(self._shown, names))

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write some rows, at once."""
        self._writer.writerows([self._shown(_as_text(cell)) for cell in row] for row in rows)
        self._stream.flush()

    def end(self) -> None:
        """Write nothing: CSV just ends."""


class JsonWriter:
    """Writes one list, an object a line; it is ASCII."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._names: Sequence[str] = ()
        self._before = "["

    def begin(self, names: Sequence[str]) -> None:
        """Take in what the cells are called."""
        self._names = names

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write some rows, at once."""
        for row in rows:
            cells = {name: as_json(cell) for name, cell in zip(self._names, row, strict=True) if cell is not ...}
            self._stream.write(f"{self._before}{json.dumps(cells)}")
            self._before = ",\n"
        self._stream.flush()

    def end(self) -> None:
        """Close the list."""
        self._stream.write("]\n")
        self._stream.flush()


@contextmanager
def written_to(path: Path | None, *, is_json: bool) -> Iterator[CsvWriter | JsonWriter]:
    """Open what rows are written to; a file gets its name when all are in it.

    Raises:
        typer.BadParameter: it cannot be written.
    """
    with text_to(path) as stream:
        writer = JsonWriter(stream) if is_json else CsvWriter(stream)
        yield writer
        writer.end()


@contextmanager
def text_to(path: Path | None) -> Iterator[TextIO]:
    """Open what text is written to, stdout where there is no path; a file gets its name when all is in it.

    Raises:
        typer.BadParameter: it cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        with _whole(path) as stream:
            yield stream
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _unwritable(path, error) from None


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """Open a file that gets its name when all is in it."""
    if path.exists() and not path.is_file():  # a device or a pipe, which a file must not take the place of
        with _opened(path, "w", path) as stream:
            yield stream
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _opened(beside, "x", path) as stream:
            yield stream
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _opened(path: Path, mode: str, called: Path) -> TextIO:
    """Open a file to be written, which its user knows by another name."""
    try:
        return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")  # type: ignore[return-value]
    except OSError as error:
        raise _unwritable(called, error) from None


def _unwritable(path: Path, error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"{path} cannot be written: {reason(error)}", param_hint="--output")


def as_json(cell: Any) -> Any:
    """Return a cell as JSON has it: moments as ISO 8601, what has no other form as text, NaN as null."""
    match cell:
        case float() if not math.isfinite(cell):
            return None if math.isnan(cell) else str(cell)
        case None | bool() | int() | float() | str():
            return cell
        case list() | dict():
            return json.dumps(cell, default=str)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _as_text(cell: Any) -> str:
    value = None if cell is ... else as_json(cell)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
