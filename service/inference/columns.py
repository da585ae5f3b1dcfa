"""Cells of one column as clients send them, held against what the column's encoder takes.

Cells are looked at together, by their types and their distinct values; one by one only where something is wrong.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import dates
from service.domain.cells import FLOAT32_MAX, Coded, RawColumn, numbers_among, words_for_gaps
from service.domain.encoders import CategoricalEncoder, DateEncoder, Encoder
from service.domain.errors import Violation
from service.domain.wording import shown

MAX_VIOLATIONS = 20
MAX_WARNINGS = 20
NUMBERS: frozenset[type] = frozenset({int, float})
CELL_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "text": (frozenset({str}), "text"),
    "number": (NUMBERS, "a number"),
    "boolean": (frozenset({bool}), "true or false"),
}
"""What a category may be as JSON has it, by how its column is stored."""
GAP: frozenset[type] = frozenset({type(None)})
NULL_ONLY: frozenset[Any] = frozenset({None})
NO_CATEGORIES: frozenset[Any] = frozenset()

Cells = Sequence[Any] | NDArray[Any] | Coded


@dataclass(slots=True)
class Findings:
    """What was found in the cells of all columns."""

    violations: list[Violation] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unseen: dict[str, int] = field(default_factory=dict)
    """How many cells hold a category that training did not see, by column."""


@dataclass(slots=True)
class _Looked:
    """Cells as an encoder takes them, and what is wrong or odd about some of them, by their places."""

    values: NDArray[Any]
    problems: list[tuple[int, str]] = field(default_factory=list)
    unseen: set[Any] = field(default_factory=set)


class ColumnReader:
    """Reads the cells of one column."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._words = words_for_gaps(encoder.missing_tokens)
        self._numbers = numbers_among(encoder.missing_tokens)
        self._known = NO_CATEGORIES
        if isinstance(encoder, CategoricalEncoder):
            self._known = frozenset({*encoder.categories, *encoder.rare})

    def read(self, cells: Cells, found: Findings) -> RawColumn:
        """Return a column as its encoder takes it, (rows,); what it cannot take is added to what was ``found``.

        Cells are JSON values, also by their different ones, or numbers of which NaN is a gap.
        """
        if isinstance(cells, Coded):
            return self._coded(cells, found)
        if isinstance(cells, np.ndarray):
            if self.encoder.kind == "numeric":
                return self._matrix_column(cells.astype(np.float64, copy=False), found)
            cells = [None if cell != cell else cell for cell in cells.tolist()]  # a NaN differs from itself
        looked = self._look(cells)
        self._note(found, looked.problems)
        if looked.unseen:
            found.unseen[self.encoder.name] = sum(map(looked.unseen.__contains__, cells))
            places = compress(range(len(cells)), map(looked.unseen.__contains__, cells))
            self._say_unseen(found, ((place, cells[place]) for place in places))
        return looked.values

    def _look(self, cells: Sequence[Any]) -> _Looked:
        given = self._without_words(cells)
        kinds = frozenset(map(type, given))
        match self.encoder:
            case CategoricalEncoder():
                looked = self._categories(self.encoder, given, kinds - GAP)
            case DateEncoder():
                looked = _dates(self.encoder, given)
            case _:
                looked = self._read_numbers(given, kinds - GAP)
        if kinds & GAP and not self.encoder.gaps:
            gaps = (place for place, cell in enumerate(given) if cell is None)
            looked.problems += [(place, _missing(cells[place])) for place in islice(gaps, MAX_VIOLATIONS)]
        return looked

    def _coded(self, coded: Coded, found: Findings) -> RawColumn:
        """Find everything out once for each different cell."""
        cells = list(coded.cells)
        looked = self._look(cells)
        for place, problem in looked.problems:
            rows = np.flatnonzero(coded.codes == place)[:MAX_VIOLATIONS]
            self._note(found, [(row, problem) for row in rows.tolist()])
        if not self.encoder.gaps:
            gaps = np.flatnonzero(coded.codes < 0)[:MAX_VIOLATIONS]
            self._note(found, [(row, _missing(None)) for row in gaps.tolist()])
        if looked.unseen:
            self._find_unseen(coded, looked.unseen, found)
        if self.encoder.kind != "categorical":
            return coded.spread(np.append(looked.values, np.array([None], looked.values.dtype)))
        is_gap = [cell is None for cell in looked.values.tolist()]
        if not any(is_gap):
            return coded
        places = np.arange(len(cells) + 1, dtype=np.int32)
        places[[*is_gap, True]] = -1
        return Coded(cells, coded.spread(places))

    def _find_unseen(self, coded: Coded, unseen: set[Any], found: Findings) -> None:
        is_unseen = coded.spread(np.array([*(cell in unseen for cell in coded.cells), False], bool))
        if not is_unseen.any():  # a cell that stands in the dictionary and in no row
            return
        found.unseen[self.encoder.name] = int(is_unseen.sum())
        rows = np.flatnonzero(is_unseen)[:MAX_WARNINGS].tolist()
        self._say_unseen(found, ((row, coded.cells[coded.codes[row]]) for row in rows))

    def _matrix_column(self, cells: NDArray[np.float64], found: Findings) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            is_usable = np.abs(cells) <= FLOAT32_MAX
        if is_usable.all() and not self._numbers:
            return cells
        if self._numbers:
            cells = np.where(np.isin(cells, list(self._numbers)), np.nan, cells)
        gaps = np.isnan(cells)
        for position in np.flatnonzero(~is_usable & ~gaps)[:MAX_VIOLATIONS].tolist():
            self._note(found, [(position, str(_problem(self.encoder.kind, float(cells[position]))))])
        if not self.encoder.gaps:
            self._note(found, [(row, _missing(None)) for row in np.flatnonzero(gaps)[:MAX_VIOLATIONS].tolist()])
        return cells

    def _without_words(self, cells: Sequence[Any]) -> Sequence[Any]:
        """Return cells with None for those that stand for a gap."""
        kinds = set(map(type, cells))
        if str in kinds and (gaps := self._gaps_among(cells)):
            cells = [None if type(cell) is str and cell in gaps else cell for cell in cells]
        if self._numbers and not NUMBERS.isdisjoint(kinds):
            cells = [None if type(cell) in NUMBERS and cell in self._numbers else cell for cell in cells]
        return cells

    def _gaps_among(self, cells: Sequence[Any]) -> set[str]:
        """Return the texts among the cells that stand for a gap."""
        try:
            distinct = set(cells)
        except TypeError:  # a cell is an array or an object, which will be refused
            distinct = {cell for cell in cells if type(cell) is str}
        return {cell for cell in distinct if type(cell) is str and cell.strip() in self._words}

    def _read_numbers(self, cells: Sequence[Any], kinds: frozenset[type]) -> _Looked:
        if self.encoder.kind == "numeric" and kinds <= NUMBERS:
            with suppress(OverflowError):  # an integer of hundreds of digits
                values = np.array(cells, np.float64)
                with np.errstate(invalid="ignore"):
                    usable = int(np.count_nonzero(np.abs(values) <= FLOAT32_MAX))
                if usable == len(cells) - list(cells).count(None):  # a None has become NaN
                    return _Looked(values)
        problems = (
            (place, problem)
            for place, cell in enumerate(cells)
            if cell is not None and (problem := _problem(self.encoder.kind, cell))
        )
        if wrong := list(islice(problems, MAX_VIOLATIONS)):
            return _Looked(np.zeros(len(cells)), wrong)
        return _Looked(np.array(cells, np.float64))

    def _categories(self, encoder: CategoricalEncoder, cells: Sequence[Any], kinds: frozenset[type]) -> _Looked:
        """Take categories; one that training did not see is taken, and said."""
        types, wanted = CELL_TYPES[encoder.holds]
        values = np.empty(len(cells), object)
        values[:] = cells
        if not kinds <= types:
            wrong = (place for place, cell in enumerate(cells) if cell is not None and type(cell) not in types)
            return _Looked(
                values,
                [(place, f"must be {wanted}; got {shown(cells[place])}") for place in islice(wrong, MAX_VIOLATIONS)],
            )
        return _Looked(values, unseen=set(cells) - self._known - NULL_ONLY)

    def _note(self, found: Findings, problems: Iterable[tuple[int, str]]) -> None:
        found.violations += [
            row_problem(row, f"{shown(self.encoder.name)}: {problem}", column=True) for row, problem in problems
        ]

    def _say_unseen(self, found: Findings, cells: Iterable[tuple[int, Any]]) -> None:
        is_shared = isinstance(self.encoder, CategoricalEncoder) and self.encoder.other
        how = "as the rare categories are" if is_shared else "as none of the known ones"
        for row, cell in islice(cells, MAX_WARNINGS - len(found.warnings)):
            detail = f"{shown(cell)} was not seen in training and is taken {how}"
            found.warnings.append(f"row {row}, column {shown(self.encoder.name)}: {detail}")


