"""What HTTP shows: one response model per thing of the contract, made from the domain's values."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from service.domain.findings import Finding
from service.domain.jobs import EpochRecord, Job, JobState, Measure, StoredSplit
from service.domain.models import ClassLabel
from service.domain.spec import JobSpec

if TYPE_CHECKING:
    from service.domain.completion import CompletedSpec  # it loads NumPy, which no client needs

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


class VerdictView(View):
    """Whether a network normalizes itself, as far as it has been looked at."""

    status: Literal["held", "left", "stable", "vanishing", "exploding"]
    """In the box of Theorem 1; outside of it; outside, of a network that no theorem holds, but alive; dead."""
    detail: str
    epoch: int | None
    """After which it was lost; 0 before the first."""
    layer: int | None
    """The first hidden layer that was lost, from 1."""
    cause: str | None
    advice: list[str]

    @classmethod
    def of(cls, verdict: dict[str, Any] | None) -> "VerdictView | None":
        """Show a stored verdict."""
        return None if verdict is None else cls(**verdict)


class JobView(View):
    """A job."""

    id: str
    kind: Literal["training"] = "training"
    state: JobState
    spec: JobSpec
    progress: ProgressView
    metrics: MetricsView
    verdict: VerdictView | None
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
            verdict=VerdictView.of(job.verdict),
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


class FindingView(View):
    """What one rule of the lint found."""

    rule: str
    status: Literal["pass", "warn", "fail"]
    detail: str
    value: float | None
    """The number that it went by."""
    source: str
    layer: int | None
    """The hidden layer, from 1, where it is about one."""
    fix: dict[str, Any] | None
    """Fields of the spec, by JSON pointer, and what to set them to."""

    @classmethod
    def of(cls, finding: Finding) -> "FindingView":
        """Show a finding."""
        return cls(**finding.to_dict())


class ValidatedView(View):
    """What ``validate_only`` answers: the completed spec, what it will cost, and whether it can normalize itself."""

    spec: JobSpec
    parameters: int
    memory_bytes: int
    training_seconds: float
    warnings: list[str]
    lint: list[FindingView]
    suggested_spec: JobSpec | None
    """The spec with every fix of the lint made; null where there is none."""

    @classmethod
    def of(cls, completed: "CompletedSpec") -> "ValidatedView":
        """Show a completed spec."""
        cost = completed.cost
        return cls(
            spec=completed.spec,
            parameters=cost.parameters,
            memory_bytes=cost.memory_bytes,
            training_seconds=cost.training_seconds,
            warnings=list(completed.warnings),
            lint=[FindingView.of(finding) for finding in completed.findings],
            suggested_spec=completed.suggested,
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


class UncertaintyView(View):
    """How the answers of randomly thinned networks spread, in the order of the rows."""

    method: Literal["alpha_dropout", "dropout"]
    samples: int
    seed: int
    mean: list[float] | list[list[float]]
    """In the target's units, or probabilities in the order of the classes."""
    standard_deviation: list[float] | list[list[float]]
    predictive_entropy: list[float] | None
    """In nats; null for a regression."""
    mutual_information: list[float] | None
    """In nats, the part of it that is the network's own; null for a regression."""


class ExplanationsView(View):
    """What each feature contributes; baseline and contributions of a row add up to its answer, but for the gap."""

    method: Literal["integrated_gradients"]
    classes: list[ClassLabel] | None
    """The class of each row whose probability is explained; null for a regression."""
    answers: list[float]
    baseline: list[float]
    contributions: list[dict[str, float]]
    gap: list[float]


class PredictionView(View):
    """Answers in the order of the rows."""

    model: str
    version: int
    predictions: list[ClassLabel]
    classes: list[ClassLabel] | None = None
    probabilities: list[list[float]] | None = None
    warnings: list[str] | None = None
    uncertainty: UncertaintyView | None = None
    explanations: ExplanationsView | None = None


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
