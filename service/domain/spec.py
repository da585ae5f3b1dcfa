"""What a user asks for: the job spec, its networks and its preparation, as strict frozen values."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.domain.bounds import Between, CountsItems, Frozen, JsonArray, Name
from service.domain.self_normalization import Initializer as Initializer
from service.domain.training_spec import TrainingSpec
from service.domain.wording import shown

Task = Literal["classification", "regression"]
Activation = Literal["relu", "elu", "tanh", "sigmoid", "selu"]
NumericPreparation = Literal["standard", "robust", "quantile"]

MAX_LAYERS = 256
MAX_UNITS = 65_536
DEFAULT_LAYERS = 4
MAX_FEATURES = 100_000

CONDITIONS = {
    "dense_layers": "the network is a plain sequence of Dense layers",
    "lecun_normal_start": "weights start from LeCun normal",
    "selu_activation": "every hidden layer's activation is SELU",
    "standardized_inputs": "the input features are standardized",
    "alpha_dropout": "dropout, where used, is alpha dropout",
}
"""What makes a network self-normalizing (Klambauer et al. 2017, section 2)."""


def condition(name: str, *, allowed: object) -> BeforeValidator:
    """Return a validator that lets only the one value through that keeps the named condition."""

    def check(value: object) -> object:
        if type(value) is type(allowed) and value == allowed:
            return value
        raise PydanticCustomError(
            "breaks_condition",
            "breaks the condition {name} of a self-normalizing network: {rule}; got {value}. "
            'Leave the field out, or use a network of kind "mlp"',
            {"name": name, "rule": CONDITIONS[name], "value": shown(value)},
        )

    return BeforeValidator(check)


def _check_units(value: Any) -> int | tuple[int, ...]:
    """Take one width for all layers, or a list with one width per layer."""
    widths = value if isinstance(value, list | tuple) else [value]
    whole = isinstance(value, list | tuple)
    if whole and not 1 <= len(widths) <= MAX_LAYERS:
        raise PydanticCustomError(
            "units", f"must have 1 to {MAX_LAYERS} entries, one per hidden layer; got {len(widths)}"
        )
    for position, width in enumerate(widths):
        where = f"entry {position} " if whole else ""
        if isinstance(width, bool) or not isinstance(width, int):
            text = "{where}must be a whole number or a list of them; got {value}"
        elif not 1 <= width <= MAX_UNITS:
            text = "{where}must be between 1 and " + str(MAX_UNITS) + "; got {value}"
        else:
            continue
        raise PydanticCustomError("units", text, {"where": where, "value": shown(width)})
    return tuple(widths) if whole else widths[0]


_WIDTH_SCHEMA = {"type": "integer", "minimum": 1, "maximum": MAX_UNITS}
Units = Annotated[
    int | tuple[int, ...],
    PlainValidator(_check_units),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
    WithJsonSchema(
        {"anyOf": [_WIDTH_SCHEMA, {"type": "array", "items": _WIDTH_SCHEMA, "minItems": 1, "maxItems": MAX_LAYERS}]}
    ),
]


def _check_features(value: Any) -> Any:
    """Take a list of column names."""
    if value is None:
        return None
    if isinstance(value, list | tuple) and len(value) > MAX_FEATURES:
        raise PydanticCustomError("features", f"must name at most {MAX_FEATURES:,} columns; got {len(value):,}")
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise PydanticCustomError(
            "features", "must be null or a list of column names, at least one; got {value}", {"value": shown(value)}
        )
    return tuple(value)


class _Network(Frozen):
    """What both kinds of network share."""

    hidden_layers: Annotated[int | None, Between(1, MAX_LAYERS)] = None
    """How many hidden layers; null: as many as ``units`` lists, else 4."""
    units: Units = 128
    """Width of the hidden layers: one number, or a list with one entry per layer."""
    dropout: Annotated[float | None, Between(0, 1, below=True)] = None
    """Dropout rate after every hidden layer; null: chosen by the task."""

    @model_validator(mode="after")
    def _layers_match_units(self) -> "_Network":
        if isinstance(self.units, tuple) and self.hidden_layers not in (None, len(self.units)):
            raise PydanticCustomError(
                "units_mismatch",
                "units lists {listed} layers but hidden_layers says {said}; make them equal or leave hidden_layers out",
                {"listed": len(self.units), "said": self.hidden_layers},
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, first to last."""
        if isinstance(self.units, tuple):
            return self.units
        return (self.units,) * (self.hidden_layers or DEFAULT_LAYERS)


