"""What HTTP shows: one response model per thing of the contract, made from the domain's values."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from service.domain.completion import CompletedSpec
from service.domain.encoders import to_json
from service.domain.jobs import EpochRecord, Job, JobState, Measure, StoredSplit
from service.domain.models import ClassLabel, Model, ModelVersion
from service.domain.spec import JobSpec
from service.use_cases.predict import Prediction

Item = TypeVar("Item")


class View(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(extra="forbid")


class PageView(View, Generic[Item]):
    """Some items of a list, newest first."""

    items: list[Item]
    next_page_token: str | None


class ProgressView(View):
    """How far a job has come."""

    epoch: int
    epochs: int
    fraction: float
    rows_per_second: float | None
    eta_seconds: float | None


class MetricsView(View):
    """What a job has measured."""

    latest: dict[str, Measure] | None
    best: dict[str, Measure] | None
    test: dict[str, Measure] | None


class ModelReference(View):
    """The version that a job registered."""

    name: str
    version: int


class ErrorReference(View):
    """Why a job failed."""

    code: str
    detail: str


class JobView(View):
    """A job."""

    id: str
    kind: Literal["training"] = "training"
    state: JobState
    spec: JobSpec
    progress: ProgressView
    metrics: MetricsView
    verdict: dict[str, str] | None = None
    model: ModelReference | None
    error: ErrorReference | None
    attempts: int
    pause_requested: bool
    """Its worker is to store it and stop; its state is `running` until then."""
    retry_of: str | None
    """The failed job that this one goes on with."""
    queue_position: int | None
    tags: list[str]
    warnings: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobView":
        """Show a job."""
        done = job.state == JobState.SUCCEEDED
        version, code = job.model_version, job.error_code
        return cls(
            id=job.id,
            state=job.state,
            spec=JobSpec.model_validate(job.spec),
            progress=ProgressView(
                epoch=job.epoch,
                epochs=job.epochs,
                fraction=1.0 if done else job.fraction or 0.0,
                rows_per_second=job.rows_per_second,
                eta_seconds=job.eta_seconds,
            ),
            metrics=MetricsView(latest=job.latest, best=job.best, test=job.test_metrics),
            model=None if version is None else ModelReference(name=job.model_name, version=version),
            error=None if code is None else ErrorReference(code=code, detail=job.error_detail or ""),
            attempts=job.attempts,
            pause_requested=job.pause_requested,
            retry_of=job.retry_of,
            queue_position=job.queue_position,
            tags=job.tags,
            warnings=job.warnings,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ValidatedView(View):
    """What ``validate_only`` answers: the completed spec and what it will cost."""

    spec: JobSpec
    parameters: int
    memory_bytes: int
    training_seconds: float
    warnings: list[str]

    @classmethod
    def of(cls, completed: CompletedSpec) -> "ValidatedView":
        """Show a completed spec."""
        cost = completed.cost
        return cls(
            spec=completed.spec,
            parameters=cost.parameters,
            memory_bytes=cost.memory_bytes,
            training_seconds=cost.training_seconds,
            warnings=list(completed.warnings),
        )


class SplitView(View):
    """How the rows of a job were divided; ``sha256`` is of the stored split, so equal splits have equal ones."""

    method: str | None
    column: str | None
    seed: int
    training_rows: int
    validation_rows: int
    test_rows: int
    left_out_rows: int
    sha256: str

    @classmethod
    def of(cls, split: StoredSplit) -> "SplitView":
        """Show a split."""
        return cls(
            method=split.training.get("split"),
            column=split.training.get("split_column"),
            seed=split.training["seed"],
            training_rows=split.count("training"),
            validation_rows=split.count("validation"),
            test_rows=split.count("test"),
            left_out_rows=split.count("left_out"),
            sha256=split.sha256,
        )


class EpochsView(View):
    """Every epoch of a job: ``epoch``, its metrics, ``learning_rate`` and ``seconds``."""

    items: list[dict[str, Measure]]

    @classmethod
    def of(cls, records: list[EpochRecord]) -> "EpochsView":
        """Show epochs in order."""
        return cls(
            items=[
                {
                    "epoch": record.epoch,
                    **record.metrics,
                    "learning_rate": record.learning_rate,
                    "seconds": record.seconds,
                }
                for record in records
            ]
        )


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


class VersionView(View):
    """One version of a model."""

    name: str
    version: int
    job_id: str
    spec: JobSpec
    metrics: MetricsView
    data_sha256: str | None
    verdict: dict[str, str] | None = None
    inputs: list[InputColumnView]
    encoded: list[EncodedColumnView]
    output: OutputView
    parity: dict[str, float]
    parameters: int
    environment: dict[str, str]
    warnings: list[str]
    weights_sha256: str
    onnx_sha256: str
    created_at: datetime

    @classmethod
    def of(cls, version: ModelVersion) -> "VersionView":
        """Show a version."""
        inputs, outputs = version.inputs, version.outputs
        encoded = zip(inputs.encoded, inputs.mean, inputs.scale, strict=True)
        return cls(
            name=version.name,
            version=version.version,
            job_id=version.job_id,
            spec=JobSpec.model_validate(version.spec),
            metrics=MetricsView(latest=None, **version.metrics),
            data_sha256=version.data_sha256,
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
            weights_sha256=version.weights_sha256,
            onnx_sha256=version.onnx_sha256,
            created_at=version.created_at,
        )


class VersionSummary(View):
    """A version in a list."""

    version: int
    job_id: str
    metrics: MetricsView
    created_at: datetime


class ModelView(View):
    """A model: a name and its versions, newest first."""

    name: str
    newest_version: int
    versions: list[VersionSummary]
    created_at: datetime

    @classmethod
    def of(cls, model: Model) -> "ModelView":
        """Show a model."""
        return cls(
            name=model.name,
            newest_version=model.newest_version,
            versions=[
                VersionSummary(
                    version=version.version,
                    job_id=version.job_id,
                    metrics=MetricsView(latest=None, **version.metrics),
                    created_at=version.created_at,
                )
                for version in model.versions
            ],
            created_at=model.created_at,
        )


class PredictionView(View):
    """Answers in the order of the rows."""

    model: str
    version: int
    predictions: list[ClassLabel]
    classes: list[ClassLabel] | None = None
    probabilities: list[list[float]] | None = None
    warnings: list[str] | None = None

    @classmethod
    def of(cls, prediction: Prediction) -> "PredictionView":
        """Show a prediction."""
        return cls(
            model=prediction.model,
            version=prediction.version,
            predictions=prediction.predictions,
            classes=prediction.classes,
            probabilities=prediction.probabilities,
            warnings=prediction.warnings,
        )


class HealthView(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadinessView(View):
    """Whether every part is fit; a part that is not says what to do."""

    status: Literal["ready", "not ready"]
    parts: dict[str, str]


class ServiceVersionView(View):
    """Which version of the service this is."""

    name: Literal["selfnorm"] = "selfnorm"
    version: str
