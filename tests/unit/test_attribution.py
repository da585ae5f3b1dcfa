"""Integrated gradients: the gradients against finite differences, the axioms, and networks whose answer is known."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from service.domain.encoders import CategoricalEncoder, NumericEncoder
from service.domain.models import Inputs, Outputs
from service.inference.attribution import TOLERANCE, by_feature, gradients, integrated_gradients
from service.inference.layers import read
from tests.unit.networks import CLASSES, MLP, NUMBER, SNN, inputs_of, network_of, rows_of, shown, spec_of, tensors_of

INPUTS = inputs_of(5)
ROWS = rows_of(INPUTS, 12)
MOVE = 1e-6
KINDS: dict[str, dict[str, Any]] = {
    "snn": SNN,
    "batch": MLP,
    **{name: {**MLP, "normalization": None, "activation": name} for name in ("relu", "elu", "tanh", "sigmoid")},
}

either_task = pytest.mark.parametrize("outputs", [NUMBER, CLASSES], ids=["number", "classes"])
every_kind = pytest.mark.parametrize("kind", KINDS)


@either_task
@every_kind
def test_gradients_are_those_of_finite_differences(kind: str, outputs: Outputs) -> None:
    network = network_of(KINDS[kind], outputs).astype(np.float64)
    chosen = np.arange(12) % (len(outputs.classes) or 1)
    places = network.layers[0](network.standardize(ROWS))

    def answers(values: Any) -> Any:
        given = network.follow(values)
        return given[:, 0] if outputs is NUMBER else shown(network, given)[np.arange(12), chosen]

    expected = np.empty_like(places)
    for unit in range(places.shape[1]):
        step = MOVE * (np.arange(places.shape[1]) == unit)
        expected[:, unit] = (answers(places + step) - answers(places - step)) / (2 * MOVE)
    np.testing.assert_allclose(gradients(network, places.copy(), chosen), expected, rtol=1e-6, atol=1e-8)


@either_task
@every_kind
def test_contributions_add_up_to_the_answer(kind: str, outputs: Outputs) -> None:
    network = network_of(KINDS[kind], outputs)
    found = integrated_gradients(network, ROWS)
    expected, baseline = network.run(ROWS), network.run(np.array([INPUTS.mean]))
    assert (found.chosen == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(found.answers, expected[np.arange(12), found.chosen], rtol=1e-5)
    np.testing.assert_allclose(found.baseline, baseline[0, found.chosen], rtol=1e-5)
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.answers - found.baseline + found.gap, atol=1e-9)
    moves = np.abs(found.answers - found.baseline) / outputs.scale
    assert (np.abs(found.gap) / outputs.scale <= TOLERANCE * np.maximum(1, moves)).all()
    assert np.abs(found.contributions).max() > 10 * np.abs(found.gap).max()


def test_more_steps_are_taken_where_the_answer_moves_abruptly() -> None:
    """In this deep network 64 steps leave a gap of up to 0.12, 256 steps 0.024."""
    network = network_of({**SNN, "units": [100] * 12}, CLASSES, seed=2)
    sharp = network.layers[-1].kernel
    sharp *= 20
    gap = integrated_gradients(network, rows_of(INPUTS, 40)).gap
    assert np.abs(gap).max() < 2 * TOLERANCE
    assert np.median(np.abs(gap)) < TOLERANCE


def test_smooth_network_is_explained_within_rounding() -> None:
    network = network_of(KINDS["tanh"], NUMBER).astype(np.float64)
    assert np.abs(integrated_gradients(network, ROWS).gap).max() < 1e-9


@either_task
@every_kind
def test_feature_that_the_network_ignores_contributes_nothing(kind: str, outputs: Outputs) -> None:
    spec = spec_of(KINDS[kind])
    tensors = tensors_of(spec, 5, outputs)
    tensors["network/dense_1/kernel"][2] = 0
    found = integrated_gradients(read(save(tensors), spec, INPUTS, outputs), ROWS).contributions
    assert (found[:, 2] == 0).all()
    assert (found[:, [0, 1, 3, 4]] != 0).all()


def test_column_that_never_changed_contributes_nothing() -> None:
    still = Inputs(INPUTS.encoders, INPUTS.mean, (*INPUTS.scale[:4], 1e300))
    assert (integrated_gradients(network_of(SNN, NUMBER, still), ROWS).contributions[:, 4] == 0).all()


def test_features_of_a_sum_contribute_their_terms() -> None:
    """relu(s) - relu(-s) is s, here 2 x0 - 3 x1 + 0.5 of standardized columns, times the target's deviation."""
    inputs = Inputs((NumericEncoder("x0"), NumericEncoder("x1")), (1.0, 2.0), (2.0, 4.0))
    spec = spec_of({"kind": "mlp", "units": [2]})
    tensors = {
        "network/dense_1/kernel": np.array([[2, -2], [-3, 3]], np.float32),
        "network/dense_1/bias": np.array([0.5, -0.5], np.float32),
        "network/head/kernel": np.array([[1], [-1]], np.float32),
        "network/head/bias": np.zeros(1, np.float32),
    }
    found = integrated_gradients(read(save(tensors), spec, inputs, NUMBER), np.array([[5.0, 10.0], [1.0, 2.0]]))
    np.testing.assert_allclose(found.contributions, [[9 * 4, 9 * -6], [0, 0]])
    np.testing.assert_allclose(found.baseline, [40 + 9 * 0.5] * 2)
    np.testing.assert_allclose(found.answers, [40 + 9 * -1.5, 40 + 9 * 0.5])


def test_contributions_to_all_classes_cancel() -> None:
    """Probabilities add up to 1 everywhere."""
    network = network_of(KINDS["tanh"], CLASSES).astype(np.float64)
    parts = [integrated_gradients(network, ROWS, np.full(12, each)) for each in range(3)]
    assert all(np.abs(part.contributions).max() > 0.01 for part in parts)
    np.testing.assert_allclose(sum(part.contributions for part in parts), 0, atol=1e-12)


@either_task
@pytest.mark.parametrize("block_bytes", [1, 2000, 20_000, 10**6])
def test_blocks_change_nothing(outputs: Outputs, block_bytes: int) -> None:
    network = network_of(SNN, outputs).astype(np.float64)
    expected = integrated_gradients(network, ROWS)
    found = integrated_gradients(network, ROWS, block_bytes=block_bytes)
    np.testing.assert_allclose(found.contributions, expected.contributions, atol=1e-9)


def test_columns_of_a_feature_are_added_up() -> None:
    encoders = (
        NumericEncoder("a"),
        CategoricalEncoder("b", ("p", "q"), other=True),
        CategoricalEncoder("c", ()),  # has no column at all
        NumericEncoder("d", gaps=True),
        CategoricalEncoder("e", ()),
    )
    inputs = Inputs(encoders, (0.0,) * 6, (1.0,) * 6)
    found = by_feature(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), inputs)
    assert found.tolist() == [[1.0, 9.0, 0.0, 11.0, 0.0]]


def test_row_that_overflows_gives_no_number_and_no_warning() -> None:
    network = network_of({"kind": "mlp", "units": [4, 4]}, NUMBER)
    found = integrated_gradients(network, np.array([[1e300] * 5, INPUTS.mean]))
    assert not np.isfinite(found.contributions[0]).all()
    assert (found.contributions[1] == 0).all()
