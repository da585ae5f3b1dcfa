"""What the metrics of a training are called in pictures; it draws nothing, so that it is known without matplotlib."""

from collections.abc import Iterable, Sequence

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


def known_metrics(measured: Iterable[str]) -> list[str]:
    """Return the metrics among what epochs have measured, without the names of parts."""
    return [name for name in dict.fromkeys(map(plain, measured)) if not name.endswith("_not_finite")]


def chosen_metrics(known: Sequence[str], metric: str | None) -> list[str]:
    """Return what to draw of the metrics that are known: the one that is named, else what tells most."""
    if metric is None:
        return [name for name in MAIN if name in known]
    return [plain(metric)] if plain(metric) in known else []


def parts(metrics: Iterable[str]) -> list[str]:
    """Return metrics as epochs have them: of the training rows and of the validation rows."""
    return [part + name for name in metrics for part in ("", "val_")]
