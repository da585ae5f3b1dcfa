"""What HTTP shows: one response model per thing of the contract, made from the domain's values."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from service.domain.completion import CompletedSpec
from service.domain.datasets import Column, Dataset
from service.domain.jobs import EpochRecord, Job, JobState, Measure
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
    queue_position: int | None
    tags: list[str]
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
                fraction=1.0 if done else job.epoch / job.epochs,
                rows_per_second=job.rows_per_second,
                eta_seconds=job.eta_seconds,
            ),
            metrics=MetricsView(latest=job.latest, best=job.best, test=job.test_metrics),
            model=None if version is None else ModelReference(name=job.model_name, version=version),
            error=None if code is None else ErrorReference(code=code, detail=job.error_detail or ""),
            attempts=job.attempts,
            queue_position=job.queue_position,
            tags=job.tags,
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

    @classmethod
    def of(cls, completed: CompletedSpec) -> "ValidatedView":
        """Show a completed spec."""
        cost = completed.cost
        return cls(
            spec=completed.spec,
            parameters=cost.parameters,
            memory_bytes=cost.memory_bytes,
            training_seconds=cost.training_seconds,
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


class ColumnView(View):
    """A column of a data set."""

    name: str
    kind: str
    missing: int | None
    unique: int | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    examples: list[str | int | float | bool | None]

    @classmethod
    def of(cls, column: Column) -> "ColumnView":
        """Show a column."""
        values = column.to_dict()
        values.pop("is_integer")
        return cls(**{**values, "examples": list(column.examples)})


class DatasetView(View):
    """A data set; ``sha256`` is of its stored Parquet form, null where it is read from files."""

    id: str
    name: str
    rows: int
    columns: list[ColumnView]
    sha256: str | None
    size_bytes: int
    builtin: bool
    created_at: datetime

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetView":
        """Show a data set."""
        return cls(
            id=dataset.id,
            name=dataset.name,
            rows=dataset.rows,
            columns=[ColumnView.of(column) for column in dataset.columns],
            sha256=dataset.sha256,
            size_bytes=dataset.size_bytes,
            builtin=dataset.builtin,
            created_at=dataset.created_at,
        )


class InputColumnView(View):
    """A column that a model takes, with what standardizes it."""

    name: str
    kind: str
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
    output: OutputView
    parity: dict[str, float]
    parameters: int
    environment: dict[str, str]
    weights_sha256: str
    onnx_sha256: str
    created_at: datetime

    @classmethod
    def of(cls, version: ModelVersion) -> "VersionView":
        """Show a version."""
        inputs, outputs = version.inputs, version.outputs
        columns = zip(inputs.features, inputs.kinds, inputs.mean, inputs.scale, strict=True)
        return cls(
            name=version.name,
            version=version.version,
            job_id=version.job_id,
            spec=JobSpec.model_validate(version.spec),
            metrics=MetricsView(latest=None, **version.metrics),
            data_sha256=version.data_sha256,
            inputs=[
                InputColumnView(name=name, kind=kind, mean=mean, scale=scale) for name, kind, mean, scale in columns
            ],
            output=OutputView(task=outputs.task, target=outputs.target, classes=list(outputs.classes) or None),
            parity=version.parity,
            parameters=version.parameters,
            environment=version.environment,
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

    @classmethod
    def of(cls, prediction: Prediction) -> "PredictionView":
        """Show a prediction."""
        return cls(
            model=prediction.model,
            version=prediction.version,
            predictions=prediction.predictions,
            classes=prediction.classes,
            probabilities=prediction.probabilities,
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
