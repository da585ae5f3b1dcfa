"""/jobs: submit, look at, wait for, cancel, pause, resume, try again, delete."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from service.api.dependencies import (
    DatabaseDependency,
    FilterDependency,
    KeyedDependency,
    PageDependency,
    ServicesDependency,
    answer_of,
)
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView
from service.api.views.jobs import EpochsView, JobView, SplitView, ValidatedView
from service.api.waiting import WaitParameter, tagged, wait_for
from service.domain.jobs import PART_CODES, Job, JobState
from service.domain.keys import Scope
from service.domain.spec import JobSpec
from service.use_cases import jobs
from service.use_cases.idempotency import StoredAnswer

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StrictRoute)

RETRY_AFTER_SECONDS = 1
LINES_AT_ONCE = 10_000


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    responses={200: {"model": ValidatedView, "description": "What validate_only answers"}},
)
@needs(Scope.SUBMIT)
def submit(
    spec: JobSpec,
    services: ServicesDependency,
    database: DatabaseDependency,
    keyed: KeyedDependency,
    validate_only: Annotated[bool, Query(description="Answer as the real call would, without making anything")] = False,
) -> Response:
    """Train a network."""
    if validate_only:
        completed = jobs.validate_job(database, spec, services.limits)
        return JSONResponse(ValidatedView.of(completed).model_dump(mode="json"))
    with services.running.serving(keyed):
        outcome = jobs.submit_job_once(database, spec, services.limits, keyed, submitted, services.quotas)
    if outcome.made is not None:
        services.doorbell.ring(outcome.made.id)
    return answer_of(outcome)


def submitted(job: Job) -> StoredAnswer:
    """Answer that a job has been made."""
    headers = {"Location": f"/jobs/{job.id}", "Retry-After": str(RETRY_AFTER_SECONDS)}
    return StoredAnswer(202, headers, JobView.of(job).model_dump_json().encode())


@router.get("")
@needs(Scope.READ)
def list_jobs(database: DatabaseDependency, page: PageDependency, wanted: FilterDependency) -> PageView[JobView]:
    """List jobs, newest first."""
    found = jobs.list_jobs(database, wanted, page)
    return PageView(items=[JobView.of(job) for job in found.items], next_page_token=found.next_token)


@router.get(
    "/{job_id}", response_model=JobView, responses={304: {"description": "Nothing has changed since that ETag"}}
)
@needs(Scope.READ)
async def get_job(
    job_id: str, request: Request, services: ServicesDependency, database: DatabaseDependency, wait: WaitParameter = 0
) -> Response:
    """Read a job."""
    job = await wait_for(services, lambda: jobs.get_job(database, job_id), wait)
    return tagged(request, JobView.of(job).model_dump_json().encode())


@router.get("/{job_id}/metrics")
@needs(Scope.READ)
def job_metrics(job_id: str, database: DatabaseDependency) -> EpochsView:
    """Read every finished epoch."""
    return EpochsView.of(jobs.job_metrics(database, job_id))


@router.get("/{job_id}/split")
@needs(Scope.READ)
def job_split(job_id: str, database: DatabaseDependency) -> SplitView:
    """Say how the rows were divided."""
    return SplitView.of(jobs.job_split(database, job_id))


@router.get(
    "/{job_id}/split/rows",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
@needs(Scope.READ)
def job_split_rows(job_id: str, database: DatabaseDependency) -> Response:
    """Name the part of every row as CSV: ``row,part``; rows count from 0, in the table's order."""
    parts = jobs.job_split(database, job_id).parts
    return StreamingResponse(_split_lines(parts), media_type="text/csv")


@router.post(
    "/{job_id}/cancel", status_code=202, responses={200: {"model": JobView, "description": "Cancelled already"}}
)
@needs(Scope.SUBMIT)
def cancel(job_id: str, database: DatabaseDependency, response: Response) -> JobView:
    """Ask that a job ends without a model."""
    cancelled_already = jobs.get_job(database, job_id).state == JobState.CANCELLED
    job = jobs.cancel_job(database, job_id)
    response.status_code = 200 if cancelled_already else 202
    return JobView.of(job)


@router.post("/{job_id}/pause", status_code=202, responses={200: {"model": JobView, "description": "Paused already"}})
@needs(Scope.SUBMIT)
def pause(job_id: str, database: DatabaseDependency, response: Response) -> JobView:
    """Ask that a job stops for a while; a running one is stored first, and is `running` until then."""
    paused_already = jobs.get_job(database, job_id).state == JobState.PAUSED
    job = jobs.pause_job(database, job_id)
    response.status_code = 200 if paused_already else 202
    return JobView.of(job)


@router.post("/{job_id}/resume", status_code=202)
@needs(Scope.SUBMIT)
def resume(job_id: str, services: ServicesDependency, database: DatabaseDependency) -> JobView:
    """Let a paused job wait in line again; it goes on where it was. Nothing changes for one that is not paused."""
    job = jobs.resume_job(database, job_id)
    if job.state == JobState.QUEUED:
        services.doorbell.ring(job.id)
    return JobView.of(job)


@router.post("/{job_id}/retry", status_code=202, response_model=JobView)
@needs(Scope.SUBMIT)
def retry(job_id: str, services: ServicesDependency, database: DatabaseDependency, keyed: KeyedDependency) -> Response:
    """Try a failed job again, as a new job that goes on from its last checkpoint where that makes sense."""
    with services.running.serving(keyed):
        outcome = jobs.retry_job_once(database, job_id, keyed, submitted, services.quotas)
    if outcome.made is not None:
        services.doorbell.ring(outcome.made.id)
    return answer_of(outcome)


@router.delete("/{job_id}", status_code=204)
@needs(Scope.SUBMIT)
def delete(job_id: str, database: DatabaseDependency) -> None:
    """Delete a job that has ended; its model stays."""
    jobs.delete_job(database, job_id)


def _split_lines(parts: bytes) -> Iterator[str]:
    names = {code: name for name, code in PART_CODES.items()}
    yield "row,part\n"
    for start in range(0, len(parts), LINES_AT_ONCE):
        piece = parts[start : start + LINES_AT_ONCE]
        yield "".join(f"{row},{names[code]}\n" for row, code in enumerate(piece, start))
