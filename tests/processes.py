"""The service as a user runs it: one command, driven over HTTP, looked at from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests import canaries
from tests.patience import PATIENCE_SECONDS

# Processes are found through /proc, which Linux alone has; CI runs on it, and the service runs elsewhere too.
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

STOP_TIMEOUT_SECONDS = 60
DYING_SECONDS = 30
ONE_THREAD = {"SELFNORM_THREADS": "1"}
"""For several services train at once while tests run, beside what is tested."""


@dataclass
class Service:
    """A running ``selfnorm up``."""

    process: "subprocess.Popen[str]"
    client: httpx.Client
    data_dir: Path

    def children(self, part: str) -> list[int]:
        """Process ids of everything below the supervisor whose command line holds ``part``."""
        return [pid for pid, command in descendants(self.process.pid).items() if part in command]

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Make something of a body, as a client would."""
        return self._asked("POST", path, json=body)

    def put(self, path: str, **body: Any) -> dict[str, Any]:
        """Set something to a body, as a client would."""
        return self._asked("PUT", path, json=body)

    def upload(self, name: str, content: str | bytes) -> str:
        """Store a CSV file; return the id of the data set."""
        headers = {"Content-Type": "text/csv"}
        made = self._asked("POST", "/datasets", params={"name": name}, content=content, headers=headers)
        return str(made["id"])

    def _asked(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request, again and again while it is refused for the moment."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := self.client.request(method, path, **request)).status_code == 503:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.2)
        assert answer.status_code < 300, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_for(self, job_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a job has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.client.get(f"/jobs/{job_id}?wait=20")
            job: dict[str, Any] = {"state": "unknown"} if answer.status_code == 503 else answer.json()
            if job["state"] in ("succeeded", "failed", "cancelled"):
                return job
        raise AssertionError(f"job {job_id} is still {job['state']}: {self.log('worker')}")

    def log(self, name: str) -> str:
        return (self.data_dir / "logs" / f"{name}.log").read_text()[-3000:]


def command(data_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", "up", "--port", "0", "--data-dir", str(data_dir), *options]


@contextmanager
def running(data_dir: Path, **environment: str) -> Iterator[Service]:
    """Run the embedded service; at the end it is told to stop, and must leave no process behind."""
    process = subprocess.Popen(
        command(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ONE_THREAD, **canaries.ENVIRONMENT, **os.environ, **environment},
    )
    try:
        with httpx.Client(base_url=_address(process), timeout=PATIENCE_SECONDS) as client:
            yield Service(process, client, data_dir)
    finally:
        below = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
        assert alive(below) == []
        assert canaries.spilled(data_dir) == []


def descendants(pid: int) -> dict[int, str]:
    """Every process below one, with its command line."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for child in (child for child, above in parents.items() if above == parent):
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            waiting.append(child)
    return found


def alive(processes: dict[int, str]) -> list[str]:
    """Which of these still run; a moment is given to those that are dying."""
    deadline = time.monotonic() + DYING_SECONDS
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if _runs(pid)]
        time.sleep(0.05)
    return [processes[pid] for pid in left]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    assert process.stdout is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"ready at (\S+)", line):
            return found.group(1)
        if time.monotonic() > deadline:
            break
    raise AssertionError("the service did not start:\n" + "".join(said))


def rows_of(service: Service, dataset: str, count: int = 20) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.client.get(f"/datasets/{dataset}/rows?page_size={count}").json()["items"]
    for item in items:
        item.pop("target", None)
    return items


def canonical(value: object) -> str:
    """A text that is equal only where every bit of every number is."""
    return json.dumps(value, sort_keys=True)
