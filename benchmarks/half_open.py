"""How long /healthz takes while hundreds of clients hold half-open connections, and open new ones as they are closed.

Starts ``selfnorm api`` on a database of its own: ``python -m benchmarks.half_open --processes 2``.
"""

import argparse
import http.client
import os
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
KINDS = {
    "nothing at all": b"",
    "half a head": HEAD + b"X-Slow: ",
    "a head, and no body": POST % b"/jobs",
    "half a body": POST % b"/jobs" + b'{"dataset": "' + b"a" * 5000,
    "half a prediction": POST % b"/predict" + b'{"model": "m", "instances": [[1, 2], ',
    "answers that are not read": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
}
PERIOD_SECONDS = 0.005


@contextmanager
def serving(processes: int, folder: Path) -> Iterator[tuple[int, int]]:
    """Run the service; yields its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "SELFNORM_DATABASE_URL": f"sqlite:///{folder}/selfnorm.db",
        "SELFNORM_BROKER_URL": "redis://127.0.0.1:1/0",
        "SELFNORM_API_PROCESSES": str(processes),
    }
    environment = {**os.environ, **settings}
    subprocess.run([sys.executable, "-m", "service.cli", "migrate"], env=environment, check=True, capture_output=True)
    command = [sys.executable, "-m", "service.cli", "api", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with suppress(OSError):
                ask(port)
                break
            time.sleep(0.1)
        yield port, server.pid
    finally:
        begun = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        print(f"SIGTERM to the end: {time.monotonic() - begun:.1f} s")


def ask(port: int) -> float:
    """Ask /healthz on a connection of its own, as a load balancer does; return the seconds."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"answered {answer.status}")
    return time.perf_counter() - begun


def measured(port: int, seconds: float) -> list[float]:
    """Ask again and again; return the seconds of each."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(ask(port))
        time.sleep(PERIOD_SECONDS)
    return found


class HalfOpen:
    """So many half-open connections, of every kind as many; what is closed is opened again at once."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self.opened = 0
        for _ in range(count):
            self._open(list(KINDS.values())[self.opened % len(KINDS)])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Open no more, and leave what is open."""
        self._over.set()
        self._thread.join()

    def _open(self, begun: bytes) -> None:
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.connect(("127.0.0.1", self._port))
        opened.setblocking(False)
        with suppress(BlockingIOError):
            opened.send(begun)
        self.opened += 1
        reads = begun != KINDS["answers that are not read"]
        self._selector.register(opened, selectors.EVENT_READ if reads else selectors.EVENT_WRITE, begun)

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.1):
                self._look(key)
            time.sleep(0.05)

    def _look(self, key: selectors.SelectorKey) -> None:
        held = key.fileobj
        assert isinstance(held, socket.socket)
        try:
            is_closed = key.events == selectors.EVENT_READ and held.recv(65536) == b""
            is_closed |= bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except OSError:
            is_closed = True
        if is_closed:
            self._selector.unregister(held)
            held.close()
            with suppress(OSError):  # the service ends
                self._open(key.data)


def told(what: str, seconds: list[float]) -> None:
    """Print percentiles."""
    cut = statistics.quantiles(seconds, n=1000)
    print(
        f"{what:>8}: {len(seconds):5} requests, p50 {1e3 * cut[499]:6.2f} ms, p99 {1e3 * cut[989]:6.2f} ms, "
        f"longest {1e3 * max(seconds):6.2f} ms"
    )


def memory(pid: int) -> int:
    """Return what a process and its children have in memory."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    status = [Path(f"/proc/{each}/status").read_text() for each in pids]
    return sum(int(line.split()[1]) for text in status for line in text.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    """Measure before and during, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=40.0)
    chosen = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * chosen.connections)), hard))
    with tempfile.TemporaryDirectory() as folder, serving(chosen.processes, Path(folder)) as (port, pid):
        measured(port, 2)
        print(f"{chosen.processes} process(es), {chosen.connections} half-open connections")
        told("before", measured(port, 10))
        before = memory(pid)
        attack = HalfOpen(port, chosen.connections)
        told("during", measured(port, chosen.seconds))
        print(f"{attack.opened} connections were opened; memory grew by {(memory(pid) - before) / 1024:.0f} MiB")
        attack.stop()


if __name__ == "__main__":
    main()
