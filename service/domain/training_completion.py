"""Complete how a network is trained from its parts: defaults written out, every misfit named."""

from collections.abc import Iterator

from service.domain.errors import Violation
from service.domain.spec import Task
from service.domain.splits import PartSizes
from service.domain.training_spec import Monitor, Optimizer, PlateauSchedule, TrainingSpec

DEFAULT_LEARNING_RATES: dict[Optimizer, float] = {"adamw": 5e-4, "adam": 1e-3, "nadam": 7e-4, "sgd": 1e-2}
"""For batches of 32 rows."""
DEFAULT_WEIGHT_DECAY: dict[Optimizer, float] = {"adamw": 0.01, "adam": 0.0, "nadam": 0.0, "sgd": 0.0}
DEFAULT_MOMENTUM = 0.9

AUTO_BATCH_SIZES = (32, 64, 128, 256, 512)
AUTO_STEPS = 100
"""So many steps an epoch should have with the batch size "auto"."""

MONITORS: dict[Task, tuple[Monitor, ...]] = {
    "classification": ("val_loss", "val_accuracy", "val_f1", "val_auc"),
    "regression": ("val_loss", "val_mae", "val_rmse", "val_r2"),
}


def complete_training(training: TrainingSpec, sizes: PartSizes) -> TrainingSpec:
    """Write out the defaults that depend on the optimizer and on the sizes of the parts."""
    is_sgd = training.optimizer == "sgd"
    batch_size = auto_batch_size(sizes.training) if training.batch_size == "auto" else training.batch_size
    growth = batch_size / AUTO_BATCH_SIZES[0] if training.batch_size == "auto" else 1.0
    chosen = {
        # Without validation rows nothing says whether an epoch was better, so nothing can stop early.
        "early_stopping": training.early_stopping if sizes.validation else None,
        "batch_size": batch_size,
        "learning_rate": training.learning_rate or default_learning_rate(training.optimizer, growth),
        "momentum": DEFAULT_MOMENTUM if is_sgd and training.momentum is None else training.momentum,
        "weight_decay": (
            DEFAULT_WEIGHT_DECAY[training.optimizer] if training.weight_decay is None else training.weight_decay
        ),
    }
    return training.model_copy(update=chosen)


def auto_batch_size(training_rows: int) -> int:
    """Return the power of two, from 32 to 512, that comes nearest to a hundredth of the training rows."""
    return min(AUTO_BATCH_SIZES, key=lambda size: abs(size - training_rows / AUTO_STEPS))


def default_learning_rate(optimizer: Optimizer, growth: float) -> float:
    """Return the learning rate for batches so many times as large as those of 32 rows.

    A mean over more rows is less noisy: sgd can go so many times as far; steps of adam and its kin are scaled by the
    noise already, which falls with the square root.
    """
    return DEFAULT_LEARNING_RATES[optimizer] * (growth if optimizer == "sgd" else growth**0.5)


def training_violations(training: TrainingSpec, task: Task, sizes: PartSizes, classes: int | None) -> list[Violation]:
    """Name what does not fit the task, the parts or itself; ``classes`` is how many values the target has."""
    return [
        *_part_violations(training, sizes),
        *_monitor_violations(training, task, classes),
        *_optimizer_violations(training, sizes),
    ]


def _part_violations(training: TrainingSpec, sizes: PartSizes) -> Iterator[Violation]:
    if sizes.training < 2:
        yield Violation("#/training", f"leaves {sizes.training} row(s) to train on; at least 2 are needed")
    if training.validation_fraction > 0 and sizes.validation == 0:
        yield Violation(
            "#/training/validation_fraction",
            f"{training.validation_fraction:g} of the rows outside the test part is no row; "
            "take a larger fraction, or 0 to train without validation",
        )
    if training.test_fraction is not None and training.test_fraction > 0 and sizes.test == 0:
        detail = f"{training.test_fraction:g} of the rows is no row; take a larger one, or 0"
        yield Violation("#/training/test_fraction", detail)


def _monitor_violations(training: TrainingSpec, task: Task, classes: int | None) -> Iterator[Violation]:
    allowed = MONITORS[task]
    if training.monitor not in allowed:
        detail = f"{training.monitor!r} is no metric of a {task}; allowed are {', '.join(allowed)}"
        yield Violation("#/training/monitor", detail)
    if training.monitor == "val_auc" and task == "classification" and classes != 2:
        yield Violation("#/training/monitor", f"'val_auc' is for two classes; the target has {classes}")


def _optimizer_violations(training: TrainingSpec, sizes: PartSizes) -> Iterator[Violation]:
    if training.momentum is not None and training.optimizer != "sgd":
        detail = f"{training.momentum:g} is for sgd; {training.optimizer} has its own. Leave it out, or take sgd"
        yield Violation("#/training/momentum", detail)
    warmup = training.schedule.warmup_epochs
    if warmup > training.epochs:
        detail = f"{warmup:g} is longer than the training of {training.epochs} epoch(s); take fewer, or more epochs"
        yield Violation("#/training/schedule/warmup_epochs", detail)
    if isinstance(training.schedule, PlateauSchedule) and sizes.validation == 0:
        detail = (
            f"'plateau' follows {training.monitor} and there are no validation rows; "
            "take constant or cosine, or a validation_fraction above 0"
        )
        yield Violation("#/training/schedule", detail)
