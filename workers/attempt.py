"""One attempt at a job: claim it, keep the lease, record every epoch, and end it with a model or a reason."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from service.domain.datasets import Dataset
from service.domain.errors import DatasetUnavailable, LeaseLost, SelfnormError, TrainingFailed, UnknownDataset
from service.domain.jobs import Claim
from service.domain.models import NewVersion
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.storage import datasets, jobs, leases, models
from service.storage.database import DATABASE_DOWN, Connection, Database
from service.tables import parquet
from workers.datasets import load
from workers.splits import Split
from workers.training import EpochEnd, TrainedNetwork, train

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0


class Cancelled(Exception):  # no error: somebody asked for it
    """Somebody asked that this job ends without a model."""


def run(database: Database, job_id: str, worker: str, datasets_dir: Path | None) -> None:
    """Run a job, if it is still to be had."""
    with database.write() as connection:
        claim = leases.claim(connection, job_id, worker)
    if claim is None:
        logger.info("job %s is not to be had: another worker has it, or it has ended", job_id)
        return
    logger.info("job %s: attempt %d begins", job_id, claim.fence)
    with Lease(database, claim) as lease:
        try:
            _train(database, claim, lease, datasets_dir)
        except LeaseLost as error:
            logger.warning("%s; nothing more is written", error)
        except Cancelled:
            _end(database, lease, "cancelled", lambda connection: leases.finish_cancel(connection, claim))
        except SelfnormError as error:
            _fail(database, lease, error.code, str(error))
        except Exception as error:  # a job must end with its reason, whatever the reason is
            logger.exception("job %s: unexpected error", job_id)
            detail = f"the training stopped unexpectedly ({type(error).__name__}); the worker's log says more"
            _fail(database, lease, "internal_error", detail)


class Lease:
    """Renews the claim from a thread, and brings word of a cancel or of the loss of the lease."""

    def __init__(self, database: Database, claim: Claim) -> None:
        self.claim = claim
        self.renewed_at = time.monotonic()
        self._database = database
        self._over = threading.Event()
        self._word: type[Cancelled] | LeaseLost | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop renewing."""
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Return at once while the job may go on.

        Raises:
            Cancelled: somebody asked to cancel.
            LeaseLost: another worker owns the job.
        """
        if self._word is not None:
            raise self._word

    def _renew(self) -> None:
        while not self._over.wait(leases.HEARTBEAT_SECONDS):
            try:
                with self._database.write() as connection:
                    beat = leases.heartbeat(connection, self.claim)
            except DATABASE_DOWN as error:
                logger.warning("the database does not answer the heartbeat: %s", error)
            except LeaseLost as error:
                self._word = error
                return
            else:
                self.renewed_at = time.monotonic()
                if beat.cancel_requested:
                    self._word = Cancelled


def _train(database: Database, claim: Claim, lease: Lease, datasets_dir: Path | None) -> None:
    spec, dataset = _patiently(database.read, lease, lambda connection: _read(connection, claim.job_id))
    table = _table(database, lease, spec, dataset, datasets_dir)
    lease.check()

    def record(end: EpochEnd) -> None:
        lease.check()
        _patiently(
            database.write,
            lease,
            lambda connection: leases.record_epoch(
                connection,
                claim,
                end.record,
                best_epoch=end.best_epoch,
                rows_per_second=end.rows_per_second,
                eta_seconds=end.eta_seconds,
            ),
        )

    def keep(split: Split) -> None:
        content = split.to_bytes(table.rows)
        _patiently(database.write, lease, lambda connection: leases.record_split(connection, claim, content))

    trained = train(
        spec,
        table,
        {column.name: column for column in dataset.columns},
        official_test_rows=dataset.official_test_rows,
        missing_words=dataset.report.missing_words,
        on_split=keep,
        on_epoch=record,
        on_step=lease.check,
    )
    lease.check()
    version = _patiently(database.write, lease, lambda connection: _register(connection, claim, spec, dataset, trained))
    logger.info("job %s succeeded: model %s version %d", claim.job_id, spec.model, version)


def _register(connection: Connection, claim: Claim, spec: JobSpec, dataset: Dataset, trained: TrainedNetwork) -> int:
    """Store the model and end the job in one transaction: both, or neither."""
    if spec.model is None:
        raise TrainingFailed("the stored spec names no model")
    new = NewVersion(
        name=spec.model,
        job_id=claim.job_id,
        spec=spec.model_dump(mode="json"),
        data_sha256=dataset.sha256,
        inputs=trained.inputs,
        outputs=trained.outputs,
        metrics={"best": {"epoch": trained.best_epoch, **trained.best_metrics}, "test": trained.test_metrics},
        parity=trained.parity,
        parameters=trained.parameters,
        environment=trained.environment,
        weights=trained.weights,
        onnx=trained.onnx,
    )
    version = models.register(connection, new)
    try:
        leases.succeed(
            connection, claim, best_epoch=trained.best_epoch, test_metrics=trained.test_metrics, version=version
        )
    except LeaseLost:
        if leases.heartbeat(connection, claim).cancel_requested:
            raise Cancelled from None
        raise
    return version


def _table(database: Database, lease: Lease, spec: JobSpec, dataset: Dataset, datasets_dir: Path | None) -> Table:
    """Read the columns that a spec needs."""
    sha256 = dataset.sha256
    if sha256 is None:
        return load(dataset.id, datasets_dir)
    needed = [*(spec.features or ()), spec.target, spec.training.split_column]
    content = _patiently(database.read, lease, lambda connection: datasets.content(connection, sha256))
    return parquet.decode(content, [name for name in dict.fromkeys(needed) if name is not None])


def _read(connection: Connection, job_id: str) -> tuple[JobSpec, Dataset]:
    spec = JobSpec.model_validate(jobs.get(connection, job_id).spec)
    try:
        return spec, datasets.get(connection, spec.dataset)
    except UnknownDataset as error:
        raise DatasetUnavailable(str(error)) from None


def _fail(database: Database, lease: Lease, code: str, detail: str) -> None:
    logger.warning("job %s failed: %s: %s", lease.claim.job_id, code, detail)
    _end(database, lease, "failed", lambda connection: leases.fail(connection, lease.claim, code, detail))


def _end(database: Database, lease: Lease, how: str, write: Callable[[Connection], None]) -> None:
    """Write the end of a job; where its lease was lost meanwhile, somebody else does."""
    try:
        _patiently(database.write, lease, write, is_last=True)
        logger.info("job %s is %s", lease.claim.job_id, how)
    except LeaseLost as error:
        logger.warning("%s; nothing more is written", error)


def _patiently(
    session: Callable[[], AbstractContextManager[Connection]],
    lease: Lease,
    work: Callable[[Connection], Result],
    *,
    is_last: bool = False,
) -> Result:
    """Work in a session, again and again while the database is down: a training waits for it and goes on.

    It gives up when the lease is renewed all the while: then the database is not down, and this work cannot succeed.
    """
    began = time.monotonic()
    while True:
        try:
            with session() as connection:
                return work(connection)
        except DATABASE_DOWN as error:
            if lease.renewed_at - began > GIVE_UP_SECONDS:
                raise
            logger.warning("the database does not answer, trying again: %s", error)
            time.sleep(RETRY_SECONDS)
            if not is_last:
                lease.check()
