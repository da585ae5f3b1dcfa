"""Keras' dropout layers, which inside a compiled chunk take their noise from outside.

Keras draws inside every layer with TensorFlow's default generator, which XLA turns into slow code on CPUs: 20 layers of
alpha dropout doubled the time of a step, a single one made it twenty times as long. Here the noise of all layers is
drawn at once outside of the compiled code, 16 bits a unit. Everywhere else the layers are Keras' own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.domain.self_normalization import ALPHA_PRIME, DROPOUT_LEVELS, alpha_dropout_affine, dropout_threshold

BITS_PER_WORD = 4
"""PCG64 gives 64 bits at once, enough for four units."""


class _NoiseFromOutside:
    """What both layers share: the bits of the step that is being traced, (batch, units) uint16, or None."""

    noise: Any = None
    rate: float
    output: Any

    @property
    def threshold(self) -> int:
        """The rate in levels."""
        return dropout_threshold(self.rate)

    def kept(self) -> Any:
        """Say which units are kept, (batch, units) bool."""
        return tf.cast(self.noise, tf.int32) >= self.threshold


class AlphaDropout(_NoiseFromOutside, keras.layers.AlphaDropout):  # type: ignore[misc]  # Keras ships no types
    """Set units to alpha' and restore mean and variance: ``a (x kept + alpha' (1 - kept)) + b``."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop, where a network trains."""
        if not training or self.noise is None:
            return super().call(inputs, training=training)
        a, b = alpha_dropout_affine(self.threshold / DROPOUT_LEVELS)
        return a * tf.where(self.kept(), inputs, tf.cast(ALPHA_PRIME, inputs.dtype)) + b


class Dropout(_NoiseFromOutside, keras.layers.Dropout):  # type: ignore[misc]  # Keras ships no types
    """Set units to 0 and scale the others by 1 / (1 - rate)."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop, where a network trains."""
        if not training or self.noise is None:
            return super().call(inputs, training=training)
        scale = 1 / (1 - self.threshold / DROPOUT_LEVELS)
        return tf.where(self.kept(), inputs * scale, tf.zeros_like(inputs))


class Noise:
    """Draws for all dropout layers of a network at once."""

    def __init__(self, network: keras.Model) -> None:
        self.layers = [layer for layer in network.layers if isinstance(layer, _NoiseFromOutside) and layer.rate > 0]
        self._widths = [layer.output.shape[-1] for layer in self.layers]

    @property
    def units(self) -> int:
        """How many units of a row may be dropped."""
        return sum(self._widths)

    def draw(self, key: tuple[int, int], steps: int, rows: int) -> NDArray[np.uint16]:
        """Return the bits of some steps, (steps, rows, units); ``key`` is a seed and the number of the first step.

        All steps of a training share one stream of PCG64, each with its place in it, so the noise of a step does not
        depend on how steps are taken together. Epochs, whose order comes from ``[seed, epoch]``, count from 1.
        """
        seed, first = key
        size = rows * self.units
        words = -(-size // BITS_PER_WORD)
        stream = np.random.PCG64([seed, 0]).advance(first * words)
        bits = stream.random_raw(steps * words).view(np.uint16).reshape(steps, words * BITS_PER_WORD)
        return bits[:, :size].reshape(steps, rows, self.units)

    @contextmanager
    def dealt(self, bits: Any) -> Iterator[None]:
        """Give every layer its share of one step's bits, (rows, units)."""
        try:
            if self.layers:
                for layer, share in zip(self.layers, tf.split(bits, self._widths, axis=1), strict=True):
                    layer.noise = share
            yield
        finally:
            for layer in self.layers:
                layer.noise = None
