"""What words in a comparison's spec stand for: the article's three experiments, and sets of networks."""

from typing import Any

from service.domain.comparison_spec import ArmsWord, ComparisonSpec, PresetName
from service.domain.spec import MlpSpec, NetworkSpec, SnnSpec

DEFAULT_LAYERS = 20
DEFAULT_UNITS = 100
"""The article's networks."""

_TRAINING: dict[str, Any] = {
    "optimizer": "nadam",
    "learning_rate": 7e-4,
    "epochs": 50,
    "batch_size": 32,
    "early_stopping": None,
}


def _preset(dataset: str, validation_fraction: float, seeds: list[int]) -> ComparisonSpec:
    training = {**_TRAINING, "validation_fraction": validation_fraction}
    return ComparisonSpec.model_validate({"dataset": dataset, "training": training, "seeds": seeds})


PRESETS: dict[PresetName, ComparisonSpec] = {
    # 10,000 of 60,000 training images, 5,000 of 50,000, and 81 of 404 towns validate.
    "article/fashion_mnist": _preset("fashion_mnist", 1 / 6, [0]),
    "article/cifar10": _preset("cifar10", 0.1, [0]),
    "article/boston_housing": _preset("boston_housing", 0.2, [0, 1, 2, 3, 4]),
}
"""The article's experiments; each is tested on the data set's official test part, without dropout.

Source: J. Quijas, "Solving the Vanishing Gradient Problem with Self-Normalizing Neural Networks using Keras", Towards
AI. It does not say how many rows validate, nor with which seeds.
"""


def with_preset(spec: ComparisonSpec) -> ComparisonSpec:
    """Fill in what the preset says and the spec does not, field by field, also within ``training``.

    A null is said, where it means something: no early stopping. No data set means the preset's.
    """
    if spec.preset is None:
        return spec
    preset = PRESETS[spec.preset]
    given = {name: getattr(spec, name) for name in spec.model_fields_set}
    if spec.dataset is None:
        given.pop("dataset", None)
    training = {name: getattr(spec.training, name) for name in spec.training.model_fields_set}
    return preset.model_copy(update=given | {"training": preset.training.model_copy(update=training)})


def networks_of(word: ArmsWord, layers: int | None, units: int, dropout: float) -> dict[str, NetworkSpec]:
    """Return the networks that a word stands for, in order; ``layers`` None leaves the depth open."""
    size = {"hidden_layers": layers, "units": units, "dropout": dropout}
    snn = SnnSpec.model_validate(size)

    def mlp(**fields: Any) -> MlpSpec:
        return MlpSpec.model_validate({"kind": "mlp", **size, **fields})

    if word == "article":
        return {
            "snn": snn,
            # The article does not say what its regular network is: taken as Keras' defaults on raw inputs.
            "regular": mlp(activation="relu", initializer="glorot_uniform", standardize=False),
            "relu_he": mlp(activation="relu", initializer="he_normal"),
            "relu_he_batchnorm": mlp(activation="relu", initializer="he_normal", normalization="batch"),
        }
    kept = {"activation": "selu", "initializer": "lecun_normal"}
    ablations: dict[str, NetworkSpec] = {
        "snn": snn,
        "no_lecun_start": mlp(**{**kept, "initializer": "he_normal"}),
        "no_selu": mlp(**{**kept, "activation": "relu"}),
        "no_standardization": mlp(**kept, standardize=False),
        "batch_normalization": mlp(**kept, normalization="batch"),
    }
    # The networks above have ordinary dropout too, for only an SNN has alpha dropout: this one is their yardstick.
    return ablations if dropout == 0 else {**ablations, "no_alpha_dropout": mlp(**kept)}
