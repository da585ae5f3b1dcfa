"""Tables that come as columns: which of them a model takes, and their cells as its reader wants them.

Cells are looked at by their different values, so that no row costs a step of Python. Knows Arrow arrays by their
methods alone: who makes them has imported pyarrow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.formats import limits
from service.domain.encoders import Category, Coded
from service.domain.errors import InvalidRows, Violation
from service.domain.wording import listed, shown
from service.inference.columns import MAX_WARNINGS
from service.inference.rows import MAX_LISTED, CheckedRows
from service.use_cases.serving import Served

Convert = Callable[[Any], Sequence[Category | None]]
"""Makes JSON values of an Arrow array of different cells; None where one is missing."""


@dataclass(slots=True)
class TextAllowance:
    """How many different texts a request may still hold, in all columns together."""

    texts: int = limits.MAX_TEXTS
    size: int = limits.MAX_TEXT_BYTES

    def check(self, size: int) -> None:
        """Refuse texts before they become Python objects.

        Raises:
            InvalidRows: they take more bytes than a whole request may.
        """
        if size > limits.MAX_TEXT_BYTES:
            raise limits.too_much(f"has {size:,} bytes of different texts", f"{limits.MAX_TEXT_BYTES:,} bytes of them")

    def take(self, texts: Sequence[str]) -> None:
        """Count texts that have not been seen before in their column.

        Raises:
            InvalidRows: with them there are too many.
        """
        self.texts -= len(texts)
        self.size -= sum(map(len, texts))
        if self.texts < 0:
            raise limits.too_much(f"has more than {limits.MAX_TEXTS:,} different texts", f"{limits.MAX_TEXTS:,}")
        if self.size < 0:
            most = f"{limits.MAX_TEXT_BYTES:,}"
            raise limits.too_much(f"has more than {most} characters in different texts", f"{most} of them")


@dataclass(slots=True)
class NumberColumn:
    """A column of numbers that grows by Arrow arrays; all of them together have at most so many ``rows``."""

    rows: int
    values: NDArray[Any] | None = None
    end: int = 0

    def add(self, array: Any) -> None:
        """Take some cells, an Arrow array of numbers; a gap becomes NaN; nothing is copied if all come at once."""
        numbers = array.to_numpy(zero_copy_only=False)
        if self.values is None and len(numbers) == self.rows:
            self.values = numbers
        else:
            if self.values is None:
                # Integers may come without gaps first, and with gaps, as float64, later.
                self.values = np.empty(self.rows, numbers.dtype if numbers.dtype == np.float32 else np.float64)
            self.values[self.end : self.end + len(numbers)] = numbers
        self.end += len(numbers)

    def cells(self) -> NDArray[Any]:
        """Return all cells, (rows,)."""
        return np.empty(0) if self.values is None else self.values[: self.end]


@dataclass(slots=True)
class CodedColumn:
    """A column of anything that grows by Arrow arrays and is kept by its different cells."""

    convert: Convert
    allowance: TextAllowance
    known: dict[Category, int] = field(default_factory=dict)
    codes: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, array: Any) -> None:
        """Take some cells, an Arrow array.

        Raises:
            InvalidRows: there are too many different texts.
        """
        coded = array if hasattr(array, "dictionary") else array.dictionary_encode()
        # A dictionary may hold a million cells, of which these rows use two.
        used = coded.indices.dictionary_encode()
        cells = coded.dictionary.take(used.dictionary)
        self.allowance.check(cells.nbytes)
        found = self.convert(cells)
        self.allowance.take([cell for cell in found if isinstance(cell, str) and cell not in self.known])
        places = [-1 if cell is None else self.known.setdefault(cell, len(self.known)) for cell in found]
        codes = used.indices.fill_null(len(places)).to_numpy(zero_copy_only=False)
        self.codes.append(np.array([*places, -1], np.int32)[codes])

    def cells(self) -> Coded:
        """Return all cells."""
        return Coded(tuple(self.known), np.concatenate(self.codes))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which columns of a table a model takes."""

    places: Mapping[str, int]
    """Where they are in the table."""
    warnings: tuple[str, ...]

    def noted(self, checked: CheckedRows) -> CheckedRows:
        """Return checked rows with the warnings of their table before their own."""
        return replace(checked, warnings=(*self.warnings, *checked.warnings)[:MAX_WARNINGS])


def choose(names: Sequence[str], served: Served, advice: str = "") -> Chosen:
    """Find the columns that a model takes; its target, which tables often hold beside them, is left out.

    ``advice`` says what else could be wrong where the names do not fit.

    Raises:
        InvalidRows: a column is there twice, is missing or is none of the model's.
    """
    encoders, target = served.version.inputs.encoders, served.version.outputs.target
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        twice = next(name for place, name in enumerate(names) if places[name] != place)
        raise _misfit(f"has two columns {shown(twice)}; names must differ", "")
    wanted = {encoder.name for encoder in encoders}
    if unknown := [name for name in names if name not in wanted and name != target]:
        rest = f"has column(s) that the model does not take: {listed(unknown, MAX_LISTED)}; leave them out"
        raise _misfit(f"{rest}. It takes {listed(served.version.inputs.features, MAX_LISTED)}", advice)
    if missing := [encoder.name for encoder in encoders if encoder.name not in places and not encoder.gaps]:
        raise _misfit(f"lacks the column(s) {listed(missing, MAX_LISTED)}", advice)
    is_there = target in places and target not in wanted
    warnings = (f"column {shown(target)} is what the model predicts, and was left out",) if is_there else ()
    return Chosen({name: place for name, place in places.items() if name in wanted}, warnings)


def check(served: Served, columns: Mapping[str, NumberColumn | CodedColumn], rows: int, chosen: Chosen) -> CheckedRows:
    """Hold columns against what the model takes.

    Raises:
        InvalidRows: there are no rows, or names the row and the column of every problem, at most 20.
    """
    if not rows:
        limits.check_shape(rows, len(columns))
    cells = {name: column.cells() for name, column in columns.items()}
    return chosen.noted(served.reader.check_columns(cells, rows))


def _misfit(problem: str, advice: str) -> InvalidRows:
    return InvalidRows([Violation("#", f"the table {problem}{f'. {advice}' if advice else ''}")])
