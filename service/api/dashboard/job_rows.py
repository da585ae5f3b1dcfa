"""What the list of jobs shows of a job: the row that a page comes with, and the same as scripts take it."""

from datetime import datetime
from typing import Any

from service.api.dashboard import drawing, measures
from service.api.dashboard.pages import number
from service.api.views.base import View
from service.domain.jobs import ACTIVE_STATES, Job, JobState
from service.use_cases.job_list import ListedJob


class JobRow(View):
    """A job in the list; equal ones look the same."""

    id: str
    state: JobState
    can_be_cancelled: bool
    network: str
    """Its kind and its widths, in a word."""
    dataset: str
    dataset_name: str
    target: str
    model: str
    version: int | None
    tags: list[str]
    epoch: int
    epochs: int
    fraction: float
    metric: str | None
    """Which figure of the best epoch says most, ..."""
    value: str | None
    """... and what it is, as people read it."""
    verdict: str | None
    verdict_detail: str | None
    points: str
    """Of the polyline that the loss draws; empty before the first epoch."""
    curve: str
    """What that is, for those who do not see it."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, listed: ListedJob) -> "JobRow":
        """Show a job."""
        job = listed.job
        best = measures.headline(job.best, None)
        return cls(
            id=job.id,
            state=job.state,
            can_be_cancelled=job.state in ACTIVE_STATES and job.state != JobState.CANCELLING,
            network=_network(job.spec["network"]),
            dataset=job.dataset_id,
            dataset_name=listed.dataset_name,
            target=job.spec["target"],
            model=job.model_name,
            version=job.model_version,
            tags=job.tags,
            epoch=job.epoch,
            epochs=job.epochs,
            fraction=round(1.0 if job.state == JobState.SUCCEEDED else job.fraction or 0.0, 4),
            metric=best[0][0] if best else None,
            value=number(best[0][1]) if best else None,
            verdict=job.verdict and job.verdict["status"],
            verdict_detail=job.verdict and job.verdict["detail"],
            points=drawing.sparkline(listed.curve),
            curve=_spoken(job, listed.curve),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            error=None if job.error_code is None else f"{job.error_code.replace('_', ' ')}: {job.error_detail}",
        )


def _network(network: dict[str, Any]) -> str:
    # Not through the spec's own model, which would look at every feature of every job.
    units = network["units"]
    widths = units if isinstance(units, list) else [units]
    narrow, wide = min(widths), max(widths)
    return f"{network['kind']} {network['hidden_layers']} x {wide if narrow == wide else f'{narrow} to {wide}'}"


def _spoken(job: Job, curve: list[float | None]) -> str:
    if not curve:
        return ""
    return f"Loss over {job.epoch} epochs, from {number(curve[0])} to {number(curve[-1])}"
