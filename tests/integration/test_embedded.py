"""The embedded topology as a process: train, serve, kill parts of it, end it, start it again."""

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import Service, alive, canonical, command, descendants, linux_only, rows_of, running

pytestmark = [
    linux_only,
    pytest.mark.timeout(600),
]

NETWORK = {"hidden_layers": 2, "units": 16}
TWENTY_SECONDS = {"epochs": 2000, "early_stopping": None}
LONG = {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-5}


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"still not so after {seconds} s")


def state(service: Service, job_id: str) -> str:
    return str(service.client.get(f"/jobs/{job_id}").json()["state"])


def epoch(service: Service, job_id: str) -> int:
    return int(service.client.get(f"/jobs/{job_id}").json()["progress"]["epoch"])


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
        uploaded = service.client.post("/datasets?name=line", content=csv, headers={"Content-Type": "text/csv"}).json()
        line = service.post("/jobs", dataset=uploaded["id"], target="y", network=NETWORK, training={"epochs": 200})
        assert service.wait_for(line["id"])["state"] == "succeeded"
        [value] = service.post("/predict", model="line", instances=[[50]])["predictions"]
        assert value == pytest.approx(101, abs=20)

        # A second service on the same folder is refused.
        second = subprocess.run(command(data_dir), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert f"process {service.process.pid} already runs on the folder" in second.stderr

        # A cancel reaches a running training.
        long = service.post("/jobs", dataset="digits", network=NETWORK, training=LONG)
        wait_until(lambda: epoch(service, long["id"]) >= 1)
        asked = time.monotonic()
        service.post(f"/jobs/{long['id']}/cancel")
        assert service.wait_for(long["id"])["state"] == "cancelled"
        assert time.monotonic() - asked < 5

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
        wait_until(lambda: epoch(service, unfinished["id"]) >= 1)

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
        wait_until(lambda: epoch(service, job["id"]) >= 1)
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
            wait_until(lambda: service.children("workers.trainer") not in ([], processes[-1]))
        assert len({tuple(each) for each in processes}) == 2


def test_port_in_use_is_said(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*command(tmp_path / "data"), "--port", port], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(command(tmp_path / "file" / "data"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
