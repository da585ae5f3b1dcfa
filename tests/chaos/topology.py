"""The whole service as it would be deployed, in a temporary folder, with a handle on every process and connection."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import httpx2 as httpx
from redis import Redis

from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN
from tests import canaries
from tests.chaos.parts import ROOT, Part, Supervisor, listens, postgresql, valkey
from tests.chaos.proxy import HOST, Proxy
from tests.patience import PATIENCE_SECONDS, until
from tests.servers import free_port, public_folder

Kind = Literal["sqlite", "postgresql"]
Result = TypeVar("Result")

STOP_TIMEOUT_SECONDS = 40
"""A worker has 30 s to store what it trains, an API process 20 s to finish what it serves."""
TRAINER = "workers.trainer"
"""What the command line of the process that trains holds."""


class NotEnded(AssertionError):
    """Something did not end in time, or was left behind."""


class Topology:
    """Broker, database, API processes and workers; two proxies stand before broker and database."""

    def __init__(
        self, database: Kind = "sqlite", workers: int = 2, apis: int = 1, *, disk_bytes: int | None = None
    ) -> None:
        """``disk_bytes``: the data folder of a SQLite database is a disk of so many bytes, which only root can make."""
        self.kind = database
        self.parts: dict[str, list[Part]] = {"broker": [], "database": [], "api": [], "worker": []}
        self.addresses: list[str] = []
        """Where the API processes answer."""
        self.keeps_folder = False
        """Whether the folder stays at the end, for somebody to look at its logs."""
        self._counts = {"api": apis, "worker": workers}
        self._disk_bytes = disk_bytes
        self._frozen: set[int] = set()
        self._supervisor = Supervisor()

    def __enter__(self) -> "Topology":
        """Start everything; returns when the API answers. Workers take a few seconds more."""
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="selfnorm-chaos-", dir=public_folder()))
            stack.callback(self._remove_folder)
            self.folder.chmod(0o755)  # PostgreSQL may run as another user
            self._supervisor.start()
            stack.callback(self._supervisor.release)
            self._start_servers(stack)
            self._migrate()
            self._start_service()
            self._undo = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End everything, in order.

        Raises:
            NotEnded: something did not end in time, or was left behind.
        """
        complaints = self._end()
        self._undo.close()
        if complaints and kind is None:
            raise NotEnded("; ".join(complaints))

    # What faults are made of.

    def kill(self, name: str, index: int = 0) -> int | None:
        """Kill a part by SIGKILL; return the process that got it, None where there was none."""
        return self.send(name, signal.SIGKILL, index)

    def term(self, name: str, index: int = 0) -> int | None:
        """Ask a part to end."""
        return self.send(name, signal.SIGTERM, index)

    def send(self, name: str, number: int, index: int = 0) -> int | None:
        """Send a signal to the ``api``, ``worker``, ``trainer``, ``broker`` or ``database`` with this index."""
        if name == "trainer":
            pid = self.trainer(index)
            return pid if pid is not None and _sent(pid, number) else None
        parts = self.parts[name]
        return parts[index].send(number) if index < len(parts) else None

    def freeze(self, name: str, index: int = 0) -> list[int]:
        """Stop a part with all processes below it; return the processes, for ``thaw``."""
        if name == "trainer":
            pids = [pid for pid in [self.trainer(index)] if pid is not None]
        else:
            part = self.parts[name][index]
            pids = [pid for pid in [part.pid, *part.below()] if pid is not None]
        frozen = [pid for pid in pids if _sent(pid, signal.SIGSTOP)]
        self._frozen.update(frozen)
        return frozen

    def thaw(self, pids: Iterable[int]) -> None:
        """Let processes go on."""
        for pid in pids:
            _sent(pid, signal.SIGCONT)
            self._frozen.discard(pid)

    def limit_files(self, size: int | None) -> None:
        """Let no API process, worker or trainer write beyond ``size`` bytes of a file: a full disk; None: no limit."""
        for part in [*self.parts["api"], *self.parts["worker"]]:
            for pid in [part.pid, *part.below()]:
                _limit_files(pid, resource.RLIM_INFINITY if size is None else size)

    def flush_broker(self) -> None:
        """Remove everything that the broker holds."""
        with Redis(port=self._broker_port, socket_timeout=30) as broker:
            broker.flushall()

    # What is there.

    def trainer(self, index: int) -> int | None:
        """Return the process that trains for a worker; None while there is none."""
        below = self.parts["worker"][index].below(TRAINER)
        return below[0] if below else None

    def trainers(self) -> list[int]:
        """Return every process that trains, orphans included."""
        return [pid for pid, command in self.processes().items() if TRAINER in command]

    def processes(self) -> dict[int, str]:
        """Return every process of the topology with its command line: all run in its folder."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(self.folder):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def look(self, work: Callable[[Connection], Result], seconds: float = PATIENCE_SECONDS) -> Result:
        """Read the database past its proxy, again and again for a while where it is down."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with self.database.read() as connection:
                    return work(connection)
            except DATABASE_DOWN:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def log(self, name: str, index: int = 0, size: int = 3000) -> str:
        """Return the end of what a part has written."""
        return self.parts[name][index].log.read_text(errors="replace")[-size:]

    # How it begins and ends.

    def _start_servers(self, stack: ExitStack) -> None:
        broker, self._broker_port = valkey(self._made("broker"))
        self._add("broker", broker)
        self.broker_proxy = stack.enter_context(Proxy(self._broker_port))
        self.database_proxy: Proxy | None = None
        if self.kind == "sqlite":
            self.data = self._made("data")
            if self._disk_bytes is not None:
                stack.enter_context(_disk(self.data, self._disk_bytes))
            self.url = self._service_url = f"sqlite:///{self.data / 'selfnorm.db'}"
        else:
            database, port = postgresql(self._made("postgresql"))
            self._add("database", database)
            server = f"postgresql+psycopg://selfnorm@{HOST}"
            _create_database(f"{server}:{port}/postgres", database)
            self.database_proxy = stack.enter_context(Proxy(port))
            self.url = f"{server}:{port}/selfnorm"
            self._service_url = f"{server}:{self.database_proxy.port}/selfnorm"
        until(lambda: listens(self._broker_port), PATIENCE_SECONDS, broker.log.read_text)
        self.database = Database(self.url).owned_by(DEFAULT_OWNER)
        stack.callback(self.database.close)

    def _migrate(self) -> None:
        command = [sys.executable, "-m", "service.cli", "migrate"]
        done = subprocess.run(
            command, env={**os.environ, **self._settings()}, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def _start_service(self) -> None:
        for number in range(self._counts["worker"]):
            self._add("worker", self._part(f"worker-{number}", [sys.executable, "-m", "workers"]))
        for number in range(self._counts["api"]):
            port = free_port()
            command = [sys.executable, "-m", "service.cli", "api", "--port", str(port)]
            self._add("api", self._part(f"api-{number}", command))
            self.addresses.append(f"http://{HOST}:{port}")
        for address, part in zip(self.addresses, self.parts["api"], strict=True):
            until(lambda at=address: _is_ready(at), PATIENCE_SECONDS, part.log.read_text)  # type: ignore[misc]

    def _settings(self) -> dict[str, str]:
        # One thread each: the bits of a training depend on how many there are, and there are few cores.
        return {
            "SELFNORM_DATABASE_URL": self._service_url,
            "SELFNORM_BROKER_URL": f"redis://{HOST}:{self.broker_proxy.port}/0",
            "SELFNORM_THREADS": "1",
        }

    def _part(self, name: str, command: list[str]) -> Part:
        return Part(name, command, self._made(name), self._settings())

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _add(self, kind: str, part: Part) -> None:
        self.parts[kind].append(part)
        self._supervisor.parts.append(part)

    def _end(self) -> list[str]:
        """End every part in order; return what did not go as it should."""
        self.thaw(list(self._frozen))
        self._supervisor.stop_watching()
        service = [*self.parts["api"], *self.parts["worker"]]
        late = [*_ended(service, signal.SIGTERM), *_ended(self.parts["broker"], signal.SIGTERM)]
        late += _ended(self.parts["database"], signal.SIGINT)  # which does not wait for its clients
        return [f"{name} did not end within {STOP_TIMEOUT_SECONDS} s of being asked" for name in late] + [
            *self._sweep_up(),
            *canaries.spilled(*(part.log for parts in self.parts.values() for part in parts)),
        ]

    def _sweep_up(self) -> list[str]:
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            _sent(pid, signal.SIGKILL)
        return [f"process {pid} was left behind: {command}" for pid, command in left.items()]

    def _remove_folder(self) -> None:
        self._sweep_up()  # where it did not even start
        if not self.keeps_folder:
            shutil.rmtree(self.folder)


@contextmanager
def _disk(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _ended(parts: list[Part], number: int) -> list[str]:
    """Ask parts to end; return the names of those that did not in time."""
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    for part in parts:
        part.send(number)
    return [part.name for part in parts if not part.end(max(0.0, deadline - time.monotonic()))]


def _sent(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _limit_files(pid: int | None, size: int) -> None:
    if pid is None:
        return
    try:
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))
    except ProcessLookupError:
        return


def _create_database(url: str, part: Part) -> None:
    server = Database(url)
    until(lambda: _answers(server), PATIENCE_SECONDS, part.log.read_text)
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE selfnorm")
    server.close()


def _answers(server: Database) -> bool:
    """Whether a server takes sessions; it takes connections earlier, while it starts up."""
    try:
        with server.read():
            return True
    except DATABASE_DOWN:
        return False


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
