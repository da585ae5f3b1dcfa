"""Servers as processes: started, waited for, asked, and stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2 as httpx

from benchmarks.predict import procfs
from benchmarks.predict.networks import TUTORIAL_FOLDER, Network
from benchmarks.predict.protocols import Protocol, Rows
from benchmarks.predict.wrk import Request
from tests.api_process import api_process
from tests.servers import free_port

START_SECONDS = 120
STOP_SECONDS = 20
SPREAD_SECONDS = 10
CONNECTIONS_EACH = 4
PROCESSES = "SELFNORM_API_PROCESSES"
LIMITS = ("SELFNORM_MAX_JSON_BYTES", "SELFNORM_MAX_PREDICT_BYTES")
HUGE_BYTES = 1 << 30
MAX_ROWS = 1000
"""So many different rows are sent, in turns."""


class DidNotStart(Exception):
    """A server ended, or did not get ready; the text is its log."""


@dataclass(frozen=True)
class Server:
    """A running server: the process that was started, and all below it."""

    name: str
    pid: int
    port: int

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Its processes now."""
        return procfs.tree(self.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used so far."""
        return procfs.cpu_seconds(self.pids)

    def memory(self) -> procfs.Memory:
        """Return what its processes hold together."""
        return sum(map(procfs.memory, self.pids), procfs.Memory(0, 0))


@dataclass(frozen=True)
class Front:
    """A route of a server."""

    server: Server
    protocol: Protocol

    @property
    def name(self) -> str:
        """The server's name, and the route's."""
        return f"{self.server.name} {self.protocol.name}"

    def url(self, network: Network) -> str:
        """Where a network is asked."""
        return self.server.address + self.protocol.path(network)

    def request(self, network: Network, count: int) -> Request:
        """Return what asks for so many rows at once, different ones again and again."""
        return Request(self.url(network), _bodies(self.protocol, network, count))

    def answer(self, network: Network, rows: Rows) -> Rows | None:
        """Ask once; None where there is no such route.

        Raises:
            AssertionError: the answer is neither 200 nor 404.
        """
        body, headers = self.protocol.encode(network, rows), {"Content-Type": "application/json"}
        answer = httpx.post(self.url(network), content=body, headers=headers, timeout=START_SECONDS)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        assert answer.status_code == httpx.codes.OK, f"{self.name}: {answer.status_code} {answer.text[:500]}"
        return self.protocol.decode(network, answer.content)


@cache
def _bodies(protocol: Protocol, network: Network, count: int) -> tuple[bytes, ...]:
    tables = (network.rows(count, seed) for seed in range(1, 1 + max(1, MAX_ROWS // count)))
    return tuple(protocol.encode(network, rows) for rows in tables)


@contextmanager
def selfnorm(folder: Path, database: Path, processes: int) -> Iterator[Server]:
    """Run ``selfnorm api`` on a database, as its users do."""
    mine = folder / f"selfnorm-{processes}"
    mine.mkdir(exist_ok=True)
    settings = {PROCESSES: str(processes)} | dict.fromkeys(LIMITS, str(HUGE_BYTES))
    with api_process(database, mine, **settings) as api:
        server = Server(f"selfnorm x{processes}", api.pid, api.port)
        answering = _count_answering(server, processes)
        if answering < processes:
            print(f"{PROCESSES}={processes} gave {answering} process(es) that take connections")
        yield server


def _count_answering(server: Server, wanted: int) -> int:
    """Wait until so many processes take connections; return how many do after some seconds."""
    deadline, found = time.monotonic() + SPREAD_SECONDS, 0
    while found < wanted and time.monotonic() < deadline:
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS_EACH * wanted):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.1)
            found = len(set(procfs.answering(server.pids, server.port).values()))
    return found


@contextmanager
def tutorial(folder: Path) -> Iterator[Server]:
    """Run the tutorial's service in one uvicorn process."""
    port = free_port()
    options = ["--factory", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.predict.tutorial:create_app", *options]
    with running(
        command, {TUTORIAL_FOLDER: str(folder)}, folder / "tutorial.log", f"http://127.0.0.1:{port}/docs"
    ) as pid:
        yield Server("tutorial", pid, port)


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path, ready: str) -> Iterator[int]:
    """Run a server until its address ``ready`` answers 200, and stop it at the end.

    Raises:
        DidNotStart: it ended, or did not get ready.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        _wait(process, ready, log)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(ready).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise DidNotStart(log.read_text())
