"""Plain networks against the definitions; against ONNX and Keras in tests/training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.domain.models import Outputs
from service.domain.self_normalization import SELU_ALPHA, SELU_SCALE
from service.inference.layers import ACTIVATIONS, BATCH_NORMALIZATION_EPSILON, block_shape
from tests.unit.networks import CLASSES, MLP, NUMBER, SNN, inputs_of, network_of, rows_of, shown, spec_of, tensors_of

DEFINITIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}
PLACES = np.array([-700.0, -80.0, -5.0, -1.0, -0.1, 0.1, 1.0, 5.0, 80.0, 700.0])

every_activation = pytest.mark.parametrize("name", DEFINITIONS)


@every_activation
def test_activation_is_what_its_name_says(name: str) -> None:
    expected = [DEFINITIONS[name](x) for x in PLACES.tolist()]
    np.testing.assert_allclose(ACTIVATIONS[name].apply(PLACES.copy()), expected, rtol=1e-14, atol=1e-15)
    single = ACTIVATIONS[name].apply(PLACES.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-6, atol=1e-6)


@every_activation
def test_slope_is_the_derivative(name: str) -> None:
    activation, step = ACTIVATIONS[name], 1e-6
    difference = activation.apply(PLACES + step) - activation.apply(PLACES - step)
    found = activation.slope(activation.apply(PLACES.copy()))
    np.testing.assert_allclose(found, difference / (2 * step), rtol=1e-6, atol=1e-6)
    assert activation.slope(activation.apply(PLACES.astype(np.float32))).dtype == np.float32


def test_every_activation_that_a_spec_may_name_is_known() -> None:
    assert set(ACTIVATIONS) == {"relu", "elu", "tanh", "sigmoid", "selu"}


@pytest.mark.parametrize("outputs", [NUMBER, CLASSES], ids=["number", "classes"])
@pytest.mark.parametrize("fields", [SNN, MLP, {**MLP, "normalization": None}], ids=["snn", "batch", "mlp"])
def test_answers_are_those_of_layer_after_layer(fields: dict[str, Any], outputs: Outputs) -> None:
    inputs = inputs_of(5)
    network, rows = network_of(fields, outputs, inputs), rows_of(inputs, 20)
    spec = spec_of(fields)
    tensors = {path: values.astype(np.float64) for path, values in tensors_of(spec, 5, network.outputs).items()}
    values = (rows - np.array(inputs.mean)) / np.array(inputs.scale)
    for number in range(1, len(spec.widths) + 1):
        values = values @ tensors[f"network/dense_{number}/kernel"] + tensors[f"network/dense_{number}/bias"]
        if spec.normalization == "batch":
            path = f"network/batch_normalization_{number}"
            values = (values - tensors[f"{path}/moving_mean"]) * tensors[f"{path}/gamma"]
            values /= np.sqrt(tensors[f"{path}/moving_variance"] + BATCH_NORMALIZATION_EPSILON)
            values += tensors[f"{path}/beta"]
        values = np.vectorize(DEFINITIONS[spec.activation])(values)
    given = values @ tensors["network/head/kernel"] + tensors["network/head/bias"]
    np.testing.assert_allclose(network.run(rows), shown(network, given), rtol=1e-5, atol=1e-6)


def test_row_that_overflows_has_no_finite_answer_and_no_warning() -> None:
    network = network_of(SNN, CLASSES)
    for value in (3e38, 1e300):  # overflows inside, overflows at once
        assert not np.isfinite(network.run(np.full((1, 5), value))).any()


@pytest.mark.parametrize(
    ("rows", "repeats", "fitting", "expected"),
    [
        (10, 100, 1000, (10, 100)),
        (10, 100, 999, (9, 100)),
        (10, 100, 50, (1, 50)),
        (10, 100, 0, (1, 1)),
        (3, 7, 10**9, (3, 7)),
    ],
)
def test_blocks_are_as_large_as_fits_and_never_empty(
    rows: int, repeats: int, fitting: int, expected: tuple[int, int]
) -> None:
    assert block_shape(rows, repeats, fitting) == expected
