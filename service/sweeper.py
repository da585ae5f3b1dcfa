"""Watches over jobs in every API and worker process: takes them back from lost workers and rings again."""

import logging
import threading

from service.storage import leases
from service.storage.database import DATABASE_DOWN, Database
from service.task_queue import Doorbell

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 3.0
MAX_MESSAGES = 100
"""While so many messages lie with the broker, workers are busy, not deaf: more would only pile up."""


class Sweeper:
    """A thread that sweeps every few seconds; any number of processes may run one."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a sweep that is under way."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(SWEEP_SECONDS):
            try:
                sweep(self._database, self._doorbell)
            except DATABASE_DOWN as error:
                logger.warning("the database does not answer the sweeper: %s", error)
            except Exception:  # a sweeper that has died leaves jobs lying; the next sweep may succeed
                logger.exception("a sweep failed")


def sweep(database: Database, doorbell: Doorbell) -> None:
    """Sweep once; the doorbell rings after the commit."""
    with database.read() as connection:
        if not leases.needs_sweep(connection):
            return
    with database.write() as connection:
        waiting = leases.sweep(connection)
    if waiting and doorbell.waiting() >= MAX_MESSAGES:
        return
    for job_id in waiting:
        if not doorbell.ring(job_id).result():
            return
