"""Processes of our own: started again when they die, ended with their parent, one set to a folder."""

import ctypes
import fcntl
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

CALM_SECONDS = 60.0
"""A process that ran so long before it died is started again at once."""
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 30.0
PR_SET_PDEATHSIG = 1
LOCK_NAME = "lock"
ONLY_MINE = 0o700
"""How a data folder is made: everything is in it, models and the secrets of webhooks, and is nobody else's to read."""
LOCK_TRIES = 7
LOCK_PAUSE_SECONDS = 0.05
"""Who only looks whether a folder is held, as the doctor does, holds it for a moment; nobody is refused for that."""
START_FAULTS = (OSError, subprocess.SubprocessError)
"""What is raised where a process cannot be started: no memory, no process ids, no room for its log."""


class CannotStart(Exception):
    """The service cannot run; the text says why and what to do."""


def ending_signals() -> list[signal.Signals]:
    """Return the signals by which a user ends a command; a closed terminal is none where nohup has set it aside."""
    ends = [signal.SIGINT, signal.SIGTERM]
    return ends if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*ends, signal.SIGHUP]


@contextmanager
def loading() -> Iterator[None]:
    """Load large packages, which stay: nothing in them is garbage, and looking for it takes a fifth of the time.

    It is not looked for in them later either, which would hold up whatever runs.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a data folder, made if it is not there, so that no other process of this kind uses it.

    Raises:
        CannotStart: it cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(ONLY_MINE, parents=True, exist_ok=True)
        file = (folder / LOCK_NAME).open("a+")
    except OSError as error:
        raise CannotStart(
            f"the data folder {folder} cannot be used: {error.strerror}; choose another --data-dir"
        ) from None
    with file:
        try:
            _hold(file)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise CannotStart(
                f"process {owner} already runs on the folder {folder}; stop it, or choose another --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _hold(file: TextIO) -> None:
    for _ in range(LOCK_TRIES - 1):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(LOCK_PAUSE_SECONDS)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(folder: Path) -> bool:
    """Whether a process holds a data folder; also where that cannot be found out."""
    try:
        with (folder / LOCK_NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


@dataclass
class Child:
    """A process that is started again when it dies."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    is_ready: Callable[["Child"], bool]
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0
    started_at: float = 0.0
    pause: float = 0.0
    start_at: float = 0.0

    def start(self) -> None:
        """Start it, in a session of its own so that ctrl-C reaches the supervisor only.

        Raises:
            OSError, subprocess.SubprocessError: the system cannot start it now (``START_FAULTS``).
        """
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),  # this process has no other thread
            )
        self.started_at = time.monotonic()

    def watch(self) -> str | None:
        """Start it if it does not run and its pause is over; return what went wrong, when that is first seen."""
        now = time.monotonic()
        if self.process is None:
            return self._try_start() if now >= self.start_at else None
        status = self.process.poll()
        if status is None:
            return None
        self.process = None
        self._rest(was_well=status == 0 or now - self.started_at > CALM_SECONDS)  # with 0 ends who was asked to
        return f"ended with status {status}"

    def _try_start(self) -> str | None:
        try:
            self.start()
        except START_FAULTS as error:
            self._rest(was_well=False)
            return f"could not be started: {error}"
        return None

    def _rest(self, *, was_well: bool) -> None:
        before = 0.0 if was_well else self.pause
        self.pause = min(max(FIRST_PAUSE_SECONDS, 2 * before), MAX_PAUSE_SECONDS)
        self.start_at = time.monotonic() + self.pause

    def send(self, signal_number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal_number)

    def wait(self, deadline: float) -> None:
        """Wait for its end; after the deadline it is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def written(self) -> str:
        """Return what it wrote since it was last started; nothing where that cannot be read."""
        try:
            with self.log.open("rb") as log:
                log.seek(self.log_start)
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def private_bytes(pid: int) -> int:
    """Return the memory that a process has for itself, without files that it maps; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def allowed_bytes() -> int:
    """Return what one process may take where nobody has said: nine tenths of what this machine or container has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    return int(0.9 * (min(physical, int(limit)) if limit.isdigit() else physical))


def die_with_parent(parent: int) -> Callable[[], None]:
    """Return what a child runs before its program starts: on Linux it then dies with this process, even by kill -9."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return prepare