class SnnSpec(_Network):
    """A self-normalizing network; a field that would break one of its conditions is refused."""

    kind: Literal["snn"] = "snn"
    """Self-normalizing."""
    activation: Annotated[Literal["selu"], condition("selu_activation", allowed="selu")] = "selu"
    """SELU, and nothing else."""
    initializer: Annotated[Literal["lecun_normal"], condition("lecun_normal_start", allowed="lecun_normal")] = (
        "lecun_normal"
    )
    """LeCun normal, and nothing else."""
    normalization: Annotated[None, condition("dense_layers", allowed=None)] = None
    """None: the network normalizes itself."""
    dropout_kind: Annotated[Literal["alpha"], condition("alpha_dropout", allowed="alpha")] = "alpha"
    """Alpha dropout, and nothing else."""
    standardize: Annotated[Literal[True], condition("standardized_inputs", allowed=True)] = True
    """Inputs have mean 0 and standard deviation 1 on the training rows."""


class MlpSpec(_Network):
    """A regular feed-forward network, for comparison."""

    kind: Literal["mlp"]
    """Regular."""
    activation: Activation = "relu"
    """The activation of every hidden layer."""
    initializer: Initializer = "glorot_uniform"
    """What the weights start from; ``normal`` is N(0, 0.05), Keras' RandomNormal."""
    normalization: Literal["batch"] | None = None
    """Batch normalization before every activation, or none."""
    dropout_kind: Literal["standard"] = "standard"
    """Ordinary dropout."""
    standardize: bool = True
    """Whether the inputs are standardized."""


def _network_kind(value: Any) -> str:
    kind = value.get("kind", "snn") if isinstance(value, dict) else getattr(value, "kind", "snn")
    return kind if isinstance(kind, str) else "?"


NetworkSpec = Annotated[
    Annotated[SnnSpec, Tag("snn")] | Annotated[MlpSpec, Tag("mlp")],
    Discriminator(
        _network_kind,
        custom_error_type="unknown_kind",
        custom_error_message='kind must be "snn" or "mlp"',
    ),
]


class PreparationSpec(Frozen):
    """How raw columns become numbers; everything is fitted on the training rows and kept inside the model."""

    numeric: NumericPreparation = "standard"
    """Numbers as they are, scaled by quartiles and softly clipped, or mapped to a normal distribution by quantiles;
    standardized afterwards in every case."""
    max_categories: Annotated[int, Between(1, 1000)] = 64
    """The most columns that one categorical feature may take; its rarer categories share one."""


class JobSpec(Frozen):
    """One training: which data, which network, how."""

    dataset: Annotated[str, Field(min_length=1, max_length=100)]
    """Id of a stored data set, or the name of a built-in one."""
    target: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    """The column to predict; a built-in data set knows its own."""
    features: Annotated[tuple[str, ...] | None, BeforeValidator(_check_features)] = None
    """The columns to predict from; null: every numeric, categorical, boolean and date column but the target."""
    task: Task | None = None
    """Null: a text, boolean or integer target with at most 20 values is a classification."""
    network: NetworkSpec = SnnSpec()
    """The network: ``{"kind": "snn"}`` or ``{"kind": "mlp"}``."""
    training: TrainingSpec = TrainingSpec()
    """How to train it."""
    preparation: PreparationSpec = PreparationSpec()
    """How raw columns become numbers."""
    model: Name | None = None
    """The name to register the model under; null: the data set's."""
    tags: Annotated[tuple[Name, ...], JsonArray, Field(max_length=20), CountsItems] = ()
    """Words to find the job by."""
