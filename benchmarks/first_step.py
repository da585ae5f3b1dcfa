"""How soon a submitted job trains: from POST to the first training step on a warm worker, compile time left out.

The first compiled chunk of steps, well under a second, is stored as progress at once; the delay ends when that is seen.
Bars: 0.5 s on a small built-in table; 3 s on a table of one's own, such as the 48,842 rows of adult:
``python -m benchmarks.first_step [TARGET FILE ...]`` (files are joined under the header of the first).
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import joined
from tests.processes import Service, running

RUNS = 7
BUILTIN_BAR_SECONDS = 0.5
UPLOAD_BAR_SECONDS = 3.0
POLL_SECONDS = 0.005


def main() -> int:
    """Warm the worker with one job, then measure some more."""
    target, *files = sys.argv[1:] or ("target",)
    bar = UPLOAD_BAR_SECONDS if files else BUILTIN_BAR_SECONDS
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        dataset = _uploaded(service, files) if files else "breast_cancer"
        _once(service, dataset, target)
        delays = [_once(service, dataset, target) for _ in range(RUNS)]
    median = statistics.median(delays)
    print("POST to first training step, s:", ", ".join(f"{delay:.2f}" for delay in delays))
    print(f"median {median:.2f} s (bar {bar} s)")
    return 0 if median < bar else 1


def _uploaded(service: Service, files: list[str]) -> str:
    content = joined([Path(file) for file in files])
    answer = service.client.post("/datasets", content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _once(service: Service, dataset: str, target: str) -> float:
    posted = time.perf_counter()
    training = {"epochs": 500, "early_stopping": None, "test_fraction": 0.25}
    job_id = service.post("/jobs", dataset=dataset, target=target, training=training)["id"]
    while not service.client.get(f"/jobs/{job_id}").json()["progress"]["fraction"]:
        time.sleep(POLL_SECONDS)
    seen = time.perf_counter()
    service.post(f"/jobs/{job_id}/cancel")
    service.wait_for(job_id)
    return seen - posted


if __name__ == "__main__":
    sys.exit(main())
