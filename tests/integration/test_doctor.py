"""Every finding of the doctor, provoked for real: stored times are moved, servers stopped, files damaged."""

import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import insert, text, update
from sqlalchemy.exc import DBAPIError

from service.doctor.checks import Check, Status, masked
from service.doctor.database import VERSION, clock, room
from service.doctor.report import examine
from service.domain.jobs import EventKind, JobState
from service.domain.workers import SILENT_SECONDS, WorkerState
from service.embedded import SERVICE_FILE
from service.processes import locked
from service.settings import Settings
from service.storage import leases, workers
from service.storage.database import Database, database_time
from service.storage.doctor import reading
from service.storage.tables import events, jobs
from service.storage.tables import workers as worker_table
from service.task_queue import Doorbell
from tests import servers
from tests.clock import stop_clock
from tests.factories import stored_job
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import linux_only, running
from tests.stopwatch import stopwatch

NOWHERE = "redis://127.0.0.1:1/0"
OF_SQLITE = ["database", "file", "integrity", "disk"]
OF_BOTH = ["migrations", "clock", "workers", "queue", "leases", "times", "stops", "losses", "store", "broker"]


def findings(database_url: str, broker_url: str = NOWHERE) -> dict[str, Check]:
    return {check.name: check for check in examine(Settings(database_url=database_url, broker_url=broker_url))}


def finding(database_url: str, name: str) -> Check:
    """One finding that needs no broker: this one is refused at once, one that is away only after two seconds."""
    return findings(database_url, "nonsense://somewhere")[name]


def of_folder(data_dir: Path) -> dict[str, Check]:
    return {check.name: check for check in examine(Settings(), data_dir)}


def seen(database: Database, name: str, state: WorkerState = WorkerState.IDLE, version: str = VERSION) -> None:
    with database.write() as connection:
        workers.seen(connection, name, version, state, "job-1" if state is WorkerState.BUSY else None)


def age(database: Database, name: str, seconds: float) -> None:
    with database.write() as connection:
        aged = update(worker_table).where(worker_table.c.name == name).values(seen_at=database_time(-seconds))
        connection.execute(aged)


def known_for(database: Database, name: str, seconds: float) -> None:
    with database.write() as connection:
        older = update(worker_table).where(worker_table.c.name == name).values(started_at=database_time(-seconds))
        connection.execute(older)


def change(database: Database, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(jobs).values(**values))


def ask(database: Database, kind: EventKind, seconds_ago: float, number: int = 77) -> None:
    with database.write() as connection:
        asked = {"job_id": "job-1", "number": number, "kind": kind, "data": {}}
        connection.execute(insert(events).values(**asked, created_at=database_time(-seconds_ago)))


def held(database: Database, **values: Any) -> None:
    stored_job(database)
    with database.write() as connection:
        assert leases.claim(connection, "job-1", "w1")
    change(database, **values)


def doctor(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", "doctor", *options]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, **environment},
    )


