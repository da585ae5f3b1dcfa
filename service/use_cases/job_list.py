"""Jobs as a list shows them: each with the name of its data set and a small curve of its loss; and what is new."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.domain.errors import UnknownJob
from service.domain.jobs import Job
from service.storage import curves, job_list, jobs, pages
from service.storage.database import Connection, Database
from service.storage.job_list import Marks

MOST_DATASETS = 100


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job, and what a list shows beside it."""

    job: Job
    dataset_name: str
    """Its id where the data set has been deleted."""
    curve: list[float | None]
    """The loss of some of its epochs, in order, the last one included; None where one is not finite."""


@dataclass(frozen=True, slots=True)
class News:
    """What has become of a page since it was looked at last."""

    marks: Marks
    changed: list[ListedJob]
    """Jobs that have changed, or are new on the page."""


def list_with_curves(database: Database, wanted: jobs.JobFilter, page: pages.PageRequest) -> pages.Page[ListedJob]:
    """List jobs, newest first."""
    with database.read() as connection:
        found = jobs.list_page(connection, wanted, page)
        return pages.Page(_listed(connection, found.items), found.next_token)


def look(database: Database, wanted: jobs.JobFilter, page: pages.PageRequest, before: Marks | None) -> News:
    """Look at a page again; where nothing has changed since ``before``, this takes one small query."""
    known = {} if before is None else before.jobs
    with database.read() as connection:
        marks = job_list.marks(connection, wanted, page)
        changed = [job_id for job_id, mark in marks.jobs.items() if known.get(job_id) != mark]
        # On PostgreSQL this may be newer than the marks; then it comes once more with the next look.
        return News(marks, _listed(connection, list(_stored(connection, changed))))


def _stored(connection: Connection, job_ids: Iterable[str]) -> Iterator[Job]:
    """Read jobs one by one, for their specs may be large, and mostly few have changed; those deleted are left out."""
    for job_id in job_ids:
        with suppress(UnknownJob):
            yield jobs.get(connection, job_id)


def dataset_choices(database: Database, besides: str | None) -> list[tuple[str, str]]:
    """Return the ids and names of built-in and of the newest data sets, and of one more, be it still stored or not."""
    with database.read() as connection:
        found = job_list.dataset_choices(connection, MOST_DATASETS)
        if besides is None or besides in dict(found):
            return found
        return [*found, (besides, job_list.dataset_names(connection, [besides]).get(besides, besides))]


def are_all_chosen_from(database: Database, choices: Sequence[tuple[str, str]]) -> bool:
    """Say whether so many choices are all data sets that are stored."""
    with database.read() as connection:
        return job_list.count_datasets(connection) <= len(choices)


def _listed(connection: Connection, found: Sequence[Job]) -> list[ListedJob]:
    names = job_list.dataset_names(connection, (job.dataset_id for job in found))
    lines = curves.thinned(connection, [job.id for job in found if job.epoch])
    return [ListedJob(job, names.get(job.dataset_id, job.dataset_id), lines.get(job.id, [])) for job in found]
