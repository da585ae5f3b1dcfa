"""Build the Keras network that a spec describes."""

from typing import Any

import keras
from numpy.typing import NDArray

from service.domain.spec import JobSpec, NetworkSpec, SnnSpec
from service.domain.training_spec import TrainingSpec
from workers.engine.dropout import AlphaDropout, Dropout
from workers.engine.optimizers import on_plain_tensors

OPTIMIZERS = {
    "nadam": keras.optimizers.Nadam,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "adamw": keras.optimizers.AdamW,
}


class SmoothedCrossentropy(keras.losses.CategoricalCrossentropy):  # type: ignore[misc]  # Keras ships no types
    """Cross-entropy of class indices (rows, 1) against logits (rows, classes), the truth smoothed."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(from_logits=True, label_smoothing=label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Measure a batch."""
        classes = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1], dtype=y_pred.dtype)
        return super().call(classes, y_pred)


def build(network: NetworkSpec, features: int, outputs: int, seed: int, l2: float = 0.0) -> keras.Model:
    """Return an untrained network: rows (batch, features) in, logits or one standardized number (batch, outputs) out.

    Hidden layers are Dense, then batch normalization where asked, then the activation, then dropout. A self-normalizing
    network has SELU, LeCun-normal weights, zero biases and alpha dropout (Klambauer et al. 2017). Every random part has
    a seed of its own. ``l2`` times the sum of squared kernels is added to the loss.
    """
    penalty = {"kernel_regularizer": keras.regularizers.L2(l2)} if l2 else {}
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    layers: list[Any] = [keras.Input((features,), name="rows")]
    for number, units in enumerate(network.widths, start=1):
        initializer = _initializer(network.initializer, next(seeds))
        layers.append(keras.layers.Dense(units, kernel_initializer=initializer, name=f"dense_{number}", **penalty))
        if network.normalization == "batch":
            layers.append(keras.layers.BatchNormalization(name=f"batch_normalization_{number}"))
        layers.append(keras.layers.Activation(network.activation, name=f"{network.activation}_{number}"))
        if network.dropout:
            dropout = AlphaDropout if isinstance(network, SnnSpec) else Dropout
            layers.append(dropout(network.dropout, seed=next(seeds), name=f"dropout_{number}"))
    # One output, a regression, starts at zero, which is the target's mean: small tables have no rows to spare for
    # unlearning a random start (diabetes: R2 0.35 instead of 0.28, Boston 0.76 instead of 0.69).
    head = keras.initializers.Zeros() if outputs == 1 else keras.initializers.LecunNormal(seed=next(seeds))
    layers.append(keras.layers.Dense(outputs, kernel_initializer=head, name="head", **penalty))
    return keras.Sequential(layers, name="network")  # a name of Keras' own would count up with every job


def draw_kernels(network: keras.Model, seed: int) -> dict[str, NDArray[Any]]:
    """Return the kernels, as ``layer/kernel``, that ``build`` gives such a network with this seed, but faster."""
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    kernels = {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            initializer = layer.kernel_initializer
            if "seed" in (options := initializer.get_config()):
                initializer = type(initializer)(**{**options, "seed": next(seeds)})
            kernels[f"{layer.name}/kernel"] = keras.ops.convert_to_numpy(
                initializer(layer.kernel.shape, layer.kernel.dtype)
            )
        elif isinstance(layer, AlphaDropout | Dropout):
            next(seeds)
    return kernels


def optimizer(training: TrainingSpec) -> keras.optimizers.Optimizer:
    """Return the optimizer of a completed spec; its learning rate is set at every step."""
    options = {"weight_decay": training.weight_decay, "global_clipnorm": training.clip_norm}
    if not training.weight_decay and training.optimizer != "adamw":
        options["weight_decay"] = None  # spares a multiplication by 0 for every weight
    if training.optimizer == "sgd":
        options["momentum"] = training.momentum or 0.0
    return on_plain_tensors(OPTIMIZERS[training.optimizer])(**options)


def loss(spec: JobSpec) -> keras.losses.Loss:
    """Return the loss: cross-entropy on logits, or squared error of the standardized target."""
    if spec.task == "regression":
        return keras.losses.MeanSquaredError()
    if spec.training.label_smoothing:
        return SmoothedCrossentropy(spec.training.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _initializer(name: str, seed: int) -> keras.initializers.Initializer:
    classes = {
        "glorot_uniform": keras.initializers.GlorotUniform,
        "glorot_normal": keras.initializers.GlorotNormal,
        "he_normal": keras.initializers.HeNormal,
        "lecun_normal": keras.initializers.LecunNormal,
        "normal": keras.initializers.RandomNormal,
    }
    return classes[name](seed=seed)
