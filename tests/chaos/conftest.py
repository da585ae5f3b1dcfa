"""What the promises are tested with: one service per database for a whole module, whole again after every test."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from redis import Redis
from sqlalchemy import RowMapping, select, update

from service.domain.jobs import ACTIVE_STATES, FINAL_STATES, EventKind, JobState
from service.storage import tables
from service.storage.database import Database, database_time
from service.storage.faults import DATABASE_DOWN
from tests.chaos import snapshot
from tests.chaos.checker import Run, check
from tests.chaos.snapshot import StoredEvent, StoredVersion
from tests.chaos.topology import Kind, Topology
from tests.patience import PATIENCE_SECONDS, until

POLL_SECONDS = 0.03
EXPECTED_FAILURES = frozenset({"worker_lost"})
QUEUE = "celery"

Spec = Mapping[str, Any]


class Site:
    """A running service, with what tests ask of it again and again."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._client = httpx.Client(base_url=topology.addresses[0], timeout=30)
        self._impatient = Database(topology.url, patience_seconds=1)

    def close(self) -> None:
        self._client.close()
        self._impatient.close()

    # What a client does.

    @property
    def port(self) -> int:
        """Where the API listens."""
        return int(self.topology.addresses[0].rpartition(":")[2])

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask again and again until somebody answers; a refusal that passes is no answer."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._client.request(method, path, **options)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            else:
                if answer.status_code != 503 or time.monotonic() > deadline:
                    return answer
            time.sleep(0.1)

    def ask_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._client.request(method, path, **options)

    def submit(self, spec: Spec) -> str:
        """Submit a job; return its id."""
        answer = self.ask("POST", "/jobs", json=spec, headers={"Idempotency-Key": secrets.token_hex(8)})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Every epoch, as the API shows it."""
        items: list[dict[str, Any]] = self.get(f"/jobs/{job_id}/metrics")["items"]
        return items

    # What the database says.

    def row(self, job_id: str) -> RowMapping:
        """The job as it is stored."""
        query = select(tables.jobs).where(tables.jobs.c.id == job_id)
        return self.topology.look(lambda connection: connection.execute(query).mappings().one())

    def events(self, job_id: str, kind: str | None = None) -> list[StoredEvent]:
        """The log of a job."""
        log = tables.events
        query = select(log.c.number, log.c.kind, log.c.data, log.c.created_at).where(log.c.job_id == job_id)
        asked = query.order_by(log.c.number) if kind is None else query.where(log.c.kind == kind).order_by(log.c.number)
        return [StoredEvent(*row) for row in self.topology.look(lambda connection: connection.execute(asked).all())]

    def versions(self, job_id: str) -> list[StoredVersion]:
        """The model versions that a job has made."""
        stored = tables.model_versions.c
        query = select(*(stored[name] for name in StoredVersion.__dataclass_fields__)).where(stored.job_id == job_id)
        rows = self.topology.look(lambda connection: connection.execute(query).mappings().all())
        return [StoredVersion(**{**row, "warnings": row["warnings"] or []}) for row in rows]

    def traces(self, job_id: str) -> dict[str, list[dict[str, Any]]]:
        """Every row that a worker of this job could have written."""
        mine = {
            "jobs": tables.jobs.c.id,
            "epochs": tables.epochs.c.job_id,
            "events": tables.events.c.job_id,
            "checkpoints": tables.checkpoints.c.job_id,
            "model_versions": tables.model_versions.c.job_id,
        }
        found = {}
        for name, column in mine.items():
            table = tables.metadata.tables[name]
            query = select(table).where(column == job_id).order_by(*table.primary_key.columns)
            rows = self.topology.look(lambda connection, asked=query: connection.execute(asked).mappings().all())  # type: ignore[misc]
            found[name] = [dict(row) for row in rows]
        return found

    def end_lease_in(self, job_id: str, seconds: float) -> None:
        """Let a lease run out sooner or later, as if the database's clock had made a leap."""
        statement = update(tables.jobs).where(tables.jobs.c.id == job_id, tables.jobs.c.lease_until.is_not(None))
        with self.topology.database.write() as connection:
            connection.execute(statement.values(lease_until=database_time(seconds)))

    # Who does what.

    def holder(self, job_id: str) -> int:
        """Which worker runs a job; waits until one does."""
        found: list[int] = []

        def is_held() -> bool:
            row = self.row(job_id)
            assert row["state"] not in FINAL_STATES, f"{job_id} has ended too early\n{self.story(job_id)}"
            index = self._index_of(row["worker"] or "")
            found[:] = [] if index is None else [index]
            return bool(found)

        self.wait(is_held, PATIENCE_SECONDS, f"nobody runs {job_id}", job_id)
        return found[0]

    def worker_of(self, event: StoredEvent) -> int:
        """Which worker a ``started`` event names."""
        index = self._index_of(event.data["worker"])
        assert index is not None, f"{event} names none that runs"
        return index

    def all_ready(self) -> None:
        """Wait until every worker has loaded TensorFlow and has nothing to do."""
        for index in range(len(self.topology.parts["worker"])):
            self.wait(lambda worker=index: self._is_idle(worker), PATIENCE_SECONDS, f"worker {index} is not ready")  # type: ignore[misc]

    @contextmanager
    def frozen_worker(self, index: int, job_id: str | None = None) -> Iterator[Callable[[], None]]:
        """Freeze a worker with its trainer, and not while it holds a lock; yields what lets it go on earlier."""
        deadline = time.monotonic() + 30
        pids = self.topology.freeze("worker", index)
        while not self._can_write(job_id):
            assert time.monotonic() < deadline, "the database stays locked"
            self.topology.thaw(pids)
            time.sleep(0.2)
            pids = self.topology.freeze("worker", index)
        try:
            yield lambda: self.topology.thaw(pids)
        finally:
            self.topology.thaw(pids)

    def broker(self) -> Redis:
        """A connection to the broker, past its proxy."""
        return Redis(port=self.topology._broker_port, socket_timeout=30)

    def no_message_waits(self, broker: Redis) -> bool:
        return broker.llen(QUEUE) == 0

    # Waiting.

    def wait(self, condition: Callable[[], bool], seconds: float, words: str, job_id: str | None = None) -> None:
        """Wait until something is so; what went on is told where it does not come."""
        until(condition, seconds, lambda: f"{words}\n{self.story(job_id)}", POLL_SECONDS)

    def wait_for_state(self, job_id: str, state: JobState, seconds: float = PATIENCE_SECONDS) -> RowMapping:
        """Wait until a job is in a state; another final one is an error at once."""

        def has_come() -> bool:
            now = self.row(job_id)["state"]
            assert now == state or now not in FINAL_STATES, f"{job_id} is {now}\n{self.story(job_id)}"
            return bool(now == state)

        self.wait(has_come, seconds, f"{job_id} is not {state}", job_id)
        return self.row(job_id)

    def succeeded(self, job_id: str, seconds: float = PATIENCE_SECONDS) -> StoredVersion:
        """Wait until a job has succeeded; return its one version."""
        self.wait_for_state(job_id, JobState.SUCCEEDED, seconds)
        [version] = self.versions(job_id)
        return version

    def wait_for_event(
        self, job_id: str, kind: EventKind, count: int, seconds: float = PATIENCE_SECONDS
    ) -> StoredEvent:
        """Wait until there are so many events of a kind; return the last of these."""
        self.wait(lambda: len(self.events(job_id, kind)) >= count, seconds, f"{kind} {count} of {job_id}", job_id)
        return self.events(job_id, kind)[count - 1]

    def wait_for_checkpoint(self, job_id: str, after: int = 0) -> int:
        """Wait until a training has stored a state later than this one; return its number."""
        words = f"{job_id} has stored nothing"
        self.wait(lambda: self.row(job_id)["last_checkpoint"] > after, PATIENCE_SECONDS, words, job_id)
        return int(self.row(job_id)["last_checkpoint"])

    def story(self, job_id: str | None) -> str:
        """What is known of a job, and what workers and API have said last."""
        lines = []
        if job_id is not None:
            lines.append(json.dumps(dict(self.row(job_id)), default=str))
            lines += [
                f"{event.created_at} {event.number} {event.kind} {event.data}" for event in self.events(job_id)[-30:]
            ]
        for name in ("worker", "api"):
            for index in range(len(self.topology.parts[name])):
                lines.append(f"--- {name} {index}\n{self.topology.log(name, index)}")
        return "\n".join(lines)

    # Between two tests.

    def heal(self) -> None:
        """Take every fault back, and cancel what a failed test has left."""
        self.topology.thaw(list(self.topology._frozen))
        self.topology.broker_proxy.thaw()
        self.topology.broker_proxy.accept()
        query = select(tables.jobs.c.id).where(tables.jobs.c.state.in_(ACTIVE_STATES))
        left = self.topology.look(lambda connection: connection.execute(query).scalars().all())
        for job_id in left:
            self.ask("POST", f"/jobs/{job_id}/cancel")
        for job_id in left:
            words = f"{job_id} does not end"
            self.wait(lambda one=job_id: self.row(one)["state"] in FINAL_STATES, PATIENCE_SECONDS, words, job_id)  # type: ignore[misc]

    def check(self) -> None:
        """Hold everything that is stored against the invariants."""
        found = check(Run(self.topology.look(snapshot.read), allowed_codes=EXPECTED_FAILURES))
        assert found == []

    def _index_of(self, name: str) -> int | None:
        """Which worker holds leases under this name: one that runs now, for its process id is in it."""
        beginnings = [f"{os.uname().nodename}-{part.pid}-" for part in self.topology.parts["worker"]]
        return next((index for index, words in enumerate(beginnings) if f"{name}-".startswith(words)), None)

    def _is_idle(self, index: int) -> bool:
        trainer = self.topology.trainer(index)
        if trainer is None:
            return False
        known = tables.workers.c
        query = select(known.name, known.seen_at).where(known.state == "idle")
        said = [
            row.seen_at.timestamp()
            for row in self.topology.look(lambda connection: connection.execute(query).all())
            if self._index_of(row.name) == index
        ]
        return max(said, default=0.0) > _began(trainer)  # what was said earlier is of another trainer

    def _can_write(self, job_id: str | None) -> bool:
        query = select(tables.jobs.c.id).where(tables.jobs.c.id == job_id).with_for_update()
        try:
            with self._impatient.write() as connection:
                connection.execute(query)
        except DATABASE_DOWN:
            return False
        return True


def _began(pid: int) -> float:
    """When a process began, in seconds of the clock."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.time()
    running = float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """One API process and two workers on each of the two databases."""
    kind: Kind = request.param
    with Topology(kind, workers=2, apis=1) as topology:
        opened = Site(topology)
        yield opened
        opened.close()


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The same for every test, without a trace of the one before."""
    yield shared_site
    shared_site.heal()
    shared_site.check()
