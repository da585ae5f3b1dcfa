"""What follows from the epochs so far: the best of them, when to stop, and how far a plateau lowers the learning rate.

All of it is a fold over the records, so a training that is continued decides as one that was never interrupted.
"""

import math
from collections.abc import Iterable

from service.domain.jobs import EpochRecord
from service.domain.training_spec import PlateauSchedule, TrainingSpec

HIGHER_IS_BETTER = frozenset({"val_accuracy", "val_f1", "val_auc", "val_r2"})


class _Waiting:
    """Counts the epochs since the last improvement by more than ``min_delta``."""

    def __init__(self, min_delta: float) -> None:
        self.min_delta = min_delta
        self.level = math.inf
        self.epochs = 0

    def add(self, cost: float) -> int:
        """Take an epoch in; lower is better."""
        self.epochs += 1
        if cost < self.level - self.min_delta:
            self.level, self.epochs = cost, 0
        return self.epochs


class History:
    """The records of all finished epochs, and what follows from them."""

    def __init__(self, training: TrainingSpec, records: Iterable[EpochRecord] = ()) -> None:
        self.records: list[EpochRecord] = []
        self.best_epoch = 0
        """The epoch with the best monitor; without validation rows the last one; 0 while no value was finite."""
        self.plateau_fraction = 1.0
        """What part of the learning rate a plateau schedule has left."""
        self._lowest = math.inf
        self._monitor = training.monitor
        self._rule = training.early_stopping
        self._improvement = _Waiting(self._rule.min_delta if self._rule else 0.0)
        self._schedule = training.schedule if isinstance(training.schedule, PlateauSchedule) else None
        self._plateau = _Waiting(self._schedule.min_delta if self._schedule else 0.0)
        self._lowered_after = 0
        for record in records:
            self.add(record)

    @property
    def should_stop(self) -> bool:
        """Whether ``patience`` epochs have gone without an improvement by more than ``min_delta``."""
        return self._rule is not None and self._improvement.epochs >= self._rule.patience

    def add(self, record: EpochRecord) -> None:
        """Take the next epoch in."""
        self.records.append(record)
        value = record.metrics.get(self._monitor)
        sign = -1.0 if self._monitor in HIGHER_IS_BETTER else 1.0
        cost = sign * value if isinstance(value, float) else math.inf
        if cost < self._lowest or self._monitor not in record.metrics:
            self.best_epoch, self._lowest = record.epoch, cost
        if self._monitor in record.metrics:  # without validation rows nothing says that it no longer improves
            self._improvement.add(cost)
            self._follow_plateau(cost)

    def _follow_plateau(self, cost: float) -> None:
        """Lower the learning rate after every ``patience`` epochs without improvement."""
        if self._schedule is None:
            return
        waited = self._plateau.add(cost)
        self._lowered_after = min(self._lowered_after, waited)
        if waited - self._lowered_after >= self._schedule.patience:
            lower = self.plateau_fraction * self._schedule.factor
            self.plateau_fraction, self._lowered_after = max(lower, self._schedule.min_fraction), waited
