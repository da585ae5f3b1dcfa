"""What HTTP shows of models: names, versions with everything that is known of them, and aliases."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from service.api.views.base import View
from service.api.views.jobs import MetricsView
from service.api.views.verdicts import VerdictView
from service.domain.encoders import to_json
from service.domain.models import Alias, AliasChange, ClassLabel, Model
from service.domain.spec import JobSpec

if TYPE_CHECKING:
    # At run time these would load SQLAlchemy, which clients that read these views may not have.
    from service.use_cases.model_facts import VersionFacts


class InputColumnView(View):
    """A column that a model takes: a raw value of this kind; ``encoder`` says what the model makes of it."""

    name: str
    kind: str
    gaps: bool
    encoder: dict[str, Any]


class EncodedColumnView(View):
    """A number that the network takes, with what standardizes it."""

    name: str
    mean: float
    scale: float


class OutputView(View):
    """What a model answers."""

    task: str
    target: str
    classes: list[ClassLabel] | None


class DataView(View):
    """What a version was trained on; a count is null where the data set, or the job, has been deleted."""

    dataset: str
    sha256: str | None
    """Of the table's Parquet file; null for the article's tables."""
    rows: int | None
    training_rows: int | None
    validation_rows: int | None
    test_rows: int | None


class SeedsView(View):
    """Where what was random began."""

    training: int
    split: int


class ReliabilityBinView(View):
    """The rows whose greatest probability lies above one bound and not above the other."""

    bin: int
    above: float
    to: float
    rows: int
    confidence: float | None
    """Their mean greatest probability."""
    accuracy: float | None
    """How many of them the answer is right for, 0 to 1."""


MeasuredPart = Annotated[
    Literal["test", "validation", "dataset"],
    Field(description="On which rows: of a part of the training table (validation rows chose the best epoch), or all"),
]


class ClassCalibrationView(View):
    """How the probabilities of a classification fit what came true."""

    part: MeasuredPart
    rows: int
    expected_calibration_error: float | None
    brier: float | None
    """Summed over classes: 0 is best, 2 is worst."""
    log_loss: float | None
    bins: list[ReliabilityBinView]


class ShareView(View):
    """So large a share of the rows is off by at most so much."""

    share: float
    at_most: float | None


class NumberCalibrationView(View):
    """How far the predictions of a regression are off, truth minus prediction, in the target's units."""

    part: MeasuredPart
    rows: int
    mean_residual: float | None
    residual_std: float | None
    within_one_std: float | None
    """The share of rows whose prediction is off by at most one ``residual_std``; 0.68 where errors are normal."""
    within_two_std: float | None
    absolute_residual: list[ShareView]


class FileView(View):
    """A file of a version, read at ``/models/{name}/versions/{version}/files/{name of the file}``."""

    name: Literal["model.keras", "model.onnx", "encoder.json"]
    size_bytes: int
    sha256: str


class VersionView(View):
    """One version of a model, with all that is known of it."""

    name: str
    version: int
    aliases: list[str]
    job_id: str
    spec: JobSpec
    metrics: MetricsView
    data: DataView
    data_sha256: str | None
    seeds: SeedsView
    verdict: VerdictView | None
    """Whether the network of the best epoch normalizes itself; null for versions from before that was looked at."""
    calibration: ClassCalibrationView | NumberCalibrationView | None
    """Null for versions from before it was measured, and where there were no rows to measure it on."""
    inputs: list[InputColumnView]
    encoded: list[EncodedColumnView]
    output: OutputView
    parity: dict[str, float]
    parameters: int
    environment: dict[str, str]
    warnings: list[str]
    files: list[FileView]
    weights_sha256: str
    onnx_sha256: str
    created_at: datetime

    @classmethod
    def of(cls, facts: "VersionFacts") -> "VersionView":
        """Show a version."""
        version, spec = facts.version, JobSpec.model_validate(facts.version.spec)
        inputs, outputs = version.inputs, version.outputs
        encoded = zip(inputs.encoded, inputs.mean, inputs.scale, strict=True)
        return cls(
            name=version.name,
            version=version.version,
            aliases=facts.aliases,
            job_id=version.job_id,
            spec=spec,
            metrics=MetricsView(latest=None, **version.metrics),
            data=_data(facts, spec),
            data_sha256=version.data_sha256,
            seeds=SeedsView(training=spec.training.seed, split=spec.training.seed),
            verdict=VerdictView.of(version.verdict),
            calibration=calibration_view(version.calibration),
            inputs=[
                InputColumnView(name=encoder.name, kind=encoder.kind, gaps=encoder.gaps, encoder=described)
                for encoder, described in zip(inputs.encoders, to_json(inputs.encoders), strict=True)
            ],
            encoded=[EncodedColumnView(name=name, mean=mean, scale=scale) for name, mean, scale in encoded],
            output=OutputView(task=outputs.task, target=outputs.target, classes=list(outputs.classes) or None),
            parity=version.parity,
            parameters=version.parameters,
            environment=version.environment,
            warnings=list(version.warnings),
            files=[FileView(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256) for file in facts.files],
            weights_sha256=version.weights_sha256,
            onnx_sha256=version.onnx_sha256,
            created_at=version.created_at,
        )


