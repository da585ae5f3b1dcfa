"""Draw the parts of a table: which rows train, validate and test; equal seeds draw equal parts."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from service.domain import dates
from service.domain.datasets import Column
from service.domain.jobs import PART_CODES
from service.domain.splits import divide, part_named
from service.domain.training_errors import UnusableSplit
from service.domain.training_spec import TrainingSpec
from service.domain.wording import shown

Rows = NDArray[np.int64]
MIN_TRAINING_ROWS = 2


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, ascending; rows without a target are in none."""

    training: Rows
    validation: Rows
    test: Rows

    def to_bytes(self, rows: int) -> bytes:
        """Return one byte per row of the table, its part's code, compressed by zlib."""
        codes = np.full(rows, PART_CODES["left_out"], np.uint8)
        for part in ("training", "validation", "test"):
            codes[getattr(self, part)] = PART_CODES[part]
        return zlib.compress(codes.tobytes(), 6)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a split goes by."""

    training: TrainingSpec
    """Of a completed spec."""
    usable: Rows
    """The rows that have a target, ascending."""
    classes: NDArray[Any] | None
    """Class of every row of the table, None for a regression."""
    by: NDArray[Any] | None
    """Cells of the split column, where the method goes by one."""
    by_column: Column | None = None


def draw(drawing: Drawing, *, rows: int, official_test_rows: int) -> Split:
    """Divide the usable rows of a table with so many rows.

    Raises:
        UnusableSplit: a part that is needed would have no rows, or the split column does not say what it should.
    """
    split = (
        _by_words(drawing) if drawing.training.split == "column" else _by_fractions(drawing, rows, official_test_rows)
    )
    if len(split.training) < MIN_TRAINING_ROWS:
        raise UnusableSplit(f"leaves {len(split.training)} row(s) with a target to train on; 2 are needed")
    return split


def _by_fractions(drawing: Drawing, rows: int, official_test_rows: int) -> Split:
    usable, training = drawing.usable, drawing.training
    if training.test_fraction is None and official_test_rows:
        rest, test = np.split(usable, [np.searchsorted(usable, rows - official_test_rows)])
        validation_rows = divide(len(usable), training, len(test)).validation
    else:
        sizes = divide(len(usable), training, 0)
        rest, test = _hold_out(drawing, usable, sizes.test)
        validation_rows = sizes.validation
    kept, validation = _hold_out(drawing, rest, validation_rows)
    return Split(kept, validation, test)


def _hold_out(drawing: Drawing, rows: Rows, held_out: int) -> tuple[Rows, Rows]:
    """Hold some rows out; return those that stay and those that go."""
    if held_out == 0:
        return rows, rows[:0]
    if held_out >= len(rows):
        raise UnusableSplit(f"would hold out {held_out} of {len(rows)} row(s)")
    seed = drawing.training.seed
    match drawing.training.split:
        case "order":
            return rows[:-held_out], rows[-held_out:]
        case "time":
            ordered = rows[np.argsort(_moments(drawing)[rows], kind="stable")]
            return np.sort(ordered[:-held_out]), np.sort(ordered[-held_out:])
        case "group":
            return _whole_groups(drawing, rows, held_out)
        case "random":
            return _stratified(rows, held_out, None, seed)
        case _:
            return _stratified(rows, held_out, drawing.classes, seed)


def _whole_groups(drawing: Drawing, rows: Rows, held_out: int) -> tuple[Rows, Rows]:
    """Hold out groups in a random order, each where it brings the rows held out closer to what is wanted."""
    assert drawing.by is not None
    numbers: dict[Any, int] = {}
    groups = np.array([numbers.setdefault(cell, len(numbers)) for cell in drawing.by[rows].tolist()])
    sizes = np.bincount(groups)
    chosen = np.zeros(len(sizes), bool)
    taken = 0
    for group in np.random.default_rng(drawing.training.seed).permutation(len(sizes)).tolist():
        if abs(taken + sizes[group] - held_out) < abs(taken - held_out):
            chosen[group] = True
            taken += int(sizes[group])
    if not 0 < taken < len(rows):
        raise UnusableSplit(f"cannot hold out about {held_out} of {len(rows)} row(s) in {len(sizes)} whole group(s)")
    return rows[~chosen[groups]], rows[chosen[groups]]


def _by_words(drawing: Drawing) -> Split:
    """Go by the words of the split column.

    Raises:
        UnusableSplit: one is no word for a part, or validation rows are named and none has a target.
    """
    assert drawing.by is not None
    parts = np.array([part_named(cell) for cell in drawing.by.tolist()], object)
    if (unknown := parts == None).any():  # noqa: E711  # cell by cell
        word = shown(drawing.by[np.argmax(unknown)])
        raise UnusableSplit(f"column holds {word}, which names no part")
    named = {part: drawing.usable[parts[drawing.usable] == part] for part in ("training", "validation", "test")}
    if len(named["validation"]):
        return Split(**named)
    if (parts == "validation").any():
        raise UnusableSplit("column names validation rows, but none of them has a target")
    held_out = divide(len(named["training"]), drawing.training, 0).validation
    if held_out >= len(named["training"]) > 0:
        raise UnusableSplit(f"would validate on {held_out} of {len(named['training'])} training row(s)")
    kept, validation = _stratified(named["training"], held_out, drawing.classes, drawing.training.seed)
    return Split(kept, validation, named["test"])


def _moments(drawing: Drawing) -> NDArray[Any]:
    """Return what time is ordered by: moments, or the numbers of a numeric column."""
    assert drawing.by is not None
    if drawing.by_column is None or drawing.by_column.date_format is None:
        return drawing.by
    moments, lost = dates.parse(drawing.by, drawing.by_column.date_format)
    if len(lost):
        raise UnusableSplit(
            f"goes by column {shown(drawing.by_column.name)}, whose cell in row {lost[0] + 1} is no date"
        )
    return moments


def _stratified(rows: Rows, held_out: int, classes: NDArray[Any] | None, seed: int) -> tuple[Rows, Rows]:
    """Hold some rows out, every class by its share; rows of a class that has only one stay in the larger part."""
    if held_out == 0:
        return rows, rows[:0]
    lonely = np.zeros(len(rows), bool)
    if classes is not None:
        _, inverse, counts = np.unique(classes[rows], return_inverse=True, return_counts=True)
        lonely = counts[inverse] < 2
        remaining = np.count_nonzero(counts >= 2)
        can_stratify = remaining <= held_out <= np.count_nonzero(~lonely) - remaining
        if not can_stratify:
            classes, lonely = None, np.zeros(len(rows), bool)
    labels = None if classes is None else classes[rows[~lonely]]
    kept, out = train_test_split(rows[~lonely], test_size=held_out, random_state=seed, stratify=labels)
    return np.sort(np.concatenate([kept, rows[lonely]])), np.sort(out)
