"""What somebody who watches a job looks at: all about it at once, and its curves and layers as far as they are new."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.domain.curves import Curves, stride
from service.domain.diagnostics import Diagnosis, Histogram
from service.domain.jobs import Event, Job
from service.plots.measures import known_metrics, parts
from service.storage import comparisons, curves, diagnostics, events, job_list, jobs
from service.storage.database import Database

RECENT_EVENTS = 50
"""So many of the last are told one by one; of those before them, what is more than an epoch."""


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job with what lies around it."""

    job: Job
    dataset_name: str | None
    """None where the data set has been deleted."""
    comparison_id: str | None
    """The comparison that it belongs to."""
    lint: Sequence[dict[str, Any]]
    log: Sequence[Event]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class JobCurves:
    """What the epochs of a job measured; of very many epochs every so many-th."""

    every: int
    curves: Curves | None
    """None before the first epoch."""


def watch_job(database: Database, job_id: str) -> WatchedJob:
    """Read a job with all that a page says of it, at one moment.

    Raises:
        UnknownJob: there is none with this id.
    """
    with database.read(steady=True) as connection:
        job = jobs.get(connection, job_id)
        return WatchedJob(
            job,
            job_list.dataset_names(connection, [job.dataset_id]).get(job.dataset_id),
            comparisons.of_job(connection, job_id),
            diagnostics.lint(connection, job_id) or [],
            events.read_log(connection, job_id, RECENT_EVENTS),
        )


def read_curves(database: Database, job_id: str) -> JobCurves:
    """Read what a job's epochs measured, no more of them than a picture can show.

    Raises:
        UnknownJob: there is none with this id.
    """
    with database.read() as connection:
        job = jobs.get(connection, job_id)
        metrics = parts(known_metrics(curves.names(connection, [job_id])))
        every = max(1, stride([job.epoch]))
        found = curves.read(connection, [job_id], metrics, every, [job.best_epoch, job.epoch]) if metrics else {}
    return JobCurves(every, found.get(job_id))


def read_layers(database: Database, job_id: str, after: int) -> list[Diagnosis]:
    """Read what the layers looked like after later epochs than this one; 0 is the untrained network.

    Raises:
        UnknownJob: there is none with this id.
    """
    with database.read() as connection:
        jobs.state_of(connection, job_id)
        return diagnostics.read(connection, job_id, histograms=False, after=after)


def read_distributions(
    database: Database, job_id: str, kind: Literal["weights", "activations"], layer: int, after: int
) -> list[tuple[int, Histogram]]:
    """Read how the weights or activations of a layer, from 1, were distributed after later epochs than this one.

    Raises:
        UnknownJob: there is none with this id.
    """
    with database.read() as connection:
        jobs.state_of(connection, job_id)
        return diagnostics.read_histograms(connection, job_id, kind, layer, after)