class VersionSummaryView(View):
    """A version in a list."""

    version: int
    job_id: str
    metrics: MetricsView
    created_at: datetime


class ModelView(View):
    """A model: a name, its versions, newest first, and its aliases."""

    name: str
    newest_version: int | None
    """Null where every version has been deleted."""
    default_version: int | None
    """What answers where neither version nor alias is named: the alias ``production`` where it is set, else the newest
    version."""
    aliases: dict[str, int]
    """Which version each stands for."""
    versions: list[VersionSummaryView]
    created_at: datetime

    @classmethod
    def of(cls, model: Model) -> "ModelView":
        """Show a model."""
        return cls(
            name=model.name,
            newest_version=model.newest_version,
            default_version=model.default_version,
            aliases=model.aliases,
            versions=[
                VersionSummaryView(
                    version=version.version,
                    job_id=version.job_id,
                    metrics=MetricsView(latest=None, **version.metrics),
                    created_at=version.created_at,
                )
                for version in model.versions
            ],
            created_at=model.created_at,
        )


class AliasChangeView(View):
    """One change of an alias."""

    kind: Literal["set", "rolled_back", "removed"]
    version: int | None
    """What it stands for since then; null where it was removed."""
    previous_version: int | None
    """What it stood for before; null where it was new."""
    created_at: datetime


class AliasSummaryView(View):
    """An alias in a list."""

    alias: str
    version: int
    updated_at: datetime

    @classmethod
    def of(cls, alias: Alias) -> "AliasSummaryView":
        """Show an alias."""
        return cls(alias=alias.name, version=alias.version, updated_at=alias.updated_at)


class AliasesView(View):
    """Every alias of a model, by name."""

    items: list[AliasSummaryView]


class AliasView(View):
    """An alias with its last changes, newest first, at most 100."""

    model: str
    alias: str
    version: int
    updated_at: datetime
    history: list[AliasChangeView]

    @classmethod
    def of(cls, model: str, alias: Alias, history: list[AliasChange]) -> "AliasView":
        """Show an alias."""
        return cls(
            model=model,
            alias=alias.name,
            version=alias.version,
            updated_at=alias.updated_at,
            history=[
                AliasChangeView(
                    kind=change.kind,
                    version=change.version,
                    previous_version=change.previous_version,
                    created_at=change.created_at,
                )
                for change in history
            ],
        )


def _data(facts: "VersionFacts", spec: JobSpec) -> DataView:
    parts = facts.parts or {}
    return DataView(
        dataset=spec.dataset,
        sha256=facts.version.data_sha256,
        rows=facts.rows,
        training_rows=parts.get("training"),
        validation_rows=parts.get("validation"),
        test_rows=parts.get("test"),
    )


def calibration_view(measured: Mapping[str, Any] | None) -> ClassCalibrationView | NumberCalibrationView | None:
    """Show a calibration."""
    if measured is None:
        return None
    return ClassCalibrationView(**measured) if "bins" in measured else NumberCalibrationView(**measured)
