"""How fast a cold API process answers: from exec to the first successful predict, and the memory it then holds.

Bars: under 2 s, under 150 MB resident.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.processes import rows_of, running
from tests.servers import free_port

RUNS = 7
SECONDS_BAR = 2.0
MEGABYTES_BAR = 150.0


def main() -> int:
    """Train one model, then start API processes on its database one after another."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        with running(data_dir) as service:
            training = {"epochs": 2, "test_fraction": 0.25}
            job = service.post("/jobs", dataset="digits", training=training, model="m")
            service.wait_for(job["id"])
            body = {"model": "m", "instances": rows_of(service, "digits", 1)}
        measured = [_once(data_dir / "selfnorm.db", body) for _ in range(RUNS)]
    seconds, megabytes = (statistics.median(values) for values in zip(*measured, strict=True))
    print("exec to first predict, s:", ", ".join(f"{run[0]:.2f}" for run in measured))
    print(f"median {seconds:.2f} s (bar {SECONDS_BAR} s); resident {megabytes:.0f} MB (bar {MEGABYTES_BAR:.0f} MB)")
    return 0 if seconds < SECONDS_BAR and megabytes < MEGABYTES_BAR else 1


def _once(database: Path, body: dict[str, Any]) -> tuple[float, float]:
    port = free_port()
    environment = {**os.environ, "SELFNORM_DATABASE_URL": f"sqlite:///{database}"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "api", "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/predict", json=body, timeout=10)
                break
            except httpx.TransportError:
                time.sleep(0.005)
        seconds = time.perf_counter() - started
        assert answer.status_code == httpx.codes.OK, answer.text
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return seconds, pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
