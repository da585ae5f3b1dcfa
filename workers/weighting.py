"""How much each row counts: sample weights of a column, and weights of the classes in the training loss."""

import numpy as np
from numpy.typing import NDArray

from service.domain.models import ClassLabel
from service.domain.table import Table
from service.domain.training_errors import UnusableClassWeights, UnusableSampleWeights
from service.domain.training_spec import ClassWeights, TrainingSpec
from service.domain.weighting import class_label_text, unknown_classes
from workers.splits import Split

Weights = NDArray[np.float32]


def of_rows(
    training: TrainingSpec, table: Table, target: NDArray[np.generic], classes: tuple[ClassLabel, ...], split: Split
) -> tuple[Weights, Weights]:
    """Return what every row of the table counts in the loss, and in the metrics.

    Sample weights count in both, class weights in the training loss only. They are scaled to mean 1 over each part:
    what is asked is how much rows count against each other, not a longer step.

    Raises:
        UnusableClassWeights: a weight is given to something that is no class.
        UnusableSampleWeights: they are no numbers from 0, or give a whole part no weight.
    """
    for_metrics = np.ones(table.rows)
    if training.sample_weight_column is not None:
        for_metrics = table.columns[training.sample_weight_column].astype(np.float64)
        for part in ("training", "validation", "test"):
            rows = getattr(split, part)
            if len(rows):
                for_metrics[rows] = _scaled(for_metrics[rows], part)
    for_loss = for_metrics.copy()
    if classes and training.class_weights is not None:
        members, counted = target[split.training].astype(np.int64), for_metrics[split.training]
        weights = _class_weights(training.class_weights, members, counted, classes)[members]
        for_loss[split.training] *= weights / np.average(weights, weights=counted)
    return for_loss.astype(np.float32), for_metrics.astype(np.float32)


def _scaled(weights: NDArray[np.float64], part: str) -> NDArray[np.float64]:
    """Scale the weights of a part to mean 1; by the largest first, for sums of very large ones overflow."""
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise UnusableSampleWeights("holds a gap, a negative number or one that is not finite")
    largest = np.max(weights)
    if largest == 0:
        raise UnusableSampleWeights(f"gives no {part} row any weight")
    shares = weights / largest
    return shares / np.mean(shares)


def _class_weights(
    asked: ClassWeights, members: NDArray[np.int64], counted: NDArray[np.float64], classes: tuple[ClassLabel, ...]
) -> NDArray[np.float64]:
    """Return a weight for each class; balanced ones are 1 over what its rows count together."""
    if asked == "balanced":
        mass = np.bincount(members, counted, len(classes))
        return 1.0 / np.where(mass > 0, mass, 1.0)
    assert isinstance(asked, dict)
    names = [class_label_text(label) for label in classes]
    if unknown := unknown_classes(asked, names):
        raise UnusableClassWeights(unknown[0], names)
    return np.array([asked.get(name, 1.0) for name in names])
