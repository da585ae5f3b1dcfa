"""Dropout with noise from outside: the same two values as Keras', and the same moments."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from service.domain.self_normalization import ALPHA_PRIME, DROPOUT_LEVELS
from workers.engine.dropout import AlphaDropout, Dropout, Noise

ROWS, UNITS = 2000, 500
RATES = [0.05, 0.1, 0.3, 0.5]
KEY = (3, 7)
ROUNDED = 1e-5
"""The rate is a number of 65536ths."""

either = pytest.mark.parametrize("kind", [AlphaDropout, Dropout])
every_rate = pytest.mark.parametrize("rate", RATES)


def network_of(*layers: keras.layers.Layer, units: int = UNITS) -> keras.Model:
    return keras.Sequential([keras.Input((units,)), *layers])


def normal(rows: int = ROWS, units: int = UNITS) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, units)).astype(np.float32)


def answered(layer: keras.layers.Layer, values: NDArray[Any], key: tuple[int, int] = KEY) -> NDArray[Any]:
    """Answer as in a training step of this key."""
    noise = Noise(network_of(layer, units=values.shape[1]))
    with noise.dealt(noise.draw(key, 1, len(values))[0]):
        found: NDArray[Any] = layer(values, training=True).numpy()
    return found


def test_dropped_units_get_what_selu_gives_for_minus_infinity() -> None:
    """The fixed point (0, 1) of Klambauer et al. 2017, equation 14, in closed form."""
    tail, root = math.erfc(1 / math.sqrt(2)), math.sqrt(math.e)
    alpha = -math.sqrt(2 / math.pi) / (tail * root - 1)
    inner = 2 * math.erfc(math.sqrt(2)) * math.e**2 + math.pi * tail**2 * math.e - 2 * (2 + math.pi) * tail * root
    scale = (1 - tail * root) * math.sqrt(2 * math.pi) * (inner + math.pi + 2) ** -0.5
    assert -scale * alpha == pytest.approx(ALPHA_PRIME, rel=1e-14)
    assert keras.activations.selu(np.array([-1e9])).numpy() == pytest.approx(ALPHA_PRIME, rel=1e-6)


@every_rate
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    values = normal()
    dropped = answered(AlphaDropout(rate), values)
    deviation = 1 / np.sqrt(values.size)  # of the mean; that of the variance is sqrt((kurtosis - 1) / size)
    kurtosis = float(np.mean(((dropped - dropped.mean()) / dropped.std()) ** 4))
    assert abs(dropped.mean()) < 5 * deviation
    assert abs(dropped.var() - 1) < 5 * np.sqrt(kurtosis - 1) * deviation


@every_rate
def test_dropout_keeps_the_mean(rate: float) -> None:
    values = 1 + normal()
    dropped = answered(Dropout(rate), values)
    assert abs(dropped.mean() - 1) < 5 * dropped.std() / np.sqrt(values.size)


@either
@every_rate
def test_kept_and_dropped_values_are_those_of_keras(kind: type[Any], rate: float) -> None:
    """Keras shows where each value goes, whatever it drops: one number for what is kept, one for the rest."""
    own = {AlphaDropout: keras.layers.AlphaDropout, Dropout: keras.layers.Dropout}[kind]
    for value in (-2.0, 0.5, 3.0):
        values = np.full((200, 50), value, np.float32)
        expected = np.unique(own(rate, seed=1)(values, training=True).numpy())
        found = np.unique(answered(kind(rate), values))
        assert len(expected) == len(found) == 2
        np.testing.assert_allclose(found, expected, rtol=2 * ROUNDED, atol=ROUNDED)


@either
@every_rate
def test_share_of_the_rate_is_dropped(kind: type[Any], rate: float) -> None:
    values = normal()
    dropped = answered(kind(rate), np.full_like(values, 2.0))
    lowest = dropped == dropped.min()
    for share in (lowest.mean(), lowest[:, : UNITS // 2].mean(), lowest[: ROWS // 2].mean()):
        assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / (values.size / 2))
    assert np.abs(lowest.mean(axis=0) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / ROWS)
    assert np.abs(lowest.mean(axis=1) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / UNITS)


@either
def test_key_decides_what_is_dropped(kind: type[Any]) -> None:
    values = np.full((64, 40), 2.0, np.float32)
    layer = kind(0.3)
    first = answered(layer, values, (3, 7))
    np.testing.assert_array_equal(first, answered(layer, values, (3, 7)))
    for other in ((3, 8), (4, 7), (7, 3), (0, 0), (2**32 - 1, 7)):
        agreed = (first == answered(layer, values, other)).mean()
        assert abs(agreed - (0.7**2 + 0.3**2)) < 5 * np.sqrt(0.58 * 0.42 / values.size), other


def test_layers_of_a_network_drop_independently() -> None:
    first, second = AlphaDropout(0.5), AlphaDropout(0.5)
    noise = Noise(network_of(first, second))
    values = np.full((ROWS, UNITS), 2.0, np.float32)
    with noise.dealt(noise.draw(KEY, 1, ROWS)[0]):
        one, other = (layer(values, training=True).numpy() for layer in (first, second))
    assert abs((one == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(values.size)


def test_neighbours_drop_independently() -> None:
    """Four units share a random word of 64 bits."""
    dropped = answered(AlphaDropout(0.5), np.full((ROWS, UNITS), 2.0, np.float32)) < 0
    for one, other in ((dropped[:, :-1], dropped[:, 1:]), (dropped[:-1], dropped[1:])):
        assert abs((one == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(one.size)


@either
def test_odd_numbers_of_units_get_noise_too(kind: type[Any]) -> None:
    dropped = answered(kind(0.5), np.full((3, 7), 2.0, np.float32))
    assert dropped.shape == (3, 7)
    assert len(np.unique(dropped)) == 2


@either
def test_rate_of_zero_drops_nothing_and_takes_no_noise(kind: type[Any]) -> None:
    layer, values = kind(0.0), normal(20, 10)
    assert Noise(network_of(layer, units=10)).layers == []
    np.testing.assert_array_equal(values, answered(layer, values))


@either
def test_rate_below_one_never_drops_everything(kind: type[Any]) -> None:
    assert kind(0.9999999).threshold == DROPOUT_LEVELS - 1
    dropped = answered(kind(0.9999999), normal())
    assert np.isfinite(dropped).all()


@either
def test_answering_drops_nothing(kind: type[Any]) -> None:
    layer, values = kind(0.5), normal(50, 20)
    np.testing.assert_array_equal(values, layer(values, training=False).numpy())
    np.testing.assert_array_equal(values, layer(values).numpy())
    noise = Noise(network_of(layer, units=20))
    with noise.dealt(noise.draw(KEY, 1, 50)[0]):
        np.testing.assert_array_equal(values, layer(values, training=False).numpy())


@pytest.mark.parametrize(("kind", "own"), [(AlphaDropout, keras.layers.AlphaDropout), (Dropout, keras.layers.Dropout)])
def test_without_noise_the_layer_is_keras_own(kind: type[Any], own: type[Any]) -> None:
    values = normal(50, 20)
    expected = own(0.3, seed=5)(values, training=True).numpy()
    np.testing.assert_array_equal(expected, kind(0.3, seed=5)(values, training=True).numpy())


@either
def test_noise_is_gone_after_its_step(kind: type[Any]) -> None:
    layer = kind(0.3, seed=5)
    answered(layer, normal(50, 20))
    assert layer.noise is None


@either
def test_noise_is_gone_after_a_step_that_failed(kind: type[Any]) -> None:
    """Else the network would keep a tensor of a function that was never finished."""
    layer = kind(0.3)
    noise = Noise(network_of(layer))
    with pytest.raises(KeyError), noise.dealt(noise.draw(KEY, 1, 10)[0]):
        raise KeyError
    assert layer.noise is None


def test_compiled_noise_is_the_eager_one() -> None:
    layer = AlphaDropout(0.3)
    noise = Noise(network_of(layer, units=20))
    values = normal(50, 20)

    def drop(bits: Any) -> Any:
        with noise.dealt(bits):
            return layer(values, training=True)

    compiled = tf.function(drop, jit_compile=True, autograph=False)
    np.testing.assert_allclose(answered(layer, values), compiled(noise.draw(KEY, 1, 50)[0]).numpy(), atol=1e-6)


@pytest.mark.parametrize("units", [20, 7])
def test_noise_of_a_step_does_not_depend_on_how_steps_are_taken_together(units: int) -> None:
    noise = Noise(network_of(AlphaDropout(0.3), units=units))
    seed, first = KEY
    together = noise.draw(KEY, 3, 50)
    for step in range(3):
        np.testing.assert_array_equal(together[step], noise.draw((seed, first + step), 1, 50)[0])
