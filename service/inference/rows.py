"""Raw rows in, checked columns out: what clients send, held against the columns that a model takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.cells import FLOAT32_MAX, Coded, RawColumn
from service.domain.encoders import Encoder, encode
from service.domain.errors import InvalidRows, Violation
from service.domain.models import Inputs
from service.domain.wording import listed, shown
from service.inference.columns import (
    MAX_VIOLATIONS,
    MAX_WARNINGS,
    Cells,
    ColumnReader,
    Findings,
    are_plain,
    row_number,
    row_problem,
)

MAX_LISTED = 10
PIECE_ROWS = 1024
MAX_ROWS = 100_000
"""More rows in one request would take hundreds of megabytes on their way."""


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Rows that a model can take, and what is odd about them."""

    columns: Mapping[str, RawColumn]
    """Raw cells by column, (rows,) each; none where there is a ``matrix``."""
    encoders: tuple[Encoder, ...]
    count: int
    warnings: tuple[str, ...] = ()
    unseen: Mapping[str, int] = field(default_factory=dict)
    """How many cells hold a category that training did not see, by column."""
    matrix: NDArray[Any] | None = None
    """Rows that are their own encoding: numbers, (rows, columns)."""

    @property
    def has_categories(self) -> bool:
        """Whether a column holds categories."""
        return any(encoder.kind == "categorical" for encoder in self.encoders)

    def encoded(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Encode some of them: (rows, encoded columns)."""
        part = slice(start, stop)
        if self.matrix is not None:
            return self.matrix[part].astype(np.float64, copy=False)
        return encode({name: cells[part] for name, cells in self.columns.items()}, self.encoders)


class RowReader:
    """Checks what clients send for one model; it is made once and used for many requests."""

    def __init__(self, inputs: Inputs) -> None:
        self._encoders = inputs.encoders
        self._features = inputs.features
        self._names = set(inputs.features)
        self._columns = [ColumnReader(encoder) for encoder in inputs.encoders]
        self._is_plain = all(encoder.is_plain for encoder in inputs.encoders)
        self._in_order = itemgetter(*self._features)

    def check(self, instances: Sequence[Any]) -> CheckedRows:
        """Check arrays in column order or objects by column name, raw values each.

        Raises:
            InvalidRows: names the row and the column of every problem, at most 20.
        """
        check_count(len(instances))
        rows = self._rows(instances)
        if self._is_plain and are_plain(chain.from_iterable(rows)):
            matrix = _matrix(rows)
            if matrix is not None:
                return CheckedRows({}, self._encoders, len(rows), matrix=matrix)
        return self._checked(list(zip(*rows, strict=True)), len(rows))

    def check_columns(self, columns: Mapping[str, Cells], count: int) -> CheckedRows:
        """Check columns by name, ``count`` cells each: JSON values, also coded, or numbers of which NaN is a gap.

        Raises:
            InvalidRows: a column is missing or unknown, or names the row and the column of every problem, at most 20.
        """
        check_count(count)
        found: list[Violation] = []
        if columns.keys() != self._names:
            found = self._misnamed(0, columns)
        if found:
            raise InvalidRows(found)
        gap = Coded((), np.full(count, -1, np.int32))
        return self._checked([columns.get(name, gap) for name in self._features], count)

    def check_matrix(self, matrix: NDArray[Any]) -> CheckedRows:
        """Check numbers of any kind, (rows, columns in the model's order), in which NaN is a gap.

        Raises:
            InvalidRows: there are too many or too few columns, or names the row and the column of every problem.
        """
        count, width = matrix.shape
        check_count(count)
        if width != len(self._features):
            raise InvalidRows([row_problem(0, self._wrong_width(width))])
        if self._is_plain and _are_usable(matrix):
            return CheckedRows({}, self._encoders, count, matrix=matrix)
        return self._checked(list(matrix.T), count)

    def _checked(self, columns: Sequence[Cells], count: int) -> CheckedRows:
        found = Findings()
        read = {
            column.encoder.name: column.read(cells, found) for column, cells in zip(self._columns, columns, strict=True)
        }
        if found.violations:
            raise InvalidRows(sorted(found.violations, key=row_number)[:MAX_VIOLATIONS])
        return CheckedRows(read, self._encoders, count, tuple(found.warnings[:MAX_WARNINGS]), found.unseen)

    def _rows(self, instances: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Return the cells of every row in the order of the model's columns, None for a column that may be left out."""
        kinds, width = set(map(type, instances)), len(self._features)
        if kinds == {list} and set(map(len, instances)) == {width}:
            return instances
        if kinds == {dict} and width > 1 and set(map(len, instances)) == {width}:
            try:
                return list(map(self._in_order, instances))
            except KeyError:
                pass  # which is missing, and whether it may be, is found out row by row
        return self._rows_one_by_one(instances)

    def _rows_one_by_one(self, instances: Sequence[Any]) -> list[Sequence[Any]]:
        found: list[Violation] = []
        rows: list[Sequence[Any]] = []
        for position, instance in enumerate(instances):
            if isinstance(instance, Mapping):
                if instance.keys() != self._names:
                    found += self._misnamed(position, instance)
                rows.append([instance.get(name) for name in self._features])
            elif not isinstance(instance, list):
                wanted = f"an array of {len(self._features)} values or an object by column name"
                found.append(row_problem(position, f"must be {wanted}; got {shown(instance)}"))
            elif len(instance) != len(self._features):
                found.append(row_problem(position, self._wrong_width(len(instance))))
            else:
                rows.append(instance)
            if len(found) >= MAX_VIOLATIONS:
                break
        if found:
            raise InvalidRows(found[:MAX_VIOLATIONS])
        return rows

    def _wrong_width(self, width: int) -> str:
        features = self._features
        return f"has {width} values; the model takes {len(features)}: {listed(features, MAX_LISTED)}"

    def _misnamed(self, position: int, row: Mapping[str, Any]) -> list[Violation]:
        """Name the columns that are too many, and those that are missing although training saw them in every row."""
        found = []
        missing = [encoder.name for encoder in self._encoders if encoder.name not in row and not encoder.gaps]
        unknown = [name for name in row if name not in self._names]
        if missing:
            found.append(row_problem(position, f"lacks the column(s) {listed(missing, MAX_LISTED)}"))
        if unknown:
            detail = f"has column(s) that the model does not take: {listed(unknown, MAX_LISTED)}; leave them out"
            found.append(row_problem(position, detail))
        return found


def check(instances: Sequence[Any], inputs: Inputs) -> CheckedRows:
    """Check rows once, as a ``RowReader`` does.

    Raises:
        InvalidRows: names the row and the column of every problem, at most 20.
    """
    return RowReader(inputs).check(instances)


def check_count(count: int) -> None:
    """Check how many rows came.

    Raises:
        InvalidRows: none, or too many.
    """
    if not count:
        raise InvalidRows([Violation("#/instances", "has no rows; send at least one")])
    if count > MAX_ROWS:
        detail = f"has {count:,} rows; at most {MAX_ROWS:,} are answered at once. Send them in parts"
        raise InvalidRows([Violation("#/instances", detail)])


def _matrix(rows: Sequence[Sequence[Any]]) -> NDArray[np.float64] | None:
    """Return numbers as float64, (rows, columns); None where one is more than float32 holds, or NaN."""
    try:
        matrix = np.array(rows, np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return matrix if _are_usable(matrix) else None


def _are_usable(matrix: NDArray[Any]) -> bool:
    """Whether float32 holds all numbers, and none is NaN; piece by piece, for the whole would be in memory twice."""
    with np.errstate(invalid="ignore"):
        pieces = range(0, len(matrix), PIECE_ROWS)
        return all(bool((np.abs(matrix[start : start + PIECE_ROWS]) <= FLOAT32_MAX).all()) for start in pieces)
