"""/dashboard/jobs: the list of jobs, and the form that makes a new one."""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BeforeValidator

from service.api.dashboard import spec_fields
from service.api.dashboard.job_rows import JobRow
from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.domain.datasets import TRAINABLE_KINDS
from service.domain.errors import UnknownDataset
from service.domain.jobs import JobState
from service.domain.keys import Scope
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import PageRequest
from service.use_cases import datasets, job_list, jobs
from service.use_cases.short_specs import shortened

router = APIRouter(prefix="/dashboard/jobs", route_class=PageRoute, include_in_schema=False)

PAGE_SIZE = 25

Text = Annotated[str, Query(max_length=1000)]
State = Annotated[JobState | None, BeforeValidator(lambda text: text or None)]
"""A form sends a field that is left open as an empty one."""


def _wanted(state: State = None, model: Text = "", dataset: Text = "", tag: Text = "") -> JobFilter:
    return JobFilter(state, tag.strip() or None, model.strip() or None, dataset.strip() or None)


WantedDependency = Annotated[JobFilter, Depends(_wanted)]
"""Which jobs the list is to hold."""


@router.get("")
@needs(Scope.READ)
def list_jobs(database: DatabaseDependency, wanted: WantedDependency, page_token: Text = "") -> Response:
    """Show jobs, newest first."""
    found = job_list.list_with_curves(database, wanted, PageRequest(PAGE_SIZE, page_token or None))
    choices = job_list.dataset_choices(database, wanted.dataset)
    query = {name: value for name in ("state", "model", "dataset", "tag") if (value := getattr(wanted, name))}
    return page(
        "jobs.html",
        here="jobs",
        rows=[JobRow.of(listed) for listed in found.items],
        wanted=wanted,
        states=list(JobState),
        datasets=choices,
        are_all_datasets=job_list.are_all_chosen_from(database, choices),
        now=datetime.now(UTC),
        is_first=not page_token,
        newest=f"/dashboard/jobs?{urlencode(query)}",
        older=f"/dashboard/jobs?{urlencode({**query, 'page_token': found.next_token})}" if found.next_token else None,
        live=f"/dashboard/live/jobs?{urlencode(query)}",
    )


@router.get("/new")
@needs(Scope.READ)
def new_job(
    services: ServicesDependency, database: DatabaseDependency, dataset: Text = "", target: Text = "", job: Text = ""
) -> Response:
    """Show the form of a job: empty, for a data set, or as another job was."""
    if job:
        spec = shortened(database, jobs.get_job(database, job).spec, services.limits)
    else:
        spec = {name: value for name, value in (("dataset", dataset), ("target", target)) if value}
    return page(
        "job-new.html",
        here="jobs",
        groups=spec_fields.groups(),
        datasets=job_list.dataset_choices(database, spec.get("dataset")),
        again=job,
        given={
            "spec": spec,
            "columns": _columns(database, spec.get("dataset")),
            "trainable": TRAINABLE_KINDS,
        },
    )


def _columns(database: Database, dataset_id: str | None) -> dict[str, Any] | None:
    """Return what the form must know of a data set's columns; None where there is no such data set."""
    if dataset_id is None:
        return None
    try:
        dataset = datasets.get_dataset(database, dataset_id)
    except UnknownDataset:
        return None
    names = [[column.name, column.kind] for column in dataset.columns]
    return {"items": names, "default_target": dataset.default_target}
