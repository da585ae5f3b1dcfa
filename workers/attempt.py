"""One attempt at a job: claim it, keep the lease, record every epoch, and end it with a model or a reason."""

import logging
from collections.abc import Callable
from pathlib import Path

from service.domain.datasets import Dataset
from service.domain.errors import LeaseLost, SelfnormError, UnknownDataset
from service.domain.jobs import Claim
from service.domain.limits import RESIDENT_BYTES
from service.domain.models import NewVersion
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable, TrainingFailed
from service.storage import datasets, jobs, leases, models
from service.storage.database import Connection, Database
from service.tables import parquet
from workers.datasets import load
from workers.lease import Cancelled, Lease, patiently
from workers.recorder import Recorder
from workers.training import TrainedNetwork, train

logger = logging.getLogger(__name__)


def run(
    database: Database, job_id: str, worker: str, datasets_dir: Path | None, resident_bytes: int = RESIDENT_BYTES
) -> None:
    """Run a job, if it is still to be had."""
    with database.write() as connection:
        claim = leases.claim(connection, job_id, worker)
    if claim is None:
        logger.info("job %s is not to be had: another worker has it, or it has ended", job_id)
        return
    logger.info("job %s: attempt %d begins", job_id, claim.fence)
    with Lease(database, claim) as lease:
        try:
            _train(database, claim, lease, datasets_dir, resident_bytes)
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


def _train(database: Database, claim: Claim, lease: Lease, datasets_dir: Path | None, resident_bytes: int) -> None:
    spec, dataset = patiently(database.read, lease, lambda connection: _read(connection, claim.job_id))
    recorder = Recorder(database, lease)

    def keep(split: bytes) -> None:
        patiently(database.write, lease, lambda connection: leases.record_split(connection, claim, split))

    with recorder:
        trained = train(
            spec,
            _table(database, lease, spec, dataset, datasets_dir),  # nothing else holds it, so it can be freed early
            {column.name: column for column in dataset.columns},
            official_test_rows=dataset.official_test_rows,
            missing_words=dataset.report.missing_words,
            resident_bytes=resident_bytes,
            on_wait=lease.check,
            on_split=keep,
            on_chunk=recorder.take_chunk,
            on_epoch=recorder.take_epoch,
        )
    lease.check()
    version = patiently(database.write, lease, lambda connection: _register(connection, claim, spec, dataset, trained))
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
        warnings=_warnings(trained),
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


def _warnings(trained: TrainedNetwork) -> tuple[str, ...]:
    if not trained.environment_changes:
        return ()
    changes = "; ".join(trained.environment_changes)
    return (f"trained in different environments: {changes}. An undisturbed run may give other weights",)


def _table(database: Database, lease: Lease, spec: JobSpec, dataset: Dataset, datasets_dir: Path | None) -> Table:
    """Read the columns that a spec needs."""
    sha256 = dataset.sha256
    if sha256 is None:
        return load(dataset.id, datasets_dir)
    needed = [*(spec.features or ()), spec.target, spec.training.split_column, spec.training.sample_weight_column]
    content = patiently(database.read, lease, lambda connection: datasets.content(connection, sha256))
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
        patiently(database.write, lease, write, is_last=True)
        logger.info("job %s is %s", lease.claim.job_id, how)
    except LeaseLost as error:
        logger.warning("%s; nothing more is written", error)
