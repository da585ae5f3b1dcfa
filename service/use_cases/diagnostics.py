"""What was seen of the layers of a job's network."""

from dataclasses import dataclass
from typing import Any

from service.domain.diagnostics import Diagnosis
from service.storage import diagnostics, jobs
from service.storage.database import Database


@dataclass(frozen=True, slots=True)
class JobDiagnostics:
    """The lint before a training, its layers after the epochs, and the verdict."""

    lint: list[dict[str, Any]] | None
    verdict: dict[str, Any] | None
    diagnoses: list[Diagnosis]


def job_diagnostics(database: Database, job_id: str, *, histograms: bool) -> JobDiagnostics:
    """Read what was seen, with the histograms where they are asked for.

    Raises:
        UnknownJob: there is none with this id.
    """
    with database.read() as connection:
        job = jobs.get(connection, job_id)
        seen = diagnostics.read(connection, job_id, histograms=histograms)
        return JobDiagnostics(diagnostics.lint(connection, job_id), job.verdict, seen)
