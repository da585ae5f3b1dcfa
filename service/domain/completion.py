"""Complete a spec from its data set: every default written out, every misfit named at once."""

import re
from dataclasses import dataclass

from service.domain.bounds import shown
from service.domain.datasets import Column, Dataset
from service.domain.errors import InvalidSpec, Violation
from service.domain.limits import Estimate, Limits, estimate, violations
from service.domain.spec import JobSpec, NetworkSpec, Task, TrainingSpec

MAX_CLASSES_GUESSED = 20
"""An integer target with more values than this is taken as a quantity."""
MAX_CLASSES = 10_000

DEFAULT_LEARNING_RATES = {"adamw": 5e-4, "adam": 1e-3, "nadam": 7e-4, "sgd": 1e-2}
DEFAULT_DROPOUT: dict[Task, float] = {"classification": 0.05, "regression": 0.0}
DEFAULT_WEIGHT_DECAY = {"adamw": 0.01, "adam": 0.0, "nadam": 0.0, "sgd": 0.0}

CLASSIFICATION_MONITORS = ("val_loss", "val_accuracy", "val_f1", "val_auc")
REGRESSION_MONITORS = ("val_loss", "val_mae", "val_rmse", "val_r2")


@dataclass(frozen=True, slots=True)
class CompletedSpec:
    """A spec with nothing left open, and what it will cost."""

    spec: JobSpec
    cost: Estimate


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How many rows train, validate and test."""

    training: int
    validation: int
    test: int


def part_sizes(dataset: Dataset, training: TrainingSpec) -> PartSizes:
    """Divide the rows; without a ``test_fraction`` the official test rows are the test part."""
    if training.test_fraction is None:
        test = dataset.official_test_rows
    else:
        test = round(dataset.rows * training.test_fraction)
    validation = round((dataset.rows - test) * training.validation_fraction)
    return PartSizes(dataset.rows - test - validation, validation, test)


def complete_spec(spec: JobSpec, dataset: Dataset, limits: Limits) -> CompletedSpec:
    """Write out every default.

    Raises:
        InvalidSpec: columns, parts or costs do not fit; names every violation at once.
    """
    found: list[Violation] = []
    target = _target(spec, dataset, found)
    features = _features(spec, dataset, target, found)
    task = spec.task or (_guess_task(target) if target else "regression")
    if target:
        found += _target_violations(target, task)
    training = _complete_training(spec.training)
    sizes = part_sizes(dataset, training)
    found += _training_violations(training, task, sizes, classes=target.unique if target else None)
    if found:
        raise InvalidSpec(found)
    assert target is not None
    completed = spec.model_copy(
        update={
            "target": target.name,
            "features": features,
            "task": task,
            "network": _complete_network(spec.network, task),
            "training": training,
            "model": spec.model or _model_name(dataset.name),
        }
    )
    outputs = (target.unique or 2) if task == "classification" else 1
    cost = estimate(completed, rows=dataset.rows, training_rows=sizes.training, outputs=outputs)
    if too_much := violations(cost, limits):
        raise InvalidSpec(too_much)
    return CompletedSpec(completed, cost)


def _target(spec: JobSpec, dataset: Dataset, found: list[Violation]) -> Column | None:
    name = spec.target or dataset.default_target
    if name is None:
        found.append(Violation("#/target", f"is needed: name the column to predict, one of {_listed(dataset)}"))
        return None
    target = dataset.column(name)
    if target is None:
        found.append(
            Violation("#/target", f"{shown(name)} is no column of {dataset.name}; its columns are {_listed(dataset)}")
        )
    return target


def _features(spec: JobSpec, dataset: Dataset, target: Column | None, found: list[Violation]) -> tuple[str, ...]:
    if spec.features is None:
        usable = [column for column in dataset.columns if column.kind in ("numeric", "boolean") and column != target]
        if not usable:
            found.append(Violation("#/features", f"{dataset.name} has no numeric column beside the target"))
    else:
        usable = _named_features(spec.features, dataset, target, found)
    found += [
        Violation(
            "#/features",
            f"column {shown(column.name)} has {column.missing} missing cell(s), and this service trains on complete "
            "columns; fill the gaps, or list the features without it",
        )
        for column in usable
        if column.missing
    ]
    return tuple(column.name for column in usable)


def _named_features(
    names: tuple[str, ...], dataset: Dataset, target: Column | None, found: list[Violation]
) -> list[Column]:
    columns = {column.name: column for column in dataset.columns}
    usable: list[Column] = []
    seen: set[str] = set()
    for position, name in enumerate(names):
        column = columns.get(name)
        if column is None:
            problem = f"{shown(name)} is no column of {dataset.name}; its columns are {_listed(dataset)}"
        elif name in seen:
            problem = f"{shown(name)} is listed twice"
        elif target is not None and name == target.name:
            problem = f"{shown(name)} is the target and cannot be a feature too"
        elif column.kind not in ("numeric", "boolean"):
            problem = f"{shown(name)} is a {column.kind} column; features must be numeric or boolean"
        else:
            usable.append(column)
            seen.add(name)
            continue
        seen.add(name)
        found.append(Violation(f"#/features/{position}", problem))
    return usable


def _guess_task(target: Column) -> Task:
    few = target.unique is not None and target.unique <= MAX_CLASSES_GUESSED
    if target.kind != "numeric" or (target.is_integer and few):
        return "classification"
    return "regression"


def _target_violations(target: Column, task: Task) -> list[Violation]:
    if target.missing:
        return [
            Violation(
                "#/target",
                f"column {shown(target.name)} has {target.missing} missing cell(s); every row needs a target",
            )
        ]
    if target.unique == 1:
        return [Violation("#/target", f"column {shown(target.name)} has one value only; there is nothing to learn")]
    if task == "regression" and target.kind != "numeric":
        return [
            Violation("#/task", f"a regression needs a numeric target; {shown(target.name)} is a {target.kind} column")
        ]
    if task == "classification" and (target.unique or 0) > MAX_CLASSES:
        return [
            Violation(
                "#/task",
                f"column {shown(target.name)} has {target.unique:,} values; "
                f"a classification takes at most {MAX_CLASSES:,}",
            )
        ]
    return []


def _training_violations(training: TrainingSpec, task: Task, sizes: PartSizes, classes: int | None) -> list[Violation]:
    found = []
    if sizes.training < 2:
        found.append(Violation("#/training", f"leaves {sizes.training} row(s) to train on; at least 2 are needed"))
    if training.validation_fraction > 0 and sizes.validation == 0:
        found.append(
            Violation(
                "#/training/validation_fraction",
                f"{training.validation_fraction:g} of the rows outside the test part is no row; "
                "take a larger fraction, or 0 to train without validation",
            )
        )
    if training.test_fraction is not None and training.test_fraction > 0 and sizes.test == 0:
        found.append(
            Violation(
                "#/training/test_fraction", f"{training.test_fraction:g} of the rows is no row; take a larger one, or 0"
            )
        )
    allowed = CLASSIFICATION_MONITORS if task == "classification" else REGRESSION_MONITORS
    if training.monitor not in allowed:
        found.append(
            Violation(
                "#/training/monitor", f"{training.monitor!r} is no metric of a {task}; allowed are {', '.join(allowed)}"
            )
        )
    if training.monitor == "val_auc" and task == "classification" and classes != 2:
        found.append(Violation("#/training/monitor", f"'val_auc' is for two classes; the target has {classes}"))
    return found


def _complete_network(network: NetworkSpec, task: Task) -> NetworkSpec:
    default_dropout = DEFAULT_DROPOUT[task] if network.kind == "snn" else 0.0
    return network.model_copy(
        update={
            "hidden_layers": len(network.widths),
            "dropout": default_dropout if network.dropout is None else network.dropout,
        }
    )


def _complete_training(training: TrainingSpec) -> TrainingSpec:
    chosen = {
        # Without validation rows nothing says whether an epoch was better, so nothing can stop early.
        "early_stopping": training.early_stopping if training.validation_fraction > 0 else None,
        "learning_rate": training.learning_rate or DEFAULT_LEARNING_RATES[training.optimizer],
        "weight_decay": (
            DEFAULT_WEIGHT_DECAY[training.optimizer] if training.weight_decay is None else training.weight_decay
        ),
    }
    return training.model_copy(update=chosen)


def _model_name(dataset_name: str) -> str:
    """Make a model name of a data set's: what the format does not allow becomes a hyphen."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset_name).lstrip(".-_")[:100]
    return name or "model"


def _listed(dataset: Dataset, most: int = 20) -> str:
    names = [shown(column.name) for column in dataset.columns]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
