"""The embedded topology as a process: train, serve, kill parts of it, end it, start it again."""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from service.embedded import running_on
from service.processes import FIRST_PAUSE_SECONDS, LOCK_NAME, CannotStart, Child, locked
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import (
    STOP_TIMEOUT_SECONDS,
    Service,
    alive,
    canonical,
    command,
    descendants,
    linux_only,
    rows_of,
    running,
)
from tests.stopwatch import stopwatch

pytestmark = linux_only

NETWORK = {"hidden_layers": 2, "units": 16}
TWENTY_SECONDS = {"epochs": 2000, "early_stopping": None}
LONG = {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-5}
ROUNDS = 20


def state(service: Service, job_id: str) -> str:
    return str(service.client.get(f"/jobs/{job_id}").json()["state"])


def epoch(service: Service, job_id: str) -> int:
    return int(service.client.get(f"/jobs/{job_id}").json()["progress"]["epoch"])


@contextmanager
def speaking_to(output: Path, data_dir: Path) -> Iterator[Service]:
    """Run the service with its words going to a file; it is found by what it writes down for the doctor."""
    with output.open("w") as words:
        process = subprocess.Popen(command(data_dir), stdout=words, stderr=words, text=True)
    try:
        until(lambda: process.poll() is not None or running_on(data_dir))
        found = running_on(data_dir)
        assert found is not None, f"it ended with status {process.poll()}"
        with httpx.Client(base_url=found.address, timeout=PATIENCE_SECONDS) as client:
            yield Service(process, client, data_dir)
    finally:
        below = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        finally:
            process.kill()
        assert alive(below) == []


def open_to_others(folder: Path) -> list[str]:
    """What another user could read or write, the folder itself among it."""
    return [path.name for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077]


def test_folder_that_is_made_is_open_to_nobody_else_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    there.mkdir(0o755)
    for folder in (made, there):
        with locked(folder):
            pass
    assert [folder.stat().st_mode & 0o777 for folder in (made, there)] == [0o700, 0o755]


def kill_broker(service: Service) -> None:
    [broker] = service.children("valkey-server")
    os.kill(broker, signal.SIGKILL)
    until(lambda: broker not in service.children("valkey-server"))


def test_one_command_trains_serves_survives_and_remembers(tmp_path: Path) -> None:
    data_dir = tmp_path / "data with ? and %41 and spaces"
    with running(data_dir) as service:
        # A built-in table is trained and its model answers raw rows.
        job = service.post("/jobs", dataset="iris", network=NETWORK, training={"epochs": 15, "test_fraction": 0.25})
        job = service.wait_for(job["id"])
        assert job["state"] == "succeeded", job["error"]
        assert job["model"] == {"name": "iris", "version": 1}
        epochs = service.client.get(f"/jobs/{job['id']}/metrics").json()["items"]
        assert [measured["epoch"] for measured in epochs] == list(range(1, 16))
        answered = service.post("/predict", model="iris", instances=rows_of(service, "iris"))
        assert answered["classes"] == ["setosa", "versicolor", "virginica"]

        # So is an uploaded one.
        csv = "x,y\n" + "".join(f"{i},{2 * i + 1}\n" for i in range(100))
        uploaded = service.upload("line", csv)
        line = service.post("/jobs", dataset=uploaded, target="y", network=NETWORK, training={"epochs": 200})
        assert service.wait_for(line["id"])["state"] == "succeeded"
        [value] = service.post("/predict", model="line", instances=[[50]])["predictions"]
        assert value == pytest.approx(101, abs=20)

        # What lies in the folder is nobody else's to read.
        assert open_to_others(data_dir) == []

        # A second service on the same folder is refused.
        second = subprocess.run(
            command(data_dir), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert second.returncode == 1
        assert f"process {service.process.pid} already runs on the folder" in second.stderr

        # A cancel reaches a running training.
        long = service.post("/jobs", dataset="digits", network=NETWORK, training=LONG)
        until(lambda: epoch(service, long["id"]) >= 1)
        with stopwatch() as watch:
            asked = time.monotonic()
            service.post(f"/jobs/{long['id']}/cancel")
            assert service.wait_for(long["id"])["state"] == "cancelled"
            assert watch.elapsed(asked) < 5

        # A worker and a broker that are killed are started again, and jobs go on.
        [broker] = service.children("valkey-server")
        os.kill(broker, signal.SIGKILL)
        worker = service.children("-m workers")[0]
        os.kill(worker, signal.SIGKILL)
        after = service.post("/jobs", dataset="wine", network=NETWORK, training={"epochs": 3})
        assert service.wait_for(after["id"])["state"] == "succeeded"
        assert service.children("valkey-server") != [broker]
        assert service.children("-m workers")[0] != worker

        # Ended in the middle of a training.
        unfinished = service.post("/jobs", dataset="digits", network=NETWORK, training=TWENTY_SECONDS)
        until(lambda: epoch(service, unfinished["id"]) >= 1)

    with sqlite3.connect(data_dir / "selfnorm.db") as database:
        query = "SELECT state, losses, worker FROM jobs WHERE id = ?"
        assert database.execute(query, [unfinished["id"]]).fetchone() == ("queued", 0, None), (
            "the worker handed it back"
        )

    with running(data_dir) as service:
        assert canonical(service.post("/predict", model="iris", instances=rows_of(service, "iris"))) == canonical(
            answered
        )
        job = service.wait_for(unfinished["id"])
        assert (job["state"], job["attempts"]) == ("succeeded", 2)


def test_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir) as service:
        job = service.post("/jobs", dataset="digits", network=NETWORK, training=LONG)
        until(lambda: epoch(service, job["id"]) >= 1)
        below = descendants(service.process.pid)
        assert len(below) >= 4
        service.process.kill()
        service.process.wait()
        assert alive(below) == []


