"""What a registered model is; knows nothing of how it was trained or how it is served."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.domain.encoders import Encoder

MAX_VERSION = 2**31 - 1
ClassLabel = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model takes: one encoder per feature, in order, with the mean and scale of every encoded column."""

    encoders: tuple[Encoder, ...]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion(VersionCard):
    """Everything that a finished training hands over to be registered and served."""

    weights: bytes
    onnx: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(VersionCard):
    """A registered, versioned, servable network."""

    version: int
    weights_sha256: str
    onnx_sha256: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are registered."""

    name: str
    newest_version: int
    created_at: datetime
    versions: tuple[ModelVersion, ...]
