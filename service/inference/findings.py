"""What was odd about the rows of a prediction, counted while they pass, and said in plain words at the end."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.wording import listed, shown
from service.inference.stored import StoredRows

MAX_LISTED = 10


@dataclass(slots=True)
class Count:
    """How many cells or rows there are of a kind, and the first row."""

    count: int
    first: int


@dataclass(slots=True)
class UnseenCount:
    """How many cells hold categories that training did not see, how they are taken, and some of the categories."""

    how: str
    count: int = 0
    examples: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class RowFindings:
    """Everything that was found; as large as there are columns, however many rows there are."""

    unanswered: int = 0
    first: list[int] = field(default_factory=list)
    """The first rows without an answer."""
    far: Count | None = None
    """Rows for which the network's answer was no number."""
    problems: dict[str, dict[str, Count]] = field(default_factory=dict)
    """By column and by what is wrong."""
    unseen: dict[str, UnseenCount] = field(default_factory=dict)
    """By column."""

    def take(self, rows: StoredRows, far: NDArray[np.bool_], start: int) -> None:
        """Count some rows, the first of which is row ``start``; ``far`` are those whose answer was no number."""
        lost = np.flatnonzero(rows.lost | far)
        self.unanswered += len(lost)
        self.first += (lost[: MAX_LISTED - len(self.first)] + start).tolist()
        for problem in rows.problems:
            by_kind = self.problems.setdefault(problem.column, {})
            found = by_kind.setdefault(problem.what, Count(0, start + int(problem.rows[0])))
            found.count += len(problem.rows)
        far_rows = np.flatnonzero(far & ~rows.lost)
        if len(far_rows):
            self.far = self.far or Count(0, start + int(far_rows[0]))
            self.far.count += len(far_rows)
        for unseen in rows.unseen:
            counted = self.unseen.setdefault(unseen.column, UnseenCount(unseen.how))
            counted.count += unseen.cells
            fresh = [category for category in unseen.categories if category not in counted.examples]
            counted.examples += fresh[: MAX_LISTED - len(counted.examples)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RowFindings":
        """Read what ``to_dict`` wrote."""
        problems = {
            column: {what: Count(**count) for what, count in found.items()}
            for column, found in values["problems"].items()
        }
        unseen = {column: UnseenCount(**count) for column, count in values["unseen"].items()}
        far = values["far"] and Count(**values["far"])
        return cls(values["unanswered"], values["first"], far, problems, unseen)

    def warnings(self, rows: int) -> list[str]:
        """Say it; rows count from 0."""
        return [*self._about_rows(rows), *self._about_cells()]

    def _about_rows(self, rows: int) -> Iterator[str]:
        if self.unanswered:
            first = ", ".join(map(str, self.first))
            more = ", ..." if self.unanswered > len(self.first) else ""
            yield f"{self.unanswered:,} of {rows:,} row(s) have no prediction: {first}{more} (rows count from 0)"
        if self.far is not None:
            yield (
                f"{self.far.count:,} row(s), the first of them row {self.far.first}, have values too far from those "
                "that the model was trained on; it has no answer for them"
            )

    def _about_cells(self) -> Iterator[str]:
        for column, found in self.problems.items():
            for what, problem in found.items():
                yield (
                    f"column {shown(column)}: {problem.count:,} cell(s) are {what}; the first in row {problem.first}"
                )
        for column, unseen in self.unseen.items():
            few = listed(unseen.examples, MAX_LISTED)
            yield (
                f"column {shown(column)}: {unseen.count:,} cell(s) hold categories that training did not see, such as "
                f"{few}; they are taken {unseen.how}"
            )
