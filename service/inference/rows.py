"""Raw rows in, checked columns out: what clients send, held against the columns that a model takes."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import dates
from service.domain.encoders import CategoricalEncoder, DateEncoder, Encoder, encode
from service.domain.errors import InvalidRows, Violation
from service.domain.models import Inputs
from service.domain.wording import listed, shown

FLOAT32_MAX = float(np.finfo(np.float32).max)
MAX_VIOLATIONS = 20
MAX_WARNINGS = 20
MAX_LISTED = 10
MAX_ROWS = 100_000
"""More rows in one request would take hundreds of megabytes on their way."""
NUMBERS: frozenset[type] = frozenset({int, float})
CELL_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "text": (frozenset({str}), "text"),
    "number": (NUMBERS, "a number"),
    "boolean": (frozenset({bool}), "true or false"),
}
"""What a category may be as JSON has it, by how its column is stored."""


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Rows that a model can take, and what is odd about them."""

    columns: Mapping[str, NDArray[Any]]
    """Raw cells by column, (rows,) each."""
    encoders: tuple[Encoder, ...]
    count: int
    warnings: tuple[str, ...] = ()

    def encoded(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Encode some of them: (rows, encoded columns)."""
        part = slice(start, stop)
        return encode({name: cells[part] for name, cells in self.columns.items()}, self.encoders)


def check(instances: Sequence[Any], inputs: Inputs) -> CheckedRows:
    """Check arrays in column order or objects by column name, raw values each.

    Raises:
        InvalidRows: names the row and the column of every problem, at most 20.
    """
    if not instances:
        raise InvalidRows([Violation("#/instances", "has no rows; send at least one")])
    if len(instances) > MAX_ROWS:
        detail = f"has {len(instances):,} rows; at most {MAX_ROWS:,} are answered at once. Send them in parts"
        raise InvalidRows([Violation("#/instances", detail)])
    rows = _in_order(instances, inputs)
    if all(encoder.is_plain for encoder in inputs.encoders) and all(map(_are_plain, rows)):
        matrix = np.array(rows, np.float64)
        return CheckedRows(dict(zip(inputs.features, matrix.T, strict=True)), inputs.encoders, len(rows))
    found: list[Violation] = []
    warnings: list[str] = []
    columns = {
        encoder.name: _column(encoder, cells, found, warnings)
        for encoder, cells in zip(inputs.encoders, zip(*rows, strict=True), strict=True)
    }
    if found:
        raise InvalidRows(sorted(found, key=_row_number)[:MAX_VIOLATIONS])
    return CheckedRows(columns, inputs.encoders, len(rows), tuple(warnings[:MAX_WARNINGS]))


def _in_order(instances: Sequence[Any], inputs: Inputs) -> list[Sequence[Any]]:
    """Return the cells of every row in the order of the model's columns, None for a column that may be left out."""
    found: list[Violation] = []
    rows: list[Sequence[Any]] = []
    features = inputs.features
    names = set(features)
    for position, instance in enumerate(instances):
        if isinstance(instance, Mapping):
            if instance.keys() != names:
                found += _misnamed(position, instance, inputs, names)
            rows.append([instance.get(name) for name in features])
        elif not isinstance(instance, list):
            wanted = f"an array of {len(features)} values or an object by column name"
            found.append(_violation(position, f"must be {wanted}; got {shown(instance)}"))
        elif len(instance) != len(features):
            detail = f"has {len(instance)} values; the model takes {len(features)}: {listed(features, MAX_LISTED)}"
            found.append(_violation(position, detail))
        else:
            rows.append(instance)
        if len(found) >= MAX_VIOLATIONS:
            break
    if found:
        raise InvalidRows(found[:MAX_VIOLATIONS])
    return rows


def _misnamed(position: int, row: Mapping[str, Any], inputs: Inputs, names: set[str]) -> list[Violation]:
    """Name the columns that are too many, and those that are missing although training saw them in every row."""
    found = []
    missing = [encoder.name for encoder in inputs.encoders if encoder.name not in row and not encoder.gaps]
    unknown = [name for name in row if name not in names]
    if missing:
        found.append(_violation(position, f"lacks the column(s) {listed(missing, MAX_LISTED)}"))
    if unknown:
        detail = f"has column(s) that the model does not take: {listed(unknown, MAX_LISTED)}; leave them out"
        found.append(_violation(position, detail))
    return found


def _are_plain(values: Sequence[Any]) -> bool:
    """Whether all are numbers that float32 can hold: the common case, decided without a loop in Python."""
    if not NUMBERS.issuperset(map(type, values)):
        return False
    return min(values) >= -FLOAT32_MAX and max(values) <= FLOAT32_MAX and all(map(math.isfinite, values))


def _column(encoder: Encoder, cells: tuple[Any, ...], found: list[Violation], warnings: list[str]) -> NDArray[Any]:
    """Return a column as its encoder takes it; what it cannot take is added to ``found``."""
    words = {"", *encoder.missing_tokens}
    given = [None if type(cell) is str and cell.strip() in words else cell for cell in cells]
    if numbers := _numbers_among(encoder.missing_tokens):
        given = [None if type(cell) in NUMBERS and cell in numbers else cell for cell in given]
    if not encoder.gaps and None in given:
        gaps = (position for position, cell in enumerate(given) if cell is None)
        found += [_cell(position, encoder, _missing(cells[position])) for position in islice(gaps, MAX_VIOLATIONS)]
    match encoder:
        case CategoricalEncoder():
            return _categories(encoder, given, found, warnings)
        case DateEncoder():
            return _dates(encoder, given, found)
        case _:
            return _numbers(encoder, given, found)


def _numbers_among(words: tuple[str, ...]) -> set[float]:
    """Return the numbers that stand for a missing cell, such as -999."""
    found = set()
    for word in words:
        with suppress(ValueError):
            found.add(float(word))
    return {number for number in found if math.isfinite(number)}


def _numbers(encoder: Encoder, cells: list[Any], found: list[Violation]) -> NDArray[Any]:
    present = [cell for cell in cells if cell is not None]
    if encoder.kind == "numeric" and (not present or _are_plain(present)):
        return np.array(cells, np.float64)
    problems = (
        _cell(position, encoder, problem)
        for position, cell in enumerate(cells)
        if cell is not None and (problem := _problem(encoder.kind, cell))
    )
    if wrong := list(islice(problems, MAX_VIOLATIONS)):
        found += wrong
        return np.zeros(len(cells))
    return np.array(cells, np.float64)


def _problem(kind: str, value: Any) -> str | None:
    if kind == "boolean":
        fits = type(value) is bool or (type(value) in NUMBERS and value in (0, 1))
        return None if fits else f"must be true or false; got {shown(value)}"
    if type(value) not in NUMBERS:
        return f"must be a number; got {shown(value)}"
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return f"must lie within ±3.4e38 (float32); got {shown(value)}"
    return None


def _categories(
    encoder: CategoricalEncoder, cells: list[Any], found: list[Violation], warnings: list[str]
) -> NDArray[Any]:
    """Take categories; one that training did not see is taken, and said."""
    types, wanted = CELL_TYPES[encoder.holds]
    known = {*encoder.categories, *encoder.rare}
    values = np.empty(len(cells), object)
    values[:] = cells
    present = [cell for cell in cells if cell is not None]
    if types.issuperset(map(type, present)) and known.issuperset(present):
        return values
    before = len(found)
    how = "as the rare categories are" if encoder.other else "as none of the known ones"
    for position, cell in enumerate(cells):
        if cell is None:
            continue
        if type(cell) not in types:
            found.append(_cell(position, encoder, f"must be {wanted}; got {shown(cell)}"))
            if len(found) - before >= MAX_VIOLATIONS:
                break
        elif cell not in known and len(warnings) < MAX_WARNINGS:
            detail = f"{shown(cell)} was not seen in training and is taken {how}"
            warnings.append(f"row {position}, column {shown(encoder.name)}: {detail}")
    return values


def _dates(encoder: DateEncoder, cells: list[Any], found: list[Violation]) -> NDArray[Any]:
    values = np.array([cell if isinstance(cell, str) else None for cell in cells], object)
    _, lost = dates.parse(values, encoder.written)
    wrong = {*lost.tolist(), *(position for position, cell in enumerate(cells) if cell is not values[position])}
    wanted = "a date such as 2020-01-31" + ("" if encoder.written == dates.ISO else f" or as in {encoder.written}")
    places = sorted(wrong)[:MAX_VIOLATIONS]
    found += [_cell(place, encoder, f"must be {wanted}; got {shown(cells[place])}") for place in places]
    return values


def _missing(cell: Any) -> str:
    return f"is {shown(cell)}, and training saw no gaps in this column; send a value"


def _cell(position: int, encoder: Encoder, problem: str) -> Violation:
    return Violation(f"#/instances/{position}", f"row {position}, column {shown(encoder.name)}: {problem}")


def _violation(position: int, problem: str) -> Violation:
    return Violation(f"#/instances/{position}", f"row {position} {problem}")


def _row_number(violation: Violation) -> int:
    return int(violation.pointer.rsplit("/", 1)[1])
