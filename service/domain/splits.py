"""How rows are divided into training, validation and test: completed and checked here, drawn by a worker."""

from dataclasses import dataclass
from typing import Literal

from service.domain.datasets import Cell, Column, Dataset
from service.domain.errors import Violation
from service.domain.spec import JobSpec, Task
from service.domain.training_spec import SplitMethod, TrainingSpec
from service.domain.wording import shown

PartName = Literal["training", "validation", "test"]

PART_WORDS: dict[str, PartName] = {
    **dict.fromkeys(("train", "training", "0", "false"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "1", "true"), "test"),
}
"""What a cell of a split column may say, in any case; 0 and 1 as in published splits, where 1 marks the test rows."""
BY_COLUMN: tuple[SplitMethod, ...] = ("column", "group", "time")
"""Methods that go by ``split_column``."""


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How many rows train, validate and test."""

    training: int
    validation: int
    test: int


def part_named(cell: Cell) -> PartName | None:
    """Return the part that a cell of a split column names."""
    text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
    return PART_WORDS.get(text.strip().lower())


def divide(rows: int, training: TrainingSpec, official_test_rows: int) -> PartSizes:
    """Divide so many rows by the fractions; without a ``test_fraction`` the official test rows are the test part."""
    test = official_test_rows if training.test_fraction is None else round(rows * training.test_fraction)
    validation = round((rows - test) * training.validation_fraction)
    return PartSizes(rows - test - validation, validation, test)


def expected_sizes(dataset: Dataset, training: TrainingSpec, target: Column | None) -> PartSizes:
    """Say how large the parts will be: exactly, but for groups and for a split column beside missing targets."""
    rows = dataset.rows - ((target.missing or 0) if target else 0)
    column = dataset.column(training.split_column) if training.split_column else None
    if training.split != "column" or column is None or not column.top:
        return divide(rows, training, dataset.official_test_rows)
    counts: dict[PartName | None, int] = {}
    for cell, count in column.top:
        part = part_named(cell)
        counts[part] = counts.get(part, 0) + count
    given, validation = counts.get("training", 0), counts.get("validation", 0)
    drawn = 0 if validation else round(given * training.validation_fraction)
    return PartSizes(given - drawn, validation or drawn, counts.get("test", 0))


def complete_split(spec: JobSpec, dataset: Dataset, task: Task, found: list[Violation]) -> TrainingSpec:
    """Write out the method and its column; every misfit is added to ``found``."""
    training = spec.training
    column = _split_column(spec, dataset, found)
    method = training.split or (
        _method_for(column) if column else "stratified" if task == "classification" else "random"
    )
    if method in BY_COLUMN and column is None and not training.split_column:
        detail = f"is needed for the split {method!r}; name one of the data set's columns"
        found.append(Violation("#/training/split_column", detail))
    if training.split and method not in BY_COLUMN and training.split_column:
        detail = f"does not belong to the split {method!r}; leave it out, or take one of {', '.join(BY_COLUMN)}"
        found.append(Violation("#/training/split_column", detail))
    if training.split == "stratified" and task == "regression":
        detail = (
            "'stratified' keeps the share of every class, and a regression has none; take random, time, group or order"
        )
        found.append(Violation("#/training/split", detail))
    if column is not None and method in BY_COLUMN:
        found += _column_violations(column, method, training)
        if training.split is None and method == "group" and not column.top and (column.unique or 0) <= len(PART_WORDS):
            detail = f"is needed: the cells of {shown(column.name)} are not known here, and may name parts or groups"
            found.append(Violation("#/training/split", detail))
    return training.model_copy(update={"split": method, "split_column": column.name if column else None})


def _split_column(spec: JobSpec, dataset: Dataset, found: list[Violation]) -> Column | None:
    name = spec.training.split_column
    if name is None:
        dates = [column for column in dataset.columns if column.kind == "date"]
        return dates[0] if spec.training.split == "time" and len(dates) == 1 else None
    column = dataset.column(name)
    problem = None
    if column is None:
        problem = f"{shown(name)} is no column of {dataset.name}"
    elif name == (spec.target or dataset.default_target):
        problem = f"{shown(name)} is the target; the parts must not depend on it"
    elif column.missing:
        problem = f"{shown(name)} has {column.missing} missing cell(s); every row must belong to a part"
    if problem:
        found.append(Violation("#/training/split_column", problem))
        return None
    return column


def _method_for(column: Column) -> SplitMethod:
    if column.kind == "date":
        return "time"
    return "column" if column.top and all(part_named(cell) for cell, _ in column.top) else "group"


def _column_violations(column: Column, method: SplitMethod, training: TrainingSpec) -> list[Violation]:
    name = shown(column.name)
    if method == "time" and column.kind != "date" and column.stored != "number":
        return [Violation("#/training/split_column", f"{name} is a {column.kind} column; time needs dates or numbers")]
    held_out = (training.validation_fraction > 0) + ((training.test_fraction or 0) > 0)
    if method == "group" and column.unique is not None and column.unique < 1 + held_out:
        detail = f"{name} has {column.unique} group(s); {1 + held_out} parts need at least as many"
        return [Violation("#/training/split_column", detail)]
    if method != "column":
        return []
    unknown = [cell for cell, _ in column.top if part_named(cell) is None]
    if unknown or (column.unique or 0) > len(PART_WORDS):
        got = shown(unknown[0]) if unknown else f"{column.unique} different values"
        detail = f"{name} must say {', '.join(PART_WORDS)} in every row; got {got}"
        return [Violation("#/training/split_column", detail)]
    if training.test_fraction is not None:
        detail = f"column {name} says which rows are the test part; leave test_fraction out"
        return [Violation("#/training/test_fraction", detail)]
    return []
