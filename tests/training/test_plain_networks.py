"""Networks as plain arrays against their ONNX graphs, and thinned ones against Keras while it trains."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain.models import Outputs
from service.domain.spec import NetworkSpec
from service.inference.layers import BATCH_NORMALIZATION_EPSILON, PlainNetwork, read
from service.inference.sampling import sample
from service.inference.sessions import ServedNetwork
from tests.training.support import SMALL_MLP, Case, classes_table
from tests.unit.networks import CLASSES, NUMBER, inputs_of, rows_of, shown, spec_of
from workers import export, network
from workers.engine.dropout import Noise

TOLERANCE = 1e-5
SEED = 11

widths = st.lists(st.integers(1, 40), min_size=1, max_size=6)
rates = st.sampled_from([0.0, 0.05, 0.5])
networks = st.one_of(
    st.fixed_dictionaries({"kind": st.just("snn"), "units": widths, "dropout": rates}),
    st.fixed_dictionaries(
        {
            "kind": st.just("mlp"),
            "units": widths,
            "dropout": rates,
            "activation": st.sampled_from(["relu", "elu", "tanh", "sigmoid", "selu"]),
            "normalization": st.sampled_from([None, "batch"]),
        }
    ),
)
tasks = st.sampled_from([NUMBER, CLASSES])


def trained(spec: NetworkSpec, columns: int, outputs: Outputs) -> keras.Model:
    """Build a network and give it biases and moments as if it had been trained."""
    built = network.build(spec, columns, len(outputs.classes) or 1, seed=0)
    rng = np.random.default_rng(SEED)
    for weight in built.weights:
        values = weight.numpy() + rng.normal(0, 0.1, weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    return built


def plain(built: keras.Model, spec: NetworkSpec, columns: int, outputs: Outputs) -> PlainNetwork:
    return read(export.to_safetensors(built), spec, inputs_of(columns), outputs)


def difference(found: NDArray[Any], expected: NDArray[Any], outputs: Outputs) -> float:
    """The largest difference, of probabilities or in deviations of the target; relative beyond one of them."""
    one, other = ((values - outputs.mean) / outputs.scale for values in (found, expected))
    return float((np.abs(one - other) / np.maximum(1, np.abs(other))).max())


@settings(max_examples=40)
@given(fields=networks, columns=st.integers(1, 20), outputs=tasks)
def test_plain_network_answers_as_its_graph(fields: dict[str, Any], columns: int, outputs: Outputs) -> None:
    spec, inputs = spec_of(fields), inputs_of(columns)
    built = trained(spec, columns, outputs)
    graph = ServedNetwork(export.to_onnx(built, inputs, outputs))
    rows = rows_of(inputs, 30)
    assert difference(plain(built, spec, columns, outputs).run(rows), graph.run(rows), outputs) <= TOLERANCE


@pytest.mark.parametrize("outputs", [NUMBER, CLASSES], ids=["number", "classes"])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.37, 0.5])
@pytest.mark.parametrize("kind", ["snn", "mlp"])
def test_sample_is_what_keras_answers_with_the_same_noise(kind: str, rate: float, outputs: Outputs) -> None:
    spec, rows = spec_of({"kind": kind, "units": [13, 7, 22], "dropout": rate}), rows_of(inputs_of(5), 8)
    built = trained(spec, 5, outputs)
    asked = plain(built, spec, 5, outputs)
    noise = Noise(built)
    for seed in range(5):
        bits = np.random.PCG64(seed).random_raw(-(-noise.units // 4)).view(np.uint16)[: noise.units]
        with noise.dealt(np.tile(bits, (len(rows), 1))):
            given = built(asked.standardize(rows), training=True).numpy()
        expected, found = shown(asked, given), sample(asked, rows, 1, seed).mean
        assert difference(found.reshape(expected.shape), expected, outputs) <= TOLERANCE


def test_weights_that_a_training_stores_answer_as_its_graph() -> None:
    fields = {"network": {**SMALL_MLP, "normalization": "batch", "dropout": 0.1}, "training": {"epochs": 2}}
    case = Case(classes_table(200), fields)
    found = case.run().trained
    rows = rows_of(found.inputs, 50)
    answers = read(found.weights, case.spec.network, found.inputs, found.outputs).run(rows)
    np.testing.assert_allclose(answers, ServedNetwork(found.onnx).run(rows), atol=TOLERANCE)


def test_epsilon_is_that_of_the_layer() -> None:
    built = network.build(spec_of({"kind": "mlp", "normalization": "batch"}), 3, 1, seed=0)
    [epsilon] = {layer.epsilon for layer in built.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert epsilon == BATCH_NORMALIZATION_EPSILON
