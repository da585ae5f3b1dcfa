"""What HTTP shows of jobs."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from service.api.views.base import ErrorReference, View
from service.api.views.verdicts import FindingView, VerdictView
from service.domain.jobs import EpochRecord, Job, JobState, Measure, StoredSplit
from service.domain.spec import JobSpec

if TYPE_CHECKING:
    from service.domain.completion import CompletedSpec  # it loads NumPy, which no client needs


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
