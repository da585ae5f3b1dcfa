"""Monte-Carlo dropout: against all thinned networks of a small one, and what a seed decides."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.models import Outputs
from service.domain.self_normalization import ALPHA_PRIME, alpha_dropout_affine
from service.inference.layers import PlainNetwork
from service.inference.sampling import Spread, entropy, sample
from tests.unit.networks import CLASSES, MLP, NUMBER, SNN, inputs_of, network_of, rows_of, shown

SMALL = {"units": [3, 4], "dropout": 0.5}
ROWS = rows_of(inputs_of(5), 6)

either_task = pytest.mark.parametrize("outputs", [NUMBER, CLASSES], ids=["number", "classes"])
either_kind = pytest.mark.parametrize("fields", [SNN, MLP], ids=["snn", "mlp"])


def all_thinned(network: PlainNetwork) -> NDArray[np.float64]:
    """Answer with every network that dropout at 0.5 can leave, all as probable: (networks, rows, outputs)."""
    if network.spec.kind == "snn":
        (a, b), dropped = alpha_dropout_affine(0.5), ALPHA_PRIME
    else:
        a, b, dropped = 2.0, 0.0, 0.0
    widths = network.widths[:-1]
    found = []
    for kept in itertools.product([False, True], repeat=sum(widths)):
        masks = np.split(np.array(kept), np.cumsum(widths))
        values = network.standardize(ROWS)
        for layer, mask in zip(network.layers, masks, strict=True):
            values = values @ layer.kernel + layer.bias
            if layer is not network.layers[-1]:
                values = a * np.where(mask, network.activation.apply(values), dropped) + b
        found.append(shown(network, values))
    return np.array(found)


@either_task
@pytest.mark.parametrize(
    "fields",
    [{**SMALL, "kind": "snn"}, {**SMALL, "kind": "mlp"}, {**SMALL, "kind": "mlp", "normalization": "batch"}],
    ids=["snn", "mlp", "batch"],
)
def test_samples_come_to_what_all_thinned_networks_come_to(fields: dict[str, Any], outputs: Outputs) -> None:
    network = network_of(fields, outputs).astype(np.float64)
    samples = 20_000
    every, found = all_thinned(network), sample(network, ROWS, samples, seed=1)
    mean, deviation = every.mean(axis=0), every.std(axis=0)
    if outputs is NUMBER:
        mean, deviation = mean[:, 0], deviation[:, 0]
    error = 5 / np.sqrt(samples)
    assert (np.abs(found.mean - mean) <= error * deviation + 1e-9).all()
    np.testing.assert_allclose(found.standard_deviation, deviation, rtol=0.05)
    if outputs is CLASSES:
        assert found.predictive_entropy is not None
        assert found.mutual_information is not None
        np.testing.assert_allclose(found.predictive_entropy, entropy(mean), atol=0.02)
        np.testing.assert_allclose(found.mutual_information, entropy(mean) - entropy(every).mean(axis=0), atol=0.02)


@either_task
@either_kind
def test_seed_decides_the_samples(fields: dict[str, Any], outputs: Outputs) -> None:
    network = network_of(fields, outputs)
    first, again, other = (sample(network, ROWS, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.mean, again.mean)
    np.testing.assert_array_equal(first.standard_deviation, again.standard_deviation)
    assert (first.mean != other.mean).all()


def assert_agree(one: Spread, other: Spread) -> None:
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.standard_deviation, other.standard_deviation, rtol=1e-4, atol=1e-6)
    if one.predictive_entropy is not None:
        assert other.predictive_entropy is not None
        assert one.mutual_information is not None
        assert other.mutual_information is not None
        np.testing.assert_allclose(one.predictive_entropy, other.predictive_entropy, atol=1e-6)
        np.testing.assert_allclose(one.mutual_information, other.mutual_information, atol=1e-6)


@either_task
@pytest.mark.parametrize("block_bytes", [1, 64, 640, 4000, 50_000])
def test_blocks_change_nothing(outputs: Outputs, block_bytes: int) -> None:
    network = network_of(SNN, outputs)
    assert_agree(sample(network, ROWS, 50, seed=3), sample(network, ROWS, 50, 3, block_bytes))


@either_task
def test_row_is_as_sure_alone_as_among_others(outputs: Outputs) -> None:
    network = network_of(SNN, outputs)
    among = sample(network, ROWS, 50, seed=3)
    alone = sample(network, ROWS[4:5], 50, seed=3)
    np.testing.assert_allclose(alone.mean[0], among.mean[4], rtol=1e-5)
    np.testing.assert_allclose(alone.standard_deviation[0], among.standard_deviation[4], rtol=1e-4)


def test_one_sample_has_no_spread() -> None:
    spread = sample(network_of(SNN, NUMBER), ROWS, 1, seed=0)
    assert not spread.standard_deviation.any()
    assert spread.predictive_entropy is None
    assert spread.mutual_information is None


def test_probabilities_stay_probabilities_and_uncertainty_has_its_bounds() -> None:
    spread = sample(network_of(MLP, CLASSES), rows_of(inputs_of(5), 200), 40, seed=0)
    np.testing.assert_allclose(spread.mean.sum(axis=1), 1)
    assert spread.predictive_entropy is not None
    assert spread.mutual_information is not None
    assert (spread.mutual_information > 0).all()
    assert (spread.mutual_information <= spread.predictive_entropy).all()
    assert (spread.predictive_entropy <= np.log(3)).all()


def test_small_spread_around_a_large_answer_keeps_its_digits() -> None:
    """The sum of squares less the square of the sum would be rounding."""
    far = Outputs("regression", "y", mean=1e9, scale=1e-3)
    near = Outputs("regression", "y", mean=0.0, scale=1e-3)
    spreads = [sample(network_of(SNN, outputs), ROWS, 50, seed=0) for outputs in (far, near)]
    np.testing.assert_array_equal(spreads[0].standard_deviation, spreads[1].standard_deviation)
    network = network_of(SNN, near)
    last = network.layers[-1]
    last.bias[:] += 1e4
    np.testing.assert_allclose(
        sample(network, ROWS, 50, 0).standard_deviation, spreads[1].standard_deviation, rtol=0.02
    )


def test_entropy_of_certainty_is_zero_and_of_a_coin_log_two() -> None:
    np.testing.assert_allclose(entropy(np.array([[1.0, 0.0], [0.5, 0.5]])), [0.0, np.log(2)])


def test_row_that_overflows_gives_no_number_and_no_warning() -> None:
    spread = sample(network_of({"kind": "mlp", "units": [4, 4], "dropout": 0.5}, NUMBER), np.full((1, 5), 1e300), 9, 0)
    assert not np.isfinite(spread.standard_deviation).any()
