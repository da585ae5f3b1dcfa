"""How much classes and rows count: whether what is asked fits the data set; where that is unknown, a worker checks."""

from collections.abc import Iterator, Sequence

from service.domain.datasets import MAX_CELL_LENGTH, Column, Dataset
from service.domain.errors import Violation
from service.domain.models import ClassLabel
from service.domain.spec import Task
from service.domain.training_spec import TrainingSpec
from service.domain.wording import listed, pointer_step, shown

MAX_LISTED = 20
MAX_EXACT = 2**53
"""Beyond it float64 cannot hold every whole number."""


def class_label_text(label: ClassLabel) -> str:
    """Return the key of a class in ``class_weights``: the label as JSON writes it, text without quotes.

    A whole number reads the same whether it is stored as an integer or as a float: a column with gaps holds floats.
    """
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer() and abs(label) <= MAX_EXACT:
        return str(int(label))
    return str(label)


def known_classes(target: Column) -> tuple[str, ...] | None:
    """Return the text of every class where the data set knows them all, else None."""
    cells = [cell for cell, _ in target.top if cell is not None]
    is_cut = any(isinstance(cell, str) and len(cell) >= MAX_CELL_LENGTH for cell in cells)
    if not cells or is_cut or len(cells) != target.unique:
        return None
    return tuple(map(class_label_text, cells))


def unknown_classes(weights: dict[str, float], classes: Sequence[str]) -> list[str]:
    """Return the names in ``class_weights`` that are no class, in their order."""
    known = set(classes)
    return [name for name in weights if name not in known]


def weighting_violations(training: TrainingSpec, task: Task, dataset: Dataset, target: Column) -> list[Violation]:
    """Name what does not fit the task or the data set; ``training`` has its split written out."""
    return [*_label_violations(training, task, target), *_sample_weight_violations(training, dataset, target)]


def _label_violations(training: TrainingSpec, task: Task, target: Column) -> Iterator[Violation]:
    if task == "regression":
        if training.label_smoothing > 0:
            detail = f"{training.label_smoothing:g} is for classifications; a regression has no labels. Leave it out"
            yield Violation("#/training/label_smoothing", detail)
        if training.class_weights is not None:
            detail = "is for classifications; a regression has no classes. Leave it out, or take sample_weight_column"
            yield Violation("#/training/class_weights", detail)
        return
    classes = known_classes(target)
    if classes is None or not isinstance(training.class_weights, dict):
        return
    for name in unknown_classes(training.class_weights, classes)[:MAX_LISTED]:
        detail = f"{shown(name)} is no class of {shown(target.name)}; its classes are {listed(classes, MAX_LISTED)}"
        yield Violation(f"#/training/class_weights/{pointer_step(name)}", detail)


def _sample_weight_violations(training: TrainingSpec, dataset: Dataset, target: Column) -> Iterator[Violation]:
    name = training.sample_weight_column
    if name is None:
        return
    column = dataset.column(name)
    if column is None:
        names = listed([known.name for known in dataset.columns], MAX_LISTED)
        problem: str | None = f"is no column of {dataset.name}; its columns are {names}"
    elif name == target.name:
        problem = "is the target; name another column"
    elif name == training.split_column:
        problem = "is the split column; name another column"
    else:
        problem = _unusable(column)
    if problem:
        yield Violation("#/training/sample_weight_column", f"{shown(name)} {problem}")


def _unusable(column: Column) -> str | None:
    """Say why the cells of a column cannot be weights, as far as they are known."""
    if column.stored != "number":
        return f"is stored as {column.stored}; weights must be numbers. Name a numeric column"
    if column.missing:
        return f"has {column.missing} missing cell(s); every row must have a weight. Fill them, or name another column"
    if isinstance(column.min, int | float) and column.min < 0:
        return f"has negative cells, down to {column.min:g}; weights must be 0 or more. Name another column"
    if isinstance(column.max, int | float) and column.max <= 0:
        return "is 0 in every row; some rows must count. Name another column"
    return None
