"""Uploads against a real API process: cut off, killed, hostile, slow; and changes while jobs are made."""

import io
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.domain.errors import DatasetHasJobs
from service.domain.limits import Limits, TableLimits
from service.domain.spec import JobSpec
from service.storage import datasets, jobs
from service.storage.database import Database
from service.tables.importer import TableReader
from service.tables.request import ImportRequest
from service.use_cases.datasets import add_dataset, change_dataset
from service.use_cases.jobs import submit_job
from tests.api_process import END_SECONDS, ApiProcess, api_process
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import alive, descendants, linux_only
from tests.stopwatch import stopwatch

pytestmark = linux_only

CSV_TYPE = {"Content-Type": "text/csv"}
MEGABYTE = 1 << 20
CUT_SECONDS = 30
"""Less than a body may pause: who has gone is not taken for somebody slow."""
FORM_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\n'


@pytest.fixture
def api(stocked_sqlite: Path, tmp_path: Path) -> Iterator[ApiProcess]:
    database = tmp_path / "selfnorm.db"
    shutil.copy(stocked_sqlite, database)
    with api_process(database, tmp_path) as running:
        yield running


def csv_of(rows: int) -> bytes:
    return b"a,b,c\n" + b"".join(b"%d,%d.25,word %d\n" % (i, i * 7 % 1000, i % 50) for i in range(rows))


def uploads(api: ApiProcess) -> list[dict[str, Any]]:
    return [item for item in api.client.get("/datasets?page_size=100").json()["items"] if not item["builtin"]]


def open_upload(api: ApiProcess, kind: str, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", api.port))
    head = f"POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.parametrize(
    ("kind", "start"), [("text/csv", b"a,b\n"), ("multipart/form-data; boundary=x", FORM_HEAD + b"a,b\n")]
)
def test_upload_that_is_cut_off_leaves_nothing(api: ApiProcess, kind: str, start: bytes, ending: str) -> None:
    connection = open_upload(api, kind, 50 * MEGABYTE)
    connection.sendall(start + b"1,2\n" * (2 * MEGABYTE))
    until(api.open_temporary_files)
    if ending == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    until(lambda: not api.open_temporary_files(), CUT_SECONDS)
    assert list(api.temporary.iterdir()) == []
    assert uploads(api) == []
    assert api.importers() == []
    assert "Traceback" not in api.log()
    assert "ERROR" not in api.log()


@pytest.mark.parametrize("moment", ["upload", "import"])
def test_killed_process_leaves_nothing(stocked_sqlite: Path, tmp_path: Path, moment: str) -> None:
    database = tmp_path / "selfnorm.db"
    shutil.copy(stocked_sqlite, database)
    with api_process(database, tmp_path) as api:
        if moment == "upload":
            connection = open_upload(api, "text/csv", 50 * MEGABYTE)
            connection.sendall(b"a,b\n" + b"1,2\n" * (2 * MEGABYTE))
            until(api.open_temporary_files)
        else:
            content = csv_of(1_500_000)
            connection = open_upload(api, "text/csv", len(content))
            connection.sendall(content)
            until(api.importers)
        below = descendants(api.pid)
        os.kill(api.pid, signal.SIGKILL)
        connection.close()
        assert alive(below) == []
        api.process.wait()
        assert list(api.temporary.iterdir()) == []
    with api_process(database, tmp_path) as api:
        assert uploads(api) == []
        assert api.client.post("/datasets", content=csv_of(50), headers=CSV_TYPE).status_code == 201


def test_process_that_is_asked_to_end_does_not_wait_for_an_import(api: ApiProcess) -> None:
    content = csv_of(1_000_000)
    half_sent = open_upload(api, "text/csv", 2 * len(content))
    half_sent.sendall(content)
    whole = open_upload(api, "text/csv", len(content))
    whole.sendall(content[:-1])
    until(lambda: len(api.importers()) == 2)  # each waits for the rest of its file
    importers = api.importers()
    try:
        for importer in importers:
            os.kill(importer, signal.SIGSTOP)  # an import that takes as long as it may
        whole.sendall(content[-1:])
        # Two uploads, the logs of two importers, and the table that one of them is to write: it has been asked.
        until(lambda: len(api.open_temporary_files()) == 5)
        with stopwatch() as watch:
            asked = time.monotonic()
            api.process.send_signal(signal.SIGTERM)
            api.process.wait(PATIENCE_SECONDS)
            assert watch.elapsed(asked) < END_SECONDS
        for connection in (half_sent, whole):
            assert connection.recv(100).startswith(b"HTTP/1.1 503")
            connection.close()
    finally:
        for importer in importers:
            with suppress(ProcessLookupError):  # it may be gone already
                os.kill(importer, signal.SIGCONT)  # and it ends, for the one that asked has gone
    assert alive(dict.fromkeys(importers, "the import")) == []
    assert "Traceback" not in api.log()


