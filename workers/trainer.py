"""The root of a training process: ``python -m workers.trainer`` takes jobs from the database and runs one at a time.

It looks for a job by itself every few seconds, so it needs no broker; its keeper only tells it to look at once. Both
speak in lines. It hears ``look`` and ``stop``; it says ``alive`` every second, ``ready`` when TensorFlow is loaded,
``busy JOB FENCE OWNER`` and ``idle``.
"""

import logging
import os
import queue
import random
import signal
import sys
import threading
import time
from importlib.metadata import version
from typing import TextIO

from service import logs, tracing
from service.domain.jobs import Claim
from service.processes import allowed_bytes, die_with_parent, loading, private_bytes
from service.settings import Settings, read_settings
from service.stocking import add_builtin_datasets
from service.storage import leases
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN, DATABASE_FAULTS
from workers.room import bound_files

logger = logging.getLogger(__name__)

NAME_VARIABLE = "SELFNORM_WORKER_NAME"
"""Set by the keeper: the name under which this worker holds leases."""
PARENT_VARIABLE = "SELFNORM_WORKER_PARENT"
"""Set by the keeper: its process id."""
POLL_SECONDS = 2.0
TRIES = 3
AGAIN_SECONDS = 0.1
"""Who finds a job waiting and gets none, for others were just claiming those whose turn it was, tries again so soon."""
PULSE_SECONDS = 1.0
CLAIMER = "claimer of jobs"
"""What the log calls the loop."""

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class Claims:
    """Takes jobs, trainings and predictions, for a worker that runs one at a time."""

    def __init__(self, database: Database, worker: str, most_running: int | None = None) -> None:
        """Take no job of an owner who runs ``most_running`` already."""
        self._database = database.for_everybody()
        self._worker = worker
        self._most_running = most_running
        self._may_hold = False

    def take(self) -> Claim | None:
        """Take the job whose turn it is; None where none is to be had.

        A claim whose answer was lost may have been stored, and nobody would run its job until the lease ends: before
        the next claim it is handed back.
        """
        with self._database.trouble.outlived(CLAIMER):
            self._let_go()
            for _ in range(TRIES):
                with self._database.read() as connection:
                    if not leases.has_claimable(connection, self._most_running):
                        return None
                self._may_hold = True
                with self._database.write() as connection:
                    claim = leases.claim_next(connection, self._worker, self._most_running)
                self._may_hold = False
                if claim is not None:
                    return claim
                time.sleep(random.uniform(0, AGAIN_SECONDS))  # many others claim at this moment
        return None

    def _let_go(self) -> None:
        if self._may_hold:
            with self._database.write() as connection:
                leases.hand_back(connection, self._worker)
            self._may_hold = False


class Trainer:
    """Claims jobs and runs them until it is told to stop, or has grown too large."""

    def __init__(self, settings: Settings, worker: str, words: TextIO) -> None:
        self._settings = settings
        self._words = words
        self._database = Database(settings.database_url, store=settings.store)
        self._claims = Claims(self._database, worker, settings.max_running_jobs)
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._is_ready = False

    def run(self) -> None:
        """Work until told to stop."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        with loading():
            from workers import attempt, background, environment  # TensorFlow, while the pulse shows that this lives

        environment.configure(self._settings.threads)
        self._stock()
        self._is_ready = True
        self._say("ready")
        pause = 0.0
        while not self._stopping.is_set():
            was_called = self._is_called(pause)
            asked_ns = time.time_ns()
            claim = None if self._stopping.is_set() else self._claims.take()
            pause = POLL_SECONDS if claim is None else 0.0
            if claim is not None:
                self._say(f"busy {claim.job_id} {claim.fence} {claim.owner}")
                attempt.run(
                    self._database,
                    claim,
                    self._settings.datasets_dir,
                    self._settings.resident_bytes,
                    self._stopping,
                    self._abandon,
                    asked_ns,
                )
            if claim is not None and (self._has_grown() or background.is_working()):
                break
            if was_called or claim:
                self._say("idle")
        self._database.close()

    def stop(self) -> None:
        """Store and hand back what is being trained, then end; before it is ready it holds nothing, and just ends."""
        if not self._is_ready:
            os._exit(0)
        self._stopping.set()
        self._calls.put(False)

    def _stock(self) -> None:
        """Store the built-in tables where nobody has: what ran the migrations may lack what reads them."""
        try:
            add_builtin_datasets(self._database)
        except (*DATABASE_FAULTS, *DATABASE_DOWN) as error:
            if not self._database.trouble.meet(CLAIMER, error):
                logger.warning("the built-in data sets are not looked for: %s", error)

    def _is_called(self, seconds: float) -> bool:
        """Wait so long to be called, and say whether the keeper has done so, who then wants to hear of the end."""
        try:
            return self._calls.get(timeout=seconds) if seconds else self._calls.get_nowait()
        except queue.Empty:
            return False

    def _has_grown(self) -> bool:
        """Whether compiled code and the like have added up to so much that the next job should have a fresh process."""
        allowed = self._settings.training_memory_bytes or allowed_bytes()
        return private_bytes(os.getpid()) > min(self._settings.worker_memory_bytes, allowed // 2)

    def _abandon(self, reason: str) -> None:
        logger.warning("%s; this process ends", reason)
        logging.shutdown()
        os._exit(1)

    def _pulse(self) -> None:
        while True:
            self._say("alive")
            time.sleep(PULSE_SECONDS)

    def _listen(self) -> None:
        for line in sys.stdin:
            command = line.strip()
            if command == "look":
                self._calls.put(True)
            elif command == "stop":
                self.stop()
        os._exit(1)  # the keeper has gone

    def _say(self, word: str) -> None:
        try:
            self._words.write(f"{word}\n")
            self._words.flush()
        except OSError:
            os._exit(1)  # the keeper has gone


def main() -> None:
    """Run until told to stop."""
    if PARENT_VARIABLE in os.environ:
        die_with_parent(int(os.environ[PARENT_VARIABLE]))()
    settings = read_settings()
    logs.set_up("trainer", settings.log_format, settings.log_level)
    tracing.set_up("worker", version("selfnorm"))
    words = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not look like a word
    bound_files(None if settings.database_url.startswith("sqlite") else settings.training_file_bytes)
    trainer = Trainer(settings, os.environ[NAME_VARIABLE], words)
    signal.signal(signal.SIGTERM, lambda *_: trainer.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the keeper, which then says stop
    trainer.run()
    tracing.close()
    logging.shutdown()
    os._exit(0)  # a thread may be compiling for a job that has left, and would be waited for


if __name__ == "__main__":
    main()
