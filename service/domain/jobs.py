"""What a job is and which states it can be in; knows nothing of how jobs are stored or run."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

Measure = float | int | str | None
"""A metric; None where it is not finite, and ``<name>_not_finite`` beside it then says which it was."""


class JobKind(StrEnum):
    """What a job is for."""

    TRAINING = "training"
    PREDICTION = "prediction"
    """Over a stored data set; its epochs are rows."""


class JobState(StrEnum):
    """The life of a job, which ``docs/jobs.md`` tells state by state."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
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


class EventKind(StrEnum):
    """What can happen to a job."""

    SUBMITTED = "submitted"
    STARTED = "started"
    """A worker has claimed it: ``attempt``, ``worker``, ``epoch`` from which it goes on."""
    EPOCH = "epoch"
    """An epoch is stored: ``epoch`` and what it measured."""
    SELF_NORMALIZATION_LOST = "self_normalization_lost"
    """The network does not, or no longer, normalize itself: ``status``, ``epoch``, ``layer``, ``cause``."""
    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    PAUSED = "paused"
    RESUMED = "resumed"
    HANDED_BACK = "handed_back"
    """Its worker was asked to end, stored it and returned it to the queue."""
    WORKER_LOST = "worker_lost"
    STALLED = "stalled"
    """No step ended for a long time, so its worker was replaced."""
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    """A stored state did not have its hash; the training went on from an earlier ``epoch``."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


RESUMABLE_ERRORS = frozenset(
    {
        "worker_lost",
        "stalled",
        "too_many_attempts",
        "out_of_memory",
        "out_of_time",
        "no_room",
        "dataset_unavailable",
        "corrupt_blob",
        "internal_error",
    }
)
"""Codes of failures after which a retry goes on from the last checkpoint; any other would only come again."""

PART_CODES = {"training": 0, "validation": 1, "test": 2, "left_out": 255}
"""The byte that stands for a row's part in a stored split."""

MAX_LOSSES = 3
"""A job that has cost this many workers without a new checkpoint is failed: it is probably what kills them."""
MAX_ATTEMPTS = 100
"""A job that loses its worker in this attempt, or a later one, is failed, even if each came a little further."""


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
    pause_requested: bool
    retry_of: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_position: int | None = None
    latest: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    """Whether the network normalizes itself (``service.domain.verdict``); None before it was looked at."""


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
    owner: str
    """Whose job it is, and whose data set and model the worker may see."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch measured; ``metrics`` holds loss, val_loss, accuracy and so on in the target's units."""

    epoch: int
    metrics: dict[str, Measure]
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SavedState:
    """The state of a training as bytes, and where it stands."""

    content: bytes
    epoch: int
    """Epochs that are finished."""
    step: int
    """Steps of the next one that are done."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored state of a job's training; ``number`` counts up within the job."""

    number: int
    sha256: str
    epoch: int
    step: int


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
class Event:
    """Something that happened to a job; ``number`` counts up from 1 within it."""

    number: int
    kind: EventKind
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brings back."""

    cancel_requested: bool = False
    pause_requested: bool = False
