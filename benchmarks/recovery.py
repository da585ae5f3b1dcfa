"""How soon a job runs again when its worker is killed, told to end, or loses its training process.

On ``selfnorm up`` with its one worker, which must start again first. Bars: 45 s after ``kill -9``, 5 s after SIGTERM.
``python -m benchmarks.recovery``
"""

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.processes import Service, running

KILL_BAR_SECONDS, TERM_BAR_SECONDS = 45.0, 5.0
ROUNDS = 5
CASES = (
    ("SIGTERM to the worker", "workers", signal.SIGTERM, TERM_BAR_SECONDS),
    ("kill -9 of the training process", "workers.trainer", signal.SIGKILL, KILL_BAR_SECONDS),
    ("kill -9 of the worker", "workers", signal.SIGKILL, KILL_BAR_SECONDS),
)
POLL_SECONDS = 0.1
"""Questions cost the worker, which starts on the same cores, a part of its speed."""


def main() -> int:
    """Disturb one long job again and again."""
    is_good = True
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        training = {"epochs": 100_000, "early_stopping": None, "learning_rate": 1e-6}
        network = {"hidden_layers": 4, "units": 64}
        job_id = service.post("/jobs", dataset="digits", network=network, training=training)["id"]
        for name, part, number, bar in CASES:
            seconds = [_once(service, job_id, part, number) for _ in range(ROUNDS)]
            median = statistics.median(seconds)
            print(f"{name}: {', '.join(f'{one:.1f}' for one in seconds)}; median {median:.1f} s (bar {bar:.0f})")
            is_good = is_good and median < bar
        service.post(f"/jobs/{job_id}/cancel")
    return 0 if is_good else 1


def _once(service: Service, job_id: str, part: str, number: int) -> float:
    """Return the seconds from a signal to the next attempt."""
    before = _job(service, job_id)
    while (now := _job(service, job_id))["progress"]["epoch"] <= before["progress"]["epoch"]:
        time.sleep(POLL_SECONDS)
    [process] = [pid for pid in service.children(f"-m {part} ") if pid]
    os.kill(process, number)
    sent = time.monotonic()
    while _job(service, job_id)["attempts"] == now["attempts"]:
        time.sleep(POLL_SECONDS)
    return time.monotonic() - sent


def _job(service: Service, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get(f"/jobs/{job_id}").json()
    return found


if __name__ == "__main__":
    sys.exit(main())
