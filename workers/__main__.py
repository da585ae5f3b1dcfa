"""The root of a worker: ``python -m workers`` hears the doorbell and keeps one training process.

This process never loads TensorFlow. On SIGTERM what is being trained is stored and handed back to the queue.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from concurrent.futures import wait

from service import logs
from service.processes import allowed_bytes
from service.settings import read_settings
from service.storage.database import Database
from service.sweeper import Sweeper
from service.task_queue import SENDER_TIMEOUT_SECONDS, TRAIN_TASK, Doorbell, create_celery
from service.unknown_variables import unknown
from workers.keeper import FAILED, Keeper

logger = logging.getLogger(__name__)

LAST_SECONDS = 1.0
"""So long the messenger has to end once everything else has: it may hang with its broker, and holds nothing."""


class Ending:
    """Ends the parts of a worker in a thread of its own, while Celery ends as well."""

    def __init__(self, keeper: Keeper, sweeper: Sweeper, doorbell: Doorbell) -> None:
        self._keeper, self._sweeper, self._doorbell = keeper, sweeper, doorbell
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ending")

    def begin(self) -> None:
        """Begin to end."""
        self._thread.start()

    def finish(self) -> bool:
        """Wait for the end, now that Celery has ended; return whether it was asked to, else it has failed."""
        was_asked = self._thread.ident is not None
        if not was_asked:
            self.begin()
        self._is_over.set()
        self._thread.join()
        return was_asked

    def _run(self) -> None:
        left = self._keeper.stop()
        self._sweeper.stop()
        has_ended = self._is_over.wait(LAST_SECONDS)  # it would hear the message that is for others
        if left is not None:
            wait([self._doorbell.ring(left)], 2 * SENDER_TIMEOUT_SECONDS)
        if not has_ended:
            os._exit(self._keeper.exit_status)


def main() -> int:
    """Run until told to end; return the exit status, which is not 0 where this should be started again."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until Celery takes the signal over
    settings = read_settings()
    logs.set_up("worker", settings.log_format, settings.log_level)
    for line in unknown(os.environ):
        logger.warning("%s", line)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"  # containers have equal process ids
    database = Database(settings.database_url, store=settings.store)
    doorbell = Doorbell(settings.broker_url)
    keeper = Keeper(
        database,
        doorbell,
        name,
        settings.training_memory_bytes or allowed_bytes(),
        training_seconds=settings.training_seconds,
        health_file=settings.health_file,
    )
    keeper.start()  # first of all, for it takes seconds to load TensorFlow
    sweeper = Sweeper(database, worker=name)
    ending = Ending(keeper, sweeper, doorbell)
    sweeper.start()
    try:
        _listen(settings.broker_url, name, keeper, ending)
    finally:
        was_asked = ending.finish()
        doorbell.close()
        database.close()
    return keeper.exit_status if was_asked else FAILED


def _listen(broker_url: str, name: str, keeper: Keeper, ending: Ending) -> None:
    """Hear the doorbell until told to end; where Celery fails, it says so with no status."""
    from celery.signals import setup_logging, worker_shutting_down  # while the training process loads TensorFlow

    setup_logging.connect(lambda **_: None, weak=False)  # else Celery would write lines of its own form
    worker_shutting_down.connect(lambda **_: ending.begin(), weak=False)
    app = create_celery(broker_url)
    app.task(keeper.offer, name=TRAIN_TASK)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", f"--hostname={name}"]
    app.worker_main(["--quiet", "worker", "--loglevel=INFO", *options])


if __name__ == "__main__":
    sys.exit(main())
