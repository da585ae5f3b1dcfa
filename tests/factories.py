"""Hand-made values for tests."""

from datetime import UTC, datetime
from typing import Any

from service.domain.completion import complete_spec
from service.domain.datasets import Column, Dataset, TableReport
from service.domain.jobs import EpochRecord, Progress, SavedState
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import datasets, jobs
from service.storage.database import Database


def make_dataset(
    *columns: Column,
    rows: int = 100,
    official_test_rows: int = 0,
    target: str | None = None,
    report: TableReport = TableReport(),  # noqa: B008  # a frozen value
) -> Dataset:
    """A data set that is described but not stored."""
    created = datetime.now(UTC)
    return Dataset("d1", 1, "table", False, rows, columns, target, official_test_rows, "0" * 64, 1, created, report)


def numeric(name: str, **values: Any) -> Column:
    """A complete numeric column."""
    return Column(name, "numeric", **{"missing": 0, "unique": 50, **values})


def stored_job(database: Database, job_id: str = "job-1", **spec: Any) -> str:
    """Store a queued job on a built-in table."""
    with database.write() as connection:
        asked = JobSpec.model_validate({"dataset": "iris", **spec})
        completed = complete_spec(asked, datasets.get(connection, asked.dataset), Limits())
        jobs.add(connection, job_id, completed.spec.model_dump(mode="json"), completed.warnings)
    return job_id


def measured(epoch: int) -> EpochRecord:
    """What an epoch came to."""
    return EpochRecord(epoch, {"loss": 1.0 / epoch, "val_loss": None}, 0.001, 0.5)


def progress(epoch: int) -> Progress:
    """How far a training of ten epochs is."""
    return Progress(epoch, epoch / 10, 100.0, 2.0)


def saved_state(epoch: int, step: int = 0, content: bytes | None = None) -> SavedState:
    """A state that no training can go on from, but every store can keep; other places have other bytes."""
    return SavedState(content or f"state of epoch {epoch}, step {step}".encode(), epoch, step)