def test_training_process_that_has_grown_large_is_replaced_after_its_job(tmp_path: Path) -> None:
    with running(tmp_path / "data", SELFNORM_WORKER_MEMORY_BYTES="100000000") as service:
        processes = []
        for _ in range(2):
            processes.append(service.children("workers.trainer"))
            job = service.post("/jobs", dataset="iris", network=NETWORK, training={"epochs": 2})
            assert service.wait_for(job["id"])["state"] == "succeeded"
            until(lambda: service.children("workers.trainer") not in ([], processes[-1]))
        assert len({tuple(each) for each in processes}) == 2


def test_port_in_use_is_said(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*command(tmp_path / "data"), "--port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        command(tmp_path / "file" / "data"), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


def test_first_process_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    log = tmp_path / "data" / "logs" / "worker.log"
    log.mkdir(parents=True)
    done = subprocess.run(
        command(tmp_path / "data"), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 1
    assert "the worker could not be started: " in done.stderr
    assert str(log) in done.stderr
    assert "Traceback" not in done.stderr


def test_service_with_a_damaged_broker_comes_up_and_says_what_to_do(tmp_path: Path) -> None:
    data_dir, said = tmp_path / "data", tmp_path / "said"
    files = data_dir / "broker" / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.manifest").write_text("garbage\n")
    with speaking_to(said, data_dir) as service:
        [warning] = [line for line in said.read_text().splitlines() if "jobs start without it" in line]
        assert warning.startswith("selfnorm: the broker ended with status 1; it is started again in 0.2 s; it said: ")
        assert "Invalid AOF manifest file format" in warning
        assert f"see {data_dir / 'logs' / 'broker.log'}" in warning
        assert f"move {files} away" in warning
        job = service.post("/jobs", dataset="iris", network=NETWORK, training={"epochs": 2})
        assert service.wait_for(job["id"])["state"] == "succeeded"
        files.rename(tmp_path / "away")
        until(lambda: (files / "appendonly.aof.manifest").exists())
        assert said.read_text().count("jobs start without it") == 1


def test_service_goes_on_when_a_process_cannot_be_started_again(tmp_path: Path) -> None:
    data_dir, said = tmp_path / "data", tmp_path / "said"
    with speaking_to(said, data_dir) as service:
        (data_dir / "logs").rename(data_dir / "elsewhere")
        kill_broker(service)
        until(lambda: said.read_text().count("the broker could not be started: ") >= 2)
        assert service.client.get("/readyz").status_code == 200
        (data_dir / "elsewhere").rename(data_dir / "logs")
        until(lambda: service.children("valkey-server"))
    assert service.process.returncode == 0


# Linux has it; the same words on a disk that is really full would need root.
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_service_goes_on_when_nothing_can_be_said(tmp_path: Path) -> None:
    with speaking_to(Path("/dev/full"), tmp_path / "data") as service:
        kill_broker(service)
        until(lambda: service.children("valkey-server"))
        assert service.client.get("/readyz").status_code == 200


def test_process_that_cannot_be_started_is_tried_again_after_growing_pauses(tmp_path: Path) -> None:
    child = Child("sleeper", ["sleep", "600"], dict(os.environ), tmp_path / "logs" / "log", lambda _: True)
    pauses: list[float] = []

    def has_failed_three_times() -> bool:
        if what := child.watch():
            assert what.startswith("could not be started: ")
            pauses.append(child.pause)
        return len(pauses) == 3

    until(has_failed_three_times)
    assert pauses == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    child.log.parent.mkdir()
    until(lambda: child.watch() is None and child.process is not None)
    child.wait(time.monotonic())


@pytest.mark.parametrize("status", [0, 1])
def test_process_that_ends_is_started_again_at_once(tmp_path: Path, status: int) -> None:
    command = [sys.executable, "-c", f"raise SystemExit({status})"]
    child = Child("ender", command, dict(os.environ), tmp_path / "log", lambda _: True)
    child.start()
    said: list[str | None] = []

    def has_ended() -> bool:
        said.append(child.watch())
        return said[-1] is not None

    until(has_ended)
    assert (said[-1], child.pause) == (f"ended with status {status}", FIRST_PAUSE_SECONDS)
    until(lambda: child.watch() is None and child.process is not None)
    child.wait(time.monotonic())


def test_folder_that_somebody_looked_at_for_a_moment_can_be_held(tmp_path: Path) -> None:
    """Where this machine is slow the moment may be too long, so there are many rounds, and one is enough."""
    assert any(_is_held_after_a_moment(tmp_path) for _ in range(ROUNDS))
    with locked(tmp_path), pytest.raises(CannotStart, match=f"process {os.getpid()} already runs"), locked(tmp_path):
        pass


def _is_held_after_a_moment(folder: Path) -> bool:
    with (folder / LOCK_NAME).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        try:
            with locked(folder):
                return True
        except CannotStart:
            return False
        finally:
            timer.join()
