from math import sqrt
from typing import Any

import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import Column
from service.domain.errors import InvalidSpec
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.domain.training_completion import DEFAULT_LEARNING_RATES, auto_batch_size
from service.domain.training_spec import CosineSchedule, PlateauSchedule, TrainingSpec
from tests.factories import make_dataset, numeric


def complete(target: str = "y", rows: int = 100, **training: Any) -> TrainingSpec:
    label = Column("label", "categorical", "text", missing=0, unique=2, top=(("a", rows // 2), ("b", rows - rows // 2)))
    dataset = make_dataset(numeric("x"), numeric("y"), label, rows=rows)
    spec = JobSpec.model_validate({"dataset": "d1", "target": target, "features": ["x"], "training": training})
    completed = complete_spec(spec, dataset, Limits()).spec
    assert JobSpec.model_validate(completed.model_dump(mode="json")) == completed
    assert complete_spec(completed, dataset, Limits()).spec == completed
    return completed.training


def refusal(target: str = "y", **training: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        complete(target, **training)
    return {item.pointer: item.detail for item in caught.value.violations}


@pytest.mark.parametrize(
    ("asked", "momentum"),
    [
        ({"optimizer": "sgd"}, 0.9),
        ({"optimizer": "sgd", "momentum": 0}, 0.0),
        ({"optimizer": "sgd", "momentum": 0.5}, 0.5),
        ({"optimizer": "adam"}, None),
        ({"optimizer": "adamw"}, None),
        ({"optimizer": "nadam"}, None),
    ],
)
def test_momentum_is_of_sgd(asked: dict[str, Any], momentum: float | None) -> None:
    assert complete(**asked).momentum == momentum


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam"])
def test_momentum_of_another_optimizer_is_refused(optimizer: str) -> None:
    found = refusal(optimizer=optimizer, momentum=0)
    assert found == {
        "#/training/momentum": f"0 is for sgd; {optimizer} has its own. Leave it out, or take sgd",
    }


@pytest.mark.parametrize(
    ("training_rows", "batch_size"),
    [
        (2, 32),
        (3_200, 32),
        (4_800, 32),
        (4_801, 64),
        (9_600, 64),
        (9_601, 128),
        (12_800, 128),
        (38_400, 256),
        (38_401, 512),
        (10**7, 512),
    ],
)
def test_automatic_batch_is_near_a_hundredth_of_the_training_rows(training_rows: int, batch_size: int) -> None:
    assert auto_batch_size(training_rows) == batch_size


@pytest.mark.parametrize(
    ("optimizer", "growth"), [("adam", sqrt(8)), ("adamw", sqrt(8)), ("nadam", sqrt(8)), ("sgd", 8.0)]
)
def test_default_learning_rate_grows_with_an_automatic_batch(optimizer: Any, growth: float) -> None:
    rate = DEFAULT_LEARNING_RATES[optimizer]
    automatic = complete(rows=32_000, optimizer=optimizer, batch_size="auto")
    assert automatic.batch_size == 256
    assert automatic.learning_rate == pytest.approx(rate * growth)
    assert complete(rows=1_000, optimizer=optimizer, batch_size="auto").learning_rate == rate
    assert complete(rows=32_000, optimizer=optimizer, batch_size=256).learning_rate == rate
    assert complete(rows=32_000, optimizer=optimizer, batch_size="auto", learning_rate=0.3).learning_rate == 0.3


def test_automatic_batch_goes_by_the_training_rows_alone() -> None:
    assert complete(rows=6_000, batch_size="auto", validation_fraction=0).batch_size == 64
    assert complete(rows=6_000, batch_size="auto", validation_fraction=0.2).batch_size == 32


def test_schedules_stay_as_they_were_asked() -> None:
    assert complete(schedule={"kind": "cosine", "warmup_epochs": 5}).schedule == CosineSchedule(
        kind="cosine", warmup_epochs=5
    )
    assert isinstance(complete(schedule={"kind": "plateau"}).schedule, PlateauSchedule)
    assert complete(epochs=3, schedule={"kind": "constant", "warmup_epochs": 3}).schedule.warmup_epochs == 3


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_warm_up_longer_than_the_training_is_refused(kind: str) -> None:
    found = refusal(epochs=3, schedule={"kind": kind, "warmup_epochs": 3.5})
    assert found == {
        "#/training/schedule/warmup_epochs": (
            "3.5 is longer than the training of 3 epoch(s); take fewer, or more epochs"
        ),
    }


def test_plateau_needs_validation_rows() -> None:
    found = refusal(validation_fraction=0, schedule={"kind": "plateau"})
    assert found.keys() == {"#/training/schedule"}
    assert "follows val_loss and there are no validation rows" in found["#/training/schedule"]
    assert complete(validation_fraction=0, schedule={"kind": "cosine"}).early_stopping is None


def test_what_needs_labels_is_refused_in_a_regression() -> None:
    found = refusal(label_smoothing=0.1, class_weights="balanced")
    assert found.keys() == {"#/training/label_smoothing", "#/training/class_weights"}
    assert "0.1 is for classifications" in found["#/training/label_smoothing"]
    assert "is for classifications" in found["#/training/class_weights"]
    assert refusal(class_weights={"a": 2}).keys() == {"#/training/class_weights"}
    completed = complete("label", label_smoothing=0.1, class_weights="balanced")
    assert (completed.label_smoothing, completed.class_weights) == (0.1, "balanced")


def test_all_misfits_are_named_at_once() -> None:
    found = refusal(
        momentum=0.5,
        epochs=1,
        validation_fraction=0,
        schedule={"kind": "plateau", "warmup_epochs": 2},
        label_smoothing=0.1,
        class_weights={"a": 2},
        sample_weight_column="nothing",
    )
    assert found.keys() == {
        "#/training/momentum",
        "#/training/schedule",
        "#/training/schedule/warmup_epochs",
        "#/training/label_smoothing",
        "#/training/class_weights",
        "#/training/sample_weight_column",
    }
