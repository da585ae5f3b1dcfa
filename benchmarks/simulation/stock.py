"""Jobs for simulated workers: a long line of owners of unequal size, and owners who come with one job each."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, literal, literal_column, select

from service.domain.completion import complete_spec
from service.domain.jobs import EventKind
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import datasets, jobs, schema, turns
from service.storage.database import Database, database_time
from service.storage.tables import events
from service.storage.tables import jobs as table
from service.use_cases.datasets import add_builtin_datasets
from tests import servers
from tests.factories import stored_job

FIRST = "first"
SINGLE = "single"
"""How the names of those owners begin who have one job."""
SKEW = 3
"""Of owners by size, the first tenth has about half of all jobs."""


@contextmanager
def stocked(count: int, owners: int, connections: int) -> Iterator[tuple[servers.PostgresqlServer, Database]]:
    """Run PostgreSQL, which takes so many connections, with a line of jobs; its log is forced to disk as in life."""
    with tempfile.TemporaryDirectory(prefix="selfnorm-simulation-", dir="/tmp") as folder:
        options = {
            "fsync": "on",
            "max_connections": str(connections),
            "shared_buffers": "512MB",
            "max_parallel_workers": "0",  # where memory is not shared between users, those of a container fail
            "max_parallel_maintenance_workers": "0",
        }
        with servers.postgresql_server(Path(folder), **options) as server:
            database = Database(f"{server.url}/postgres")
            schema.upgrade(database)
            add_builtin_datasets(database)
            fill(database, count, owners)
            yield server, database
            database.close()


def fill(database: Database, count: int, owners: int) -> None:
    """Store a line of copies of one job, with the event that begins its log."""
    stored_job(database.owned_by("owner-0"), FIRST, network={"hidden_layers": 4, "units": 64})
    number = func.generate_series(1, count).table_valued("value").render_derived("numbers")
    name = func.concat("fill-", number.c.value)
    owner = func.concat("owner-", func.floor(literal_column(str(owners)) * func.pow(func.random(), SKEW)))
    copied = [
        column for column in table.c if column.name not in ("number", "id", "owner", "created_at", "claimable_at")
    ]
    query = select(name, owner, database_time(), database_time(), *copied).where(table.c.id == FIRST)
    with database.write() as connection:
        names = ["id", "owner", "created_at", "claimable_at", *(column.name for column in copied)]
        connection.execute(insert(table).from_select(names, query.join_from(table, number, literal_column("true"))))
        told: tuple[Any, ...] = (
            literal(1),
            literal(EventKind.SUBMITTED),
            literal_column("'{}'::json"),
            database_time(),
        )
        of_all = select(table.c.id, *told).where(table.c.id != FIRST)
        columns = ["job_id", "number", "kind", "data", "created_at"]
        connection.execute(insert(events).from_select(columns, of_all))
        turns.adopt(connection)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


class Submitter:
    """Submits the jobs of one or the other owner, at a pace."""

    def __init__(self, database: Database, owners: int, seed: int) -> None:
        self._database, self._owners = database, owners
        self._chance = random.Random(seed)
        self._count = 0
        with database.owned_by(SINGLE).read() as connection:
            asked = JobSpec.model_validate({"dataset": "iris", "network": {"hidden_layers": 4, "units": 64}})
            completed = complete_spec(asked, datasets.get(connection, asked.dataset), Limits())
        self._spec = completed.spec.model_dump(mode="json")
        self.times: list[float] = []

    def submit(self, owner: str | None = None) -> None:
        """Add a job, of one of the owners where none is named."""
        self._count += 1
        owner = owner or f"owner-{int(self._owners * self._chance.random() ** SKEW)}"
        began = time.monotonic()
        with self._database.owned_by(owner).write() as connection:
            jobs.add(connection, f"new-{self._count}", self._spec)
        self.times.append(time.monotonic() - began)

    def submit_single(self) -> None:
        """Add the one job of an owner of its own."""
        self.submit(f"{SINGLE}-{self._count}")
