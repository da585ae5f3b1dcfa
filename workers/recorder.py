"""Stores how far a training is: progress often, and now and then what its epochs measured with a checkpoint."""

import logging
import time

from service import tracing
from service.domain.jobs import EpochRecord, Progress, SavedState
from service.storage import blobs, leases
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN
from workers.epochs import ChunkEnd, EpochEnd
from workers.lease import Lease
from workers.monitor import Look

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
"""Progress is stored at most so often."""
MOST_SECONDS = 25.0
"""A checkpoint is stored at least so often, even within an epoch."""
LEAST_SECONDS = 0.25
SHARE = 0.01
"""Checkpoints after epochs take at most this part of the time: an epoch of a small table takes less than its commit."""
FIRST_COST_SECONDS = 0.01
RETRY_SECONDS = 1.0
REST_FACTOR = 4


class Recorder:
    """Stores epochs together with the state that follows them, so that what is stored is never trained again."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease
        self._records: list[EpochRecord] = []
        self._looks: list[Look] = []
        self._latest: ChunkEnd | None = None
        self._progress: tuple[Progress, int] | None = None
        self._cost = FIRST_COST_SECONDS
        self._not_before = self._written_at = 0.0  # the first sign of life is stored at once
        self._saved_at = time.monotonic()

    def take_chunk(self, end: ChunkEnd) -> None:
        """Note how far the training is; store it where it is time."""
        self._latest, self._progress = end, (end.progress, end.best_epoch)
        self._lease.check()
        now = time.monotonic()
        if self._is_due(now):
            self._save(end)
        elif now >= max(self._not_before, self._written_at + PROGRESS_SECONDS):
            self._write_progress(end.progress)

    def take_epoch(self, end: EpochEnd) -> None:
        """Note what an epoch measured; a word that came meanwhile is heard after a chunk, where it can be stored."""
        self._records.append(end.record)
        tracing.event("epoch", epoch=end.record.epoch, seconds=end.record.seconds)
        self._progress = end.progress, end.best_epoch

    def take_look(self, look: Look) -> None:
        """Note what the layers looked like; it is stored with the next checkpoint."""
        self._looks.append(look)

    def saved_state(self) -> SavedState | None:
        """Return the latest state as bytes; None before the first chunk."""
        return None if self._latest is None else _saved(self._latest)

    def store_rest(self, connection: Connection, saved: SavedState | None = None) -> None:
        """Store what is left, in the transaction that ends the job, or with the state from which it goes on."""
        if self._progress is not None:
            progress, best_epoch = self._progress
            leases.record(connection, self._lease.claim, progress, best_epoch, self._records, saved)
        if self._looks:
            diagnoses = [look.diagnosis for look in self._looks]
            verdicts = [look.verdict for look in self._looks]
            leases.record_looks(connection, self._lease.claim, diagnoses, verdicts)

    def _is_due(self, now: float) -> bool:
        since = now - self._saved_at
        has_news = bool(self._records) and since >= max(LEAST_SECONDS, self._cost / SHARE)
        return now >= self._not_before and (has_news or since >= MOST_SECONDS)

    def _save(self, end: ChunkEnd) -> None:
        """Store a checkpoint. While the database is down the training goes on, and tries again a little later."""
        began = time.monotonic()
        saved = _saved(end)
        try:
            with blobs.writing(self._database, saved.content) as connection:
                self.store_rest(connection, saved)
        except DATABASE_DOWN as error:
            self._rest("checkpoint", began, error)
            return
        self._records.clear()
        self._looks.clear()
        self._saved_at = self._written_at = time.monotonic()
        self._cost = self._saved_at - began

    def _write_progress(self, progress: Progress) -> None:
        began = self._written_at = time.monotonic()
        try:
            with self._database.write() as connection:
                leases.record_progress(connection, self._lease.claim, progress)
        except DATABASE_DOWN as error:
            self._rest("progress", began, error)

    def _rest(self, what: str, began: float, error: Exception) -> None:
        """Leave the database alone for several times as long as it took to fail: the training is to go on meanwhile."""
        logger.warning("job %s: no %s was stored: %s", self._lease.claim.job_id, what, error)
        failed = time.monotonic()
        self._not_before = failed + min(max(RETRY_SECONDS, REST_FACTOR * (failed - began)), MOST_SECONDS)


def _saved(end: ChunkEnd) -> SavedState:
    return SavedState(end.state.to_bytes(), end.state.epoch - 1, end.state.step)
