"""How a user asks for a training: the optimizer, its schedule, the loss and the rows, as strict frozen values."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.domain.bounds import Between, Frozen
from service.domain.wording import shown

Optimizer = Literal["nadam", "adam", "sgd", "adamw"]
SplitMethod = Literal["random", "stratified", "column", "group", "time", "order"]
Monitor = Literal["val_loss", "val_accuracy", "val_f1", "val_auc", "val_mae", "val_rmse", "val_r2"]

MAX_BATCH_SIZE = 65_536
MAX_CLASSES = 10_000
MAX_CLASS_WEIGHT = 1e6


class _Schedule(Frozen):
    """What all schedules share."""

    warmup_epochs: Annotated[float, Between(0, 1000)] = 0.0
    """The learning rate rises linearly from 0 over so many epochs, step by step; parts of an epoch count."""


class ConstantSchedule(_Schedule):
    """The learning rate stays as it is."""

    kind: Literal["constant"]
    """Constant."""


class CosineSchedule(_Schedule):
    """The learning rate falls along half a cosine, from the end of the warm-up to the last step."""

    kind: Literal["cosine"]
    """Cosine."""
    final_fraction: Annotated[float, Between(0, 1)] = 0.0
    """What part of the learning rate is left at the last step."""


class PlateauSchedule(_Schedule):
    """The learning rate falls whenever ``training.monitor`` no longer improves; needs validation rows."""

    kind: Literal["plateau"]
    """Plateau."""
    factor: Annotated[float, Between(0, 1, above=True, below=True)] = 0.5
    """What the learning rate is multiplied by."""
    patience: Annotated[int, Between(1, 100_000)] = 10
    """How many epochs without improvement lower it."""
    min_delta: Annotated[float, Between(0, 1e9)] = 0.0
    """How much better an epoch must be to count as an improvement."""
    min_fraction: Annotated[float, Between(0, 1)] = 0.01
    """The learning rate never falls below this part of it."""


def _schedule_kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else "?"


ScheduleSpec = Annotated[
    Annotated[ConstantSchedule, Tag("constant")]
    | Annotated[CosineSchedule, Tag("cosine")]
    | Annotated[PlateauSchedule, Tag("plateau")],
    Discriminator(
        _schedule_kind,
        custom_error_type="unknown_kind",
        custom_error_message='kind must be "constant", "cosine" or "plateau"',
    ),
]


class EarlyStopping(Frozen):
    """End a training that no longer improves; the best epoch's weights are kept either way."""

    patience: Annotated[int, Between(1, 100_000)] = 30
    """How many epochs without improvement end the training."""
    min_delta: Annotated[float, Between(0, 1e9)] = 0.0
    """How much better an epoch must be to count as an improvement."""


def _check_batch_size(value: Any) -> Any:
    """Take a number of rows, or the word auto."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (is_whole and 1 <= value <= MAX_BATCH_SIZE):
        return value
    raise PydanticCustomError(
        "batch_size",
        'must be a whole number between 1 and {most}, or "auto"; got {value}',
        {"most": MAX_BATCH_SIZE, "value": shown(value)},
    )


BatchSize = Annotated[
    int | Literal["auto"],
    PlainValidator(_check_batch_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_BATCH_SIZE},
                {"type": "string", "const": "auto"},
            ]
        }
    ),
]


def _check_class_weights(value: Any) -> Any:
    """Take nothing, the word balanced, or a weight for each of some classes."""
    if value is None or value == "balanced":
        return value
    is_named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if not is_named or not 1 <= len(value) <= MAX_CLASSES:
        raise PydanticCustomError(
            "class_weights",
            'must be null, "balanced", or an object that gives 1 to {most} classes a weight each; got {value}',
            {"most": f"{MAX_CLASSES:,}", "value": shown(value)},
        )
    for name, weight in value.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight <= MAX_CLASS_WEIGHT:
            raise PydanticCustomError(
                "class_weights",
                "the weight of {name} must be a number above 0 and at most {most}; got {value}",
                {"name": shown(name), "most": f"{MAX_CLASS_WEIGHT:,.0f}", "value": shown(weight)},
            )
    return {name: float(weight) for name, weight in value.items()}


ClassWeights = Annotated[
    Literal["balanced"] | dict[str, float] | None,
    PlainValidator(_check_class_weights),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "const": "balanced"},
                {
                    "type": "object",
                    "additionalProperties": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_CLASS_WEIGHT},
                    "minProperties": 1,
                    "maxProperties": MAX_CLASSES,
                },
                {"type": "null"},
            ]
        }
    ),
]


class TrainingSpec(Frozen):
    """How the network is trained; a null is chosen by the task and written out in the completed spec."""

    optimizer: Optimizer = "adamw"
    """Keras' optimizer of that name."""
    learning_rate: Annotated[float | None, Between(0, 10, above=True)] = None
    """Step size of the optimizer, the greatest that the schedule gives it. Null: by the optimizer; together with the
    batch size "auto" it grows with the batch, against 32 rows: by the square root for adam, adamw and nadam, in
    proportion for sgd."""
    momentum: Annotated[float | None, Between(0, 1, below=True)] = None
    """How much of the last step the next one keeps; of sgd only, where null means 0.9."""
    weight_decay: Annotated[float | None, Between(0, 10)] = None
    """Decoupled weight decay, applied by the optimizer."""
    schedule: ScheduleSpec = ConstantSchedule(kind="constant")
    """How the learning rate changes: ``{"kind": "constant"}``, ``{"kind": "cosine"}`` or ``{"kind": "plateau"}``."""
    clip_norm: Annotated[float | None, Between(0, 1e6, above=True)] = None
    """Gradients are scaled down so that their norm over all layers is at most this; null: never."""
    l2: Annotated[float, Between(0, 10)] = 0.0
    """Adds so many times the sum of all squared kernels to the loss."""
    label_smoothing: Annotated[float, Between(0, 1, below=True)] = 0.0
    """Part of the truth that is spread evenly over all classes; of classifications only."""
    class_weights: ClassWeights = None
    """How much the rows of each class count in the training loss, by the class as text (``"setosa"``, ``"1"``,
    ``"true"``); a class that is not named has 1. "balanced": every class as much in all. Of classifications only."""
    sample_weight_column: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    """The column that says how much each row counts in loss and metrics: numbers from 0, no gaps; it is no feature."""
    epochs: Annotated[int, Between(1, 100_000)] = 300
    """The most passes over the training rows."""
    batch_size: BatchSize = 32
    """Rows per step; a batch never holds more than the training rows. "auto": the power of two nearest to a hundredth
    of the training rows, at least 32 and at most 512."""
    validation_fraction: Annotated[float, Between(0, 0.9)] = 0.2
    """Part of the rows outside the test part that chooses the best epoch."""
    test_fraction: Annotated[float | None, Between(0, 0.9)] = None
    """Part of all rows kept for the final test; null: the data set's official test part, where it has one."""
    split: SplitMethod | None = None
    """How rows are divided: at random; keeping the share of every class; as ``split_column`` says (its words training,
    validation and test, or 0 and 1 for training and test); keeping rows with the same ``split_column`` together; the
    latest by ``split_column`` last; or in the table's order. Null: by ``split_column`` where there is one, else
    stratified for a classification and random for a regression."""
    split_column: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    """The column that ``split`` goes by."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """When to end early; null: never."""
    monitor: Monitor = "val_loss"
    """Which metric names the best epoch."""
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    """Seed of the split, the start, the order of the rows and the dropout."""
