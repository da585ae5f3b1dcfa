"""One API process, as ``selfnorm api`` runs it, looked at from outside through /proc."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from tests import canaries
from tests.patience import PATIENCE_SECONDS
from tests.processes import descendants
from tests.servers import free_port

STOP_TIMEOUT_SECONDS = 30
END_SECONDS = 20
"""What the service promises from the signal to its end."""


@dataclass
class ApiProcess:
    """A running API process; its temporary files go to ``temporary``."""

    process: "subprocess.Popen[bytes]"
    port: int
    client: httpx.Client
    temporary: Path
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self.log_file.read_text()

    def open_temporary_files(self) -> list[str]:
        """The files that it holds open in its temporary folder, those without a name included."""
        found = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith(str(self.temporary)):
                found.append(target)
        return found

    def memory(self, field: str = "VmRSS") -> int:
        """Its resident memory in bytes, now (VmRSS) or at its highest (VmHWM)."""
        return memory_of(self.pid, field)

    def forget_highest_memory(self) -> None:
        """Let VmHWM begin again with what it holds now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def importers(self) -> list[int]:
        """The processes that read uploads for it."""
        return [pid for pid, command in descendants(self.pid).items() if "service.tables" in command]


def memory_of(pid: int, field: str) -> int:
    """Return a figure of /proc/PID/status in bytes; 0 where the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def holds(pid: int, client: socket.socket) -> bool:
    """Whether a process has the other end of a connection."""
    here, there = client.getsockname()[1], client.getpeername()[1]
    ends = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if [words[1][-4:], words[2][-4:]] == [f"{there:04X}", f"{here:04X}"]:
            ends.add(f"socket:[{words[9]}]")
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held.add(os.readlink(link))
    return bool(ends & held)


@contextmanager
def api_process(
    database: Path | str, folder: Path, port: int | None = None, /, **environment: str
) -> Iterator[ApiProcess]:
    """Run an API process on a database, the file of SQLite or a URL; what it writes beside goes to ``folder``."""
    temporary, log = folder / "temporary", folder / "api.log"
    temporary.mkdir(exist_ok=True)
    port = port or free_port()
    settings = {
        "SELFNORM_DATABASE_URL": database if isinstance(database, str) else f"sqlite:///{database}",
        "SELFNORM_BROKER_URL": canaries.BROKER_URL,
        "TMPDIR": str(temporary),
        **environment,
    }
    command = [sys.executable, "-m", "service.cli", "api", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env={**canaries.ENVIRONMENT, **os.environ, **settings}, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            _wait_until_it_answers(process, client, log)
            yield ApiProcess(process, port, client, temporary, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert canaries.spilled(log, temporary) == []


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the API did not start: {log.read_text()}")
