"""What survives what (``docs/jobs.md``), one promise after the other, with real processes on both databases.

What workers promise is tested in ``test_worker_guarantees.py``, what the API answers while the database is down in
``tests/integration/test_database_down.py``. Whatever is drawn comes from ``SEED``, which ``CHAOS_SEED`` changes.
"""

import io
import itertools
import json
import logging
import os
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from redis.exceptions import RedisError
from sqlalchemy import select, update

from service.domain.jobs import MAX_LOSSES, EventKind, JobState
from service.storage.tables import blob_parts, jobs, model_versions
from tests.chaos.conftest import Site, Spec
from tests.chaos.promises import (
    HEARD_SECONDS,
    JSON,
    LONG,
    ON_SQLITE,
    SEED,
    SHORT,
    keyed,
    kill,
    on,
    spec,
)
from tests.chaos.proxy import HOST, RESET_ON_CLOSE
from tests.chaos.topology import Topology
from tests.patience import PATIENCE_SECONDS
from tests.processes import linux_only
from tests.stopwatch import stopwatch

logger = logging.getLogger(__name__)

pytestmark = linux_only

QUEUE_SECONDS = 15
"""So long a job waits at most where there is no broker and a worker is idle."""
CANCEL_SECONDS = 10
"""The promise is 5 s, on a machine that does nothing else."""
CANCEL_LATE_SECONDS = 60


def model_of(site: Site, wanted: Spec) -> str:
    """Return the name of a model that is there; it is trained where it is not."""
    name = str(wanted["model"])
    if site.ask("GET", f"/models/{name}").status_code == 404:
        site.succeeded(site.submit(wanted))
    return name


def rows_of(site: Site, dataset: str, count: int = 20) -> list[dict[str, Any]]:
    """Return rows of a table without the target."""
    items: list[dict[str, Any]] = site.get(f"/datasets/{dataset}/rows?page_size={count}")["items"]
    return [{name: value for name, value in item.items() if name != "target"} for item in items]


def question(site: Site, model: str, dataset: str = "digits") -> bytes:
    """Return the body of a prediction."""
    return json.dumps({"model": model, "instances": rows_of(site, dataset)}).encode()


def predict(site: Site, asked: bytes) -> httpx.Response:
    return site.ask("POST", "/predict", content=asked, headers=JSON)


