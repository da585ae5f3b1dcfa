"""Keeps one training process: starts it, starts it again when it has died, ends it when it hangs or takes too much."""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from service.domain.jobs import Claim
from service.domain.workers import WorkerState
from service.logs import announce
from service.processes import CALM_SECONDS, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, private_bytes
from service.storage.database import Database
from service.task_queue import Doorbell
from workers.reports import Excess, Reports
from workers.trainer import NAME_VARIABLE, PARENT_VARIABLE

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
FROZEN_SECONDS = 35.0
"""A process that has said nothing for so long is ended: the lease of its job has expired by then."""
START_SECONDS = 180.0
"""A process that has not loaded TensorFlow within so long hangs, with its GPU for one, and is ended."""
STOP_SECONDS = 25.0
"""So long a training may take to store itself when the worker ends."""
LAST_WORDS_SECONDS = 1.0
REPORT_SECONDS = 5.0
END_SECONDS = STOP_SECONDS + 20.0
"""A worker that was told to end and still runs after so long is ended by force."""
FAILED = 1
"""The status with which a worker ends that should be started again."""
DEAF_SECONDS = 30.0
"""Messages that lie with the broker for so long, though this worker is idle, are not heard any more."""
READY_LINE = "worker ready"
"""Logged once TensorFlow is loaded, at every level; the supervisor of the embedded topology waits for it."""


