"""The learning rate of every step of an epoch: a function of the spec, the epoch and the history."""

import numpy as np
from numpy.typing import NDArray

from service.domain.training_spec import CosineSchedule, TrainingSpec
from workers.history import History


def learning_rates(training: TrainingSpec, history: History, epoch: int, steps: int) -> NDArray[np.float64]:
    """Return a learning rate for each of an epoch's ``steps``; epochs count from 1, ``history`` ends before it."""
    assert training.learning_rate is not None
    schedule = training.schedule
    step = (epoch - 1) * steps + np.arange(steps)
    warm_up = schedule.warmup_epochs * steps
    rates = np.full(steps, training.learning_rate * history.plateau_fraction)
    if isinstance(schedule, CosineSchedule):
        last = training.epochs * steps - 1
        way = np.clip((step - warm_up) / max(last - warm_up, 1), 0, 1)
        rates *= schedule.final_fraction + (1 - schedule.final_fraction) * (1 + np.cos(np.pi * way)) / 2
    if warm_up > 0:
        rates *= np.minimum((step + 1) / warm_up, 1)
    return rates
