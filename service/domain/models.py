"""What a registered model is; knows nothing of how it was trained or how it is served."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from service.domain.bounds import Name
from service.domain.wording import shown

if TYPE_CHECKING:
    from service.domain.encoders import Encoder  # they load NumPy, which no client needs

MAX_VERSION = 2**31 - 1


def _no_number(alias: str) -> str:
    if alias.isdigit():
        raise PydanticCustomError(
            "bad_name", "must hold a letter, for a number names a version; got {value}", {"value": shown(alias)}
        )
    return alias


AliasName = Annotated[Name, AfterValidator(_no_number)]
"""What an alias may be called: as models are, but no number."""
PRODUCTION = "production"
"""The alias whose version answers where a request names neither version nor alias."""
NEVER_CHANGED = 1e300
"""The scale of a column that is constant in training: whatever comes later is 0 for the network."""
ClassLabel = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model takes: one encoder per feature, in order, with the mean and scale of every encoded column."""

    encoders: "tuple[Encoder, ...]"
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the raw columns, in order."""
        return tuple(encoder.name for encoder in self.encoders)

    @property
    def encoded(self) -> tuple[str, ...]:
        """Names of the encoded columns, in order: as many as ``mean`` and ``scale`` have entries."""
        return tuple(name for encoder in self.encoders for name in encoder.columns)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model answers: one of ``classes``, or a number in the target's own units."""

    task: str
    target: str
    classes: tuple[ClassLabel, ...] = ()
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCard:
    """What is known of a version, before and after it is registered."""

    name: str
    job_id: str
    spec: dict[str, Any]
    data_sha256: str | None
    inputs: Inputs
    outputs: Outputs
    metrics: dict[str, Any]
    parity: dict[str, float]
    parameters: int
    environment: dict[str, str]
    warnings: tuple[str, ...] = ()
    """What its user should know, in plain words."""
    calibration: dict[str, Any] | None = None
    """How its answers to held-out rows fit what was true; None for versions from before that was measured."""
    verdict: dict[str, Any] | None = None
    """Whether the network of the best epoch normalizes itself; None for versions from before that was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion(VersionCard):
    """Everything that a finished training hands over to be registered and served."""

    weights: bytes
    onnx: bytes
    keras: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(VersionCard):
    """A registered, versioned, servable network."""

    version: int
    weights_sha256: str
    onnx_sha256: str
    keras_sha256: str | None
    """None for versions from before Keras files were kept."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """What a list shows of a version."""

    version: int
    job_id: str
    metrics: dict[str, Any]
    created_at: datetime
    verdict: dict[str, Any] | None
    target: str
    task: str


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are registered; there are none where all have been deleted."""

    name: str
    created_at: datetime
    versions: tuple[VersionSummary, ...]
    """Newest first."""
    aliases: dict[str, int]
    """Which version each of them stands for."""

    @property
    def newest_version(self) -> int | None:
        """The newest version that there is."""
        return self.versions[0].version if self.versions else None

    @property
    def default_version(self) -> int | None:
        """The version that answers where none is named."""
        return self.aliases.get(PRODUCTION, self.newest_version)


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for a version of a model."""

    name: str
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One entry in the history of an alias."""

    kind: Literal["set", "rolled_back", "removed"]
    version: int | None
    """What it stands for since then; None where it was removed."""
    previous_version: int | None
    """What it stood for before; None where it was new."""
    created_at: datetime
