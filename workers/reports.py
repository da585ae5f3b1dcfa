"""What a worker tells the database of itself and of training processes that died, now or when it answers again."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from service.domain.errors import LeaseLost
from service.domain.jobs import Claim
from service.domain.workers import WorkerState
from service.storage import leases, losses, workers
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_FAULTS

logger = logging.getLogger(__name__)

VERSION = version("selfnorm")
REPORTER = "reporter of this worker"
"""What the log calls it."""


@dataclass(frozen=True, slots=True)
class Excess:
    """Why a job was ended that took more than it may."""

    code: str
    detail: str


class Reports:
    """The worker's own rows; may be used by several threads."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._lock = threading.Lock()
        self._lost: list[tuple[Claim, Excess | None]] = []

    def note_loss(self, claim: Claim, excess: Excess | None) -> None:
        """Keep that the training process of a job has died, or was ended for an excess, until it is told."""
        with self._lock:
            self._lost.append((claim, excess))

    def tell_losses(self) -> None:
        """Tell of every training process that died; what cannot be written now is told later."""
        with self._lock:
            lost, self._lost = self._lost, []
        for claim, excess in lost:
            if not self._write(partial(_give_up, held=claim, excess=excess), claim.owner):
                self.note_loss(claim, excess)

    def tell_state(self, state: WorkerState, job_id: str | None) -> None:
        """Tell that this worker lives, and what it does."""
        self._write(partial(workers.seen, name=self._worker, version=VERSION, state=state, job_id=job_id))

    def tell_end(self) -> bool:
        """Hand back what this worker still holds, and say that it is gone; return whether that is stored."""
        self.tell_losses()
        try:
            with self._database.write() as connection:
                leases.hand_back(connection, self._worker)
                workers.gone(connection, self._worker)
        except DATABASE_FAULTS as error:
            logger.error(
                "the database does not answer; what this worker holds waits for its lease to expire: %s", error
            )
            return False
        return True

    def _write(self, work: Callable[[Connection], object], owner: str | None = None) -> bool:
        database = self._database.for_everybody() if owner is None else self._database.owned_by(owner)
        try:
            with database.write() as connection:
                work(connection)
        except Exception as error:  # the next report may succeed, and its thread must live to make it
            if database.trouble.meet(REPORTER, error):
                return False
            logger.exception("a report to the database failed")
        else:
            database.trouble.overcome(REPORTER)
        return True


def _give_up(connection: Connection, held: Claim, excess: Excess | None) -> None:
    """Say that a job's training process has died; it may have ended the job just before."""
    with suppress(LeaseLost):
        if excess is None:
            losses.lose(connection, held)
        else:
            leases.fail(connection, held, excess.code, excess.detail)
