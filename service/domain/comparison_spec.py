"""What a user asks for who compares networks: the arms, the seeds, and what all of them share; strict frozen values."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from service.domain.bounds import NAME_PATTERN, Between, CountsItems, Frozen, JsonArray, Name, NameFormat
from service.domain.spec import (
    MAX_FEATURES,
    MAX_LAYERS,
    MAX_UNITS,
    MlpSpec,
    NetworkSpec,
    PreparationSpec,
    SnnSpec,
    Task,
)
from service.domain.training_spec import TrainingSpec
from service.domain.wording import shown

PresetName = Literal["article/fashion_mnist", "article/cifar10", "article/boston_housing"]
ArmsWord = Literal["article", "ablations"]
ARMS_WORDS: tuple[ArmsWord, ...] = ("article", "ablations")

MAX_ARMS = 16
MAX_DEPTHS = 8
MAX_SEEDS = 50
MAX_LEVELS = 10
MAX_JOBS = 200
DEFAULT_SEEDS = (0, 1, 2, 3, 4)

_NETWORKS: TypeAdapter[dict[str, NetworkSpec]] = TypeAdapter(dict[str, NetworkSpec])


def _check_arms(value: Any) -> Any:
    """Take nothing, one of the words, or an object of networks by name; every network says what is wrong with it."""
    if value is None or value in ARMS_WORDS:
        return value
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_ARMS:
        raise PydanticCustomError(
            "arms",
            'must be null, "article", "ablations", or an object that gives 1 to {most} networks a name each',
            {"most": MAX_ARMS},
        )
    for name in value:
        NameFormat().check(name)
    return _NETWORKS.validate_python(value)  # what it raises keeps its place within the object


def _plain_arms(arms: Any) -> Any:
    """Return the arms as plain JSON values."""
    return {name: network.model_dump(mode="json") for name, network in arms.items()} if isinstance(arms, dict) else arms


Arms = Annotated[
    ArmsWord | dict[Name, NetworkSpec] | None,
    PlainValidator(_check_arms),
    PlainSerializer(_plain_arms),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(ARMS_WORDS)},
                {
                    "type": "object",
                    "additionalProperties": {"anyOf": [SnnSpec.model_json_schema(), MlpSpec.model_json_schema()]},
                    "propertyNames": {"pattern": NAME_PATTERN},
                    "minProperties": 1,
                    "maxProperties": MAX_ARMS,
                },
                {"type": "null"},
            ]
        }
    ),
]


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that names something twice."""
    if len(set(values)) < len(values):
        twice = next(value for place, value in enumerate(values) if value in values[:place])
        raise PydanticCustomError("twice", "must not list {value} twice", {"value": shown(twice)})
    return values


Distinct = AfterValidator(_check_distinct)


def _refuse_seed(_value: Any) -> int:
    raise PydanticCustomError("seed", "every job has its own, which the list seeds gives; leave it out here")


class SharedTraining(TrainingSpec):
    """How every arm is trained; each job has a seed of its own."""

    seed: Annotated[SkipJsonSchema[int], BeforeValidator(_refuse_seed), Field(exclude=True)] = 0
    """Not to be given: ``seeds`` is the list of them."""

    @classmethod
    def of(cls, training: TrainingSpec) -> "SharedTraining":
        """Return what trainings share that differ in their seed."""
        return cls.model_construct(**(dict(training) | {"seed": 0}))

    def seeded(self, seed: int) -> TrainingSpec:
        """Return the training of a job."""
        return TrainingSpec.model_construct(**(dict(self) | {"seed": seed}))


class ComparisonSpec(Frozen):
    """Networks that are trained on the same rows and from the same seeds, to be held against each other.

    A completed one has every default written out, and may be sent again as it is.
    """

    preset: PresetName | None = None
    """One of the article's experiments; it gives every field that is not given here, also within ``training``."""
    dataset: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """Id of a stored data set, or the name of a built-in one; null: the preset's, without a preset it is required."""
    target: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    """The column to predict; a built-in data set knows its own."""
    features: (
        Annotated[tuple[str, ...], JsonArray, Field(min_length=1, max_length=MAX_FEATURES), CountsItems] | None
    ) = None
    """The columns to predict from; null: every numeric, categorical, boolean and date column but the target."""
    task: Task | None = None
    """Null: a text, boolean or integer target with at most 20 values is a classification."""
    arms: Arms = None
    """The networks by name; or a word for some: "article" for the article's SNN and three regular networks, "ablations"
    for an SNN and networks that each lack one of its conditions. Null: "article"; of a depth sweep, its first two."""
    hidden_layers: Annotated[int | None, Between(1, MAX_LAYERS)] = None
    """Hidden layers of the networks that a word stands for; null: 20."""
    units: Annotated[int | None, Between(1, MAX_UNITS)] = None
    """Width of the hidden layers of the networks that a word stands for; null: 100."""
    dropout: Annotated[float | None, Between(0, 1, below=True)] = None
    """Dropout rate of the networks that a word stands for; null: none."""
    depths: (
        Annotated[
            tuple[Annotated[int, Between(1, MAX_LAYERS)], ...],
            JsonArray,
            Field(min_length=1, max_length=MAX_DEPTHS),
            CountsItems,
            Distinct,
        ]
        | None
    ) = None
    """A depth sweep: every arm is trained with each of these numbers of hidden layers, as ``{arm}-{depth}``."""
    seeds: Annotated[
        tuple[Annotated[int, Between(0, 2**32 - 1)], ...],
        JsonArray,
        Field(min_length=1, max_length=MAX_SEEDS),
        CountsItems,
        Distinct,
    ] = DEFAULT_SEEDS
    """Every arm is trained once for each: it seeds the split, the start, the order of the rows and the dropout, the
    same for every arm."""
    reference: Name | None = None
    """The arm that the others are held against; null: ``regular`` where there is one, else the first."""
    levels: (
        Annotated[
            tuple[Annotated[float, Between(-1e9, 1e9)], ...],
            JsonArray,
            Field(min_length=1, max_length=MAX_LEVELS),
            CountsItems,
            Distinct,
        ]
        | None
    ) = None
    """Values of ``val_accuracy``, or of a regression's ``val_r2``: how many epochs did each arm need to reach them?
    Null: 90, 95 and 99 % of the way from guessing to the best that the arms have in common."""
    training: SharedTraining = SharedTraining()
    """How every arm is trained."""
    preparation: PreparationSpec = PreparationSpec()
    """How raw columns become numbers."""
    model: Name | None = None
    """Each arm's model is called ``{model}-{arm}``, with a version for each seed; null: the data set's name."""
    tags: Annotated[tuple[Name, ...], JsonArray, Field(max_length=20), CountsItems] = ()
    """Words to find the jobs by."""
