"""Watches over jobs in every API and worker process: takes them back from lost workers, and keeps house."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Collection

from service.domain.jobs import Claim
from service.storage import checkpoints, idempotency, inputs, losses, workers
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN
from service.storage.losses import ExpiredLease

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
LOOKS = 3
"""A lease that has expired is taken when it was seen so in so many sweeps, one after the other.

After the database was down, or locked, or full, or its clock was set forward, all leases have expired, and workers that
live renew theirs in between. Only looks that could write are counted, one after the other: while nobody can write, no
worker can renew its lease.
"""
TIDY_SECONDS = 3600.0


class Sweeper:
    """A thread that sweeps every few seconds; any number of processes may run one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks: Counter[ExpiredLease] = Counter()
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
        tidy_at = time.monotonic() + random.uniform(SWEEP_SECONDS, TIDY_SECONDS)
        while not self._stop.wait(SWEEP_SECONDS):
            try:
                self.look()
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_SECONDS
                    tidy(self._database)
            except DATABASE_DOWN as error:
                logger.warning("the database does not answer the sweeper: %s", error)
            except Exception:  # a sweeper that has died leaves jobs lying; the next sweep may succeed
                logger.exception("a sweep failed")

    def look(self) -> None:
        """Look once, and take what was seen lost often enough."""
        with self._database.read() as connection:
            expired = losses.expired(connection)
            needs_sweep = losses.needs_sweep(connection)
        looks = Counter({lease: self._looks[lease] + 1 for lease in expired})
        self._looks.clear()
        if needs_sweep:
            sweep(self._database, [lease.claim for lease, times in looks.items() if times >= LOOKS])
        self._looks = looks  # not reached where this could not write


def sweep(database: Database, lost: Collection[Claim] | None = None) -> None:
    """Follow the database's clock, and take back the lost jobs, or all whose lease has expired.

    Nobody is called: what waits in line again pauses first, and workers look by themselves.
    """
    with database.write() as connection:
        losses.follow_clock(connection)
        losses.lose_expired(connection, lost)


def tidy(database: Database) -> None:
    """Forget what was kept for long enough: checkpoints of jobs that failed, answers to keys, workers that are gone."""
    with database.write() as connection:
        idempotency.purge(connection)
        workers.purge(connection)
        inputs.purge(connection)
        old = checkpoints.old_jobs(connection)
    for job_id in old:
        with database.write(alone=True) as connection:  # they may be large
            checkpoints.purge(connection, job_id)
