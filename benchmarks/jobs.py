"""How many jobs one API process accepts, how long that takes at a calm pace, and how long lists take.

On SQLite, with 10,000 jobs in the table; lists with 100,000, of which one in ten or all wait. Bars: 300 accepted a
second, p99 of 100 ms at 50 a second, 20 ms for a page of a list. Requests come from another process over kept
connections: ``python -m benchmarks.jobs``.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from sqlalchemy import insert, select, update

from service.domain.owners import DEFAULT_OWNER
from service.storage import schema
from service.storage.database import Database, database_time
from service.storage.tables import job_tags
from service.storage.tables import jobs as table
from service.use_cases.datasets import add_builtin_datasets
from tests.api_process import ApiProcess, api_process
from tests.factories import stored_job

STORED = 10_000
LISTED = 100_000
CONNECTIONS = 16
SECONDS = 8.0
PACE = 50.0
PAGES = 200
RATE_BAR, P99_BAR_SECONDS, LIST_BAR_SECONDS = 300.0, 0.1, 0.02
LISTS = ("", "?state=queued", "?model=iris", "?dataset=iris", "?tag=rare", "?tag=none")
ROWS_AT_ONCE = 2_000
JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"dataset": "iris", "training": {"epochs": 5}, "tags": ["benchmark"]})


def main() -> int:
    """Measure and print."""
    if sys.argv[1:2] == ["client"]:
        return client(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "selfnorm.db"
        fill(path, STORED)
        with served(path, Path(folder)) as api:
            rates = [measured(api, pace=0.0)[0] for _ in range(3)]
        with served(path, Path(folder)) as api:
            _, p99 = measured(api, pace=PACE)
        lists: dict[tuple[str, int], float] = {}
        for one_in in (10, 1):
            fill(path, LISTED, one_in)
            with served(path, Path(folder)) as api:
                lists |= {(query, one_in): listed(api, query) for query in LISTS}
    rate = statistics.median(rates)
    print("accepted jobs/s:", ", ".join(f"{one:.0f}" for one in rates), f"(bar {RATE_BAR:.0f})")
    print(f"p99 at {PACE:.0f}/s: {1000 * p99:.1f} ms (bar {1000 * P99_BAR_SECONDS:.0f})")
    for (query, one_in), seconds in lists.items():
        asked = f"GET /jobs{query} among {LISTED:,}, one in {one_in} waits"
        print(f"{asked}: {1000 * seconds:.1f} ms (bar {1000 * LIST_BAR_SECONDS:.0f})")
    good = rate > RATE_BAR and p99 < P99_BAR_SECONDS and max(lists.values()) < LIST_BAR_SECONDS
    return 0 if good else 1


def fill(path: Path, count: int, one_in: int = 10) -> None:
    """Make a database that holds so many jobs: one in so many waits, the others have ended."""
    path.unlink(missing_ok=True)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    schema.upgrade(database)
    add_builtin_datasets(database)
    stored_job(database, "pattern", dataset="iris", tags=["benchmark"])
    with database.write() as connection:
        row = dict(connection.execute(table.select()).mappings().one())
        del row["number"]
        for start in range(0, count, ROWS_AT_ONCE):
            rows = [
                {
                    **row,
                    "id": f"job-{number}",
                    "state": "succeeded" if number % one_in else "queued",
                    "tags": ["rare"] if number % 1000 == 0 else row["tags"],
                }
                for number in range(start, start + ROWS_AT_ONCE)
            ]
            connection.execute(insert(table), rows)
        tags = [
            {"tag": tag, "number": number}
            for number, found in connection.execute(select(table.c.number, table.c.tags))
            for tag in found
        ]
        connection.execute(insert(job_tags), tags[1:])  # the pattern has its own
        connection.execute(update(table).values(claimable_at=database_time()))
    database.close()


@contextmanager
def served(path: Path, folder: Path) -> Iterator[ApiProcess]:
    """Run an API process on a copy of a database."""
    copy = folder / "served.db"
    shutil.copy(path, copy)
    with api_process(copy, folder) as api:
        yield api
    for rest in folder.glob("served.db*"):
        rest.unlink()


def measured(api: ApiProcess, pace: float) -> tuple[float, float]:
    """Let a process of its own submit jobs; return jobs a second and the 99th percentile of their seconds."""
    command = [sys.executable, "-m", "benchmarks.jobs", "client", str(api.port), str(SECONDS), str(pace)]
    rate, p99 = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(rate), float(p99)


def client(port: int, seconds: float, pace: float) -> int:
    """Submit jobs over some connections, as fast as they are taken or so many a second; print rate and p99."""
    taken: list[float] = []
    began = time.perf_counter()
    over = began + seconds

    def submit(place: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        due = began + place / pace if pace else 0.0
        while time.perf_counter() < over:
            if pace:
                time.sleep(max(0.0, due - time.perf_counter()))
                due += CONNECTIONS / pace
            asked = time.perf_counter()
            connection.request("POST", "/jobs", BODY, JSON)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202, answer.status
            taken.append(time.perf_counter() - asked)

    threads = [threading.Thread(target=submit, args=(place,)) for place in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(taken) / (time.perf_counter() - began), statistics.quantiles(taken, n=100)[98])
    return 0


def listed(api: ApiProcess, query: str) -> float:
    """Return the median seconds of a page of a list, through HTTP."""
    seconds = []
    for _ in range(PAGES):
        asked = time.perf_counter()
        assert api.client.get(f"/jobs{query}").status_code == 200
        seconds.append(time.perf_counter() - asked)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
