"""Which columns a job trains on, what they cost in width, and what its owner should know about them."""

from collections.abc import Iterable

from service.domain.datasets import TRAINABLE_KINDS, Column, ColumnKind, Dataset
from service.domain.encoders import DAY_PARTS, TIME_PARTS
from service.domain.errors import Violation
from service.domain.spec import PreparationSpec
from service.domain.training_spec import TrainingSpec
from service.domain.wording import listed, shown

PARTS_OF_A_DATE = len(DAY_PARTS) + len(TIME_PARTS)
MAX_LISTED = 20


def choose(
    names: tuple[str, ...] | None,
    dataset: Dataset,
    target: Column | None,
    training: TrainingSpec,
    found: list[Violation],
) -> list[Column]:
    """Return the columns to train on: those named, or every trainable one beside the target.

    Every name that cannot be used is added to ``found``.
    """
    taken = _taken(target, training)
    if names is not None:
        return _named(names, dataset, taken, found)
    usable = [
        column
        for column in dataset.columns
        if encoded_as(column) == column.kind and column.name not in taken and column.unique != 0
    ]
    if not usable:
        detail = f"{dataset.name} has no {', '.join(TRAINABLE_KINDS)} column beside the target; kinds can be set: {HOW}"
        found.append(Violation("#/features", detail))
    return usable


def _taken(target: Column | None, training: TrainingSpec) -> dict[str, str]:
    """Return what other use a column has that keeps it from being a feature, by its name."""
    taken = {}
    if training.sample_weight_column:
        taken[training.sample_weight_column] = "is the sample weight column"
    if training.split_column and training.split in ("column", "group"):
        taken[training.split_column] = "is the split column"
    if target:
        taken[target.name] = "is the target"
    return taken


HOW = 'PATCH /datasets/{id} {"kinds": {"name": "categorical"}}'
"""How a user changes what a column is taken for."""


def encoded_as(column: Column) -> ColumnKind | None:
    """Return the kind of encoder that a column takes; a number that looks like an id is taken where it is named."""
    if column.kind == "id" and column.stored == "number":
        return "numeric"
    return column.kind if column.kind in TRAINABLE_KINDS else None


def encoded_width(columns: Iterable[Column], preparation: PreparationSpec) -> int:
    """Return how many numbers a row has at most once it is encoded."""
    return sum(_width(column, preparation) for column in columns)


def warnings(
    dataset: Dataset, features: list[Column], target: Column, training: TrainingSpec, *, named: bool
) -> list[str]:
    """Say in plain words what is left out and what looks wrong."""
    found = []
    chosen = {column.name for column in features}
    used = chosen | {target.name, training.split_column, training.sample_weight_column}
    left_out = [column for column in dataset.columns if column.name not in used]
    if left_out and not named:
        listed = ", ".join(f"{shown(column.name)} ({column.kind})" for column in left_out[:MAX_LISTED])
        more = f" and {len(left_out) - MAX_LISTED} more" if len(left_out) > MAX_LISTED else ""
        found.append(f"left out of the features: {listed}{more}; to take one, set its kind: {HOW}")
    if target.missing:
        found.append(f"{target.missing} row(s) have no target and are left out")
    constant = [shown(column.name) for column in features if column.unique == 1 and not column.missing]
    if constant:
        found.append(f"always the same, so nothing can be learned from: {', '.join(constant[:MAX_LISTED])}")
    for pair in dataset.report.related:
        other = {pair.first: pair.second, pair.second: pair.first}.get(target.name)
        if other in chosen:
            how = {"equal": "is equal to", "correlated": f"correlates by {pair.strength:.4f} with"}
            said = how.get(pair.how, "stands for the same classes as")
            found.append(
                f"feature {shown(other)} {said} the target {shown(target.name)}: is it known when you predict? "
                "If not, list the features without it"
            )
    return found


def _named(names: tuple[str, ...], dataset: Dataset, taken: dict[str, str], found: list[Violation]) -> list[Column]:
    columns = {column.name: column for column in dataset.columns}
    known = names_of(dataset)
    usable: list[Column] = []
    seen: set[str] = set()
    for position, name in enumerate(names):
        column = columns.get(name)
        if column is None:
            problem = f"{shown(name)} is no column of {dataset.name}; its columns are {known}"
        elif name in seen:
            problem = f"{shown(name)} is listed twice"
        elif name in taken:
            problem = f"{shown(name)} {taken[name]} and cannot be a feature too"
        elif encoded_as(column) is None:
            problem = (
                f"{shown(name)} is a {column.kind} column; features must be {', '.join(TRAINABLE_KINDS)}. "
                f"Leave it out, or set its kind: {HOW}"
            )
        elif column.unique == 0:
            problem = f"{shown(name)} has no cells at all; leave it out"
        else:
            usable.append(column)
            seen.add(name)
            continue
        seen.add(name)
        found.append(Violation(f"#/features/{position}", problem))
        if len(found) >= MAX_LISTED:
            break
    return usable


def names_of(dataset: Dataset) -> str:
    """Return the names of a data set's columns, the first of them where there are many."""
    return listed([column.name for column in dataset.columns], MAX_LISTED)


def _width(column: Column, preparation: PreparationSpec) -> int:
    gaps = 1 if column.missing else 0
    match encoded_as(column):
        case "categorical":
            unique = column.unique or preparation.max_categories
            return min(unique, preparation.max_categories + 1) + gaps
        case "date":
            return PARTS_OF_A_DATE + gaps
        case _:
            return 1 + gaps
