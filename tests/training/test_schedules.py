"""The learning rate of every step; no TensorFlow is needed for it."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.jobs import EpochRecord
from service.domain.training_spec import TrainingSpec
from workers.history import History
from workers.schedules import learning_rates

RATE = 0.02
STEPS = 10


def all_rates(epochs: int = 5, steps: int = STEPS, **schedule: Any) -> NDArray[np.float64]:
    """The rates of a whole training."""
    spec = TrainingSpec.model_validate({"learning_rate": RATE, "epochs": epochs, "schedule": schedule})
    return np.concatenate([learning_rates(spec, History(spec), epoch, steps) for epoch in range(1, epochs + 1)])


def test_constant_is_constant() -> None:
    np.testing.assert_array_equal(np.full(50, RATE), all_rates(kind="constant"))


def test_cosine_goes_from_all_to_nothing() -> None:
    rates = all_rates(kind="cosine")
    assert rates[0] == RATE
    assert rates[-1] == pytest.approx(0, abs=1e-15)
    assert (np.diff(rates) < 0).all()
    expected = [RATE * (1 + math.cos(math.pi * step / 49)) / 2 for step in range(50)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)


def test_cosine_has_half_left_in_the_middle() -> None:
    assert all_rates(epochs=1, steps=51, kind="cosine")[25] == pytest.approx(RATE / 2)


def test_cosine_ends_at_its_final_fraction() -> None:
    rates = all_rates(epochs=1, steps=51, kind="cosine", final_fraction=0.2)
    assert rates[0] == pytest.approx(RATE)
    assert rates[25] == pytest.approx(RATE * 0.6)
    assert rates[-1] == pytest.approx(RATE * 0.2)


def test_cosine_of_final_fraction_one_is_constant() -> None:
    np.testing.assert_allclose(all_rates(kind="cosine", final_fraction=1.0), RATE, rtol=1e-12)


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_warm_up_rises_linearly_and_reaches_the_rate(kind: str) -> None:
    """Half an epoch is five steps; the first one is not wasted on a rate of 0."""
    rates = all_rates(kind=kind, warmup_epochs=0.5)
    np.testing.assert_allclose(rates[:5], RATE * np.array([0.2, 0.4, 0.6, 0.8, 1.0]), rtol=1e-12)
    assert rates.max() == pytest.approx(RATE)


def test_cosine_begins_where_the_warm_up_ends() -> None:
    rates = all_rates(kind="cosine", warmup_epochs=2)
    np.testing.assert_allclose(rates[:20], RATE * np.arange(1, 21) / 20, rtol=1e-12)
    expected = [RATE * (1 + math.cos(math.pi * step / 29)) / 2 for step in range(30)]
    np.testing.assert_allclose(rates[20:], expected, rtol=1e-12, atol=1e-15)


def test_warm_up_that_ends_between_two_steps_never_exceeds_the_rate() -> None:
    rates = all_rates(kind="constant", warmup_epochs=0.25)
    np.testing.assert_allclose(rates[:4], RATE * np.array([0.4, 0.8, 1, 1]), rtol=1e-12)


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_warm_up_may_take_the_whole_training(kind: str) -> None:
    np.testing.assert_allclose(all_rates(kind=kind, warmup_epochs=5), RATE * np.arange(1, 51) / 50, rtol=1e-12)


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
@pytest.mark.parametrize("warmup_epochs", [0, 0.01, 1])
def test_training_of_one_step_takes_the_whole_rate(kind: str, warmup_epochs: float) -> None:
    np.testing.assert_allclose(all_rates(1, 1, kind=kind, warmup_epochs=warmup_epochs), [RATE], rtol=1e-12)


def test_plateau_multiplies_every_step_of_the_epochs_after_it() -> None:
    schedule = {"kind": "plateau", "patience": 1, "factor": 0.1, "warmup_epochs": 3}
    spec = TrainingSpec.model_validate({"learning_rate": RATE, "epochs": 5, "schedule": schedule})
    records = [EpochRecord(epoch, {"val_loss": 1.0}, RATE, 1.0) for epoch in (1, 2)]
    np.testing.assert_allclose(
        learning_rates(spec, History(spec, records), 3, STEPS), 0.1 * RATE * np.arange(21, 31) / 30, rtol=1e-12
    )
    np.testing.assert_allclose(
        learning_rates(spec, History(spec, records[:1]), 2, STEPS), RATE * np.arange(11, 21) / 30, rtol=1e-12
    )
