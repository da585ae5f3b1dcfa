"""What the metrics of a training are called in pictures; it draws nothing, so that it is known without matplotlib."""

from collections.abc import Iterable, Sequence

from service.domain.jobs import EpochRecord

LABELS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "f1": "macro F1",
    "auc": "area under ROC curve",
    "mae": "mean absolute error (target's units)",
    "rmse": "RMSE (target's units)",
    "r2": "R²",
}
MAIN = ("loss", "accuracy", "mae")
"""What tells most: the loss, and beside it one of a classification, or of a regression."""


def plain(metric: str) -> str:
    """Return a metric without the part of the rows that it was measured on."""
    return metric.removeprefix("val_").removeprefix("test_")


def known_metrics(runs: Iterable[Sequence[EpochRecord]]) -> list[str]:
    """Return what the first epoch of each run measured, without the names of parts."""
    names = (plain(name) for run in runs for record in run[:1] for name in record.metrics)
    return [name for name in dict.fromkeys(names) if not name.endswith("_not_finite")]
