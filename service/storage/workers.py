"""Which workers there are, as they say themselves; it decides nothing: only leases say who runs a job."""

from sqlalchemy import Connection, delete, func, select

from service.domain.workers import FORGET_SECONDS, SILENT_SECONDS, Worker, WorkerState
from service.storage.database import database_time, upsert
from service.storage.tables import workers


def seen(connection: Connection, name: str, version: str, state: str, job_id: str | None) -> None:
    """Store that a worker lives and what it does, one of ``WorkerState``."""
    said = {"version": version, "state": state, "job_id": job_id, "seen_at": database_time()}
    row = upsert(connection, workers).values(name=name, **said)
    connection.execute(row.on_conflict_do_update(index_elements=[workers.c.name], set_=said))


def gone(connection: Connection, name: str) -> None:
    """Forget a worker that ends."""
    connection.execute(delete(workers).where(workers.c.name == name))


def list_all(connection: Connection) -> list[Worker]:
    """List every known worker by name."""
    query = select(workers, database_time().label("now")).order_by(workers.c.name)
    return [
        Worker(
            row["name"],
            row["version"],
            WorkerState(row["state"]),
            row["job_id"],
            row["started_at"],
            row["seen_at"],
            (row["now"] - row["seen_at"]).total_seconds(),
        )
        for row in connection.execute(query).mappings()
    ]


def is_among_first(connection: Connection, name: str, most: int) -> bool:
    """Whether fewer than ``most`` workers that live come before this one, in the order of their names."""
    lives = workers.c.seen_at > database_time(-SILENT_SECONDS)
    query = select(func.count()).select_from(workers).where(workers.c.name < name, lives)
    return connection.execute(query).scalar_one() < most


def purge(connection: Connection) -> None:
    """Forget workers that have not been seen for a day."""
    connection.execute(delete(workers).where(workers.c.seen_at < database_time(-FORGET_SECONDS)))
