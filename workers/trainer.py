"""The root of a training process: ``python -m workers.trainer`` takes jobs from the database and runs one at a time.

It looks for a job by itself every few seconds, so it needs no broker; its keeper only tells it to look at once. Both
speak in lines. It hears ``try JOB`` and ``stop``; it says ``alive`` every second, ``ready`` when TensorFlow is loaded,
``busy JOB FENCE`` and ``idle``.
"""

import logging
import os
import queue
import signal
import sys
import threading
import time
from typing import TextIO

from service.domain.jobs import Claim
from service.processes import allowed_bytes, die_with_parent, loading, private_bytes
from service.settings import Settings, read_settings
from service.storage import leases
from service.storage.database import Database
from service.storage.faults import DATABASE_FAULTS

logger = logging.getLogger(__name__)

NAME_VARIABLE = "SELFNORM_WORKER_NAME"
"""Set by the keeper: the name under which this worker holds leases."""
PARENT_VARIABLE = "SELFNORM_WORKER_PARENT"
"""Set by the keeper: its process id."""
POLL_SECONDS = 2.0
PULSE_SECONDS = 1.0
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class Claims:
    """Takes jobs, trainings and predictions, for a worker that runs one at a time."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._may_hold = False

    def take(self, wish: str | None) -> Claim | None:
        """Take the job that was wished for, else the one that waits longest; None where none is to be had.

        A claim whose answer was lost may have been stored, and nobody would run its job until the lease ends: before
        the next claim it is handed back.
        """
        try:
            self._let_go()
            with self._database.read() as connection:
                if not leases.has_claimable(connection):
                    return None
            self._may_hold = True
            with self._database.write() as connection:
                wished = leases.claim(connection, wish, self._worker) if wish else None
                claim = wished or leases.claim_next(connection, self._worker)
        except DATABASE_FAULTS as error:
            logger.warning("the database gives no job: %s", error)
            return None
        self._may_hold = False
        return claim

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
        self._database = Database(settings.database_url)
        self._claims = Claims(self._database, worker)
        self._wishes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._is_ready = False

    def run(self) -> None:
        """Work until told to stop."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        with loading():
            from workers import attempt, background, environment  # TensorFlow, while the pulse shows that this lives

        environment.configure(self._settings.threads)
        self._is_ready = True
        self._say("ready")
        pause = 0.0
        while not self._stopping.is_set():
            wish = self._next_wish(pause)
            claim = None if self._stopping.is_set() else self._claims.take(wish)
            pause = POLL_SECONDS if claim is None else 0.0
            if claim is not None:
                self._say(f"busy {claim.job_id} {claim.fence}")
                attempt.run(
                    self._database,
                    claim,
                    self._settings.datasets_dir,
                    self._settings.resident_bytes,
                    self._stopping,
                    self._abandon,
                )
            if claim is not None and (self._has_grown() or background.is_working()):
                break
            if wish or claim:
                self._say("idle")
        self._database.close()

    def stop(self) -> None:
        """Store and hand back what is being trained, then end; before it is ready it holds nothing, and just ends."""
        if not self._is_ready:
            os._exit(0)
        self._stopping.set()
        self._wishes.put(None)

    def _next_wish(self, seconds: float) -> str | None:
        try:
            return self._wishes.get(timeout=seconds) if seconds else self._wishes.get_nowait()
        except queue.Empty:
            return None

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
            command, _, job_id = line.strip().partition(" ")
            if command == "try":
                self._wishes.put(job_id)
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
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    words = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not look like a word
    trainer = Trainer(read_settings(), os.environ[NAME_VARIABLE], words)
    signal.signal(signal.SIGTERM, lambda *_: trainer.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the keeper, which then says stop
    trainer.run()
    logging.shutdown()
    os._exit(0)  # a thread may be compiling for a job that has left, and would be waited for


if __name__ == "__main__":
    main()
