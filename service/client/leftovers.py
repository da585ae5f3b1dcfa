"""Removes what the fits of estimators have left on a service."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from service.api.views.datasets import DatasetView
from service.api.views.jobs import JobView
from service.client.client import Client
from service.client.errors import Conflict, JobEnded, NotFound, SelfnormError
from service.client.requests import PAGE_SIZE

UNDO_SECONDS = 15.0
"""So long a cancelled job is waited for before it is removed; it ends with the epoch that it trains."""


def undo(url: str | None, name: str, dataset: DatasetView | None, *, is_temporary: bool) -> None:
    """Leave nothing of a fit that went wrong behind, as far as the service lets it; why it went wrong is told first."""
    with suppress(SelfnormError), Client(url, retries=1) as client:
        stored = [] if dataset is None else [dataset]
        if not stored and is_temporary:  # its name is its own: what is called so was stored, and the answer was lost
            newest = islice(client.datasets.list(), PAGE_SIZE)
            stored = [found for found in newest if found.name == name]
        for found in stored:
            for job in list(client.jobs.list(dataset=found.id)):
                _end(client, job)
            with suppress(NotFound):  # it went with its job
                client.datasets.delete(found)


def _end(client: Client, job: JobView) -> None:
    """Cancel a job that may have ended, and remove it once it has."""
    with suppress(Conflict):
        client.jobs.cancel(job)
    with suppress(JobEnded):
        job = client.jobs.wait(job, UNDO_SECONDS)
    remove(client, job)


def remove(client: Client, job: JobView) -> None:
    """Remove a job with its model and its data set, whatever of them is still there."""
    removals: list[Callable[[], object]] = [
        lambda: client.jobs.delete(job),
        lambda: client.datasets.delete(job.spec.dataset),
    ]
    if job.model is not None:
        model = job.model
        removals.append(lambda: client.models.delete_version(model.name, model.version))
    for removal in removals:
        with suppress(NotFound):
            removal()
