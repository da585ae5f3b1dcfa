"""What an operator sees of everybody's jobs: read when it is asked for, and not more often than it changes."""

import logging
import threading
import time

from service.domain.observation import Observation
from service.storage import observation
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN, DATABASE_FAULTS

logger = logging.getLogger(__name__)

KEPT_SECONDS = 3.0
MOST_SECONDS = 60.0
REST_FACTOR = 100
"""The number of jobs that have ended is kept for so many times as long as counting them took."""


class Observatory:
    """Looks at the database for many who ask; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database.for_everybody()
        self._looking = threading.Lock()
        self._seen: Observation | None = None
        self._ended: dict[str, int] = {}
        self._look_at = self._count_at = 0.0

    def look(self) -> Observation | None:
        """Return what the database says now, or said a moment ago; None where it does not answer."""
        with self._looking:
            if time.monotonic() >= self._look_at:
                self._seen = self._fresh()
                self._look_at = time.monotonic() + KEPT_SECONDS
            return self._seen

    def _fresh(self) -> Observation | None:
        try:
            with self._database.read() as connection:
                if time.monotonic() >= self._count_at:
                    began = time.monotonic()
                    self._ended = observation.count_ended(connection)
                    ended = time.monotonic()
                    self._count_at = ended + min(MOST_SECONDS, REST_FACTOR * (ended - began))
                return observation.observe(connection, self._ended)
        except DATABASE_DOWN:
            return None  # the watch has said so once
        except DATABASE_FAULTS as error:
            logger.warning("the database could not be looked at: %s", error)
            return None
