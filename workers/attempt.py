"""One attempt at a job: keep its lease, go on from what is stored, and end it with what it makes or a reason."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from service import logs, tracing
from service.domain.datasets import Dataset
from service.domain.errors import CorruptBlob, LeaseLost, SelfnormError, UnknownDataset
from service.domain.jobs import Checkpoint, Claim, EventKind, JobKind, SavedState
from service.domain.limits import RESIDENT_BYTES
from service.domain.models import NewVersion
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable, TrainingFailed, UnusableState
from service.storage import blobs, checkpoints, datasets, diagnostics, events, jobs, leases, models
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_FAULTS, STATEMENT_REFUSED, is_damaged
from service.tables import parquet
from workers.background import in_background, is_working
from workers.datasets import load
from workers.lease import Cancelled, Lease, Leaving, patiently
from workers.prediction import Prediction
from workers.recorder import Recorder
from workers.state import TrainingState
from workers.training import TrainedNetwork, train

logger = logging.getLogger(__name__)


class Rest(Protocol):
    """What an attempt has done and not stored yet."""

    def saved_state(self) -> SavedState | None:
        """Return the state from which the next attempt goes on."""

    def store_rest(self, connection: Connection, saved: SavedState | None = None) -> None:
        """Store what is left, in the transaction that ends the job, or with the state from which it goes on."""


def run(
    database: Database,
    claim: Claim,
    datasets_dir: Path | None,
    resident_bytes: int = RESIDENT_BYTES,
    stopping: threading.Event | None = None,
    abandon: Callable[[str], None] | None = None,
    asked_ns: int | None = None,
) -> None:
    """Run a claimed job until it ends, or until it leaves this worker.

    ``stopping`` says that the worker is to end: the job is then stored and handed back. ``abandon`` ends the process
    where a training can be stopped in no other way. ``asked_ns`` is when the job began to be claimed.
    """
    database = database.owned_by(claim.owner)
    with logs.about(job_id=claim.job_id, attempt=claim.fence), _traced(database, claim, asked_ns):
        _run(database, claim, datasets_dir, resident_bytes, stopping, abandon)


@contextmanager
def _traced(database: Database, claim: Claim, asked_ns: int | None) -> Iterator[None]:
    """Trace an attempt as a part of what its request began, which is asked for only where there are traces."""
    claimed_ns, carried = time.time_ns(), {}
    if tracing.is_on():
        with suppress(*DATABASE_FAULTS), database.read() as connection:  # a trace is worth no attempt
            carried = events.begun_with(connection, claim.job_id)
    with tracing.attempt(carried, **{"selfnorm.job.id": claim.job_id, "selfnorm.job.attempt": claim.fence}):
        if asked_ns is not None:
            tracing.past_span("claim", asked_ns, claimed_ns)
        yield


def _run(
    database: Database,
    claim: Claim,
    datasets_dir: Path | None,
    resident_bytes: int,
    stopping: threading.Event | None,
    abandon: Callable[[str], None] | None,
) -> None:
    job_id = claim.job_id
    logger.info("job %s: attempt %d begins", job_id, claim.fence)
    with Lease(database, claim, stopping, abandon, is_waiting=is_working) as lease:
        rest: Rest
        rest = recorder = Recorder(database, lease)
        try:
            kind = patiently(database.read, lease, lambda connection: jobs.kind_of(connection, job_id))
            if kind is JobKind.PREDICTION:
                rest = prediction = Prediction(database, lease, datasets_dir)
                prediction.run()
            else:
                _train(database, claim, lease, recorder, datasets_dir, resident_bytes)
        except LeaseLost as error:
            logger.warning("%s; nothing more is written", error)
        except Cancelled:
            _end(database, lease, lambda connection: leases.leave(connection, claim))
        except Leaving as leaving:
            _leave(database, lease, rest, leaving.kind)
        except SelfnormError as error:
            _fail(database, lease, rest, error.code, str(error))
        except Exception as error:  # a job must end with its reason, whatever the reason is
            logger.exception("job %s: unexpected error", job_id)
            detail = f"the job stopped unexpectedly ({type(error).__name__}); the worker's log says more"
            _fail(database, lease, rest, "internal_error", detail)


def _train(
    database: Database,
    claim: Claim,
    lease: Lease,
    recorder: Recorder,
    datasets_dir: Path | None,
    resident_bytes: int,
) -> None:
    spec, dataset = patiently(database.read, lease, lambda connection: _read(connection, claim.job_id))

    def keep(split: bytes) -> None:
        session = partial(blobs.writing, database, split)
        patiently(session, lease, lambda connection: leases.record_split(connection, claim, split))

    def trained_from(state: TrainingState | None) -> TrainedNetwork:
        return train(
            spec,
            # Nothing else holds the table, so it can be freed early.
            in_background(lambda: _table(database, lease, spec, dataset, datasets_dir), lease.check),
            {column.name: column for column in dataset.columns},
            state,
            official_test_rows=dataset.official_test_rows,
            missing_words=dataset.report.missing_words,
            resident_bytes=resident_bytes,
            on_wait=lease.check,
            on_split=keep,
            on_chunk=recorder.take_chunk,
            on_epoch=recorder.take_epoch,
            on_look=recorder.take_look,
        )

    trained = _from_newest_state(database, lease, trained_from)
    lease.check()
    _store(database, lease, recorder, spec, dataset, trained)


def _store(
    database: Database, lease: Lease, recorder: Recorder, spec: JobSpec, dataset: Dataset, trained: TrainedNetwork
) -> None:
    """Register the model and end the job, in one transaction with what is not stored yet of its epochs."""

    def register(connection: Connection) -> int:
        recorder.store_rest(connection)
        return _register(connection, lease.claim, spec, dataset, trained)

    files = trained.weights, trained.onnx, trained.keras
    with tracing.span("registration"):
        version = patiently(partial(blobs.writing, database, *files), lease, register)
    logger.info("job %s succeeded: model %s version %d", lease.claim.job_id, spec.model, version)


def _from_newest_state(
    database: Database, lease: Lease, trained_from: Callable[[TrainingState | None], TrainedNetwork]
) -> TrainedNetwork:
    """Train on from the newest state that can be used."""
    while True:
        checkpoint, state = _saved(database, lease)
        try:
            return trained_from(state)
        except UnusableState as error:
            if checkpoint is None:
                raise
            _go_back(database, lease, checkpoint, error)


def _saved(database: Database, lease: Lease) -> tuple[Checkpoint | None, TrainingState | None]:
    """Read the newest state of the job that is sound; none where it begins at the beginning."""
    job_id = lease.claim.job_id
    while checkpoint := patiently(database.read, lease, lambda connection: checkpoints.newest(connection, job_id)):
        try:
            content = patiently(database.read, lease, partial(checkpoints.content, checkpoint=checkpoint))
            state = TrainingState.from_bytes(content)
        except (CorruptBlob, UnusableState) as error:
            _go_back(database, lease, checkpoint, error)
        except STATEMENT_REFUSED as error:
            if not is_damaged(error):
                raise
            logger.critical("the database is damaged, and bytes of a checkpoint stay behind in it: %s", error)
            _go_back(database, lease, checkpoint, CorruptBlob(checkpoint.sha256), keeps_bytes=True)
        else:
            logger.info("job %s goes on after epoch %d, step %d", job_id, checkpoint.epoch, checkpoint.step)
            return checkpoint, state
    if patiently(database.read, lease, lambda connection: jobs.get(connection, job_id)).epoch:
        _go_back(database, lease, None, UnusableState("there is none"))
    return None, None


def _go_back(
    database: Database, lease: Lease, damaged: Checkpoint | None, error: SelfnormError, *, keeps_bytes: bool = False
) -> None:
    logger.critical("job %s: its checkpoint cannot be used: %s", lease.claim.job_id, error)
    go_back = partial(leases.go_back, held=lease.claim, damaged=damaged, reason=str(error), keeps_bytes=keeps_bytes)
    patiently(database.write, lease, go_back)


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
        calibration=trained.calibration,
        verdict=None if trained.verdict is None else trained.verdict.to_dict(),
        weights=trained.weights,
        onnx=trained.onnx,
        keras=trained.keras,
    )
    version = models.register(connection, new)
    diagnostics.keep_held_out(connection, claim.job_id, trained.held_out)
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


def _fail(database: Database, lease: Lease, rest: Rest, code: str, detail: str) -> None:
    logger.warning("job %s failed: %s: %s", lease.claim.job_id, code, detail)

    def fail(connection: Connection) -> None:
        rest.store_rest(connection)
        leases.fail(connection, lease.claim, code, detail)

    _end(database, lease, fail)


def _leave(database: Database, lease: Lease, rest: Rest, kind: EventKind | None) -> None:
    saved = rest.saved_state()

    def leave(connection: Connection) -> None:
        rest.store_rest(connection, saved)
        leases.leave(connection, lease.claim, kind)

    _end(database, lease, leave, saved)


def _end(
    database: Database, lease: Lease, write: Callable[[Connection], object], saved: SavedState | None = None
) -> None:
    """Write how an attempt ended; where its lease was lost meanwhile, somebody else does.

    A worker that ends cannot wait for an object store.
    """
    contents = () if saved is None else (saved.content,)
    try:
        patiently(partial(blobs.writing, database, *contents, needs_store=False), lease, write, is_last=True)
    except LeaseLost as error:
        logger.warning("%s; nothing more is written", error)
