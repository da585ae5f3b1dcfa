"""The look at a network against gradients and moments computed another way, and what must be found on fresh ones."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.diagnostics import Diagnosis
from service.domain.self_normalization import initial_tau
from service.domain.verdict import is_inside, judge
from service.inference.diagnosis import FEWEST_ROWS, MOST_ROWS, Probe, drawn_head, fresh_layers, look, probe_rows
from service.inference.layers import ACTIVATIONS, Layer, softmax
from tests.unit.networks import spec_of

DEEP: dict[str, Any] = {"hidden_layers": 20, "units": 100}
SMALL: dict[str, Any] = {"units": [12, 10, 8]}
FORMS = [
    {"kind": "snn", **SMALL},
    {"kind": "mlp", **SMALL, "initializer": "he_normal"},
    {"kind": "mlp", **SMALL, "activation": "tanh"},
    {"kind": "mlp", **SMALL, "activation": "sigmoid"},
    {"kind": "mlp", **SMALL, "activation": "elu"},
]


def gaussian(rows: int, inputs: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, inputs)).astype(np.float32)


def digits_rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Real rows, standardized; constant pixels are 0."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    deviation = values.std(axis=0)
    standardized = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standardized[:512].astype(np.float32), labels[:512].astype(np.int64)


def loss(layers: list[Layer], activation: str, probe: Probe) -> float:
    values: NDArray[Any] = probe.rows.astype(np.float64)
    for layer in layers[:-1]:
        values = ACTIVATIONS[activation].apply(values @ layer.kernel + layer.bias)
    answers = values @ layers[-1].kernel + layers[-1].bias
    if probe.is_classification:
        return float(-np.log(softmax(answers)[np.arange(len(answers)), probe.targets]).mean())
    return float(np.square(answers[:, 0] - probe.targets).mean())


def numeric_gradient(layers: list[Layer], which: int, activation: str, probe: Probe) -> NDArray[np.float64]:
    kernel = layers[which].kernel.astype(np.float64)
    gradient = np.zeros_like(kernel)
    for place in np.ndindex(*kernel.shape):
        values = []
        for step in (-1e-6, 1e-6):
            moved = kernel.copy()
            moved[place] += step
            changed = [*layers[:which], Layer(moved, layers[which].bias), *layers[which + 1 :]]
            values.append(loss(changed, activation, probe))
        gradient[place] = (values[1] - values[0]) / 2e-6
    return gradient


@pytest.mark.parametrize("fields", FORMS, ids=lambda fields: str(fields.get("activation", fields["kind"])))
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradient_norms_are_those_of_the_loss(fields: dict[str, Any], outputs: int) -> None:
    network = spec_of(fields)
    layers = [
        Layer(layer.kernel.astype(np.float64), layer.bias + 0.1) for layer in fresh_layers(network, 6, outputs, seed=4)
    ]
    rows = gaussian(40, 6)
    targets = np.arange(40) % outputs if outputs > 1 else gaussian(40, 1)[:, 0]
    probe = Probe(rows, targets, is_classification=outputs > 1)
    seen = look(network, layers, probe)
    for number in (0, 2):
        expected = np.linalg.norm(numeric_gradient(layers, number, network.activation, probe))
        assert seen.layers[number].gradient_norm == pytest.approx(expected, rel=1e-3)


def test_moments_and_weights_are_what_they_say() -> None:
    network = spec_of({"kind": "snn", **SMALL})
    layers = fresh_layers(network, 6, 3, seed=1)
    rows = gaussian(64, 6)
    seen = look(network, layers, Probe(rows, np.zeros(64, np.int64), True), steps=[0.5, 1.0, 2.0])
    values = rows
    for number, layer in enumerate(layers[:-1]):
        values = ACTIVATIONS["selu"].apply(values @ layer.kernel + layer.bias)
        found = seen.layers[number]
        squares = np.square(layer.kernel).sum(axis=0)
        assert found.mean == pytest.approx(values.mean(), abs=1e-5)
        assert found.variance == pytest.approx(values.var(), rel=1e-4)
        assert (found.tau, found.tau_max) == pytest.approx((squares.mean(), squares.max()), rel=1e-5)
        assert found.omega == pytest.approx(layer.kernel.sum(axis=0).mean(), abs=1e-6)
        assert found.update_ratio == pytest.approx([0.5, 1.0, 2.0][number] / np.linalg.norm(layer.kernel), rel=1e-4)
    assert [layer.units for layer in seen.layers] == [12, 10, 8]
    assert seen.layers[-1].gradient_ratio == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_fresh_network_is_in_the_box_in_every_layer(seed: int) -> None:
    network = spec_of({"kind": "snn", **DEEP})
    rows, labels = digits_rows()
    for probe in (Probe(gaussian(512, 784), labels % 10, True), Probe(rows, labels, True)):
        seen = look(network, fresh_layers(network, probe.rows.shape[1], 10, seed), probe)
        # Real rows in 64 columns, some of them constant, give a little less than variance 1 to begin with.
        outside = [layer.layer for layer in seen.layers if not is_inside(layer)]
        assert outside == [], seen.layers
        assert judge(None, seen, network).status == "held"


def test_measured_and_predicted_moments_agree_in_a_wide_network() -> None:
    network = spec_of({"kind": "snn", "hidden_layers": 20, "units": 1000})
    rows, labels = digits_rows()
    for probe in (Probe(gaussian(512, 784), labels, True), Probe(rows, labels, True)):
        seen = look(network, fresh_layers(network, probe.rows.shape[1], 10, seed=0), probe)
        for layer in seen.layers:
            assert layer.mean == pytest.approx(layer.predicted_mean, abs=0.02)
            assert layer.variance == pytest.approx(layer.predicted_variance, abs=0.05)


def test_omega_of_a_unit_is_about_normal_and_its_mean_is_what_counts() -> None:
    """A test of every unit would fail every fresh network."""
    network = spec_of({"kind": "snn", **DEEP})
    kernel = fresh_layers(network, 100, 10, seed=0)[3].kernel
    assert np.abs(kernel.sum(axis=0)).max() > 1
    seen = look(network, fresh_layers(network, 100, 10, 0), Probe(gaussian(512, 100), np.zeros(512, np.int64), True))
    assert judge(None, seen, network).status == "held"


@pytest.mark.parametrize("initializer", ["lecun_normal", "he_normal", "glorot_uniform", "glorot_normal", "normal"])
def test_fresh_weights_have_the_variance_of_their_initializer(initializer: Any) -> None:
    network = spec_of({"kind": "mlp", "units": [500], "initializer": initializer})
    kernel = fresh_layers(network, 400, 2, seed=0)[0].kernel
    expected = initial_tau(initializer, 400, 500) / 400
    assert kernel.var() == pytest.approx(expected, rel=4 * math.sqrt(2 / kernel.size))
    farthest = np.abs(kernel).max() / math.sqrt(expected)
    bound = {"normal": 8.0, "glorot_uniform": math.sqrt(3)}.get(initializer, 2 / 0.87962566103423978)
    assert farthest <= bound * 1.0001


def test_regression_whose_head_starts_at_zero_shows_gradients_all_the_same() -> None:
    network = spec_of({"kind": "snn", **SMALL})
    *hidden, _ = fresh_layers(network, 6, 1, seed=0)
    zeros = Layer(np.zeros((8, 1), np.float32), np.zeros(1, np.float32))
    probe = Probe(gaussian(64, 6), gaussian(64, 1)[:, 0], False)
    seen = look(network, [*hidden, zeros], probe)
    assert all((layer.gradient_norm or 0) > 0 for layer in seen.layers)
    assert seen.layers == look(network, [*hidden, drawn_head(8, 1)], probe).layers


def test_fresh_batch_normalization_is_looked_at_as_it_trains() -> None:
    network = spec_of({"kind": "mlp", **DEEP, "normalization": "batch", "initializer": "he_normal"})
    seen = look(network, fresh_layers(network, 64, 10, 0), Probe(digits_rows()[0] * 100 + 7, digits_rows()[1], True))
    for layer in seen.layers:  # of a normal variable cut at 0
        assert layer.mean == pytest.approx(1 / math.sqrt(2 * math.pi), abs=0.1)
        assert layer.variance == pytest.approx(0.5 - 0.5 / math.pi, abs=0.1)


@pytest.mark.parametrize(("activation", "bias"), [("relu", -1e6), ("selu", -1e6), ("sigmoid", 1e6), ("tanh", 1e6)])
def test_units_that_nothing_moves_are_counted(activation: str, bias: float) -> None:
    network = spec_of({"kind": "mlp", "units": [10], "activation": activation})
    first, head = fresh_layers(network, 6, 2, seed=0)
    moved = np.where(np.arange(10) < 3, np.float32(bias), np.float32(0))
    seen = look(network, [Layer(first.kernel, moved), head], Probe(gaussian(200, 6), np.zeros(200, np.int64), True))
    assert seen.layers[0].dead == pytest.approx(0.3)


def test_numbers_that_overflow_are_none_and_the_rest_is_there() -> None:
    network = spec_of({"kind": "snn", **SMALL})
    layers = [Layer(layer.kernel * np.float32(1e30), layer.bias) for layer in fresh_layers(network, 6, 2, seed=0)]
    seen = look(network, layers, Probe(gaussian(32, 6), np.zeros(32, np.int64), True))
    assert seen.layers[-1].variance is None
    json.dumps(seen.layers_to_json(), allow_nan=False)
    assert judge(None, seen, network).status == "exploding"


def test_histograms_count_everything_in_bins_that_stay() -> None:
    network = spec_of({"kind": "snn", **SMALL})
    layers = fresh_layers(network, 6, 2, seed=0)
    probe = Probe(gaussian(32, 6), np.zeros(32, np.int64), True)
    before = look(network, layers, probe).histograms
    grown = [Layer(layer.kernel * 100, layer.bias) for layer in layers]
    after = look(network, grown, probe, epoch=5).histograms
    for one, other, layer in zip(before.weights, after.weights, layers, strict=False):
        assert (one.low, one.high) == (other.low, other.high)
        assert sum(one.counts) == sum(other.counts) == layer.kernel.size
        assert other.counts[0] + other.counts[-1] > one.counts[0] + one.counts[-1]
    assert [sum(one.counts) for one in before.activations] == [32 * 12, 32 * 10, 32 * 8]


def test_diagnosis_survives_being_stored() -> None:
    network = spec_of({"kind": "snn", **SMALL})
    seen = look(network, fresh_layers(network, 6, 2, 0), Probe(gaussian(32, 6), np.zeros(32, np.int64), True), 7)
    layers, histograms = (
        json.loads(json.dumps(values)) for values in (seen.layers_to_json(), seen.histograms_to_json())
    )
    assert Diagnosis.from_json(7, layers, histograms) == seen


def test_large_networks_are_looked_at_on_fewer_rows() -> None:
    assert probe_rows(50_000, 784, [100] * 20, 10) == MOST_ROWS
    assert probe_rows(40, 784, [100] * 20, 10) == 40
    assert probe_rows(50_000, 5_000, [5_000] * 2, 10) < MOST_ROWS
    assert probe_rows(50_000, 60_000, [800], 10) >= FEWEST_ROWS
