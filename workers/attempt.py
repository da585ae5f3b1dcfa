"""One attempt at a job: claim it, keep the lease, record every epoch, and end it with a model or a reason."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from service.domain.completion import part_sizes
from service.domain.datasets import Dataset
from service.domain.errors import DatasetUnavailable, LeaseLost, SelfnormError, TrainingFailed, UnknownDataset
from service.domain.jobs import Claim
from service.domain.models import NewVersion
from service.domain.spec import JobSpec
from service.storage import datasets, jobs, leases, models
from service.storage.database import DATABASE_DOWN, Connection, Database
from workers.datasets import load
from workers.training import EpochEnd, TrainedNetwork, train

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 1.0


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
            _patiently(database, lambda connection: leases.finish_cancel(connection, claim))
            logger.info("job %s is cancelled", job_id)
        except SelfnormError as error:
            _fail(database, claim, error.code, str(error))
        except Exception as error:  # a job must end with its reason, whatever the reason is
            logger.exception("job %s: unexpected error", job_id)
            _fail(
                database,
                claim,
                "internal_error",
                f"the training stopped unexpectedly: {type(error).__name__}: {error}"[:2000],
            )


class Lease:
    """Renews the claim from a thread, and brings word of a cancel or of the loss of the lease."""

    def __init__(self, database: Database, claim: Claim) -> None:
        self._database = database
        self._claim = claim
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
                    beat = leases.heartbeat(connection, self._claim)
            except DATABASE_DOWN as error:
                logger.warning("the database does not answer the heartbeat: %s", error)
            except LeaseLost as error:
                self._word = error
                return
            else:
                if beat.cancel_requested:
                    self._word = Cancelled


def _train(database: Database, claim: Claim, lease: Lease, datasets_dir: Path | None) -> None:
    with database.read() as connection:
        spec = JobSpec.model_validate(jobs.get(connection, claim.job_id).spec)
        dataset = _dataset(connection, spec.dataset)
    table = load(database, dataset, datasets_dir)
    lease.check()
    kinds = tuple(column.kind for name in spec.features or () if (column := dataset.column(name)))

    def record(end: EpochEnd) -> None:
        lease.check()
        _patiently(
            database,
            lambda connection: leases.record_epoch(
                connection,
                claim,
                end.record,
                best_epoch=end.best_epoch,
                rows_per_second=end.rows_per_second,
                eta_seconds=end.eta_seconds,
            ),
        )

    sizes = part_sizes(dataset, spec.training)
    trained = train(spec, table, sizes, kinds, on_epoch=record, on_step=lease.check)
    lease.check()
    version = _patiently(database, lambda connection: _register(connection, claim, spec, dataset, trained))
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


def _dataset(connection: Connection, dataset_id: str) -> Dataset:
    try:
        return datasets.get(connection, dataset_id)
    except UnknownDataset as error:
        raise DatasetUnavailable(str(error)) from None


def _fail(database: Database, claim: Claim, code: str, detail: str) -> None:
    logger.warning("job %s failed: %s: %s", claim.job_id, code, detail)
    try:
        _patiently(database, lambda connection: leases.fail(connection, claim, code, detail))
    except LeaseLost as error:
        logger.warning("%s; nothing more is written", error)


def _patiently(database: Database, write: Callable[[Connection], Result]) -> Result:
    """Write, again and again while the database is down: a training waits for it and goes on."""
    while True:
        try:
            with database.write() as connection:
                return write(connection)
        except DATABASE_DOWN as error:
            logger.warning("the database does not answer, trying again: %s", error)
            time.sleep(RETRY_SECONDS)
