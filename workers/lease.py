"""The claim on a job while an attempt runs: renewed from a thread, and patient with a database that is down."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from service.domain.errors import LeaseLost
from service.domain.jobs import Claim
from service.storage import leases
from service.storage.database import DATABASE_DOWN, Connection, Database

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0


class Cancelled(Exception):  # no error: somebody asked for it
    """Somebody asked that this job ends without a model."""


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


def patiently(
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
