"""What HTTP shows of predictions over stored data sets."""

from datetime import datetime
from typing import Literal

from service.api.views.base import ErrorReference, View
from service.api.views.models import ClassCalibrationView, NumberCalibrationView, calibration_view
from service.domain.jobs import JobState, Measure
from service.domain.predictions import Evaluation, PredictionJob, PredictionResult, PredictionSpec


class RowProgressView(View):
    """How far a prediction has come."""

    rows_done: int
    rows: int
    fraction: float
    rows_per_second: float | None
    eta_seconds: float | None

    @classmethod
    def of(cls, job: PredictionJob) -> "RowProgressView":
        """Show how far it has come."""
        fraction = 1.0 if job.state == JobState.SUCCEEDED else job.fraction or 0.0
        return cls(
            rows_done=round(fraction * job.rows),
            rows=job.rows,
            fraction=fraction,
            rows_per_second=job.rows_per_second,
            eta_seconds=job.eta_seconds,
        )


class EvaluationView(View):
    """How answers fit what was true, which `target` says; `metrics` are those of a test part."""

    target: str
    rows: int
    """Rows that have both an answer and a known truth; the warnings say why others are left out."""
    metrics: dict[str, Measure]
    calibration: ClassCalibrationView | NumberCalibrationView | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> "EvaluationView":
        """Show an evaluation."""
        return cls(
            target=evaluation.target,
            rows=evaluation.rows,
            metrics=dict(evaluation.metrics),
            calibration=calibration_view(evaluation.calibration),
        )


class ResultView(View):
    """What a prediction has made; `sha256` and `size_bytes` are of the Parquet file."""

    rows: int
    unanswered: int
    """Rows without a prediction; the warnings say why."""
    columns: list[str]
    size_bytes: int
    sha256: str
    warnings: list[str]
    evaluation: EvaluationView | None
    """Null where no target was named."""

    @classmethod
    def of(cls, result: PredictionResult) -> "ResultView":
        """Show a result."""
        return cls(
            rows=result.rows,
            unanswered=result.unanswered,
            columns=list(result.columns),
            size_bytes=result.size_bytes,
            sha256=result.sha256,
            warnings=list(result.warnings),
            evaluation=None if result.evaluation is None else EvaluationView.of(result.evaluation),
        )


class PredictionJobView(View):
    """A prediction over a stored data set."""

    id: str
    kind: Literal["prediction"] = "prediction"
    state: JobState
    spec: PredictionSpec
    progress: RowProgressView
    result: ResultView | None
    error: ErrorReference | None
    attempts: int
    queue_position: int | None
    tags: list[str]
    warnings: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: PredictionJob) -> "PredictionJobView":
        """Show a prediction."""
        code = job.error_code
        return cls(
            id=job.id,
            state=job.state,
            spec=PredictionSpec.model_validate(job.spec),
            progress=RowProgressView.of(job),
            result=None if job.result is None else ResultView.of(job.result),
            error=None if code is None else ErrorReference(code=code, detail=job.error_detail or ""),
            attempts=job.attempts,
            queue_position=job.queue_position,
            tags=job.tags,
            warnings=job.warnings,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )
