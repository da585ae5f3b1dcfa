"""What is known of a worker; knows nothing of how it is stored or run."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SILENT_SECONDS = 30.0
"""A worker that has not been seen for so long is lost: it ended without a word, or cannot reach the database."""
FORGET_SECONDS = 86_400.0


class WorkerState(StrEnum):
    """What a worker does."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that runs, or has ended without a word."""

    name: str
    version: str
    state: WorkerState
    job_id: str | None
    """What it trains."""
    started_at: datetime
    seen_at: datetime
    seconds_silent: float
    """Since it was last seen, by the database's clock."""

    @property
    def is_lost(self) -> bool:
        """Whether it has been silent for too long."""
        return self.seconds_silent > SILENT_SECONDS
