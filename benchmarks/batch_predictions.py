"""How soon a stored table of a million rows has its predictions: ``POST /predictions`` on ``selfnorm up``, worker warm.

The rows are those of the adult table, again and again. Bars: 60 s from POST to succeeded; 1.2 GB in the training
process. It needs the folder of the adult table: ``python -m benchmarks.batch_predictions adult_train.csv``
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.api_process import memory_of
from tests.processes import Service, running

SECONDS_BAR, BYTES_BAR = 60.0, 1.2e9
TRAINING_PROCESS = "workers.trainer"
TIMEOUT_SECONDS = 300.0
CSV = {"Content-Type": "text/csv"}


def main() -> int:
    """Train on the table, upload it repeated, and predict some times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--target", default="income")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    header, *lines = wanted.table.read_bytes().splitlines(keepends=True)
    many = b"".join([header, *(lines * (wanted.rows // len(lines) + 1))[: wanted.rows]])
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        table = _upload(service, wanted.table.read_bytes())
        job = service.post("/jobs", dataset=table["id"], target=wanted.target, model="m", training={"epochs": 3})
        assert service.wait_for(job["id"])["state"] == "succeeded"
        dataset = _upload(service, many)
        print(f"{dataset['rows']:,} rows, {len(many) / 1e6:.0f} MB of CSV", flush=True)
        runs = [_once(service, dataset["id"]) for _ in range(wanted.repeats)]
        kept = _once(service, dataset["id"], keep=[column["name"] for column in dataset["columns"]])
        peak = max(memory_of(process, "VmHWM") for process in service.children(TRAINING_PROCESS))
        csv = _csv_seconds(service, runs[-1][1])
    median = statistics.median(seconds for seconds, _ in runs)
    result = runs[-1][1]["result"]
    print("POST to succeeded, s:", ", ".join(f"{seconds:.1f}" for seconds, _ in runs))
    print(f"median {median:.1f} s (bar {SECONDS_BAR:.0f}), {wanted.rows / median:,.0f} rows/s")
    print(f"result {result['size_bytes'] / 1e6:.1f} MB; as CSV in {csv:.1f} s")
    print(f"with every column kept: {kept[0]:.1f} s, {kept[1]['result']['size_bytes'] / 1e6:.1f} MB")
    print(f"training process at most {peak / 1e9:.2f} GB (bar {BYTES_BAR / 1e9:.1f})")
    return 0 if median < SECONDS_BAR and peak < BYTES_BAR else 1


def _upload(service: Service, content: bytes) -> dict[str, Any]:
    answer = service.client.post("/datasets?name=adult", content=content, headers=CSV, timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _once(service: Service, dataset: str, **fields: Any) -> tuple[float, dict[str, Any]]:
    """Return the seconds from POST to the end, and the prediction."""
    began = time.perf_counter()
    job = service.post("/predictions", model="m", dataset=dataset, **fields)
    while job["state"] not in ("succeeded", "failed"):
        assert time.perf_counter() - began < TIMEOUT_SECONDS, job
        job = service.client.get(f"/predictions/{job['id']}?wait=60", timeout=TIMEOUT_SECONDS).json()
    seconds = time.perf_counter() - began
    assert job["state"] == "succeeded", job
    assert job["result"]["unanswered"] == 0, job
    return seconds, job


def _csv_seconds(service: Service, job: dict[str, Any]) -> float:
    began = time.perf_counter()
    answer = service.client.get(f"/predictions/{job['id']}/result?format=csv", timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 200
    assert answer.content.count(b"\n") == job["result"]["rows"] + 1
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
