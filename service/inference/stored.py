"""Rows of a stored table, held against the columns that a model takes: which it can answer, and what is odd.

Unlike what a client sends, nothing is refused: a cell that the model cannot take leaves its row without an answer, and
is counted. Cells are looked at together, and texts by their different values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import dates
from service.domain.cells import FLOAT32_MAX, Coded, RawColumn, numbers_among, words_for_gaps
from service.domain.encoders import CategoricalEncoder, DateEncoder, Encoder, encode
from service.domain.models import Inputs

NO_CELLS = "missing, and training saw no gaps in it"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Problem:
    """Cells of a column that the model cannot take."""

    column: str
    what: str
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Cells of a column whose categories training did not see; they are taken all the same."""

    column: str
    how: str
    cells: int
    categories: tuple[Any, ...]


@dataclass(slots=True)
class StoredRows:
    """Some rows of a stored table as a model takes them."""

    encoders: tuple[Encoder, ...]
    count: int
    lost: Mask
    """Which rows the model cannot answer, (rows,); they hold something that it can take instead."""
    columns: dict[str, RawColumn] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)

    def encoded(self, start: int, stop: int) -> NDArray[np.float64]:
        """Encode some of them: (rows, encoded columns)."""
        part = slice(start, stop)
        return encode({name: cells[part] for name, cells in self.columns.items()}, self.encoders)


def check_stored(columns: Mapping[str, RawColumn], inputs: Inputs) -> StoredRows:
    """Look through columns as they are stored, (rows,) each, of the kinds that the model takes."""
    count = len(columns[inputs.features[0]])
    rows = StoredRows(inputs.encoders, count, np.zeros(count, bool))
    for encoder in inputs.encoders:
        cells = columns[encoder.name]
        match encoder:
            case CategoricalEncoder():
                _take_categories(encoder, cells, rows)
            case DateEncoder():
                _take_dates(encoder, cells, rows)
            case _:
                _take_numbers(encoder, cells, rows)
    return rows


def _take_numbers(encoder: Encoder, cells: RawColumn, rows: StoredRows) -> None:
    if isinstance(cells, Coded):  # a column without any cell is stored as text
        numbers = np.full(len(cells), np.nan)
    else:
        numbers = _without_words(cells.astype(np.float64), encoder)
    gaps = np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        wrong = ~gaps & (
            (numbers != 0) & (numbers != 1) if encoder.kind == "boolean" else np.abs(numbers) > FLOAT32_MAX
        )
    what = "neither true nor false, nor 0 or 1" if encoder.kind == "boolean" else "beyond ±3.4e38 (float32)"
    lost = _lost(encoder, gaps, wrong, what, rows)
    if lost is not None:
        numbers[lost] = 0.0
    rows.columns[encoder.name] = numbers


def _take_categories(encoder: CategoricalEncoder, cells: RawColumn, rows: StoredRows) -> None:
    coded = cells if isinstance(cells, Coded) else _coded(cells, encoder)
    coded = _without_text_words(coded, encoder)
    _lost(encoder, coded.codes < 0, None, "", rows)
    known = {*encoder.categories, *encoder.rare}
    if strange := [place for place, cell in enumerate(coded.cells) if cell not in known]:
        counts = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.cells))
        found = [place for place in strange if counts[place]]
        if found:
            how = "as the rare categories are" if encoder.other else "as none of the known ones"
            categories = tuple(coded.cells[place] for place in found)
            rows.unseen.append(Unseen(encoder.name, how, int(counts[found].sum()), categories))
    rows.columns[encoder.name] = coded


def _take_dates(encoder: DateEncoder, cells: RawColumn, rows: StoredRows) -> None:
    if not isinstance(cells, Coded):  # a column without any cell may be stored as numbers
        cells = Coded((), np.full(len(cells), -1, np.int32))
    coded = _without_text_words(cells, encoder)
    texts = np.empty(len(coded.cells) + 1, object)
    texts[:-1] = coded.cells
    moments = coded.spread(dates.parse(texts, encoder.written)[0])
    gaps = coded.codes < 0
    wanted = "2020-01-31" + ("" if encoder.written == dates.ISO else f" or as in {encoder.written}")
    _lost(encoder, gaps, np.isnat(moments) & ~gaps, f"no dates such as {wanted}", rows)
    rows.columns[encoder.name] = moments


def _lost(encoder: Encoder, gaps: Mask, wrong: Mask | None, what: str, rows: StoredRows) -> Mask | None:
    """Note the rows that a column leaves without an answer, and return them; None where there are none."""
    lost = None
    if wrong is not None and wrong.any():
        rows.problems.append(Problem(encoder.name, what, np.flatnonzero(wrong)))
        lost = wrong
    if not encoder.gaps and gaps.any():
        rows.problems.append(Problem(encoder.name, NO_CELLS, np.flatnonzero(gaps)))
        lost = gaps if lost is None else lost | gaps
    if lost is not None:
        rows.lost |= lost
    return lost


def _coded(cells: NDArray[Any], encoder: CategoricalEncoder) -> Coded:
    """Return numbers or booleans by their different values."""
    if cells.dtype.kind == "O":  # integers that float64 does not hold, with gaps among them
        places: dict[Any, int] = {}
        found = [-1 if cell is None else places.setdefault(cell, len(places)) for cell in cells.tolist()]
        return Coded(tuple(places), np.array(found, np.int32))
    if cells.dtype.kind != "b":
        cells = _without_words(cells, encoder)
    values, codes = np.unique(cells, return_inverse=True)
    if cells.dtype.kind == "f" and len(values) and np.isnan(values[-1]):
        codes[np.isnan(cells)] = -1
        values = values[:-1]
    return Coded(values.tolist(), codes.astype(np.int32))


def _without_words(numbers: NDArray[Any], encoder: Encoder) -> NDArray[Any]:
    """Return numbers with NaN for those that stand for a missing cell, such as -999."""
    words = numbers_among(encoder.missing_tokens)
    if not words or not (missing := np.isin(numbers, list(words))).any():
        return numbers
    return np.where(missing, np.nan, numbers)


def _without_text_words(coded: Coded, encoder: Encoder) -> Coded:
    """Return texts without those that stand for a missing cell."""
    words = words_for_gaps(encoder.missing_tokens)
    missing = [isinstance(cell, str) and cell.strip() in words for cell in coded.cells]
    if not any(missing):
        return coded
    places = np.arange(len(coded.cells) + 1, dtype=np.int32)
    places[[*missing, True]] = -1
    return Coded(coded.cells, coded.spread(places))
