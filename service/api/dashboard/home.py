"""/: where one starts, or what there is by now."""

from fastapi import APIRouter, Response

from service.api.dashboard.job_rows import JobRow
from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.api.services import Services
from service.domain.datasets import SCIKIT_LEARN_TABLES
from service.domain.keys import Scope
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import PageRequest
from service.use_cases import datasets, job_list, models

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LATEST = PageRequest(8)
MOST = PageRequest(50)
QUESTIONS = {
    "iris": "Which of three irises is it, by the sizes of its sepals and petals?",
    "wine": "From which of three growers does a wine come, by its chemistry?",
    "breast_cancer": "Is a tumour benign or malignant, by the cells in it?",
    "digits": "Which digit was written, in pictures of 8 x 8 points?",
    "diabetes": "How far will the illness have gone in a year? A number.",
}
"""What the tables that come with the service ask."""


@router.get("/")
@needs(Scope.READ)
def home(services: ServicesDependency, database: DatabaseDependency) -> Response:
    """Show what there is, or how to begin."""
    found_jobs = job_list.list_with_curves(database, JobFilter(), LATEST).items
    found_models = models.list_models(database, LATEST).items
    if not found_jobs and not found_models:
        return _beginning(services, database)
    return page(
        "home.html",
        is_new=False,
        jobs=[JobRow.of(listed) for listed in found_jobs],
        models=found_models,
        datasets=datasets.list_datasets(database, LATEST).items,
        max_bytes=services.max_upload_bytes,
    )


def _beginning(services: Services, database: Database) -> Response:
    stored = datasets.list_datasets(database, MOST).items
    starts = [(table, QUESTIONS[table.id]) for table in stored if table.id in SCIKIT_LEARN_TABLES]
    uploads = [table for table in stored if not table.builtin]
    return page("home.html", is_new=True, starts=starts, datasets=uploads, max_bytes=services.max_upload_bytes)
