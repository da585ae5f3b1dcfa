"""What follows from the epochs so far; no TensorFlow is needed for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.jobs import EpochRecord, Measure
from service.domain.training_spec import TrainingSpec
from workers.history import History


def record(epoch: int, monitor: str, value: Measure) -> EpochRecord:
    return EpochRecord(epoch, {"loss": 1.0, monitor: value}, 0.01, 1.0)


def training(**fields: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({"learning_rate": 0.01, "early_stopping": None, **fields})


def follow(spec: TrainingSpec, *values: Measure) -> list[History]:
    """The history after each epoch."""
    records = [record(epoch, spec.monitor, value) for epoch, value in enumerate(values, 1)]
    return [History(spec, records[:epoch]) for epoch in range(1, len(records) + 1)]


def best_epochs(spec: TrainingSpec, *values: Measure) -> list[int]:
    return [history.best_epoch for history in follow(spec, *values)]


def stops(spec: TrainingSpec, *values: Measure) -> list[bool]:
    return [history.should_stop for history in follow(spec, *values)]


def fractions(spec: TrainingSpec, *values: Measure) -> list[float]:
    return [history.plateau_fraction for history in follow(spec, *values)]


def stopping(patience: int, min_delta: float = 0.0, **fields: Any) -> TrainingSpec:
    return training(early_stopping={"patience": patience, "min_delta": min_delta}, **fields)


def plateau(patience: int, factor: float = 0.5, **fields: Any) -> TrainingSpec:
    return training(schedule={"kind": "plateau", "patience": patience, "factor": factor, **fields})


def test_nothing_follows_from_no_epoch() -> None:
    history = History(stopping(1))
    assert (history.records, history.best_epoch, history.should_stop, history.plateau_fraction) == ([], 0, False, 1.0)


@pytest.mark.parametrize("monitor", ["val_loss", "val_mae", "val_rmse"])
def test_lowest_error_is_best(monitor: str) -> None:
    assert best_epochs(training(monitor=monitor), 1.0, 0.8, 0.9, 0.7, 0.75) == [1, 2, 2, 4, 4]


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_f1", "val_auc", "val_r2"])
def test_highest_score_is_best(monitor: str) -> None:
    assert best_epochs(training(monitor=monitor), -0.5, 0.5, 0.4, 0.6, 0.6) == [1, 2, 2, 4, 4]


def test_first_of_equal_epochs_is_best() -> None:
    assert best_epochs(training(), 0.5, 0.5, 0.5) == [1, 1, 1]


def test_any_improvement_makes_an_epoch_the_best() -> None:
    """Whatever ``min_delta`` says: it decides about the end only."""
    assert best_epochs(stopping(5, 0.1), 0.5, 0.499, 0.498) == [1, 2, 3]


def test_last_epoch_is_best_without_a_monitor() -> None:
    histories = [
        History(stopping(1), [EpochRecord(epoch, {"loss": 1.0 / epoch}, 0.01, 1.0) for epoch in range(1, count + 1)])
        for count in (1, 2, 3)
    ]
    assert [history.best_epoch for history in histories] == [1, 2, 3]


def test_measure_that_is_not_finite_is_never_best() -> None:
    """A measure that is not finite is stored as None."""
    assert best_epochs(training(monitor="val_r2"), None, None, -3.0, None, -2.0) == [0, 0, 3, 3, 5]


def test_training_stops_after_patience_epochs_without_improvement() -> None:
    assert stops(stopping(2), 1.0, 0.9, 0.95, 0.91, 0.8) == [False, False, False, True, False]


def test_patience_begins_anew_with_every_improvement() -> None:
    assert not any(stops(stopping(2), 1.0, 1.1, 0.9, 1.1, 0.8, 1.1, 0.7))


def test_measures_that_are_not_finite_are_no_improvement() -> None:
    assert stops(stopping(2), 1.0, None, None) == [False, False, True]
    assert stops(stopping(2), None, None) == [False, True]


def test_improvements_below_min_delta_do_not_count() -> None:
    assert stops(stopping(3, 0.1), *(1.0 - epoch * 1e-4 for epoch in range(1, 5))) == [False, False, False, True]
    assert not any(stops(stopping(3, 0.1), *(1.0 - epoch * 0.11 for epoch in range(1, 9))))


def test_small_improvements_count_together() -> None:
    """They are measured against the last one that counted, not against the last epoch."""
    assert not any(stops(stopping(3, 0.1), 1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76))


def test_score_that_no_longer_rises_by_min_delta_ends_the_training() -> None:
    """What the removed ``test_best_epoch_follows_the_monitor`` said."""
    spec = stopping(2, 0.05, monitor="val_accuracy")
    values = (0.5, 0.52, 0.4, None)
    assert best_epochs(spec, *values) == [1, 2, 2, 2]
    assert stops(spec, *values) == [False, False, True, True]


def test_training_without_a_rule_never_stops() -> None:
    assert not any(stops(training(), *[1.0] * 1000))


def test_plateau_lowers_after_patience_epochs_and_again() -> None:
    assert fractions(plateau(2), 1.0, 1.0, 1.0, 1.0, 1.0) == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_plateau_waits_anew_after_an_improvement() -> None:
    assert fractions(plateau(2), 1.0, 1.1, 0.9, 1.1, 1.2, 0.8, 0.9, 0.9) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_plateau_never_raises_the_learning_rate_again() -> None:
    assert fractions(plateau(1), 1.0, 1.0, 0.5, 0.4) == [1.0, 0.5, 0.5, 0.5]


def test_plateau_stops_at_its_lowest_fraction() -> None:
    spec = plateau(1, factor=0.1, min_fraction=0.05)
    assert fractions(spec, 1.0, 1.0, 1.0, 1.0) == [1.0, 0.1, 0.05, 0.05]


def test_plateau_of_min_fraction_one_lowers_nothing() -> None:
    assert fractions(plateau(1, min_fraction=1.0), 1.0, 1.0, 1.0) == [1.0, 1.0, 1.0]


def test_plateau_goes_by_its_own_min_delta() -> None:
    assert fractions(plateau(1, min_delta=0.2), 1.0, 0.9, 0.75, 0.7) == [1.0, 0.5, 0.5, 0.25]


def test_plateau_follows_a_score_upwards() -> None:
    spec = plateau(1).model_copy(update={"monitor": "val_accuracy"})
    assert fractions(spec, 0.5, 0.6, 0.6, 0.7) == [1.0, 1.0, 0.5, 0.5]


def test_plateau_takes_measures_that_are_not_finite_as_no_improvement() -> None:
    assert fractions(plateau(1), 1.0, None, None) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_other_schedules_have_no_plateau(kind: str) -> None:
    assert fractions(training(schedule={"kind": kind}), 1.0, 1.0, 1.0) == [1.0, 1.0, 1.0]


@given(
    values=st.lists(st.none() | st.floats(-2, 2), min_size=1, max_size=30),
    place=st.integers(0, 30),
    monitor=st.sampled_from(["val_loss", "val_accuracy"]),
    patience=st.integers(1, 4),
    min_delta=st.sampled_from([0.0, 0.3]),
)
def test_continued_history_decides_as_an_uninterrupted_one(
    values: list[float | None], place: int, monitor: str, patience: int, min_delta: float
) -> None:
    spec = stopping(
        patience, min_delta, monitor=monitor, schedule={"kind": "plateau", "patience": patience, "min_delta": min_delta}
    )
    records = [record(epoch, monitor, value) for epoch, value in enumerate(values, 1)]
    whole = History(spec)
    for each in records:
        whole.add(each)
    continued = History(spec, History(spec, records[:place]).records)
    for each in records[place:]:
        continued.add(each)
    for said in ("records", "best_epoch", "should_stop", "plateau_fraction"):
        assert getattr(whole, said) == getattr(continued, said)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=30))
def test_best_epoch_is_the_first_of_the_lowest(values: list[float]) -> None:
    assert 1 + values.index(min(values)) == follow(training(), *values)[-1].best_epoch
