"""Keras' optimizers on plain tensors.

On TensorFlow, Keras replaces some methods of its optimizers by forms that need ``tf.Variable`` for the sake of
``tf.distribute``, and refuses ``stateless_apply``. The forms of the base class, which the other backends use, work on
whatever a ``keras.StatelessScope`` holds; here they take their place again. No arithmetic is changed.
"""

from typing import Any, TypeVar

import keras
from keras.src.optimizers.base_optimizer import BaseOptimizer  # the public name is the TensorFlow form

AnyOptimizer = TypeVar("AnyOptimizer", bound=keras.optimizers.Optimizer)


class _OnPlainTensors(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras ships no types
    """Stands between an optimizer and its TensorFlow form."""

    stateless_apply = BaseOptimizer.stateless_apply
    assign = BaseOptimizer.assign
    assign_add = BaseOptimizer.assign_add
    assign_sub = BaseOptimizer.assign_sub
    _var_key = BaseOptimizer._var_key
    _apply_weight_decay = BaseOptimizer._apply_weight_decay
    _backend_update_step = BaseOptimizer._backend_update_step


def on_plain_tensors(optimizer: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Return the same optimizer with a ``stateless_apply`` that works."""
    bases: tuple[Any, ...] = (optimizer, _OnPlainTensors)
    return type(optimizer.__name__, bases, {})
