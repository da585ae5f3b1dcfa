"""Complete a spec from its data set: every default written out, every misfit named at once."""

import re
from dataclasses import dataclass

from service.domain import features, input_facts
from service.domain.datasets import Column, Dataset
from service.domain.errors import InvalidSpec, Violation
from service.domain.findings import Finding, InputFacts
from service.domain.limits import Estimate, Limits, estimate, violations
from service.domain.lint import lint, suggested_spec
from service.domain.spec import JobSpec, NetworkSpec, Task
from service.domain.splits import complete_split, expected_sizes
from service.domain.training_completion import complete_training, training_violations
from service.domain.training_spec import MAX_CLASSES
from service.domain.weighting import weighting_violations
from service.domain.wording import shown

MAX_CLASSES_GUESSED = 20
"""An integer target with more values than this is taken as a quantity."""

DEFAULT_DROPOUT: dict[Task, float] = {"classification": 0.05, "regression": 0.0}


@dataclass(frozen=True, slots=True)
class CompletedSpec:
    """A spec with nothing left open, and what it will cost."""

    spec: JobSpec
    cost: Estimate
    warnings: tuple[str, ...] = ()
    """What was left out or looks wrong, in plain words."""
    inputs: InputFacts | None = None
    """What is known of the inputs ..."""
    findings: tuple[Finding, ...] = ()
    """... and whether the network can normalize itself on them, rule by rule."""
    classes: int | None = None
    """None for a regression."""

    @property
    def suggested(self) -> JobSpec | None:
        """The spec as the lint would have it; None where that is the spec."""
        return None if self.inputs is None else suggested_spec(self.spec, self.inputs, self.classes)


def complete_spec(spec: JobSpec, dataset: Dataset, limits: Limits) -> CompletedSpec:
    """Write out every default.

    Raises:
        InvalidSpec: columns, parts or costs do not fit; names every violation at once.
    """
    found: list[Violation] = []
    target = _target(spec, dataset, found)
    if target is None:
        raise InvalidSpec(found)  # all else depends on it
    task = spec.task or _guess_task(target)
    found += _target_violations(target, task, dataset.rows)
    divided = complete_split(spec, dataset, task, found)
    sizes = expected_sizes(dataset, divided, target)
    training = complete_training(divided, sizes)
    columns = features.choose(spec.features, dataset, target, training, found)
    found += training_violations(training, task, sizes, classes=target.unique)
    found += weighting_violations(training, task, dataset, target)
    if found:
        raise InvalidSpec(found)
    completed = spec.model_copy(
        update={
            "target": target.name,
            "features": tuple(column.name for column in columns),
            "task": task,
            "network": _complete_network(spec.network, task),
            "training": training,
            "model": spec.model or _model_name(dataset.name),
        }
    )
    outputs = (target.unique or 2) if task == "classification" else 1
    width = features.encoded_width(columns, spec.preparation)
    cost = estimate(completed, inputs=width, rows=dataset.rows, training_rows=sizes.training, outputs=outputs)
    if too_much := violations(cost, limits):
        raise InvalidSpec(too_much)
    said = features.warnings(dataset, columns, target, training, named=spec.features is not None)
    classes = outputs if task == "classification" else None
    inputs = input_facts.described(completed, dataset)
    return CompletedSpec(completed, cost, tuple(said), inputs, tuple(lint(completed, inputs, classes)), classes)


def _target(spec: JobSpec, dataset: Dataset, found: list[Violation]) -> Column | None:
    name = spec.target or dataset.default_target
    if name is None:
        found.append(
            Violation("#/target", f"is needed: name the column to predict, one of {features.names_of(dataset)}")
        )
        return None
    target = dataset.column(name)
    if target is None:
        detail = f"{shown(name)} is no column of {dataset.name}; its columns are {features.names_of(dataset)}"
        found.append(Violation("#/target", detail))
    return target


def _guess_task(target: Column) -> Task:
    few = target.unique is not None and target.unique <= MAX_CLASSES_GUESSED
    is_number = target.stored == "number" and target.kind in ("numeric", "id")
    return "regression" if is_number and not (target.is_integer and few) else "classification"


def _target_violations(target: Column, task: Task, rows: int) -> list[Violation]:
    name = shown(target.name)
    if target.missing is not None and target.missing >= rows:
        return [Violation("#/target", f"column {name} has no cells at all; there is nothing to learn")]
    if target.unique == 1:
        return [Violation("#/target", f"column {name} has one value only; there is nothing to learn")]
    if target.kind == "date":
        return [Violation("#/target", f"column {name} holds dates; a target must be a number or a class")]
    if task == "regression" and target.stored != "number":
        return [Violation("#/task", f"a regression needs a numeric target; {name} is a {target.kind} column")]
    if task == "classification" and (target.unique or 0) > MAX_CLASSES:
        detail = f"column {name} has {target.unique:,} values; a classification takes at most {MAX_CLASSES:,}"
        return [Violation("#/task", detail)]
    return []


def _complete_network(network: NetworkSpec, task: Task) -> NetworkSpec:
    default_dropout = DEFAULT_DROPOUT[task] if network.kind == "snn" else 0.0
    return network.model_copy(
        update={
            "hidden_layers": len(network.widths),
            "dropout": default_dropout if network.dropout is None else network.dropout,
        }
    )


def _model_name(dataset_name: str) -> str:
    """Make a model name of a data set's: what the format does not allow becomes a hyphen."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset_name).lstrip(".-_")[:100]
    return name or "model"
