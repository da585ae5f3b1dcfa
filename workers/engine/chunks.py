"""Many training steps in one XLA call: forward, backward, update and metrics by Keras' own methods.

Between calls a training is a few plain vectors (``layout.py``); inside a call every weight and every optimizer slot is
a tensor of its own in the state of a loop. Calls have a fixed shape and run as many of their steps as they are told to,
so another number of rows or epochs compiles nothing anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from workers.engine.dropout import Noise
from workers.engine.feeds import Chunk, Shape
from workers.engine.layout import Layout, Vectors, values_of

LoopState = tuple[list[Any], list[Any], list[Any]]
"""Tensors of the trainable variables, of the network's others, and of the optimizer's."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a chunk of training steps gives back."""

    state: Vectors
    totals: Vectors
    losses: NDArray[Any]
    """The loss of every step, (steps,)."""
    measured: NDArray[Any]
    """What each metric has come to since the totals were fresh, (metrics,)."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a chunk of evaluated rows gives back."""

    totals: Vectors
    measured: NDArray[Any]
    """What each metric has come to since the totals were fresh, (metrics,)."""


class Engine:
    """The compiled functions of one network, which must be compiled with a loss and an optimizer on plain tensors.

    All state is passed in and out as packed vectors; the variables of the network, of the optimizer and of the metrics
    only say how it starts.
    """

    def __init__(
        self,
        network: keras.Model,
        metrics: Sequence[keras.metrics.Metric],
        *,
        targets: str,
        training: Shape,
        evaluation: Shape,
    ) -> None:
        self.network = network
        self.metrics = (keras.metrics.Mean(name="loss"), *metrics)
        self.shape, self.evaluation_shape = training, evaluation
        self._targets = targets
        self._noise = Noise(network)
        self._bits = np.zeros((training.steps, training.rows, self._noise.units), np.uint16)
        network.supports_masking = True  # its layers do; without this the mask is lost before it reaches the loss
        self._optimizer = network.optimizer
        self._optimizer.build(network.trainable_variables)
        self._build_metrics()
        # A path begins with the optimizer's own name, which Keras counts up from one to the next.
        slots = {f"optimizer/{variable.path.partition('/')[2]}": variable for variable in self._optimizer.variables}
        totals = {
            f"metrics/{metric.name}/{number}": variable
            for metric in self.metrics
            for number, variable in enumerate(metric.variables)
        }
        self.network_layout = Layout.of(_named(network))
        self.layout = Layout.of(_named(network) | slots)
        self.totals_layout = Layout.of(totals)
        self.fresh_totals = self.totals_layout.join(values_of(totals))
        self._fresh = values_of(_named(network) | slots)
        steps = tf.TensorSpec([], tf.int32)
        noise = tf.TensorSpec(self._bits.shape, tf.uint16)
        each_step = [tf.TensorSpec([training.steps], network.compute_dtype), noise, steps]
        totals_signature = self.totals_layout.signature()
        # Traced here, once: a call of the concrete function cannot trace anything anew, and costs half as much.
        self._train_steps = tf.function(self._trace_training, jit_compile=True, autograph=False).get_concrete_function(
            self.layout.signature(), totals_signature, self._examples(training), *each_step
        )
        self._evaluate_steps = tf.function(
            self._trace_evaluation, jit_compile=True, autograph=False
        ).get_concrete_function(self.network_layout.signature(), totals_signature, self._examples(evaluation), steps)

    @property
    def metric_names(self) -> list[str]:
        """The names of what is measured, in the order of ``measured``."""
        return [metric.name for metric in self.metrics]

    def compile(self, *, evaluation: bool) -> None:
        """Compile training, and evaluation where it is needed, now: by a call that takes no step."""
        state = self.layout.join(self._fresh)
        self.train(state, self.fresh_totals, self.nothing(self.shape), np.zeros(0), (0, 0))
        if evaluation:
            self.evaluate(self.network_of(state), self.fresh_totals, self.nothing(self.evaluation_shape))

    def start(self, weights: Mapping[str, NDArray[Any]]) -> Vectors:
        """Return the state before the first step of a network that starts from these weights.

        They are given as ``layer/kernel``; what is not given starts as in the network that the engine was made of.
        """
        return self.layout.join(self._fresh | {f"network/{name}": array for name, array in weights.items()})

    def train(
        self, state: Vectors, totals: Vectors, chunk: Chunk, learning_rates: NDArray[Any], key: tuple[int, int]
    ) -> Trained:
        """Take a chunk's steps.

        ``learning_rates`` holds one for each step; ``key``, a seed and the number of the first step, decides the noise
        of dropout layers.
        """
        rates = np.zeros(self.shape.steps, self.network.compute_dtype)
        rates[: chunk.steps] = learning_rates
        if self._noise.layers:
            self._bits[: chunk.steps] = self._noise.draw(key, chunk.steps, self.shape.rows)
        state, totals, losses, measured = self._train_steps(
            _tensors(state),
            _tensors(totals),
            _tensors(chunk.arrays),
            tf.constant(rates),
            tf.convert_to_tensor(self._bits),
            tf.constant(chunk.steps),
        )
        return Trained(state, totals, losses.numpy()[: chunk.steps], measured.numpy())

    def evaluate(self, network: Vectors, totals: Vectors, chunk: Chunk) -> Evaluated:
        """Measure a chunk's rows as the network answers them."""
        totals, measured = self._evaluate_steps(
            _tensors(network), _tensors(totals), _tensors(chunk.arrays), tf.constant(chunk.steps)
        )
        return Evaluated(totals, measured.numpy())

    def network_of(self, state: Vectors) -> Vectors:
        """Return a copy of the network's part of a state, without the optimizer's; it comes first in every vector."""
        of_type = dict(zip(self.layout.types, state, strict=True))
        sizes = self.network_layout.sizes
        return tuple(np.asarray(of_type[type_])[: sizes[type_]].copy() for type_ in self.network_layout.types)

    def load(self, network: Vectors) -> keras.Model:
        """Put weights into the network's variables, and return it."""
        arrays = self.network_layout.split(network)
        for name, variable in _named(self.network).items():
            variable.assign(arrays[name])
        return self.network

    def _trace_training(
        self, state: Vectors, totals: Vectors, examples: tuple[Any, ...], rates: Any, noise: Any, steps: Any
    ) -> tuple[Any, ...]:
        losses, outputs = self._buffers(self.shape)

        def one(step: Any, parts: LoopState, losses: Any, outputs: Any) -> tuple[Any, ...]:
            with self._noise.dealt(noise[step]):
                parts, loss, answers = self._step(parts, [array[step] for array in examples], rates[step])
            return step + 1, parts, _put(losses, step, loss), _put(outputs, step, answers)

        parts = self._divided(self.layout.unpack(state))
        _, parts, losses, outputs = tf.while_loop(
            lambda step, *_: step < steps, one, [tf.constant(0), parts, losses, outputs]
        )
        totals, measured = self._count(totals, examples, losses, outputs)
        return self.layout.pack([value for part in self._in_order(parts) for value in part]), totals, losses, measured

    def _step(self, parts: LoopState, examples: Sequence[Any], rate: Any) -> tuple[LoopState, Any, Any]:
        """Take one step, as ``keras.Model.train_step`` does."""
        trainable, others, slots = parts
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            loss, answers, others = self._forward(trainable, others, examples, training=True)
        slots = [
            tf.cast(rate, variable.dtype) if variable is self._optimizer.learning_rate else slot
            for variable, slot in zip(self._optimizer.variables, slots, strict=True)
        ]
        gradients = tape.gradient(loss, trainable)
        trainable, slots = self._optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, others, slots), loss, answers

    def _forward(
        self, trainable: list[Any], others: list[Any], examples: Sequence[Any], *, training: bool
    ) -> tuple[Any, Any, list[Any]]:
        """Return the loss, the answers, and what the pass made of the variables that are not trained."""
        rows, targets, loss_weights, _, mask = examples
        network = self.network
        mapping = [
            *zip(network.trainable_variables, trainable, strict=True),
            *zip(network.non_trainable_variables, others, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            answers = network(rows, training=training, mask=mask)
            loss = network.compute_loss(y=targets, y_pred=answers, sample_weight=loss_weights, training=training)
            after = [scope.get_current_value(variable) for variable in network.non_trainable_variables]
        return loss, answers, after

    def _trace_evaluation(
        self, state: Vectors, totals: Vectors, examples: tuple[Any, ...], steps: Any
    ) -> tuple[Any, ...]:
        trainable, others, _ = self._divided(self.network_layout.unpack(state))

        def one(step: Any, losses: Any, outputs: Any) -> tuple[Any, ...]:
            batch = [array[step] for array in examples]
            loss, answers, _ = self._forward(trainable, others, batch, training=False)
            return step + 1, _put(losses, step, loss), _put(outputs, step, answers)

        buffers = self._buffers(self.evaluation_shape)
        _, losses, outputs = tf.while_loop(lambda step, *_: step < steps, one, [tf.constant(0), *buffers])
        return self._count(totals, examples, losses, outputs)

    def _count(self, totals: Vectors, examples: tuple[Any, ...], losses: Any, outputs: Any) -> tuple[Vectors, Any]:
        """Add a chunk to the metrics, all its rows at once, and say what they have come to."""
        _, targets, _, weights, mask = examples
        rows_of_step = tf.reduce_sum(tf.cast(mask, losses.dtype), axis=1)
        targets, outputs = tf.reshape(targets, [-1, 1]), tf.reshape(outputs, [-1, outputs.shape[-1]])
        values = self.totals_layout.unpack(totals)
        after, measured = [], []
        for metric in self.metrics:
            is_loss = metric is self.metrics[0]
            seen, weight = ((losses,), rows_of_step) if is_loss else ((targets, outputs), tf.reshape(weights, [-1]))
            own, values = values[: len(metric.variables)], values[len(metric.variables) :]
            own = metric.stateless_update_state(own, *seen, sample_weight=weight)
            after += own
            measured.append(tf.cast(metric.stateless_result(own), losses.dtype))
        return self.totals_layout.pack(after), tf.stack(measured)

    def _divided(self, values: list[Any]) -> LoopState:
        """Sort tensors in the order of the layout into the three parts."""
        of = dict(zip([slot.name for slot in self.layout.slots], values, strict=False))
        network = self.network
        named = {id(variable): name for name, variable in _named(network).items()}
        trainable = [of[named[id(variable)]] for variable in network.trainable_variables]
        others = [of[named[id(variable)]] for variable in network.non_trainable_variables]
        return trainable, others, values[len(self.network_layout.slots) :]

    def _in_order(self, parts: LoopState) -> tuple[list[Any], list[Any]]:
        """Undo ``_divided``."""
        network = self.network
        variables = [*network.trainable_variables, *network.non_trainable_variables]
        of = {id(variable): value for variable, value in zip(variables, [*parts[0], *parts[1]], strict=True)}
        return [of[id(variable)] for variable in _named(network).values()], parts[2]

    def _buffers(self, shape: Shape) -> tuple[Any, Any]:
        type_, answers = self.network.compute_dtype, self.network.outputs[0].shape[-1]
        return tf.zeros([shape.steps], type_), tf.zeros([shape.steps, shape.rows, answers], type_)

    def _examples(self, shape: Shape) -> tuple[Any, ...]:
        """Describe the arrays of a chunk to ``tf.function``."""
        type_, features = self.network.compute_dtype, self.network.inputs[0].shape[-1]
        both = [shape.steps, shape.rows]
        return (
            tf.TensorSpec([*both, features], type_),
            tf.TensorSpec([*both, 1], self._targets),
            tf.TensorSpec(both, type_),
            tf.TensorSpec(both, type_),
            tf.TensorSpec(both, tf.bool),
        )

    def nothing(self, shape: Shape) -> Chunk:
        """Return a chunk without a row."""
        arrays = [np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in self._examples(shape)]
        rows, targets, loss_weights, metric_weights, mask = arrays
        return Chunk(rows, targets, loss_weights, metric_weights, mask, steps=0)

    def _build_metrics(self) -> None:
        """Let every metric make its variables, which some do only when they first see rows."""
        type_, answers = self.network.compute_dtype, self.network.outputs[0].shape[-1]
        for metric in self.metrics[1:]:
            metric.update_state(
                np.zeros((2, 1), self._targets), np.zeros((2, answers), type_), sample_weight=np.zeros(2, type_)
            )
            metric.reset_state()


def _named(network: keras.Model) -> dict[str, keras.Variable]:
    """Return every variable of a network by its layer: weights, moving moments, the state of seed generators."""
    return {f"network/{layer.name}/{own.name}": own for layer in network.layers for own in layer.variables}


def _put(buffer: Any, position: Any, value: Any) -> Any:
    return tf.tensor_scatter_nd_update(buffer, [[position]], [value])


def _tensors(arrays: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(tf.convert_to_tensor(array) for array in arrays)