@contextmanager
def listening(answer: bytes | None = None) -> Iterator[int]:
    """A server that takes connections; without ``answer`` it never says a word, else it drips it for ever."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while answer and not over.wait(0.3):
                    try:
                        connection.sendall(answer)
                    except OSError:
                        return
                over.wait()

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            over.set()
            with socket.socket() as last:  # where nobody has come, the thread still waits
                last.connect_ex(server.getsockname())
            thread.join()


# The registry of workers.


def test_worker_is_known_by_what_it_last_said_until_it_goes(database: Database) -> None:
    stop_clock(database)
    seen(database, "w1", WorkerState.STARTING)
    known_for(database, "w1", 10)
    seen(database, "w2")
    seen(database, "w1", WorkerState.BUSY)
    with database.write() as connection:
        first, second = workers.list_all(connection)
        assert (first.name, first.state, first.job_id, first.version) == ("w1", "busy", "job-1", VERSION)
        assert (second.name, second.state, second.job_id) == ("w2", "idle", None)
        assert first.started_at + timedelta(seconds=10) == first.seen_at
        assert first.seconds_silent == 0
        workers.gone(connection, "w1")
        assert [worker.name for worker in workers.list_all(connection)] == ["w2"]


def test_silent_worker_is_lost_and_after_a_day_forgotten(database: Database) -> None:
    stop_clock(database)
    for name, seconds in (("alive", SILENT_SECONDS - 5), ("lost", SILENT_SECONDS + 5), ("long ago", 90_000)):
        seen(database, name)
        age(database, name, seconds)
    with database.write() as connection:
        assert {worker.name: worker.is_lost for worker in workers.list_all(connection)} == {
            "alive": False,
            "long ago": True,
            "lost": True,
        }
        workers.purge(connection)
        assert [worker.name for worker in workers.list_all(connection)] == ["alive", "lost"]


# What is well.


def test_healthy_service_has_no_finding(database: Database, database_url: str, broker_url: str) -> None:
    seen(database, "w1")
    seen(database, "w2", WorkerState.BUSY)
    found = findings(database_url, broker_url)
    assert [check.name for check in found.values()] == (
        [*OF_SQLITE, *OF_BOTH] if database.dialect == "sqlite" else ["database", *OF_BOTH]
    )
    assert [check for check in found.values() if check.status is not Status.OK] == []
    assert found["workers"].detail == "1 busy, 1 idle"
    assert found["queue"].detail == "no job waits"
    if database.dialect == "postgresql":
        assert "PostgreSQL 1" in found["database"].detail


def test_doctor_cannot_write(database: Database, database_url: str) -> None:
    with pytest.raises(DBAPIError), reading(database_url) as connection:
        connection.execute(update(jobs).values(losses=1))


def test_doctor_leaves_a_data_folder_as_it_is(sqlite_database: Database, tmp_path: Path) -> None:
    sqlite_database.close()

    def contents() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}

    before = contents()
    of_folder(tmp_path)
    assert before == contents()


# The database.


def test_migrations_that_are_missing_or_of_a_newer_version(database: Database, database_url: str) -> None:
    for statement, detail, advice in (
        ("UPDATE alembic_version SET version_num = '0003'", "at 0003, and this version needs", "selfnorm migrate"),
        ("UPDATE alembic_version SET version_num = '9999'", "at 9999, and this version needs", "newer selfnorm"),
        ("DROP TABLE alembic_version", "none has run", "selfnorm migrate"),
    ):
        with database.write() as connection:
            connection.execute(text(statement))
        found = findings(database_url)
        assert found["migrations"].status is Status.PROBLEM
        assert detail in found["migrations"].detail
        assert advice in found["migrations"].advice
        assert "queue" not in found, "its tables may be others"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg://somebody:s3cret@127.0.0.1:1/none", "refused"),
        ("postgresql+nothing://somebody:s3cret@127.0.0.1:1/none", "nothing"),
        ("mysql://somebody:s3cret@127.0.0.1/none", "none of SQLite or PostgreSQL"),
        ("no url with s3cret", "cannot be read"),
        ("sqlite:////nowhere/at all.db", "there is no file /nowhere/at all.db"),
        ("sqlite://", "there is no file"),
    ],
)
def test_database_that_is_not_there(url: str, reason: str) -> None:
    found = findings(url)
    assert list(found) == ["database", "broker"]
    assert found["database"].status is Status.PROBLEM
    assert reason in found["database"].detail
    assert "SELFNORM_DATABASE_URL" in found["database"].advice
    if "@" in url:
        assert "s3cret" not in found["database"].detail
    assert not Path("/nowhere").exists()


def test_frozen_postgresql_holds_nobody_up() -> None:
    with tempfile.TemporaryDirectory(prefix="selfnorm-tests-", dir=servers.public_folder()) as folder:
        inside = Path(folder) / "postgresql"
        inside.mkdir()
        with servers.postgresql(inside) as url:
            server = int((inside / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(server, signal.SIGSTOP)
            try:
                with stopwatch() as watch:
                    began = time.monotonic()
                    found = findings(f"{url}/postgres")
                    assert watch.elapsed(began) < 10
            finally:
                os.kill(server, signal.SIGCONT)
    assert found["database"].status is Status.PROBLEM
    assert "timeout" in found["database"].detail


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # a reader of a SQLite file waits for nobody
def test_locked_table_holds_nobody_up(database: Database, database_url: str) -> None:
    with database.write() as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        with stopwatch() as watch:
            began = time.monotonic()
            found = findings(database_url)
            assert watch.elapsed(began) < 25
    assert "statement timeout" in found["queue"].detail
    assert found["workers"].status is Status.PROBLEM


def test_damaged_file_is_a_problem(sqlite_database: Database, tmp_path: Path) -> None:
    sqlite_database.close()
    path = tmp_path / "selfnorm.db"
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 16384):
        content[page * 16384 : page * 16384 + 100] = os.urandom(100)
    path.write_bytes(content)
    found = finding(f"sqlite:///{path}", "integrity")
    assert found.status is Status.PROBLEM
    assert "damaged" in found.detail
    assert "backup" in found.advice


def test_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "selfnorm.db"
    path.write_bytes(b"something else" * 1000)
    assert "not a database" in finding(f"sqlite:///{path}", "database").detail


def test_file_without_wal_is_a_warning(sqlite_database: Database, tmp_path: Path) -> None:
    sqlite_database.close()
    path = tmp_path / "selfnorm.db"
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA journal_mode=DELETE")
    raw.close()
    found = finding(f"sqlite:///{path}", "file")
    assert (found.status, "WAL" in found.detail) == (Status.WARNING, True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child forks to look at one file and ends
def test_file_of_another_user_is_a_problem(stocked_sqlite: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="selfnorm-tests-", dir=servers.public_folder()) as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "selfnorm.db"
        shutil.copy(stocked_sqlite, path)
        path.chmod(0o644)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgid(nobody.pw_gid)
                os.setuid(nobody.pw_uid)
                status = 0 if finding(f"sqlite:///{path}", "file").status is Status.PROBLEM else 1
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def test_little_room_is_a_warning(tmp_path: Path) -> None:
    assert room(tmp_path).status is Status.OK
    assert room(tmp_path, least_bytes=2**80).status is Status.WARNING


@pytest.mark.parametrize(
    ("ahead", "round_trip", "status"),
    [(0, 0, Status.OK), (4.9, 0, Status.OK), (6, 0, Status.WARNING), (-6, 0.1, Status.WARNING), (6, 4, Status.OK)],
)
def test_clocks_that_differ_are_a_warning(ahead: float, round_trip: float, status: Status) -> None:
    before = datetime.now(UTC)
    after = before + timedelta(seconds=round_trip)
    theirs = before + timedelta(seconds=round_trip / 2 + ahead)
    found = clock(theirs, before, after)
    assert found.status is status
    assert f"{abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}" in found.detail


# Workers and jobs.


def test_no_worker_is_a_problem(database: Database, database_url: str) -> None:
    found = finding(database_url, "workers")
    assert (found.status, found.detail) == (Status.PROBLEM, "none runs")
    assert found.advice == "start one: selfnorm worker"
    seen(database, "w1")
    age(database, "w1", SILENT_SECONDS + 5)
    found = finding(database_url, "workers")
    assert found.status is Status.PROBLEM
    assert "silent for more than 30 s: w1" in found.detail


def test_silent_worker_and_worker_of_another_version_are_warnings(database: Database, database_url: str) -> None:
    seen(database, "w1")
    seen(database, "w2", WorkerState.STARTING, "0.0.1")
    seen(database, "w3")
    age(database, "w3", SILENT_SECONDS + 5)
    found = finding(database_url, "workers")
    assert found.status is Status.WARNING
    assert found.detail == (
        f"1 idle, 1 starting, silent for more than 30 s: w3, of another version than {VERSION}: w2 (0.0.1)"
    )


def test_job_that_waits_long_though_a_worker_is_idle(database: Database, database_url: str) -> None:
    stored_job(database)
    seen(database, "w1")
    assert finding(database_url, "queue").status is Status.OK, "it has only just come"
    change(database, claimable_at=database_time(-100))
    found = finding(database_url, "queue")
    assert found.status is Status.PROBLEM
    assert re.fullmatch(r"1 job in line, the oldest for 1\d\d s, though idle: w1", found.detail)
    seen(database, "w1", WorkerState.BUSY)
    assert finding(database_url, "queue").status is Status.OK, "nobody could have taken it"
    age(database, "w1", SILENT_SECONDS + 5)
    seen(database, "w2")
    age(database, "w2", SILENT_SECONDS + 5)
    assert finding(database_url, "queue").status is Status.OK, "a lost worker is not idle"


def test_job_that_waits_long_while_no_worker_gets_ready(database: Database, database_url: str) -> None:
    stored_job(database)
    change(database, claimable_at=database_time(-100))
    for name in ("w1", "w2"):
        seen(database, name, WorkerState.STARTING)
    assert finding(database_url, "queue").status is Status.OK, "both have only just come"
    known_for(database, "w1", 100)
    found = finding(database_url, "queue")
    assert found.status is Status.PROBLEM
    assert re.fullmatch(r"1 job in line, the oldest for 1\d\d s, and no worker gets ready: w1, w2", found.detail)
    assert found.advice.startswith("the worker's log says why; ")
    for state in (WorkerState.BUSY, WorkerState.STARTING):
        seen(database, "w2", state)
        problem = finding(database_url, "queue").status is Status.PROBLEM
        assert problem == (state is WorkerState.STARTING), "a busy one is going to take it"
    change(database, claimable_at=database_time())
    assert finding(database_url, "queue").status is Status.OK, "it has only just come"


def test_workers_that_die_one_after_the_other_before_they_are_ready(database: Database, database_url: str) -> None:
    stored_job(database)
    change(database, claimable_at=database_time(-100))
    seen(database, "w1", WorkerState.STARTING)
    known_for(database, "w1", 100)
    age(database, "w1", 90)
    assert finding(database_url, "queue").status is Status.OK, "that none runs is said of the workers"
    assert finding(database_url, "workers").status is Status.PROBLEM
    seen(database, "w2", WorkerState.STARTING)
    found = finding(database_url, "queue")
    assert found.status is Status.PROBLEM
    assert found.detail.endswith("no worker gets ready: w2")


def test_log_of_a_worker_that_does_not_get_ready_is_named(sqlite_database: Database, tmp_path: Path) -> None:
    stored_job(sqlite_database)
    change(sqlite_database, claimable_at=database_time(-100))
    seen(sqlite_database, "w1", WorkerState.STARTING)
    known_for(sqlite_database, "w1", 100)
    with locked(tmp_path):
        assert of_folder(tmp_path)["queue"].advice.startswith(f"{tmp_path / 'logs' / 'worker.log'} says why; ")


def test_queue_that_moves_is_well(database: Database, database_url: str) -> None:
    stored_job(database)
    stored_job(database, "job-2")
    seen(database, "w1")
    change(database, claimable_at=database_time(-100))
    with database.write() as connection:
        assert leases.claim(connection, "job-1", "w1")
    assert finding(database_url, "queue").status is Status.OK, "the worker's last word was said before it took a job"


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.CANCELLING])
def test_job_that_nobody_takes_back(database: Database, database_url: str, state: JobState) -> None:
    held(database, state=state, lease_until=database_time(-30))
    assert finding(database_url, "leases").status is Status.OK, "the next sweep takes it back"
    change(database, lease_until=database_time(-70))
    found = finding(database_url, "leases")
    assert (found.status, found.detail) == (Status.PROBLEM, "lost by their workers: 1 job (job-1)")
    assert "no API and no worker takes them back" in found.advice


def test_times_far_ahead(database: Database, database_url: str) -> None:
    held(database, lease_until=database_time(3600))
    stored_job(database, "job-2")
    assert finding(database_url, "times").detail.endswith("set back: 1 job (job-1)")
    change(database, claimable_at=database_time(3600))
    found = finding(database_url, "times")
    assert found.status is Status.PROBLEM
    assert found.detail.endswith("set back: 2 jobs (job-1, job-2)")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (EventKind.PAUSE_REQUESTED, {"pause_requested": True}),
        (EventKind.CANCEL_REQUESTED, {"state": JobState.CANCELLING}),
    ],
)
def test_job_that_does_not_stop(database: Database, database_url: str, kind: EventKind, values: dict[str, Any]) -> None:
    held(database, **values)
    ask(database, kind, 100)
    found = finding(database_url, "stops")
    assert found.status is Status.PROBLEM
    assert found.detail.endswith("still running: 1 job (job-1)")
    ask(database, kind, 10, number=78)
    assert finding(database_url, "stops").status is Status.OK, "the last time it was asked a moment ago"


def test_losses_of_unfinished_jobs_are_a_warning(database: Database, database_url: str) -> None:
    for number in range(7):
        stored_job(database, f"job-{number}")
    change(database, losses=1)
    found = finding(database_url, "losses")
    assert found.status is Status.WARNING
    assert found.detail.endswith("7 jobs (job-0, job-1, job-2, job-3, job-4, ...)")
    change(database, state=JobState.FAILED)
    assert finding(database_url, "losses").status is Status.OK


# The broker.


def test_waiting_messages_are_counted(sqlite_database: Database, tmp_path: Path, broker_url: str) -> None:
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
        doorbell = Doorbell(broker_url)
        assert all(doorbell.ring(f"job-{number}").result() for number in range(2))
        doorbell.close()
        found = findings(f"sqlite:///{tmp_path}/selfnorm.db", broker_url)["broker"]
        broker.flushall()
    assert (found.status, found.detail) == (Status.OK, f"{broker_url} answers, 2 messages wait")


@pytest.mark.parametrize("answer", [None, b"+"])
def test_broker_that_hangs_holds_nobody_up(answer: bytes | None) -> None:
    with listening(answer) as port, stopwatch() as watch:
        began = time.monotonic()
        found = findings("sqlite:////nowhere.db", f"redis://:s3cret@127.0.0.1:{port}/0")["broker"]
        assert watch.elapsed(began) < 8
    assert found.status is Status.PROBLEM
    assert f"redis://:***@127.0.0.1:{port}/0" in found.detail
    assert "jobs are still accepted" in found.advice


@pytest.mark.parametrize(
    "url",
    [NOWHERE, "nonsense://somewhere", "redis+socket:///nowhere.sock", "redis+socket:///nowhere.sock?virtual_host=1"],
)
def test_broker_that_is_not_there(url: str) -> None:
    found = findings("sqlite:////nowhere.db", url)["broker"]
    assert found.status is Status.PROBLEM
    assert "SELFNORM_BROKER_URL" in found.advice


# The command.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql+psycopg://u:s3/c@r#et@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://h/d?user=u&password=s3cret&x=1", "postgresql+psycopg://h/d?user=u&password=***&x=1"),
        ("postgresql+psycopg://u:s3 c@ret@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://h/d?user=u&password=s3 cret&x=1", "postgresql+psycopg://h/d?user=u&password=***&x=1"),
        ("redis://us/er:s3cret@h", "redis://us/er:***@h"),
        ("sqlite:////a/b@c:d.db", "sqlite:////a/b@c:d.db"),
        ("redis://h/0", "redis://h/0"),
    ],
)
def test_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_command_prints_a_line_for_each_check_or_one_object(
    database: Database, database_url: str, broker_url: str
) -> None:
    seen(database, "w1")
    environment = {"SELFNORM_DATABASE_URL": database_url.replace("//selfnorm@", "//selfnorm:s3cret@")}
    well = doctor(SELFNORM_BROKER_URL=broker_url, **environment)
    assert (well.returncode, well.stderr) == (0, "")
    assert all(line.startswith("ok       ") for line in well.stdout.splitlines()), well.stdout

    ill = doctor("--json", SELFNORM_BROKER_URL="redis://:s3cret@127.0.0.1:1/0", **environment)
    assert (ill.returncode, ill.stderr) == (1, "")
    said = json.loads(ill.stdout)
    assert said["healthy"] is False
    assert [check["name"] for check in said["checks"]] == [
        line.split()[1].rstrip(":") for line in well.stdout.splitlines()
    ]
    assert {tuple(check) for check in said["checks"]} == {("name", "status", "detail", "advice")}
    assert [check["name"] for check in said["checks"] if check["status"] != "ok"] == ["broker"]

    broken = doctor(SELFNORM_DATABASE_URL="postgresql+psycopg://u:s3cret@127.0.0.1:1/d", SELFNORM_BROKER_URL=broker_url)
    assert broken.returncode == 1
    assert broken.stdout.startswith("problem  database: postgresql+psycopg://u:***@127.0.0.1:1/d cannot be used: ")
    assert "s3cret" not in well.stdout + ill.stdout + broken.stdout + broken.stderr


# The folder of `selfnorm up`.


def test_folder_without_a_service(sqlite_database: Database, tmp_path: Path) -> None:
    found = of_folder(tmp_path)
    assert found["service"].status is Status.PROBLEM
    assert found["service"].advice == f"run: selfnorm up --data-dir {tmp_path}"
    assert found["database"].status is Status.OK
    assert "broker" not in found
    nothing = of_folder(tmp_path / "nothing")
    assert {check.status for check in nothing.values()} == {Status.PROBLEM}
    assert not (tmp_path / "nothing").exists()


def test_service_that_was_killed_or_does_not_answer(sqlite_database: Database, tmp_path: Path) -> None:
    dead = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    said = {"pid": int(dead), "address": "http://127.0.0.1:1", "broker_url": NOWHERE, "version": VERSION}
    (tmp_path / SERVICE_FILE).write_text(json.dumps(said))
    found = of_folder(tmp_path)
    assert f"process {dead}, did not end by itself" in found["service"].detail
    assert "broker" not in found
    (tmp_path / SERVICE_FILE).write_text(json.dumps({**said, "pid": os.getpid()}))
    found = of_folder(tmp_path)
    assert "did not end by itself" in found["service"].detail, "this process lives, and is no service"
    assert not any("end process" in check.advice for check in found.values())
    with locked(tmp_path):
        found = of_folder(tmp_path)
        assert "does not answer" in found["service"].detail
        assert found["broker"].status is Status.PROBLEM
        with listening(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}") as port:
            (tmp_path / SERVICE_FILE).write_text(json.dumps({**said, "address": f"http://127.0.0.1:{port}"}))
            assert "is answered by something else" in of_folder(tmp_path)["service"].detail
        (tmp_path / SERVICE_FILE).write_text("{")
        assert "is not ready yet" in of_folder(tmp_path)["service"].detail
    assert of_folder(tmp_path)["service"].detail == f"none runs on {tmp_path}"


@linux_only
def test_doctor_of_a_running_service(tmp_path: Path) -> None:
    data_dir = tmp_path / "data with ? and %41 and spaces"
    with running(data_dir) as service:
        until(lambda: of_folder(data_dir)["workers"].detail == "1 idle")  # it reports every few seconds
        done = doctor("--data-dir", str(data_dir))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert f"process {service.process.pid} answers at {service.client.base_url}"[:-1] in done.stdout
        assert "answers, 0 messages wait" in done.stdout
        [broker] = service.children("valkey-server")
        os.kill(broker, signal.SIGSTOP)
        frozen = of_folder(data_dir)
        os.kill(broker, signal.SIGCONT)
        assert frozen["broker"].status is Status.PROBLEM
    assert not (data_dir / SERVICE_FILE).exists()
    with running(data_dir) as service:
        service.process.kill()
        service.process.wait()
        assert f"process {service.process.pid}, did not end by itself" in doctor("--data-dir", str(data_dir)).stdout
