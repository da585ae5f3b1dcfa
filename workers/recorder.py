"""Stores how far a training is, and what its epochs measured."""

import logging
import time

from service.domain.errors import LeaseLost
from service.domain.jobs import EpochRecord, Progress
from service.storage import leases
from service.storage.database import DATABASE_DOWN, Connection, Database
from workers.epochs import ChunkEnd, EpochEnd
from workers.lease import Lease, patiently

logger = logging.getLogger(__name__)

RECORD_SECONDS = 0.25
"""Progress is stored at most so often."""


class Recorder:
    """Stores progress and epochs several at a time: an epoch of a small table takes less than its own commit."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease
        self._records: list[EpochRecord] = []
        self._progress: tuple[Progress, int] | None = None
        self._written_at = time.monotonic()

    def __enter__(self) -> "Recorder":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Store what is left. A training that ended early waits for no database, for its owner waits for its end."""
        if kind is None:
            self.write()
            return
        try:
            with self._database.write() as connection:
                self._store(connection)
        except (LeaseLost, *DATABASE_DOWN) as error:
            logger.warning("the latest epochs of job %s are not stored: %s", self._lease.claim.job_id, error)

    def take_chunk(self, end: ChunkEnd) -> None:
        """Note how far the training is."""
        self._take(end.progress, end.best_epoch)

    def take_epoch(self, end: EpochEnd) -> None:
        """Note what an epoch measured."""
        self._records.append(end.record)
        self._take(end.progress, end.best_epoch)

    def write(self) -> None:
        """Store what has been noted."""
        patiently(self._database.write, self._lease, self._store)
        self._records, self._progress, self._written_at = [], None, time.monotonic()

    def _store(self, connection: Connection) -> None:
        if self._progress is not None:
            progress, best_epoch = self._progress
            leases.record_progress(connection, self._lease.claim, progress, best_epoch, self._records)

    def _take(self, progress: Progress, best_epoch: int) -> None:
        self._lease.check()
        self._progress = progress, best_epoch
        if time.monotonic() - self._written_at >= RECORD_SECONDS:
            self.write()
