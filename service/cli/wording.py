"""How values are said in words: specs, measures, times, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.domain.spec import JobSpec, NetworkSpec
    from service.domain.training_spec import TrainingSpec

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
KIB = 1024
MOST_NAMES = 8
NOT_FINITE = "_not_finite"
"""The end of the name under which a measure that is no number is said; itself it is null."""
NO_METRICS = {"epoch", "learning_rate", "seconds"}
"""What stands beside the metrics of an epoch."""


def age(moment: datetime | None) -> str:
    """Say how long ago something was."""
    return "" if moment is None else f"{duration((datetime.now(UTC) - moment).total_seconds())} ago"


def duration(seconds: float) -> str:
    """Say how long something takes, in its largest unit and the one below."""
    for (unit, word), (smaller, smaller_word) in pairwise(UNITS):
        if seconds >= unit:
            whole, rest = divmod(int(seconds), unit)
            return f"{whole} {word} {rest // smaller} {smaller_word}" if rest >= smaller else f"{whole} {word}"
    return f"{max(seconds, 0):.0f} s"


def size(count: float) -> str:
    """Say how many bytes there are."""
    for unit in ("B", "KiB", "MiB"):
        if count < KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} GiB"


def measure(value: object) -> str:
    """Say a measured number, with as many figures as tell something."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def measures(values: Mapping[str, Any] | None) -> str:
    """Say what an epoch, or a part of the rows, measured, in one line."""
    named = [(name, value) for name, value in (values or {}).items() if name not in NO_METRICS and value is not None]
    return "  ".join(f"{name.removesuffix(NOT_FINITE)} {measure(value)}" for name, value in named)


def names(found: list[str] | tuple[str, ...]) -> str:
    """Say some names, and how many more there are."""
    rest = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def count(number: int, thing: str) -> str:
    """Say how many there are of a thing."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def network_words(network: NetworkSpec) -> str:
    """Say what a network is."""
    widths = network.widths
    layers = count(len(widths), "hidden layer")
    shape = f"{layers} of {widths[0]:,}" if len(set(widths)) == 1 else f"{layers}: {', '.join(map(str, widths))}"
    said = [network.kind, f"{shape} units"]
    if network.kind == "mlp":
        said += [network.activation, network.initializer]
        said += ["batch normalization"] if network.normalization else []
        said += [] if network.standardize else ["inputs as they are"]
    return ", ".join([*said, f"dropout {network.dropout:g}"] if network.dropout else said)


def training_words(training: TrainingSpec) -> str:
    """Say how a network is trained."""
    rate = "" if training.learning_rate is None else f", learning rate {training.learning_rate:g}"
    stopping = training.early_stopping
    return (
        f"{training.optimizer}{rate}, at most {count(training.epochs, 'epoch')}, batches of {training.batch_size}"
        + ("" if stopping is None else f", stops after {stopping.patience} without improvement")
        + f", seed {training.seed}"
    )


def question(spec: JobSpec) -> str:
    """Say what is learned from what."""
    said = f"{spec.task or 'learning'} of {spec.target}" if spec.target else str(spec.task)
    if spec.features is None:
        return said
    return f"{said} from {count(len(spec.features), 'column')}: {names(spec.features)}"
