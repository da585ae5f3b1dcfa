"""What each thing that workers say costs the server and whoever says it, in processor time, however busy all is.

``python -m benchmarks.simulation.costs``: on one connection, with 1,000 running jobs, 100,000 in line and 100,000 that
have ended, of 1, 100 and 1,000 owners.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import select, text, update

from benchmarks.simulation.stock import Submitter, fill
from benchmarks.simulation.worker import claim_oldest
from service.domain.jobs import Claim, EpochRecord, Progress, SavedState
from service.storage import jobs, leases, losses, schema, workers
from service.storage.database import Connection, Database, database_time
from service.storage.tables import jobs as table
from service.use_cases.datasets import add_builtin_datasets
from tests import servers

OWNERS = (1, 100, 1000)
LINE, ENDED, RUNNING = 100_000, 100_000, 1000
TIMES = 300
NANOSECONDS = 1e-9
STATE_BYTES = 64 * 1024


def main() -> int:
    """Measure and print."""
    for owners in OWNERS:
        with tempfile.TemporaryDirectory(prefix="selfnorm-costs-", dir="/tmp") as folder:
            options = {"shared_buffers": "512MB", "max_parallel_maintenance_workers": "0", "autovacuum": "off"}
            with servers.postgresql_server(Path(folder), **options) as server:
                database = Database(f"{server.url}/postgres")
                _stock(database, owners)
                print(f"{owners} owners: milliseconds of the server's processor, of the worker's, and in all (median)")
                for name, work in _things(database).items():
                    print(f"{name:28}" + "".join(f"{1000 * seconds:9.2f}" for seconds in _cost(database, work)))
                database.close()
    return 0


def _stock(database: Database, owners: int) -> None:
    schema.upgrade(database)
    add_builtin_datasets(database)
    fill(database, LINE + ENDED + RUNNING, owners)
    with database.write() as connection:
        ended = table.c.number <= ENDED
        connection.execute(update(table).where(ended).values(state="succeeded", finished_at=database_time()))
    for number in range(RUNNING):
        with database.write() as connection:
            assert leases.claim_next(connection, f"worker-{number}")
            workers.seen(connection, f"worker-{number}", "1", "busy", None)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def _things(database: Database) -> dict[str, Callable[[], object]]:
    with database.read() as connection:
        query = select(*leases.CLAIMED).where(table.c.state == "running")
        held = [leases.claim_of(row) for row in connection.execute(query).mappings()]
    ends = iter(held[:TIMES])
    stays = held[TIMES:]
    turn = iter(range(10**9))
    submitter = Submitter(database, 1000, 0)

    def one() -> Claim:
        return stays[next(turn) % len(stays)]

    def epoch() -> None:
        mine = one()
        number = next(turn) + 1
        record = EpochRecord(number, {"loss": 0.1, "val_loss": 0.2}, 0.001, 0.5)
        saved = SavedState(number.to_bytes(8) * (STATE_BYTES // 8), number, 0)
        with database.owned_by(mine.owner).write() as connection:
            leases.record(connection, mine, Progress(number, 0.5, 1000.0, 5.0), 1, [record], saved)

    def end() -> None:
        mine = next(ends)
        with database.owned_by(mine.owner).write() as connection:
            leases.succeed(connection, mine, best_epoch=1, test_metrics={"loss": 0.1}, version=1)

    def of_one(work: Callable[[Connection, Claim], object]) -> None:
        mine = one()
        with database.owned_by(mine.owner).write() as connection:
            work(connection, mine)

    def reading(work: Callable[[Connection], object]) -> None:
        with database.read() as connection:
            work(connection)

    def writing(work: Callable[[Connection], object]) -> None:
        with database.write() as connection:
            work(connection)

    def read_job() -> None:
        mine = one()
        with database.owned_by(mine.owner).read() as connection:
            jobs.get(connection, mine.job_id)

    return {
        "whether a job waits": partial(reading, leases.has_claimable),
        "the same, with a bound": partial(reading, partial(leases.has_claimable, most_running=10**6)),
        "claim": partial(writing, partial(leases.claim_next, worker="w")),
        "claim, with a bound": partial(writing, partial(leases.claim_next, worker="w", most_running=10**6)),
        "claim, oldest first": partial(writing, partial(claim_oldest, worker="w")),
        "look for a word": partial(of_one, leases.word),
        "heartbeat": partial(of_one, leases.heartbeat),
        "progress": partial(of_one, partial(leases.record_progress, progress=Progress(1, 0.5, 1000.0, 5.0))),
        "epoch with checkpoint": epoch,
        "end": end,
        "report of a worker": partial(writing, partial(workers.seen, name="w", version="1", state="idle", job_id=None)),
        "look of a sweeper": partial(reading, lambda c: (losses.expired(c), losses.needs_sweep(c))),
        "submit": submitter.submit,
        "read a job": read_job,
    }


def _cost(database: Database, work: Callable[[], object]) -> tuple[float, float, float]:
    with database.read() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    for _ in range(10):  # statements are prepared after some times
        work()
    walls = []
    server, client = _processor_seconds(backend), time.thread_time()
    for _ in range(TIMES - 20):
        began = time.perf_counter()
        work()
        walls.append(time.perf_counter() - began)
    count = len(walls)
    own = (time.thread_time() - client) / count
    return (_processor_seconds(backend) - server) / count, own, sorted(walls)[count // 2]


def _processor_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * NANOSECONDS


if __name__ == "__main__":
    sys.exit(main())
