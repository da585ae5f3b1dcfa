"""Attempts at jobs, run beside a test, and what they leave in the database."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from service.domain.jobs import Checkpoint, Claim, EventKind, Job
from service.domain.limits import TableLimits
from service.storage import checkpoints, datasets, events, jobs, leases, losses
from service.storage.database import Connection, Database, database_time
from service.storage.tables import jobs as job_table
from service.tables.importer import ImportRequest, import_table
from tests.factories import stored_job
from tests.patience import until
from tests.stopwatch import stopwatch
from workers import attempt

SMALL: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 3, "test_fraction": 0.2}}
ENDLESS: dict[str, Any] = {**SMALL, "training": {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-6}}


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def run(database: Database, job_id: str = "job-1", datasets_dir: Path | None = None, **options: Any) -> None:
    """Claim a job and run an attempt at it, if it is to be had; a worker does not know whose it is before."""
    everybodys = database.for_everybody()
    with everybodys.write() as connection:
        claim = leases.claim(connection, job_id, "w1")
    if claim is not None:
        attempt.run(everybodys, claim, datasets_dir, **options)


def start(database: Database, job_id: str = "job-1", **options: Any) -> threading.Thread:
    """Start an attempt in a thread."""
    thread = threading.Thread(target=run, args=(database, job_id), kwargs=options)
    thread.start()
    return thread


def run_beside(database: Database, job_id: str = "job-1", **options: Any) -> threading.Thread:
    """Start an attempt in a thread and return when it has stored a checkpoint that goes further than any before."""
    before = newest(database, job_id)
    thread = start(database, job_id, **options)

    def is_further() -> bool:
        found = newest(database, job_id)
        return found is not None and (before is None or found.epoch > before.epoch)

    until(is_further)
    return thread


def finish(thread: threading.Thread, seconds: float = 60) -> None:
    thread.join(seconds)
    assert not thread.is_alive()


@contextmanager
def promised(seconds: float = 5) -> Iterator[None]:
    """Check that what is done meanwhile takes less than so long, without what the machine takes."""
    with stopwatch() as watch:
        began = time.monotonic()
        yield
        assert watch.elapsed(began) < seconds


def newest(database: Database, job_id: str = "job-1") -> Checkpoint | None:
    with database.read() as connection:
        return checkpoints.newest(connection, job_id)


def epochs_of(database: Database, job_id: str = "job-1") -> list[int]:
    with database.read() as connection:
        return [stored.epoch for stored in jobs.epoch_records(connection, job_id)]


def told(database: Database, kind: EventKind, job_id: str = "job-1") -> list[dict[str, Any]]:
    """What the log says of events of a kind; its numbers have no gaps."""
    with database.read() as connection:
        found = events.read(connection, job_id, limit=1_000_000)
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    return [entry.data for entry in found if entry.kind is kind]


def losses_of(database: Database, job_id: str = "job-1") -> int:
    with database.read() as connection:
        found: int = connection.execute(select(job_table.c.losses).where(job_table.c.id == job_id)).scalar_one()
    return found


def ask(database: Database, request: Callable[[Connection, str], None], job_id: str = "job-1") -> None:
    with database.write() as connection:
        request(connection, job_id)


def add_table(database: Database, tmp_path: Path, text: str, name: str = "mine") -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with path.open("rb") as source, tempfile.TemporaryFile() as file:
        table = import_table(source, file, ImportRequest("csv"), TableLimits())
        with database.write() as connection:
            datasets.add_imported(connection, name, name, table, file)


def lost(database: Database) -> None:
    """Take the job from a worker that runs it, and let the next one claim it at once."""
    with database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
        losses.lose_expired(connection)
        connection.execute(update(job_table).values(claimable_at=database_time(-1)))


def claimed(database: Database, job_id: str = "job-1", **spec: Any) -> Claim:
    stored_job(database, job_id, **spec)
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w1")
    assert held is not None
    return held
