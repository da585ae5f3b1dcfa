"""Watches over jobs in every API and worker process: takes them back from lost workers, and keeps house."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection

from service.domain.jobs import Claim
from service.storage import audit, checkpoints, deliveries, idempotency, inputs, losses, turns, workers
from service.storage.database import Database
from service.storage.loose_objects import sweep as sweep_objects
from service.storage.losses import ExpiredLease

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
LOOKS = 3
"""A lease that has expired is taken when it was seen so in so many sweeps, one after the other.

After the database was down, or locked, or full, or its clock was set forward, all leases have expired, and workers that
live renew theirs in between. Only looks that could write are counted, one after the other: while nobody can write, no
worker can renew its lease.
"""
SWEEPING_WORKERS = 8
"""Of many workers, so many sweep; the others look now and then whether they are needed. API processes always sweep."""
REST_SECONDS = 10.0
LINE_SECONDS = 10.0
TIDY_SECONDS = 3600.0
OBJECTS_SECONDS = 60.0
"""The pause between two looks for objects that nothing needs any more, in the object store where there is one."""


class Sweeper:
    """A thread that sweeps every few seconds; any number of processes may run one."""

    def __init__(
        self,
        database: Database,
        on_taken: Callable[[int], object] = lambda _: None,
        audit_days: int = 0,
        worker: str | None = None,
    ) -> None:
        """``worker`` is the name of the worker whose sweeper this is: it rests while enough others sweep.

        ``on_taken`` is told how many jobs were taken from lost workers, after every sweep that took any.

        Entries of the audit log go after ``audit_days``; 0: never.
        """
        self._worker = worker
        self._audit_days = audit_days
        self._on_taken = on_taken
        self._database = database.for_everybody()
        self._looks: Counter[ExpiredLease] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        # One of its own, so that a store that does not answer holds up no lost job.
        self._objects_thread = threading.Thread(target=self._sweep_objects, name="object sweeper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()
        if self._database.objects is not None:
            self._objects_thread.start()

    def stop(self) -> None:
        """End the threads; waits for a sweep that is under way."""
        self._stop.set()
        self._thread.join(timeout=10)
        if self._database.objects is not None:
            self._objects_thread.join(timeout=10)

    def _run(self) -> None:
        line_at = time.monotonic()
        tidy_at = line_at + random.uniform(SWEEP_SECONDS, TIDY_SECONDS)
        while not self._stop.wait(SWEEP_SECONDS):
            with self._database.trouble.outlived("sweeper"):
                if self._rests():
                    self._looks.clear()
                    self._stop.wait(REST_SECONDS)
                    continue
                self.look()
                if time.monotonic() >= line_at:
                    line_at = time.monotonic() + LINE_SECONDS
                    keep_line(self._database)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_SECONDS
                    tidy(self._database, self._audit_days)

    def _rests(self) -> bool:
        """Whether enough workers sweep without this one: a thousand of them would look five hundred times a second."""
        if self._worker is None:
            return False
        with self._database.read() as connection:
            return not workers.is_among_first(connection, self._worker, SWEEPING_WORKERS)

    def _sweep_objects(self) -> None:
        assert self._database.objects is not None
        while not self._stop.wait(random.uniform(0.5, 1.5) * OBJECTS_SECONDS):
            with self._database.trouble.outlived("sweeper of objects"):
                sweep_objects(self._database, self._database.objects.store)

    def look(self) -> None:
        """Look once, and take what was seen lost often enough."""
        with self._database.read() as connection:
            expired = losses.expired(connection)
            needs_sweep = losses.needs_sweep(connection)
        looks = Counter({lease: self._looks[lease] + 1 for lease in expired})
        self._looks.clear()
        if needs_sweep:
            lost = [lease.claim for lease, times in looks.items() if times >= LOOKS]
            if taken := sweep(self._database, lost):
                logger.warning("%d jobs were taken back from lost workers: %s", taken, ", ".join(_names(lost)))
                self._on_taken(taken)
        self._looks = looks  # not reached where this could not write


def _names(claims: Collection[Claim]) -> list[str]:
    return [f"{claim.job_id} from {claim.worker}" for claim in claims]


def sweep(database: Database, lost: Collection[Claim] | None = None) -> int:
    """Follow the database's clock, take back the lost jobs, or all whose lease has expired, and count them.

    Nobody is called: what waits in line again pauses first, and workers look by themselves.
    """
    with database.for_everybody().write() as connection:
        losses.follow_clock(connection)
        return losses.lose_expired(connection, lost)


def keep_line(database: Database) -> None:
    """See to it that whoever waits has turns, and whoever does not is forgotten."""
    database = database.for_everybody()
    with database.read() as connection:
        if not turns.are_out_of_date(connection):
            return
    for mend in (turns.adopt, turns.forget):  # each by itself, so that none holds rows for the other
        with database.write() as connection:
            mend(connection)


def tidy(database: Database, audit_days: int = 0) -> None:
    """Forget what was kept for long enough: states of jobs that failed, answers to keys, what webhooks were told, ...

    Of the audit log goes what is older than ``audit_days``; 0: nothing.
    """
    database = database.for_everybody()
    with database.write() as connection:
        idempotency.purge(connection)
        workers.purge(connection)
        inputs.purge(connection)
        deliveries.purge(connection)
        audit.purge(connection, audit_days)
        old = checkpoints.old_jobs(connection)
    for job_id in old:
        with database.write(alone=True) as connection:  # they may be large
            checkpoints.purge(connection, job_id)
