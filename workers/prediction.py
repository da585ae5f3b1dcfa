"""One attempt at a prediction over a stored data set: read rows, ask the network, write answers, keep what is done.

It needs neither TensorFlow nor the whole table: some rows are in memory at a time, and temporary files without a name
hold the table and the result.
"""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from service.domain.datasets import Dataset
from service.domain.errors import LeaseLost
from service.domain.jobs import Progress, SavedState
from service.domain.models import ModelVersion
from service.domain.predictions import Evaluation, PredictionResult, PredictionSpec, ResultColumns
from service.domain.training_errors import NoRoomForFiles
from service.inference.sessions import ServedNetwork
from service.inference.stored import StoredRows, check_stored
from service.storage import blobs, datasets, leases, models, predictions
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN
from service.tables import batches
from service.tables.results import ResultWriter
from workers.background import in_background
from workers.datasets import load
from workers.lease import Cancelled, Lease, Leaving, patiently
from workers.parts import PART_SECONDS, Parts, fetch, heard
from workers.room import NO_ROOM

logger = logging.getLogger(__name__)

MOST_BATCH_ROWS = 65_536
BATCH_BYTES = 64 * 2**20
"""What the raw cells of the rows that are read at once take, and their answers, if they are numbers."""
BATCH_FLOPS = 5e11
"""About ten seconds: no more work is lost with a worker because a batch was not ended."""
MOST_PIECE_ROWS = 4096
PIECE_BYTES = 32 * 2**20
"""What the encoded rows that are answered at once take."""
PIECE_FLOPS = 2e10
"""Well below a second: a cancel is heard between two pieces."""
PROGRESS_SECONDS = 1.0
REST_FACTOR = 4
MOST_REST_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, as it is stored."""

    spec: PredictionSpec
    version: ModelVersion
    dataset: Dataset

    @property
    def columns(self) -> ResultColumns:
        """What the result's columns are called."""
        return ResultColumns.of(self.spec.keep, self.version.outputs, probabilities=bool(self.spec.probabilities))

    @property
    def needed(self) -> list[str]:
        """The columns of the data set that are read."""
        return list(dict.fromkeys((*self.version.inputs.features, *self.spec.keep)))

    @property
    def piece_rows(self) -> int:
        """How many rows are answered at once."""
        flops = 2 * self.version.parameters
        fitting = min(PIECE_BYTES // (8 * len(self.version.inputs.mean)), int(PIECE_FLOPS // max(1, flops)))
        return max(1, min(MOST_PIECE_ROWS, fitting))

    @property
    def batch_rows(self) -> int:
        """How many rows are read at once."""
        flops = 2 * self.version.parameters
        cells = len(self.needed) + len(self.version.outputs.classes) + 1
        fitting = min(BATCH_BYTES // (8 * cells), int(BATCH_FLOPS // max(1, flops)))
        return max(self.piece_rows, min(MOST_BATCH_ROWS, fitting))

    def new_writer(self, file: BinaryIO) -> ResultWriter:
        """Return what writes the result, or a part of it, into a file."""
        return ResultWriter(file, self.columns, self.version.outputs, self.batch_rows)


class Prediction:
    """A claimed prediction; it ends with a result, or leaves this worker with a part of one."""

    def __init__(
        self, database: Database, lease: Lease, datasets_dir: Path | None, part_seconds: float = PART_SECONDS
    ) -> None:
        self._database = database
        self._lease = lease
        self._datasets_dir = datasets_dir
        self._part_seconds = part_seconds
        self._left: SavedState | None = None
        self._progress = Progress(0, 0.0, None, None)
        self._rows = self._first = 0
        self._began = self._tell_at = time.monotonic()

    def run(self) -> None:
        """Predict and store the result.

        Raises:
            Cancelled, Leaving, LeaseLost: the job ends here, or leaves this worker.
            SelfnormError: it cannot be done.
        """
        try:
            with ExitStack() as files:
                self._run(files)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise NoRoomForFiles("the table and the result", tempfile.gettempdir(), error.strerror or "") from None

    def saved_state(self) -> SavedState | None:
        """Return the part that was begun when the job had to leave."""
        return self._left

    def store_rest(self, connection: Connection, saved: SavedState | None = None) -> None:
        """Store that part, in the transaction in which the job leaves."""
        if saved is not None:
            predictions.add_part(connection, self._lease.claim, self._progress, saved)

    def _run(self, files: ExitStack) -> None:
        job_id = self._lease.claim.job_id
        task = patiently(self._database.read, self._lease, lambda connection: _task(connection, job_id))
        parts = Parts(self._database, self._lease, files, task.new_writer, self._part_seconds)
        parts.restore()
        graph = partial(models.onnx_file, sha256=task.version.onnx_sha256)
        network = ServedNetwork(patiently(self._database.read, self._lease, graph))
        self._rows, self._first, self._began = task.dataset.rows, parts.rows, time.monotonic()
        try:
            self._answer_all(task, network, self._batches(task, files, parts.rows), parts)
            if task.spec.target is not None:
                parts.store_all(self._progress)  # measuring takes long, and who leaves meanwhile must lose nothing
        except Leaving:
            self._left = parts.close()
            raise
        file, written = parts.put_together()
        evaluation, warnings = self._evaluated(task, file)
        result = PredictionResult(
            rows=written.rows,
            unanswered=parts.findings.unanswered,
            columns=task.columns.names,
            size_bytes=written.size_bytes,
            sha256=written.sha256,
            warnings=[*parts.findings.warnings(written.rows), *warnings],
            evaluation=evaluation,
        )
        content = blobs.FileContent(heard(file, self._lease), result.sha256, result.size_bytes)
        session = partial(blobs.writing, self._database, content)
        patiently(session, self._lease, partial(self._end, file=file, result=result))
        logger.info("prediction %s succeeded: %d rows, %d bytes", job_id, result.rows, result.size_bytes)

    def _answer_all(
        self, task: Task, network: ServedNetwork, rows_of_table: Iterator[batches.RecordBatch], parts: Parts
    ) -> None:
        done = parts.rows
        for batch in rows_of_table:
            rows = check_stored(batches.cells_of(batch, task.version.inputs.features), task.version.inputs)
            answer = self._answer(network, rows, task.piece_rows, done)
            parts.add(batch, rows, answer, lambda: self._progress)
            done += rows.count

    def _answer(self, network: ServedNetwork, rows: StoredRows, piece_rows: int, done: int) -> NDArray[np.floating]:
        pieces = []
        for start in range(0, rows.count, piece_rows):
            pieces.append(network.run(rows.encoded(start, start + piece_rows)))
            self._moved(min(done + start + piece_rows, done + rows.count))
        return np.concatenate(pieces)

    def _moved(self, done: int) -> None:
        """Hear what was asked; say how far this is, where it is time. While the database is down this goes on."""
        self._lease.check()
        now = time.monotonic()
        speed = (done - self._first) / max(now - self._began, 1e-9)
        self._progress = Progress(done, done / self._rows, speed, (self._rows - done) / speed)
        if now < self._tell_at:
            return
        self._tell_at = now + PROGRESS_SECONDS
        try:
            with self._database.write() as connection:
                leases.record_progress(connection, self._lease.claim, self._progress)
        except DATABASE_DOWN as error:
            logger.warning("prediction %s: no progress was stored: %s", self._lease.claim.job_id, error)
            failed = time.monotonic()
            self._tell_at = failed + min(max(PROGRESS_SECONDS, REST_FACTOR * (failed - now)), MOST_REST_SECONDS)

    def _evaluated(self, task: Task, file: BinaryIO) -> tuple[Evaluation | None, list[str]]:
        """Hold the result against the truth, where a column is said to hold it."""
        target = task.spec.target
        if target is None:
            return None, []
        from workers.evaluation import evaluate  # scikit-learn takes a second, and most predictions never need it

        return in_background(lambda: evaluate(file, target, task.columns, task.version.outputs), self._lease.check)

    def _batches(self, task: Task, files: ExitStack, start: int) -> Iterator[batches.RecordBatch]:
        dataset = task.dataset
        if dataset.sha256 is None:
            table = in_background(lambda: load(dataset.id, self._datasets_dir), self._lease.check)
            return batches.of_table(table, task.needed, task.batch_rows, start)
        file = cast("BinaryIO", files.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # entered here
        fetch(self._database, self._lease, dataset.sha256, file)
        return batches.stored(file, task.needed, task.batch_rows, start)

    def _end(self, connection: Connection, file: BinaryIO, result: PredictionResult) -> None:
        """Store the result and end the job in one transaction: both, or neither."""
        try:
            predictions.succeed(connection, self._lease.claim, heard(file, self._lease), result)
        except LeaseLost:
            if leases.heartbeat(connection, self._lease.claim).cancel_requested:
                raise Cancelled from None
            raise


def _task(connection: Connection, job_id: str) -> Task:
    spec = PredictionSpec.model_validate(predictions.get(connection, job_id).spec)
    version = models.get_version(connection, spec.model, spec.version)
    return Task(spec, version, datasets.get(connection, spec.dataset))
