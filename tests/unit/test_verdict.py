"""What is said of a network as it is looked at again and again."""

from dataclasses import replace
from typing import Any

import pytest

from service.domain.diagnostics import Diagnosis, Histograms, LayerDiagnosis
from service.domain.verdict import Verdict, is_inside, judge, judge_all
from tests.unit.networks import spec_of

SNN = spec_of({"kind": "snn", "hidden_layers": 4, "units": 100})
RELU = spec_of({"kind": "mlp", "hidden_layers": 4, "units": 100})

GOOD = LayerDiagnosis(
    layer=1,
    units=100,
    mean=0.0,
    variance=1.0,
    predicted_mean=0.0,
    predicted_variance=1.0,
    tau=1.0,
    tau_max=1.3,
    omega=0.0,
    bias=0.0,
    weight_norm=10.0,
    gradient_norm=0.1,
    gradient_ratio=1.0,
    update_ratio=1e-3,
    dead=0.0,
)


def seen(epoch: int, *changes: dict[str, Any]) -> Diagnosis:
    """Four good layers, the first ones changed."""
    layers = [replace(GOOD, layer=number) for number in range(1, 5)]
    for number, change in enumerate(changes):
        layers[number] = replace(layers[number], **change)
    return Diagnosis(epoch, tuple(layers), Histograms((), ()))


def test_network_in_the_box_is_held() -> None:
    verdict = judge(None, seen(0), SNN)
    assert (verdict.status, verdict.epoch, verdict.layer, verdict.is_lost) == ("held", None, None, False)


@pytest.mark.parametrize("moment", [{"mean": 0.11}, {"mean": -0.11}, {"variance": 0.79}, {"variance": 1.51}])
def test_box_has_the_bounds_of_theorem_1(moment: dict[str, Any]) -> None:
    assert not is_inside(replace(GOOD, **moment))
    edge: dict[str, Any] = {
        name: {0.11: 0.1, -0.11: -0.1, 0.79: 0.8, 1.51: 1.5}[value] for name, value in moment.items()
    }
    assert is_inside(replace(GOOD, **edge))


def test_first_departure_is_kept_with_its_cause() -> None:
    verdict = judge(None, seen(0), SNN)
    verdict = judge(verdict, seen(1, {}, {"variance": 5.0, "tau": 3.4}), SNN)
    assert (verdict.status, verdict.epoch, verdict.layer, verdict.cause) == ("left", 1, 2, "tau rose to 3.4")
    later = judge(verdict, seen(6, {"variance": 60.0, "tau": 2.0}, {"variance": 60.0, "tau": 3.9}), SNN)
    assert (later.status, later.epoch, later.layer, later.cause) == ("left", 1, 2, "tau rose to 3.4")
    assert "2 of 4 hidden layers" in later.detail
    assert later.advice


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"variance": 0.4, "tau": 0.5}, "tau fell to 0.5"),
        ({"variance": 4.0, "tau": 1.1}, "its weights have turned towards what its inputs have in common"),
        ({"variance": 0.5, "tau": 1.0}, "its weights have turned away from what its inputs have in common"),
        ({"variance": 3.3, "tau": 1.0, "bias": 4.0}, "its biases moved to 2"),
        ({"mean": 0.4, "bias": 0.25}, "its biases moved to 0.5"),
        ({"mean": 0.4, "omega": 0.6}, "omega moved to 0.6"),
    ],
)
def test_cause_is_named(change: dict[str, float], cause: str) -> None:
    verdict = judge(judge(None, seen(0), SNN), seen(3, {}, change), SNN)
    assert (verdict.cause or "").startswith(cause)


def test_network_that_never_was_inside_says_so() -> None:
    verdict = judge(None, seen(0, {"variance": 1.8, "tau": 1.77, "predicted_variance": 1.8}), SNN)
    assert (verdict.status, verdict.epoch) == ("left", 0)
    assert "was not in the domain at the start" in verdict.detail


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"variance": 1.8, "tau": 1.77, "predicted_variance": 1.8}, "its weights start with tau 1.77"),
        ({"variance": 3.0, "predicted_variance": 3.1}, "what it takes has not mean 0 and variance 1"),
        ({"variance": 0.7}, "its 100 units, or what they sum up, are so few"),
    ],
)
def test_cause_at_the_start_is_never_what_weights_have_learned(change: dict[str, float], cause: str) -> None:
    assert (judge(None, seen(0, change), SNN).cause or "").startswith(cause)


def test_network_that_comes_back_is_held_again() -> None:
    left = judge(judge(None, seen(0), SNN), seen(1, {"variance": 2.0, "tau": 1.9}), SNN)
    back = judge(left, seen(2), SNN)
    assert (back.status, back.is_lost) == ("held", False)
    assert "after it had left it at epoch 1" in back.detail
    assert judge(back, seen(5, {"variance": 2.0, "tau": 1.9}), SNN).epoch == 5


def test_all_looks_together_are_judged_as_one_after_the_other() -> None:
    looks = [seen(0), seen(1, {"variance": 2.0, "tau": 1.9}), seen(2, {"variance": 9.0, "tau": 3.0})]
    assert judge_all([], SNN) is None
    assert judge_all(looks, SNN) == judge(judge(judge(None, looks[0], SNN), looks[1], SNN), looks[2], SNN)


def test_large_variance_is_an_explosion_only_before_anything_was_learned() -> None:
    large = seen(0, {}, {"variance": 17.0})
    start = judge(None, large, RELU)
    assert (start.status, start.layer) == ("exploding", 2)
    assert judge(start, replace(large, epoch=1), RELU).status == "stable"
    assert judge(judge(None, seen(0), SNN), replace(large, epoch=1), SNN).status == "left"


@pytest.mark.parametrize(
    ("changes", "status", "layer"),
    [
        ([{}, {"variance": 0.019}], "vanishing", 2),
        ([{"gradient_ratio": 9e-4}], "vanishing", 1),
        ([{"gradient_ratio": 1.1e3}], "exploding", 1),
        ([{"variance": None}], "exploding", 1),
        ([{"gradient_norm": 1e-9}, {"gradient_norm": 1e-9}], "vanishing", 2),
    ],
)
def test_dead_signal_is_named(changes: list[dict[str, Any]], status: str, layer: int) -> None:
    verdict = judge(None, seen(0, *changes), RELU)
    assert (verdict.status, verdict.layer, verdict.epoch) == (status, layer, 0)
    assert verdict.advice


def test_network_that_has_learned_everything_has_no_gradients_and_is_not_dead() -> None:
    done = [{"gradient_norm": 1e-12}] * 4
    assert judge(None, seen(9, *done), RELU).status == "stable"


def test_regular_network_whose_signal_lives_is_stable() -> None:
    assert judge(None, seen(0, {"mean": 0.5, "variance": 0.6}), RELU).status == "stable"


def test_signal_that_comes_back_is_said_to() -> None:
    verdict = judge(None, seen(0, {"gradient_ratio": 1e-4}), RELU)
    assert judge(verdict, seen(1, {"gradient_ratio": 1e-4}), RELU).epoch == 0
    assert judge(verdict, seen(1), RELU).status == "stable"


def test_verdict_survives_being_stored() -> None:
    verdict = judge(None, seen(2, {"variance": 5.0, "tau": 3.4}), SNN)
    assert Verdict.from_dict({**verdict.to_dict(), "advice": list(verdict.advice)}) == verdict