class Keeper:
    """The training process of a worker, watched over by two threads.

    One starts and ends the process. The other speaks to database and broker, which may not answer for a while.
    ``exit_status`` is what the worker should end with: not 0 where something is wrong with it.
    """

    def __init__(
        self,
        database: Database,
        doorbell: Doorbell,
        name: str,
        memory_bytes: int,
        *,
        training_seconds: float = math.inf,
        health_file: Path | None = None,
        start_seconds: float = START_SECONDS,
        deaf_seconds: float = DEAF_SECONDS,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self.exit_status = 0
        self._doorbell = doorbell
        self._name = name
        self._reports = Reports(database, name)
        self._memory_bytes = memory_bytes
        self._training_seconds = training_seconds
        self._health_file = health_file
        self._start_seconds = start_seconds
        self._deaf_seconds = deaf_seconds
        self._end_seconds = end_seconds
        self._changed = threading.Condition()
        self._state = WorkerState.STARTING
        self._claim: Claim | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._stopping = threading.Event()
        self._silent_ticks = self._loading_ticks = self._busy_ticks = 0
        self._pause, self._start_at, self._started_at = 0.0, 0.0, 0.0
        self._heard = self._heard_before = 0
        self._hears_since = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("keeper", self._watch), ("reporter", self._report))
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def offer(self, job_id: str) -> None:  # noqa: ARG002  # what the message holds
        """Let the training process look for a job; returns when it has nothing to do any more.

        Which job the message names does not matter: whose turn it is, the database knows. While the process is busy
        this waits, so that other messages stay with the broker for idle workers.
        """
        with self._changed:
            self._heard += 1
            self._wait_until_idle()
            if self._stopping.is_set() or self._process is None:
                return
            self._state = WorkerState.BUSY
            self._send(self._process, "look")
            self._wait_until_idle()

    def stop(self) -> str | None:
        """End the process; what it trains is stored and handed back. What it cannot hand back, this does.

        Return the job that it had, for others to be told of; None where it had none.
        """
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            process, claim = self._process, self._claim
        if process is not None:
            self._send(process, "stop")
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                logger.error("the training process does not end; it is killed")
                process.kill()
        for thread in self._threads:
            thread.join(TICK_SECONDS)
        is_told = self._reports.tell_end()
        return claim.job_id if claim is not None and is_told else None

    def _wait_until_idle(self) -> None:
        self._changed.wait_for(lambda: self._stopping.is_set() or self._state is WorkerState.IDLE)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._process is None:
                    if time.monotonic() >= self._start_at:
                        self._start()
                elif self._process.poll() is not None:
                    self._on_death(self._process)
                else:
                    self._check(self._process, self._claim)
            except Exception:  # without this thread nobody would ever train here again
                logger.exception("the training process cannot be kept; trying again")
                self._start_at = time.monotonic() + MAX_PAUSE_SECONDS / 10
            self._stopping.wait(TICK_SECONDS)
        if self._process is not None:
            self._process.wait()  # on Linux it dies with the thread that started it, which is this one

    def _start(self) -> None:
        environment = {**os.environ, NAME_VARIABLE: self._name, PARENT_VARIABLE: str(os.getpid())}
        command = [sys.executable, "-m", "workers.trainer"]
        pipe = subprocess.PIPE
        # A session of its own: ctrl-C in a terminal is for the keeper.
        process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1, start_new_session=True
        )
        with self._changed:
            self._process, self._started_at = process, time.monotonic()
            self._silent_ticks = self._loading_ticks = 0
        reader = threading.Thread(target=self._read, args=(process,), name="reader", daemon=True)
        reader.start()
        self._reader = reader

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Take in what the process says, to its end."""
        assert process.stdout is not None
        for line in process.stdout:
            word, *rest = line.rstrip("\n").split(" ", 3)
            with self._changed:
                if process is not self._process:
                    return
                self._silent_ticks = 0
                self._show_life()
                if word in ("ready", "idle"):
                    self._state, self._claim = WorkerState.IDLE, None
                elif word == "busy":
                    self._state, self._claim = WorkerState.BUSY, Claim(rest[0], int(rest[1]), self._name, rest[2])
                    self._busy_ticks = 0
                self._changed.notify_all()
            if word == "ready":
                announce(logger, READY_LINE)

    def _show_life(self) -> None:
        """Touch the file that a health check looks at: the process has spoken, and this one has heard it."""
        if self._health_file is not None:
            with suppress(OSError):  # where there is no room, there is no sign of life either
                self._health_file.touch()

    def _check(self, process: "subprocess.Popen[str]", claim: Claim | None) -> None:
        """End a process that is frozen, or never gets ready, or whose job takes more memory or time than it may.

        Silence is counted in looks, not in time: while this process itself was frozen, nobody could be heard, and
        nobody could say that it is ready. A process that trains nothing is left alone, however large: another one would
        be as large, and no job could tell why.
        """
        self._silent_ticks += 1
        self._loading_ticks = self._loading_ticks + 1 if self._state is WorkerState.STARTING else 0
        self._busy_ticks += 1
        if self._silent_ticks * TICK_SECONDS > FROZEN_SECONDS:
            self._kill(process, f"has been silent for {FROZEN_SECONDS:.0f} s")
        elif self._loading_ticks * TICK_SECONDS > self._start_seconds:
            self._kill(process, f"has not got ready in {self._start_seconds:.0f} s: TensorFlow, or a GPU, hangs")
        elif claim is not None and (taken := private_bytes(process.pid)) > self._memory_bytes:
            detail = (
                f"the job took {taken / 2**30:.1f} GiB of memory, and {self._memory_bytes / 2**30:.1f} GiB are "
                "allowed here (SELFNORM_TRAINING_MEMORY_BYTES); try a smaller network, a smaller batch or fewer rows"
            )
            self._end_job(process, claim, Excess("out_of_memory", detail))
        elif claim is not None and self._busy_ticks * TICK_SECONDS > self._training_seconds:
            detail = (
                f"the job took more than {self._training_seconds:,.0f} s at a stretch, which is all that is allowed "
                "(SELFNORM_TRAINING_SECONDS); try fewer epochs, a smaller network or fewer rows"
            )
            self._end_job(process, claim, Excess("out_of_time", detail))

    def _end_job(self, process: "subprocess.Popen[str]", claim: Claim, excess: Excess) -> None:
        logger.error("%s; it is killed", excess.detail)
        process.kill()
        process.wait()
        self._on_death(process, claim, excess)

    def _kill(self, process: "subprocess.Popen[str]", why: str) -> None:
        """End a process; one that a driver holds does not die of it, and is told of again as late as the first time."""
        logger.error("the training process %s; it is killed", why)
        self._silent_ticks = self._loading_ticks = 0
        process.kill()

    def _on_death(
        self, process: "subprocess.Popen[str]", greedy: Claim | None = None, excess: Excess | None = None
    ) -> None:
        """Note what died, and of which ``excess`` where its job was ``greedy``; start another one a little later."""
        if self._reader is not None:
            self._reader.join(LAST_WORDS_SECONDS)  # it may have said what it trains and died at once
        status = process.returncode
        with self._changed:
            claim = self._claim
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):  # a word may lie in it that nobody has heard
                    self._process.stdin.close()
            if claim is not None:
                self._reports.note_loss(claim, excess if claim == greedy else None)
            self._process, self._claim, self._state = None, None, WorkerState.STARTING
            if status:
                was_calm = time.monotonic() - self._started_at > CALM_SECONDS or claim is not None
                before = 0.0 if was_calm else self._pause
                self._pause = min(max(FIRST_PAUSE_SECONDS, 2 * before), MAX_PAUSE_SECONDS)
                logger.warning(
                    "the training process ended with status %d; started again in %.1f s", status, self._pause
                )
            self._start_at = time.monotonic() + (self._pause if status else 0.0)
            self._changed.notify_all()

    def _send(self, process: "subprocess.Popen[str]", command: str) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
        except (OSError, ValueError):  # it has just died; the watch sees to it
            logger.info("the training process is gone and does not hear: %s", command)

    def _report(self) -> None:
        """Tell the database of losses and of this worker, and end a worker that does not hear its messages."""
        report_at = 0.0
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self._reports.tell_losses()
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + REPORT_SECONDS
                    if self._is_deaf(self._report_state()):
                        self._end_worker("messages lie at the broker and are not heard here")
            except Exception:  # such as a thread that cannot be started; the next report may succeed
                logger.exception("this worker cannot be reported on; trying again")

    def _end_worker(self, why: str) -> NoReturn:
        """End this worker in order, and by force where nothing comes of that: its main thread may hang for good.

        What is still trained then dies with it, and goes on when its lease has expired.
        """
        self.exit_status = FAILED
        logger.error("%s: this worker ends with status %d, to be started again", why, FAILED)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._end_seconds)
        logger.error("this worker has not ended in order within %.0f s: it ends by force", self._end_seconds)
        os._exit(FAILED)

    def _report_state(self) -> WorkerState:
        with self._changed:
            state, job_id = self._state, None if self._claim is None else self._claim.job_id
        self._reports.tell_state(state, job_id)
        return state

    def _is_deaf(self, state: WorkerState) -> bool:
        """Whether messages have waited for long while this worker was idle and heard none."""
        if state is not WorkerState.IDLE or self._heard != self._heard_before or not self._doorbell.waiting():
            self._hears_since, self._heard_before = time.monotonic(), self._heard
        return time.monotonic() - self._hears_since > self._deaf_seconds
