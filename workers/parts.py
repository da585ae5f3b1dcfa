"""The parts of a prediction's result: stored now and then, taken over by the next attempt, put together at the end."""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import CorruptBlob
from service.domain.jobs import Checkpoint, Progress, SavedState
from service.domain.training_errors import UnusableState
from service.inference.findings import RowFindings
from service.inference.stored import StoredRows
from service.storage import blobs, leases, predictions
from service.storage.database import Connection, Database
from service.storage.faults import STATEMENT_REFUSED, is_damaged
from service.tables import results
from service.tables.batches import RecordBatch
from service.tables.results import ResultWriter
from workers.lease import Lease, patiently

logger = logging.getLogger(__name__)

PART_SECONDS = 25.0
"""A part is stored at least so often; a lost worker costs no more ..."""
PART_BYTES = 64 * 2**20
"""... and as soon as it is so large: it is in memory while it is stored, and on SQLite others wait for it."""


class HeardFile:
    """A file that hears what is asked of its job while it is read or written, which may take long."""

    def __init__(self, file: BinaryIO, hear: Callable[[], None]) -> None:
        self._file = file
        self._hear = hear

    def write(self, data: bytes) -> int:
        """Write."""
        self._hear()
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        """Read."""
        self._hear()
        return self._file.read(size)

    def seek(self, place: int) -> int:
        """Go to a place."""
        return self._file.seek(place)


class Parts:
    """The parts that are stored, whose files lie here as well, and the one that is being written."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        files: ExitStack,
        new_writer: Callable[[BinaryIO], ResultWriter],
        part_seconds: float = PART_SECONDS,
    ) -> None:
        """Begin with nothing; ``files`` closes the files."""
        self.findings = RowFindings()
        self.rows = 0
        """How many rows the parts before the present one hold."""
        self._database = database
        self._lease = lease
        self._files = files
        self._new_writer = new_writer
        self._part_seconds = part_seconds
        self._stored: list[BinaryIO] = []
        self._is_closed = False
        self._begin()

    def restore(self) -> None:
        """Take over what earlier attempts have stored, as far as it is sound."""
        job_id = self._lease.claim.job_id
        stored = patiently(self._database.read, self._lease, lambda connection: predictions.parts(connection, job_id))
        for place, part in enumerate(stored):
            file = self._new_file()
            try:
                fetch(self._database, self._lease, part.sha256, file)
                self.findings = RowFindings.from_dict(results.findings_of(file))
            except (CorruptBlob, UnusableState) as error:
                self._go_back(stored[place:], str(error))
                break
            except STATEMENT_REFUSED as error:
                if not is_damaged(error):
                    raise
                logger.critical("the database is damaged, and bytes of a part stay behind in it: %s", error)
                self._go_back(stored[place:], str(CorruptBlob(part.sha256)), keeps_bytes=True)
                break
            self._stored.append(file)
            self.rows = part.epoch
        if self.rows:
            logger.info("prediction %s goes on with row %d", job_id, self.rows)

    def add(
        self,
        batch: RecordBatch,
        rows: StoredRows,
        answer: NDArray[np.floating],
        progress: Callable[[], Progress],
    ) -> None:
        """Add the answers to some rows; store the part where it is time."""
        far = ~np.isfinite(answer).all(axis=1)
        self.findings.take(rows, far, self._end())
        self._added += rows.count
        if self._writer.add(batch, answer, rows.lost | far) and self._is_due():
            self.store_all(progress())

    def store_all(self, progress: Progress) -> None:
        """Store the present part, where it holds anything, and begin the next one."""
        part = self.close()
        if part is not None:
            session = partial(blobs.writing, self._database, part.content)
            patiently(session, self._lease, partial(self.store, part=part, progress=progress))
            self._stored.append(self._file)
            self.rows = part.epoch
            self._begin()

    def close(self) -> SavedState | None:
        """End the present part and return it, also where it has been ended; None where it holds nothing."""
        if not self._added:
            return None
        if not self._is_closed:
            self._writer.close(self.findings.to_dict())
            self._is_closed = True
        self._file.seek(0)
        return SavedState(self._file.read(), self._end(), 0)

    def store(self, connection: Connection, part: SavedState, progress: Progress) -> None:
        """Store a part, unless it is stored already."""
        predictions.add_part(connection, self._lease.claim, progress, part)

    def put_together(self) -> tuple[BinaryIO, ResultWriter]:
        """End the result; return its file, and what wrote it."""
        self._writer.close()
        if not self._stored:
            return self._file, self._writer
        file = self._new_file()
        writer = self._writer_for(file)
        for part in [*self._stored, *([self._file] if self._added else [])]:
            for _ in writer.copy(part):
                self._lease.check()
        writer.close()
        return file, writer

    def _begin(self) -> None:
        self._added = 0
        self._is_closed = False
        self._file = self._new_file()
        self._writer = self._writer_for(self._file)
        self._began_at = time.monotonic()

    def _end(self) -> int:
        return self.rows + self._added

    def _is_due(self) -> bool:
        return time.monotonic() - self._began_at >= self._part_seconds or self._writer.size_bytes >= PART_BYTES

    def _writer_for(self, file: BinaryIO) -> ResultWriter:
        writer = self._new_writer(file)
        self._files.callback(writer.abandon)
        return writer

    def _new_file(self) -> BinaryIO:
        return cast("BinaryIO", self._files.enter_context(tempfile.TemporaryFile()))

    def _go_back(self, damaged: Sequence[Checkpoint], reason: str, *, keeps_bytes: bool = False) -> None:
        """Forget a part that cannot be used, and those after it; the last one first, for rows have no gaps."""
        logger.critical("prediction %s: a part cannot be used: %s", self._lease.claim.job_id, reason)

        def forget(connection: Connection) -> None:
            for part in reversed(damaged):
                keeps = keeps_bytes and part is damaged[0]
                leases.go_back(connection, self._lease.claim, part, reason, keeps_bytes=keeps)

        patiently(self._database.write, self._lease, forget)


def fetch(database: Database, lease: Lease, sha256: str, file: BinaryIO) -> None:
    """Copy a stored file into another one, which stands at its start afterwards.

    Raises:
        CorruptBlob: it is missing or damaged.
    """

    def copy(connection: Connection) -> None:
        file.seek(0)
        file.truncate()
        predictions.copy_file(connection, sha256, heard(file, lease))

    patiently(database.read, lease, copy)


def heard(file: BinaryIO, lease: Lease) -> BinaryIO:
    """Return the file with an ear for what is asked of the job."""
    return cast("BinaryIO", HeardFile(file, lease.check))
