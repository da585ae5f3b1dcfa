"""What a prediction over a stored data set is: what was asked, how far it has come, and what its result holds.

Where the data set says what was true, the prediction is an evaluation as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from service.domain.bounds import Between, CountsItems, Frozen, JsonArray, Name
from service.domain.jobs import JobState, Measure
from service.domain.models import MAX_VERSION, ClassLabel, Outputs
from service.domain.wording import JSON_WORDS

MAX_KEPT = 10_000
PREDICTION = "prediction"
PROBABILITY = "probability: {}"

DatasetName = Annotated[str, Field(min_length=1, max_length=100)]
ColumnName = Annotated[str, Field(min_length=1, max_length=1000)]
KeptColumns = Annotated[tuple[str, ...], JsonArray, Field(max_length=MAX_KEPT), CountsItems]
Tags = Annotated[tuple[Name, ...], JsonArray, Field(max_length=20), CountsItems]


class PredictionSpec(Frozen):
    """One prediction: which model, which rows, and what stands beside the answers."""

    model: Name
    """The model's name."""
    version: Annotated[int | None, Between(1, MAX_VERSION)] = None
    """Which version; null: what the alias stands for. The answer shows it, and it stays the same from then on."""
    alias: Name | None = None
    """Which alias, where no version is named; null: `production` where it is set, else the newest version."""
    dataset: DatasetName
    """Id of a stored data set, or the name of a built-in one; it must have every column that the model takes."""
    probabilities: bool | None = None
    """Whether the result has a column for the probability of each class; null: it has for a classification."""
    keep: KeptColumns = ()
    """Columns of the data set that are copied into the result, such as an id; its rows are in the table's order."""
    tags: Tags = ()
    """Words to find the prediction by."""
    target: ColumnName | None = None
    """Column of the data set that holds what was true: answers are held against it, and it is kept in the result."""


class EvaluationSpec(Frozen):
    """What a version is to be held against."""

    dataset: DatasetName
    """Id of a stored data set, or the name of a built-in one; it must have every column that the model takes."""
    target: ColumnName | None = None
    """Column of the data set that holds what was true; null: the one that the model was trained to predict."""
    keep: KeptColumns = ()
    """Columns of the data set that are copied into the result, such as an id; the target always is."""
    tags: Tags = ()
    """Words to find it by."""


@dataclass(frozen=True, slots=True)
class ResultColumns:
    """What the columns of a result are called, in order: those that are kept, the answer, a probability per class."""

    kept: tuple[str, ...]
    answer: str
    probabilities: tuple[str, ...]

    @classmethod
    def of(cls, kept: Iterable[str], outputs: Outputs, *, probabilities: bool) -> "ResultColumns":
        """Name the columns; one whose name a kept column has already is called ``prediction (2)`` and so on."""
        kept = tuple(kept)
        taken = set(kept)
        answer = _unique(PREDICTION, taken)
        classes = outputs.classes if probabilities else ()
        return cls(kept, answer, tuple(_unique(PROBABILITY.format(_said(label)), taken) for label in classes))

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.kept, self.answer, *self.probabilities)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How answers fit what was true."""

    target: str
    rows: int
    """Rows that have both an answer and a known truth; the others are left out, and the warnings say why."""
    metrics: Mapping[str, Measure]
    """As those of a test part."""
    calibration: Mapping[str, Any] | None
    """As that of a version, its part is ``dataset``; None where no row could be held against the truth."""


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """What a prediction has made."""

    rows: int
    unanswered: int
    """Rows without an answer, of which the warnings say why."""
    columns: Sequence[str]
    size_bytes: int
    sha256: str
    """Of the Parquet file."""
    warnings: Sequence[str]
    evaluation: Evaluation | None = None
    """None where no target was named."""


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """One request for a prediction over a stored data set, and how far it has come."""

    id: str
    number: int
    state: JobState
    spec: dict[str, Any]
    rows: int
    tags: list[str]
    warnings: list[str]
    attempts: int
    fraction: float | None
    rows_per_second: float | None
    eta_seconds: float | None
    result: PredictionResult | None
    error_code: str | None
    error_detail: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_position: int | None = None


def _unique(name: str, taken: set[str]) -> str:
    """Return the name, or the first like it that is not taken; it is taken then."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} ({number})", number + 1
    taken.add(found)
    return found


def _said(label: ClassLabel) -> str:
    return JSON_WORDS[label] if isinstance(label, bool) else str(label)
