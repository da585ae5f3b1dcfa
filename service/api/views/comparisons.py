"""What HTTP shows of comparisons."""

from datetime import datetime
from typing import TYPE_CHECKING

from service.api.views.base import View
from service.domain.comparison_completion import CompletedComparison
from service.domain.comparison_results import ComparisonResult
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparisons import ComparedJob, Comparison
from service.domain.jobs import JobState

if TYPE_CHECKING:
    # At run time these would load SQLAlchemy, which clients that read these views may not have.
    from service.use_cases.comparisons import FullComparison


class JobsProgressView(View):
    """How many of a comparison's jobs have ended."""

    finished_jobs: int
    total: int


class ComparedJobView(View):
    """Which job trains an arm with a seed."""

    arm: str
    seed: int
    id: str
    state: JobState

    @classmethod
    def of(cls, job: ComparedJob) -> "ComparedJobView":
        """Show a job of a comparison."""
        return cls(arm=job.arm, seed=job.seed, id=job.id, state=job.state)


class ComparisonItemView(View):
    """A comparison as lists show it."""

    id: str
    state: JobState
    """`queued`, `running`, `succeeded`, `failed` where a job has, or `cancelled`."""
    spec: ComparisonSpec
    reference: str
    """The arm that the others are held against."""
    progress: JobsProgressView
    tags: list[str]
    warnings: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, comparison: Comparison) -> "ComparisonItemView":
        """Show a comparison."""
        spec = ComparisonSpec.model_validate(comparison.spec)
        return cls(
            id=comparison.id,
            state=comparison.state,
            spec=spec,
            reference=spec.reference or "",
            progress=JobsProgressView(finished_jobs=comparison.finished, total=comparison.total),
            tags=list(spec.tags),
            warnings=comparison.warnings,
            created_at=comparison.created_at,
            started_at=comparison.started_at,
            finished_at=comparison.finished_at,
        )


class ComparisonView(ComparisonItemView):
    """A comparison."""

    jobs: list[ComparedJobView]
    """By arm, then by seed; a retry takes the place of the job that failed."""
    result: ComparisonResult | None
    """What it has come to so far; null while no job has begun."""
    verdict: str | None
    """What the result says, in words."""

    @classmethod
    def whole(cls, found: "FullComparison") -> "ComparisonView":
        """Show a comparison with its jobs and its result."""
        result = found.result
        return cls(
            **dict(ComparisonItemView.of(found.comparison)),
            jobs=[ComparedJobView.of(job) for job in found.jobs],
            result=result,
            verdict=None if result is None else result.verdict,
        )


class ValidatedComparisonView(View):
    """What ``validate_only`` answers: the completed spec and what all jobs together will cost."""

    spec: ComparisonSpec
    jobs: int
    training_seconds: float
    warnings: list[str]

    @classmethod
    def of(cls, completed: CompletedComparison) -> "ValidatedComparisonView":
        """Show a completed comparison."""
        return cls(
            spec=completed.spec,
            jobs=len(completed.jobs),
            training_seconds=completed.training_seconds,
            warnings=list(completed.warnings),
        )
