"""One process that takes connections and hands each to the API process that has the fewest; they answer them.

Listening sockets that several processes share spread connections as they come: now and then one process has all of
them. Here every process has its fair part, whatever the clients do.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from service import logs
from service.listening import HANDSHAKE_SECONDS, accept_all, leave, let_in, listen
from service.processes import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, START_FAULTS, CannotStart, die_with_parent
from service.settings import PREFIX, Settings
from service.unknown_variables import unknown

logger = logging.getLogger(__name__)

SHARED_MEMORY = "/dev/shm"  # noqa: S108  # what is made there has a name that cannot be guessed
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where several processes put what they count, so that each can tell of all."""
READY = b"r"
"""What an API process says when it can take connections."""
CLOSED = b"c"
"""What it says for every connection that has ended."""
TICK_SECONDS = 0.1
STOP_SECONDS = 25.0
"""So long API processes have to finish what is under way, and close, before they are killed."""
TOGETHER_SECONDS = 10.0
"""So long the first process that is ready waits for the others, or all connections of the start would stay with it."""
FULL_SECONDS = 0.01
"""The pause where no process takes another connection at the moment."""


@dataclass(eq=False)
class _Part:
    """One API process; it is started again when it ends."""

    channel: socket.socket | None = None
    process: "subprocess.Popen[bytes] | None" = None
    connections: int = 0
    is_ready: bool = False
    pause: float = 0.0
    start_at: float = 0.0
    has_been_ready: bool = False


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve in several processes until SIGTERM or SIGINT; return the exit status.

    This one loads nothing of what answers requests, which would take as much memory as one more of the others.

    Raises:
        SystemExit: it cannot be served there; the text says why.
    """
    logs.set_up("acceptor", settings.log_format, settings.log_level)
    for line in unknown(os.environ):
        logger.warning("%s", line)
    try:
        is_on = let_in(settings.authentication, host)
    except CannotStart as error:
        raise SystemExit(f"selfnorm: {error}") from None
    # The processes that answer do not know where this one listens.
    os.environ[f"{PREFIX}AUTHENTICATION"] = "on" if is_on else "off"
    # In memory where that can be: on a full disk, whoever writes to a file that it has mapped is killed.
    memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="selfnorm-metrics-", dir=memory) as folder:
        os.environ[METRICS_VARIABLE] = folder
        try:
            return Acceptor(host, port, settings.api_processes, on_end=mark_process_dead).run()
        except CannotStart as error:
            raise SystemExit(f"selfnorm: {error}") from None


class Acceptor:
    """Takes connections until it is told to end."""

    def __init__(
        self, host: str, port: int, processes: int, on_end: Callable[[int], None] = lambda _process_id: None
    ) -> None:
        """Listen; ``on_end`` is called with the id of every API process that ends before it is told to.

        Raises:
            CannotStart: the address cannot be used.
        """
        self._on_end = on_end
        self._listening = listen(host, port)
        self._parts = [_Part() for _ in range(processes)]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._failed: int | None = None
        self._accept_at: float | None = None  # None before the first process is ready
        self._is_accepting = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for part in self._parts:
            self._start(part)
        while not self._stopping and self._failed is None:
            self._turn()
        self._leave()
        self._end_parts()
        return self._failed or 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _turn(self) -> None:
        for key, _ in self._selector.select(TICK_SECONDS):
            if isinstance(key.data, _Part):
                self._hear(key.data)
            elif isinstance(key.fileobj, socket.socket):
                self._accept(key.fileobj)
        for part in self._parts:
            self._watch(part)
        if not self._is_accepting and self._may_accept():
            self._is_accepting = True
            for listening in self._listening:
                self._selector.register(listening, selectors.EVENT_READ)

    def _may_accept(self) -> bool:
        """Whether every process has come up, or those that have need wait no longer for the others."""
        if self._accept_at is None:
            return False
        return all(part.has_been_ready for part in self._parts) or time.monotonic() >= self._accept_at

    def _start(self, part: _Part) -> None:
        try:
            ours, part.process = _started()
        except START_FAULTS as error:
            self._rest(part)
            logger.warning("an API process could not be started: %s", error)
            return
        ours.setblocking(False)
        part.channel, part.connections, part.is_ready = ours, 0, False
        self._selector.register(ours, selectors.EVENT_READ, part)

    def _hear(self, part: _Part) -> None:
        """Take what a process says: that it is ready, and which connections have ended."""
        assert part.channel is not None
        try:
            words = part.channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            self._hang_up(part)
            return
        part.connections -= words.count(CLOSED)
        if READY in words:
            part.is_ready = part.has_been_ready = True
            part.pause = 0.0
            if self._accept_at is None:
                self._accept_at = time.monotonic() + TOGETHER_SECONDS

    def _hang_up(self, part: _Part) -> None:
        if part.channel is not None:
            self._selector.unregister(part.channel)
            part.channel.close()
            part.channel, part.is_ready = None, False

    def _watch(self, part: _Part) -> None:
        """Start a process again that has ended; the pause grows while it does not come up."""
        if part.process is None:
            if time.monotonic() >= part.start_at:
                self._start(part)
            return
        status = part.process.poll()
        if status is None:
            return
        self._hang_up(part)
        self._on_end(part.process.pid)
        part.process = None
        self._rest(part)
        logger.warning("an API process ended with status %s; it is started again", status)
        if not any(other.has_been_ready for other in self._parts):
            self._failed = status if status > 0 else 1  # what keeps the first one from coming up, keeps all

    def _rest(self, part: _Part) -> None:
        part.pause = min(max(FIRST_PAUSE_SECONDS, 2 * part.pause), MAX_PAUSE_SECONDS)
        part.start_at = time.monotonic() + part.pause

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError as error:  # the client has gone, or there are no file descriptors left
            logger.warning("a connection could not be taken: %s", error)
            time.sleep(FULL_SECONDS)
            return
        with connection:
            while not self._hand_over(connection) and not self._stopping:
                time.sleep(FULL_SECONDS)
                for part in self._parts:
                    self._watch(part)
                    if part.channel is not None:
                        self._hear(part)

    def _leave(self) -> None:
        """Hand over the connections that have begun, and take no more."""
        for listening in self._listening:
            leave(listening)
        time.sleep(HANDSHAKE_SECONDS)
        for listening in self._listening:
            for connection in accept_all(listening):
                with connection:
                    self._hand_over(connection)
            listening.close()

    def _hand_over(self, connection: socket.socket) -> bool:
        """Give a connection to the process that has the fewest; whether one took it."""
        ready = [part for part in self._parts if part.is_ready and part.channel is not None]
        for part in sorted(ready, key=lambda part: part.connections):
            assert part.channel is not None
            with suppress(OSError):  # its queue is full, or it has just ended
                socket.send_fds(part.channel, [b"\0"], [connection.fileno()])
                part.connections += 1
                return True
        return False

    def _end_parts(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for part in self._parts:
            if part.process is not None:
                part.process.send_signal(signal.SIGTERM)
        for part in self._parts:
            if part.process is None:
                continue
            try:
                part.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                part.process.kill()
                part.process.wait()


def _started() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start an API process; return our end of its channel with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "service.server", str(theirs.fileno())]
        try:
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(os.getpid())
            )
        except BaseException:
            ours.close()
            raise
    return ours, process


def take(channel: socket.socket) -> list[socket.socket | None] | None:
    """Return the connections that an acceptor has handed over; None where it has gone.

    Of a connection for which there was no file descriptor left, the system has closed this end; None stands for it.
    """
    taken: list[socket.socket | None] = []
    while True:
        try:
            words, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        except BlockingIOError:
            return taken
        except OSError:
            return taken or None
        if not words:
            return taken or None
        taken.append(socket.socket(fileno=descriptors[0]) if descriptors else None)
