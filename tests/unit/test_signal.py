"""What is said of an untrained network from its spec alone, against what untrained networks do."""

import math
from typing import Any

import numpy as np
import pytest

from service.domain.signal import moments_of, propagate
from service.domain.spec import Activation, NetworkSpec
from service.inference.diagnosis import Probe, fresh_layers, look
from service.inference.layers import ACTIVATIONS
from tests.unit.networks import spec_of

DEEP: dict[str, Any] = {"hidden_layers": 20, "units": 100}
WIDE: dict[str, Any] = {"hidden_layers": 8, "units": 1000}


def mlp(**fields: Any) -> NetworkSpec:
    return spec_of({"kind": "mlp", **DEEP, **fields})


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, 0.3), (-1.0, 4.0), (3.0, 400.0)])
def test_moments_of_every_activation_are_those_of_samples(activation: Activation, mean: float, variance: float) -> None:
    samples = 400_000
    z = np.random.default_rng(3).normal(mean, math.sqrt(variance), samples)
    given = ACTIVATIONS[activation].apply(z.copy())
    slopes = ACTIVATIONS[activation].slope(given)
    found = moments_of(activation, mean, variance)
    assert found.mean == pytest.approx(given.mean(), abs=5 * given.std() / math.sqrt(samples))
    assert found.variance == pytest.approx(given.var(), rel=0.02)
    assert found.slope == pytest.approx(np.square(slopes).mean(), rel=0.02)


def test_self_normalizing_network_is_held_and_its_gradient_grows_slowly() -> None:
    signal = propagate(spec_of({"kind": "snn", **DEEP}), 784)
    assert (signal.status, signal.layer) == ("held", None)
    assert signal.gradient_ratio == pytest.approx(1.0352**19, rel=1e-3)
    assert signal.horizon == pytest.approx(math.log(1e3) / math.log(1.0352), abs=2)


def test_relu_with_glorot_halves_the_second_moment_and_its_horizon_is_named() -> None:
    signal = propagate(mlp(), 784)
    assert signal.status == "vanishing"
    second = [layer.variance + layer.mean**2 for layer in signal.layers]
    np.testing.assert_allclose(np.array(second[2:]) / second[1:-1], 0.5)
    assert signal.horizon == 6
    assert "layer 7 of 20" in signal.detail


def test_relu_with_he_keeps_it_and_batch_normalization_too() -> None:
    for fields in ({"initializer": "he_normal"}, {"initializer": "he_normal", "normalization": "batch"}):
        signal = propagate(mlp(**fields), 784)
        assert signal.status == "stable"
        assert signal.horizon is None
        assert signal.gradient_ratio == pytest.approx(1.0)


def test_sigmoid_vanishes_before_it_trains() -> None:
    signal = propagate(mlp(activation="sigmoid"), 784)
    assert signal.status == "vanishing"
    assert signal.gradient_ratio < 1e-9
    assert signal.horizon == 5


def test_scale_of_the_inputs_is_no_matter_to_relu() -> None:
    for variance in (1e-6, 1.0, 1e6):
        signal = propagate(mlp(initializer="he_normal"), 784, 0.0, variance)
        assert (signal.status, signal.horizon) == ("stable", None)


def test_selu_from_too_large_weights_explodes() -> None:
    signal = propagate(mlp(activation="selu", initializer="he_normal"), 784)
    assert signal.status == "exploding"
    assert signal.horizon == (signal.layer or 0) - 1


def test_inputs_that_are_not_standardized_count() -> None:
    dim, bright = (propagate(mlp(), 784, mean, 0.01).layers[0].variance for mean in (0.01, 3.0))
    assert dim < 0.02 < bright
    assert propagate(mlp(activation="tanh", hidden_layers=2), 1000, 0.0, 1e6).gradient_ratio < 0.05


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "snn"},
        {"kind": "mlp", "initializer": "he_normal"},
        {"kind": "mlp", "activation": "sigmoid"},
        {"kind": "mlp", "activation": "tanh"},
        {"kind": "mlp", "activation": "elu", "initializer": "lecun_normal"},
        {"kind": "mlp", "activation": "selu", "initializer": "normal"},
    ],
    ids=str,
)
def test_prediction_is_what_a_wide_untrained_network_does(fields: dict[str, Any]) -> None:
    network = spec_of({**WIDE, **fields})
    rows = np.random.default_rng(0).normal(size=(512, 1000)).astype(np.float32)
    seen = look(network, fresh_layers(network, 1000, 10, seed=0), Probe(rows, np.arange(512) % 10, True))
    signal = propagate(network, 1000)
    assert seen.layers[0].gradient_ratio == pytest.approx(signal.gradient_ratio, rel=0.1)
    for predicted, layer in zip(signal.layers, seen.layers, strict=True):
        assert layer.tau == pytest.approx(predicted.tau, rel=0.02)
        assert layer.mean == pytest.approx(predicted.mean, abs=max(0.03, 0.1 * abs(predicted.mean)))
        assert layer.variance == pytest.approx(predicted.variance, rel=0.1)