def are_plain(values: Iterable[Any]) -> bool:
    """Whether all are JSON numbers, decided without a loop in Python; how large they are is not looked at."""
    return NUMBERS.issuperset(map(type, values))


def row_problem(row: int, problem: str, *, column: bool = False) -> Violation:
    """Say what is wrong with a row, or with one of its columns, with whose name the problem then begins."""
    return Violation(f"#/instances/{row}", f"row {row}, column {problem}" if column else f"row {row} {problem}")


def row_number(violation: Violation) -> int:
    """Return the row that a violation is about."""
    return int(violation.pointer.rsplit("/", 1)[1])


def _problem(kind: str, value: Any) -> str | None:
    if kind == "boolean":
        fits = type(value) is bool or (type(value) in NUMBERS and value in (0, 1))
        return None if fits else f"must be true or false; got {shown(value)}"
    if type(value) not in NUMBERS:
        return f"must be a number; got {shown(value)}"
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return f"must lie within ±3.4e38 (float32); got {shown(value)}"
    return None


def _dates(encoder: DateEncoder, cells: Sequence[Any]) -> _Looked:
    values = np.array([cell if isinstance(cell, str) else None for cell in cells], object)
    _, lost = dates.parse(values, encoder.written)
    wrong = {*lost.tolist(), *(place for place, cell in enumerate(cells) if cell is not values[place])}
    wanted = "a date such as 2020-01-31" + ("" if encoder.written == dates.ISO else f" or as in {encoder.written}")
    places = sorted(wrong)[:MAX_VIOLATIONS]
    return _Looked(values, [(place, f"must be {wanted}; got {shown(cells[place])}") for place in places])


def _missing(cell: Any) -> str:
    return f"is {shown(cell)}, and training saw no gaps in this column; send a value"
