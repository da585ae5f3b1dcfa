"""What a comparison is: its arms and jobs, its state, and what its jobs measured; knows nothing of how it is stored."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.domain.jobs import JobState, Measure


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the networks that are compared; in a depth sweep, one depth of it."""

    name: str
    base: str
    """The name in the spec; that of a depth sweep's arm is ``{base}-{depth}``."""
    depth: int | None = None
    """Its hidden layers, in a depth sweep."""


def arms_of(names: Iterable[str], depths: Sequence[int] | None) -> tuple[Arm, ...]:
    """Return the arms by name, then by depth."""
    if depths is None:
        return tuple(Arm(name, name) for name in names)
    return tuple(Arm(f"{name}-{depth}", name, depth) for name in names for depth in depths)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the arms are compared on, as far as the statistics need it; sizes are those expected when it began."""

    training_rows: int
    validation_rows: int
    test_rows: int
    inputs: int
    """Numbers that a row has once it is encoded."""
    guess: float
    """The level metric of a network that has learned nothing: of ``val_accuracy``, the share of the largest class where
    it is known, else that of one class; of ``val_r2``, 0."""
    moments: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Mean and variance of what the first layer of an arm takes, by the arm's base, where they are known."""
    is_articles: bool = False
    """Whether data set, SNN, regular network and training are those of the article's experiment that the preset names,
    so that its claims are about them."""


@dataclass(frozen=True, slots=True)
class ComparedJob:
    """One arm's training with one seed."""

    arm: str
    seed: int
    id: str
    state: JobState
    epoch: int = 0
    """How many epochs have ended."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What one arm's training with one seed has come to so far."""

    arm: str
    seed: int
    state: JobState
    best_epoch: int | None = None
    best: Mapping[str, Measure] | None = None
    """What the best epoch measured."""
    test: Mapping[str, Measure] | None = None
    curves: Mapping[str, Sequence[float | None]] | None = None
    """Some metrics by epoch, from the first; None where one is not finite."""
    seconds: float = 0.0
    """Of its epochs together."""
    verdict: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One request to compare networks, and how far it has come."""

    id: str
    number: int
    spec: dict[str, Any]
    """Completed (``service.domain.comparison_spec``)."""
    ground: Ground
    warnings: list[str]
    counts: Mapping[JobState, int]
    """How many of its jobs are in each state."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    """When its last job ended; None while one has not."""

    @property
    def state(self) -> JobState:
        """How it stands, by the states of its jobs."""
        return state_of(self.counts, has_started=self.started_at is not None)

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """How many of its jobs have ended."""
        return sum(count for state, count in self.counts.items() if state.is_final)


def state_of(counts: Mapping[JobState, int], *, has_started: bool) -> JobState:
    """Return the state of a comparison with so many jobs in each state, of which one has begun, or none.

    While any has not ended, ``queued`` where none has begun, else ``running``: also where all that have begun wait
    again. Then ``succeeded`` where all jobs have, else ``failed`` where one has, else ``cancelled``: some were
    cancelled and none failed.
    """
    states = {state for state, count in counts.items() if count}
    if not all(state.is_final for state in states):
        return JobState.RUNNING if has_started else JobState.QUEUED
    return next(state for state in (JobState.FAILED, JobState.CANCELLED, JobState.SUCCEEDED) if state in states)
