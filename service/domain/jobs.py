"""What a job is and which states it can be in; knows nothing of how jobs are stored or run."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Measure = float | int | str | None
"""A metric; None where it is not finite, and ``<name>_not_finite`` beside it then says which it was."""


class JobState(StrEnum):
    """The life of a job: queued -> running -> succeeded | failed, with cancelling -> cancelled beside it."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
ACTIVE_STATES = frozenset(JobState) - FINAL_STATES
HELD_STATES = frozenset({JobState.RUNNING, JobState.CANCELLING})
"""States in which a worker holds a lease on the job."""

PART_CODES = {"training": 0, "validation": 1, "test": 2, "left_out": 255}
"""The byte that stands for a row's part in a stored split."""

MAX_LOSSES = 3
"""A job that has cost this many workers is failed: it is probably what kills them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request for a training, and how far it has come."""

    id: str
    number: int
    state: JobState
    spec: dict[str, Any]
    dataset_id: str
    model_name: str
    tags: list[str]
    warnings: list[str]
    split_sha256: str | None
    attempts: int
    epoch: int
    epochs: int
    fraction: float | None
    rows_per_second: float | None
    eta_seconds: float | None
    best_epoch: int | None
    test_metrics: dict[str, Measure] | None
    model_version: int | None
    error_code: str | None
    error_detail: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_position: int | None = None
    latest: dict[str, Any] | None = None
    best: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredSplit:
    """Which row of the table went to which part, as the worker drew it."""

    training: dict[str, Any]
    """The completed training spec: method, column, fractions and seed."""
    parts: bytes
    """One byte per row, as ``PART_CODES`` says."""
    sha256: str

    def count(self, part: str) -> int:
        """Count the rows of a part."""
        return self.parts.count(PART_CODES[part])


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to run a job: every later write carries the fence."""

    job_id: str
    fence: int
    worker: str


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch measured; ``metrics`` holds loss, val_loss, accuracy and so on in the target's units."""

    epoch: int
    metrics: dict[str, Measure]
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training has come."""

    epoch: int
    """Epochs that are finished."""
    fraction: float
    """The part of all its steps that is done, 0 to 1."""
    rows_per_second: float | None
    eta_seconds: float | None
    """Until the last epoch ends, if it does not stop early; None while nothing is known."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brings back."""

    cancel_requested: bool = field(default=False)