def test_small_file_that_decodes_to_gigabytes_is_refused(api: ApiProcess) -> None:
    text = np.random.default_rng(0).integers(97, 123, 2_000_000, dtype=np.uint8).tobytes().decode()
    rows = 10_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"bomb": column}),
        buffer,
        compression="zstd",
        dictionary_pagesize_limit=1 << 30,
        write_statistics=False,
    )
    content = buffer.getvalue()
    assert len(content) < 3_000_000
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    api.client.post("/datasets", content=csv_of(50), headers=CSV_TYPE)
    before = api.memory("VmHWM")
    answer = api.client.post("/datasets", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_table"
    assert api.memory("VmHWM") - before < 50 * MEGABYTE
    assert len(uploads(api)) == 1
    assert api.open_temporary_files() == []


def test_slow_import_holds_up_nobody(api: ApiProcess) -> None:
    content = csv_of(2_000_000)
    done = threading.Event()
    waits: list[float] = []

    def watch() -> None:
        with httpx.Client(base_url=api.client.base_url, timeout=PATIENCE_SECONDS) as client:
            while not done.is_set():
                started = time.monotonic()
                assert client.get("/healthz").status_code == 200
                assert client.get("/datasets/iris").status_code == 200
                waits.append(stopped.elapsed(started))
                time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool, stopwatch() as stopped:
        watching = pool.submit(watch)
        answers = []
        senders = [
            threading.Thread(
                target=lambda: answers.append(
                    httpx.post(
                        f"{api.client.base_url}/datasets", content=content, headers=CSV_TYPE, timeout=PATIENCE_SECONDS
                    )
                )
            )
            for _ in range(3)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        done.set()
        watching.result()
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len(waits) > 10
    assert max(waits) < 1
    assert len({answer.json()["sha256"] for answer in answers}) == 1


def test_page_of_a_large_table_takes_little_memory(api: ApiProcess) -> None:
    random = np.random.default_rng(0)
    rows, columns = 1_000_000, 20
    buffer = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": random.random(rows) for i in range(columns)}), buffer, compression="none")
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    answer = api.client.post("/datasets", content=buffer.getvalue(), headers=headers)
    assert answer.status_code == 201, answer.text
    assert api.client.get("/datasets/iris/rows").status_code == 200  # now what reads tables is loaded
    api.forget_highest_memory()
    before = api.memory("VmRSS")
    page = api.client.get(f"/datasets/{answer.json()['id']}/rows?page_size=100").json()
    assert len(page["items"]) == 100
    assert len(page["items"][0]) == columns
    assert api.memory("VmHWM") - before < 60 * MEGABYTE
    assert api.open_temporary_files() == []


def test_disk_without_room_is_said_and_nothing_stays(api: ApiProcess) -> None:
    soft, hard = resource.prlimit(api.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(api.pid, resource.RLIMIT_FSIZE, (8 * MEGABYTE, hard))
    content = csv_of(600_000)
    assert len(content) > 8 * MEGABYTE
    forms: tuple[dict[str, Any], ...] = (
        {"content": content, "headers": CSV_TYPE},
        {"files": {"file": ("t.csv", content)}},
    )
    for form in forms:
        answer = api.client.post("/datasets", **form)
        assert answer.status_code == 503, answer.text
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("disk_full", "5")
    assert api.open_temporary_files() == []
    resource.prlimit(api.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert api.client.post("/datasets", content=content, headers=CSV_TYPE).status_code == 201


# Set-up promises Python, git and make only; the same uploads go over other clients in tests/api.
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_uploads_as_the_reference_says(api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "wine.csv"
    file.write_bytes(csv_of(200_000))
    address = f"http://127.0.0.1:{api.port}/datasets"
    for options in (["-F", f"file=@{file}"], ["--data-binary", f"@{file}", "-H", "Content-Type: text/csv"]):
        done = subprocess.run(
            ["curl", "-sS", "--retry", "9", "-o", "/dev/null", "-w", "%{http_code}", *options, address],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.stdout == "201", done
    body, form = uploads(api)
    assert (form["name"], form["rows"], form["sha256"]) == ("wine", 200_000, body["sha256"])


def test_change_waits_for_a_job_that_is_being_made(database: Database, tmp_path: Path) -> None:
    dataset_id = stored_table(database, tmp_path)
    limits = TableLimits()
    with ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            datasets.get(connection, dataset_id, for_use=True)
            change = pool.submit(change_dataset, database, dataset_id, None, {"zip": "categorical"}, limits)
            with pytest.raises(TimeoutError):
                change.result(0.5)
            spec = JobSpec.model_validate({"dataset": dataset_id, "target": "y", "model": "m"})
            jobs.add(connection, "job-1", spec.model_dump(mode="json"))
        with pytest.raises(DatasetHasJobs):
            change.result(30)


def test_changes_and_jobs_at_once_agree_on_the_columns(database: Database, tmp_path: Path) -> None:
    def change(dataset_id: str) -> bool:
        try:
            change_dataset(database, dataset_id, None, {"zip": "id"}, TableLimits())
        except DatasetHasJobs:
            return False
        return True

    def submit(dataset_id: str) -> list[str]:
        spec = JobSpec.model_validate({"dataset": dataset_id, "target": "y", "model": "m"})
        features: list[str] = submit_job(database, spec, Limits()).spec["features"]
        return features

    outcomes = set()
    with ThreadPoolExecutor(2) as pool:
        for turn in range(12):
            dataset_id = stored_table(database, tmp_path)
            if turn == 0:  # at first one after the other, so that both orders are seen
                change(dataset_id)
            if turn == 1:
                submit(dataset_id)
            if turn % 2:
                changing, submitting = pool.submit(change, dataset_id), pool.submit(submit, dataset_id)
            else:
                submitting, changing = pool.submit(submit, dataset_id), pool.submit(change, dataset_id)
            changed, used = changing.result(), submitting.result()
            with database.read() as connection:
                column = datasets.get(connection, dataset_id).column("zip")
            assert column is not None
            assert changed == (column.kind == "id")
            assert ("zip" in used) == (column.kind != "id")
            outcomes.add(changed)
    assert outcomes == {True, False}, "both orders were seen"


def stored_table(database: Database, folder: Path) -> str:
    path = folder / "table.csv"
    path.write_text("zip,a,y\n" + "".join(f"{i % 9},{i * 7 % 31},{i / 3}\n" for i in range(60)))
    with path.open("rb") as source, TableReader(TableLimits()) as reader:
        return add_dataset(database, "mine", source, ImportRequest("csv"), reader).id