def posting(body: Spec, key: str) -> bytes:
    """Return a whole request, as bytes that can be cut anywhere."""
    content = json.dumps(body).encode()
    head = (
        f"POST /jobs HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    )
    return f"{head}Idempotency-Key: {key}\r\nConnection: close\r\n\r\n".encode() + content


def connected(port: int, seconds: float = PATIENCE_SECONDS) -> socket.socket:
    """Connect, again and again while nobody listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((HOST, port), timeout=30)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def received(client: socket.socket, most: int | None = None) -> bytes:
    """Read an answer to its end, to where the other side has died, or so many bytes of it."""
    got = b""
    with suppress(ConnectionError):
        while (most is None or len(got) < most) and (block := client.recv(65536 if most is None else most - len(got))):
            got += block
    return got


def reset(client: socket.socket) -> None:
    """End a connection as one that was cut."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    client.close()


def answered(answer: bytes) -> tuple[int, dict[str, Any]] | None:
    """Return status and content of an answer; None where it is not whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    sizes = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length")]
    if not sizes or len(body) < int(sizes[0]):
        return None
    return int(status.split()[1]), json.loads(body)


def jobs_tagged(site: Site, tag: str) -> list[str]:
    """Return the ids of the jobs with a tag."""
    return [job["id"] for job in site.get(f"/jobs?tag={tag}&page_size=100")["items"]]


# 1. A job answered 202 survives kill -9 of the API on the first byte of the answer.


@on("postgresql")
def test_guarantee_01_job_survives_the_death_of_the_api_on_the_first_byte_of_the_answer(site: Site) -> None:
    """A job answered 202 survives `kill -9` of the API on the first byte of the answer."""
    for number in range(3):
        tag = f"first-byte-{number}"
        site.get("/readyz")  # it has just been started again, and is asked once only
        with connected(site.port) as client:
            client.sendall(posting({**SHORT, "tags": [tag]}, tag))
            answer = client.recv(1)
            assert site.topology.kill("api") is not None
            answer += received(client)
        assert answer.startswith(b"HTTP/1.1 202"), answer
        [job_id] = jobs_tagged(site, tag)
        if whole := answered(answer):
            assert whole[1]["id"] == job_id
        site.succeeded(job_id)


# 2. The same Idempotency-Key makes exactly one job.


@on("sqlite")
def test_guarantee_02_key_makes_one_job_wherever_its_connections_are_cut(site: Site) -> None:
    """The same Idempotency-Key, from any number of connections cut anywhere, makes exactly one job."""
    draw = random.Random(f"cuts {SEED}")
    keys = [f"cut-{number}" for number in range(3)]
    requests = {key: posting({**SHORT, "tags": [key]}, key) for key in keys}
    plan = []
    for key in keys * 16:
        whole, manner = requests[key], draw.choice(["request", "answer", "answer", "whole"])
        sent = draw.randrange(len(whole)) if manner == "request" else len(whole)
        plan.append((key, sent, draw.randrange(1, 2000) if manner == "answer" else None))
    answers: list[tuple[str, tuple[int, dict[str, Any]]]] = []
    begun = itertools.count(1)
    half_way = threading.Event()

    def connect(key: str, sent: int, most: int | None) -> None:
        client = connected(site.port)
        try:
            if next(begun) >= len(plan) // 2:
                half_way.set()
            with suppress(ConnectionError):
                client.sendall(requests[key][:sent])
            if sent == len(requests[key]) and (whole := answered(received(client, most))):
                answers.append((key, whole))
        finally:
            reset(client)

    with ThreadPoolExecutor(12) as pool:
        connections = [pool.submit(connect, *each) for each in plan]
        assert half_way.wait(PATIENCE_SECONDS)
        assert site.topology.kill("api") is not None
        for connection in connections:
            connection.result()
    made = {}
    for key in keys:
        body = requests[key].partition(b"\r\n\r\n")[2]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (last := site.ask("POST", "/jobs", content=body, headers=JSON | keyed(key))).status_code == 409:
            assert time.monotonic() < deadline, "one of those that were cut is still being served"
            time.sleep(0.1)
        assert last.status_code == 202, last.text
        made[key] = last.json()["id"]
        assert jobs_tagged(site, key) == [made[key]]
    statuses = Counter(status for _, (status, _) in answers)
    logger.info("of %d connections so many were answered in whole: %s", len(plan), dict(statuses))
    assert set(statuses) <= {202, 409, 503}, statuses
    assert {(key, content["id"]) for key, (status, content) in answers if status == 202} <= set(made.items())
    for job_id in made.values():
        site.succeeded(job_id)


# 6. The broker.


def submitted_without_a_broker(site: Site, asked: bytes) -> str:
    """Submit a job and predict while the broker is away: neither waits for it."""
    with stopwatch() as watch:
        began = time.monotonic()
        accepted = site.ask("POST", "/jobs", json=SHORT)
        assert accepted.status_code == 202, accepted.text
        predicted = site.ask("POST", "/predict", content=asked, headers=JSON)
        assert predicted.status_code == 200, predicted.text
        assert watch.elapsed(began) < 5, "requests wait for the broker"
    return str(accepted.json()["id"])


def seconds_in_queue(site: Site, job_id: str) -> float:
    """Wait until a job has been started; return how long it was queued."""
    started = site.wait_for_event(job_id, EventKind.STARTED, 1)
    return (started.created_at - site.events(job_id)[0].created_at).total_seconds()


def no_worker_is_deaf(site: Site) -> None:
    """Every worker listens at the broker, messages are taken, and jobs run."""

    def all_listen() -> bool:
        try:
            with site.broker() as broker:
                listening = sum(client["cmd"] == "brpop" for client in broker.client_list())
                return listening == 2 and site.no_message_waits(broker)
        except RedisError:
            return False

    site.wait(all_listen, HEARD_SECONDS, "a worker is deaf, or messages lie with the broker")
    job_id = site.submit(SHORT)
    site.succeeded(job_id)
    site.wait(all_listen, HEARD_SECONDS, "a worker is deaf, or messages lie with the broker")


@contextmanager
def silent(site: Site) -> Iterator[None]:
    """The broker hangs."""
    pids = site.topology.freeze("broker")
    try:
        yield
    finally:
        site.topology.thaw(pids)


@contextmanager
def refused(site: Site) -> Iterator[None]:
    """The broker is down."""
    proxy = site.topology.broker_proxy
    proxy.refuse()
    proxy.cut()
    try:
        yield
    finally:
        proxy.accept()


@ON_SQLITE
def test_guarantee_06_flushed_or_killed_broker_loses_no_job(site: Site) -> None:
    """`FLUSHALL`, a killed, restarted ... Redis loses no job and leaves no deaf worker."""
    site.all_ready()
    faults: list[Callable[[], object]] = [
        site.topology.flush_broker,
        lambda: site.topology.kill("broker"),
        lambda: site.topology.term("broker"),
    ]
    for fault in faults:
        waiting = [site.submit(SHORT) for _ in range(4)]
        fault()
        for job_id in waiting:
            site.succeeded(job_id)
            assert site.row(job_id)["losses"] == 0
    no_worker_is_deaf(site)


@ON_SQLITE
@pytest.mark.parametrize("fault", [silent, refused])
def test_guarantee_06_jobs_run_and_predictions_are_answered_without_a_broker(
    site: Site, fault: Callable[[Site], Any]
) -> None:
    """A ... hanging Redis loses no job and leaves no deaf worker; while Redis is down jobs are accepted, predictions
    served, and queued jobs still start within 15 s."""
    asked = question(site, model_of(site, SHORT))
    site.all_ready()
    with fault(site):
        began = time.monotonic()
        while time.monotonic() - began < 10:
            job_id = submitted_without_a_broker(site, asked)
            assert seconds_in_queue(site, job_id) < QUEUE_SECONDS
            site.succeeded(job_id)
    no_worker_is_deaf(site)


# 8. A full disk.


def mounting() -> str | None:
    """Return why no disk of its own can be made here; None where it can."""
    if os.geteuid() != 0:
        return "mounts a small disk, which only root may"
    folder = Path("/tmp") / f"selfnorm-mount-{os.getpid()}"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    folder.rmdir()
    return done.stderr.strip() or None if done.returncode else None


@pytest.fixture
def small_disk() -> Iterator[Site]:
    """A service whose database is on a disk of 96 MB."""
    if reason := mounting():
        pytest.skip(reason)
    with Topology("sqlite", workers=1, apis=1, disk_bytes=96 * 2**20) as topology:
        opened = Site(topology)
        yield opened
        opened.close()


def fill(folder: Path) -> Path:
    """Leave no byte free on a disk; return the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return ballast


def test_guarantee_08_full_disk_tears_nothing_and_needs_no_restart(small_disk: Site) -> None:
    """Disk full: nothing torn is visible, the last checkpoint stays valid, the service recovers without a restart.

    The training ends while there is no room: it waits with its end.
    """
    site = small_disk
    training = site.submit(spec("full", epochs=150))
    site.wait_for_checkpoint(training)
    with site.frozen_worker(0, training):  # so that it does not end before
        assert site.row(training)["state"] == JobState.RUNNING
        processes = {pid for pid, command in site.topology.processes().items() if "python" in command}
        ballast = fill(site.topology.data)
    began, refusals, accepted = time.monotonic(), 0, []
    while refusals < 20 or time.monotonic() - began < 8:
        answer = site.ask_once("POST", "/jobs", json=SHORT)
        assert answer.status_code in (202, 503), answer.text
        if answer.status_code == 202:  # there is room in the log that is there already
            accepted.append(answer.json()["id"])
            assert len(accepted) < 1000
        else:
            refusals += 1
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert site.ask_once("GET", f"/jobs/{training}").json()["state"] == "running"
        time.sleep(0.1)
    logger.info("refused %d, accepted %d: %s", refusals, len(accepted), answer.text)
    ballast.unlink()
    for job_id in [training, *accepted[-5:], site.submit(SHORT)]:
        site.succeeded(job_id)
    for job_id in accepted:
        site.ask("POST", f"/jobs/{job_id}/cancel")
    assert site.row(training)["fence"] == 1
    assert processes <= site.topology.processes().keys(), "nothing was started again"
    site.heal()
    site.check()
    check = site.topology.look(lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar())
    assert check == "ok"


# 10. A job that kills its worker.


@ON_SQLITE
def test_guarantee_10_job_that_kills_its_worker_fails_with_the_reason(site: Site) -> None:
    """A job that kills its worker fails after 3 losses without progress, with the reason; others are not held up."""
    # Nobody has compiled this network, so that no attempt comes to a checkpoint before its trainer dies.
    deadly = site.submit(spec("deadly", epochs=3, units=33))
    other = site.submit(SHORT)
    for number in range(1, MAX_LOSSES + 1):
        started = site.wait_for_event(deadly, EventKind.STARTED, number)
        assert site.topology.kill("trainer", site.worker_of(started)) is not None
    row = site.wait_for_state(deadly, JobState.FAILED)
    assert (row["error_code"], row["fence"], row["epoch"]) == ("worker_lost", MAX_LOSSES, 0)
    assert "lost while they ran this job" in row["error_detail"]
    assert len(site.events(deadly, EventKind.WORKER_LOST)) == MAX_LOSSES
    assert site.versions(deadly) == []
    site.succeeded(other)
    assert site.row(other)["fence"] == 1
    answer = site.ask("POST", f"/jobs/{deadly}/retry", headers=keyed("deadly"))
    assert answer.status_code == 202, answer.text
    assert answer.json()["retry_of"] == deadly
    assert site.succeeded(answer.json()["id"]).version == 1


# 11. Cancel.


@pytest.fixture(scope="module")
def wide_table(shared_site: Site) -> str:
    """The id of a table of 100,000 rows and 20 columns; an epoch of ``on_wide_table`` takes more than 20 s."""
    values = np.random.default_rng(0).normal(size=(20, 100_000)).astype(np.float32)
    file = io.BytesIO()
    pq.write_table(pa.table({f"c{number}": column for number, column in enumerate(values)}), file)
    kind = {"Content-Type": "application/vnd.apache.parquet"}
    answer = shared_site.ask("POST", "/datasets?name=wide", content=file.getvalue(), headers=kind)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def on_wide_table(table: str) -> Spec:
    training = {"epochs": 50, "batch_size": 32, "learning_rate": 1e-4, "early_stopping": None}
    network = {"hidden_layers": 3, "units": 1024, "dropout": 0.0}
    return {"dataset": table, "target": "c0", "network": network, "training": training, "model": "wide"}


def cancel(site: Site, job_id: str) -> dict[str, Any]:
    """Ask to cancel a job that runs; return it as it was then."""
    answer = site.ask("POST", f"/jobs/{job_id}/cancel")
    asked: dict[str, Any] = answer.json()
    assert (answer.status_code, asked["state"]) == (202, "cancelling"), answer.text
    return asked


def is_cancelled_within(site: Site, job_id: str, seconds: float) -> None:
    site.wait_for_state(job_id, JobState.CANCELLED, seconds)
    assert site.versions(job_id) == []
    told = [event.kind for event in site.events(job_id)]
    assert told[-1] == EventKind.CANCELLED
    assert told.count(EventKind.CANCEL_REQUESTED) == 1


@on("sqlite")
def test_guarantee_11_cancel_reaches_a_training_wherever_it_is(site: Site, wide_table: str) -> None:
    """Cancel reaches a running training within 5 s, also inside a long epoch."""
    running, within_epoch = site.submit(LONG), site.submit(on_wide_table(wide_table))
    site.wait_for_checkpoint(running)
    cancel(site, running)
    is_cancelled_within(site, running, CANCEL_SECONDS)
    site.wait(lambda: (site.row(within_epoch)["fraction"] or 0) > 0, PATIENCE_SECONDS, "no step", within_epoch)
    cancel(site, within_epoch)
    row = site.row(within_epoch)
    logger.info("an epoch of the wide table takes %.0f s", 80_000 / row["rows_per_second"])
    assert row["epoch"] == 0
    assert 0 < row["fraction"] * row["epochs"] < 0.5, "it is in the middle of its first epoch"
    is_cancelled_within(site, within_epoch, CANCEL_SECONDS)


@on("sqlite")
def test_guarantee_11_cancel_reaches_a_training_that_is_being_prepared(site: Site, wide_table: str) -> None:
    """Cancel reaches a running training within 5 s."""
    preparing = site.submit({**on_wide_table(wide_table), "network": {"hidden_layers": 3, "units": 1025}})
    site.wait_for_event(preparing, EventKind.STARTED, 1)
    assert not cancel(site, preparing)["progress"]["fraction"], "it has not done its first step"
    is_cancelled_within(site, preparing, CANCEL_SECONDS)


@on("sqlite")
def test_guarantee_11_cancel_survives_the_death_of_everything(site: Site) -> None:
    """Cancel ... survives restarts of everything."""
    job_id = site.submit(LONG)
    site.wait_for_checkpoint(job_id)
    index = site.holder(job_id)
    cancel(site, job_id)
    kill(site, "both", index)
    site.topology.kill("api")
    site.topology.kill("broker")
    if site.topology.kind == "postgresql":
        site.end_lease_in(job_id, 0)  # the waiting is the same as with SQLite
    is_cancelled_within(site, job_id, CANCEL_LATE_SECONDS)


# 17. Damaged models.


def flip(site: Site, sha256: str, draw: random.Random) -> None:
    """Change one bit of a stored file."""
    which = (blob_parts.c.sha256 == sha256) & (blob_parts.c.part == 0)
    with site.topology.database.write() as connection:
        data = bytearray(connection.execute(select(blob_parts.c.data).where(which)).scalar_one())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        connection.execute(update(blob_parts).where(which).values(data=bytes(data)))


def restart_api(site: Site) -> None:
    """Start the API anew, so that it has no network in memory."""
    starts = site.topology.parts["api"][0].starts
    site.topology.kill("api")
    site.wait(lambda: site.topology.parts["api"][0].starts > starts, PATIENCE_SECONDS, "the API is not started again")
    assert site.get("/healthz") == {"status": "ok"}


@on("sqlite")
def test_guarantee_17_corrupt_bit_is_an_alarm_and_no_prediction(site: Site) -> None:
    """A corrupt byte is an alarm and a 503, never a wrong prediction."""
    asked = question(site, model_of(site, SHORT))
    right = predict(site, asked)
    version = site.get(f"/models/short/versions/{right.json()['version']}")
    for seed in range(2):
        flip(site, version["onnx_sha256"], random.Random(f"bit {SEED} {seed}"))
        try:
            restart_api(site)
            for _ in range(2):
                wrong = site.ask_once("POST", "/predict", content=asked, headers=JSON)
                assert (wrong.status_code, wrong.json().get("code")) == (503, "corrupt_blob")
                assert int(wrong.headers["Retry-After"]) > 0
            assert f"the stored bytes {version['onnx_sha256']} are missing or damaged" in site.topology.log("api")
        finally:
            flip(site, version["onnx_sha256"], random.Random(f"bit {SEED} {seed}"))
    assert predict(site, asked).content == right.content


# 18. Predictions.


@on("sqlite")
def test_guarantee_18_predictions_are_the_same_after_the_death_of_everything(site: Site) -> None:
    """Predictions after a restart are bit-identical; the served form agrees with Keras within 1e-5, checked before a
    model is registered."""
    regression = spec("regression", "diabetes", epochs=5)
    models = {model_of(site, SHORT): "digits", model_of(site, regression): "diabetes"}
    asked = {name: question(site, name, dataset) for name, dataset in models.items()}
    before = {name: predict(site, body) for name, body in asked.items()}
    pids = {pid for parts in site.topology.parts.values() for part in parts if (pid := part.pid)}
    for name, parts in site.topology.parts.items():
        for index in range(len(parts)):
            kill(site, "both", index) if name == "worker" else site.topology.kill(name, index)
    for name, body in asked.items():
        after = predict(site, body)
        assert (after.status_code, after.content) == (200, before[name].content)
    assert pids.isdisjoint(part.pid for parts in site.topology.parts.values() for part in parts)
    query = select(model_versions.c.parity, jobs.c.id).join(jobs, jobs.c.id == model_versions.c.job_id)
    stored = site.topology.look(lambda connection: connection.execute(query).all())
    assert len(stored) >= len(models)
    for parity, job_id in stored:
        assert parity["rows"] > 0, job_id
        assert parity["max_difference"] <= parity["tolerance"] == 1e-5, (job_id, parity)


# 19. Equal weights.


@ON_SQLITE
def test_guarantee_19_equal_specs_and_seeds_give_equal_weights_in_every_process(site: Site) -> None:
    """Equal data, spec, seed and environment give equal weights."""
    site.all_ready()
    with site.frozen_worker(0), site.frozen_worker(1):  # so that both are there when they wake
        equal = [site.submit(spec("seed", epochs=100, seed=7, dropout=0.1)) for _ in range(2)]
    weights = [site.succeeded(job_id).weights_sha256 for job_id in equal]
    workers = {site.events(job_id, EventKind.STARTED)[0].data["worker"] for job_id in equal}
    assert len(workers) == 2, "two processes have trained them"
    other = site.submit(spec("seed", epochs=100, seed=8, dropout=0.1))
    assert weights[0] == weights[1] != site.succeeded(other).weights_sha256
