"""What the job table must do, in memory: a pure model that ``test_job_table.py`` holds against the real one."""

from dataclasses import dataclass, field, replace

from service.domain.jobs import (
    FINAL_STATES,
    HELD_STATES,
    MAX_ATTEMPTS,
    MAX_LOSSES,
    RESUMABLE_ERRORS,
    Claim,
    EventKind,
    JobState,
)
from service.domain.owners import DEFAULT_OWNER

KEPT = 2
Told = tuple[str, int | str | None]
"""An event: its kind, and the attempt, epoch, version or code that it tells of; of a start the first two."""


class Refused(Exception):
    """The job's state forbids it, or a claim is no longer good; nothing may change."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state."""

    number: int
    content: bytes
    epoch: int


@dataclass(slots=True)
class ModelJob:
    """A job as it must be."""

    id: str
    state: JobState = JobState.QUEUED
    fence: int = 0
    losses: int = 0
    worker: str | None = None
    pause_requested: bool = False
    epochs: int = 0
    """How many are stored, 1 to this."""
    best_epoch: int | None = None
    saved: list[Saved] = field(default_factory=list)
    last_saved: int = 0
    split: bytes | None = None
    version: int | None = None
    error: str | None = None
    retry_of: str | None = None
    log: list[Told] = field(default_factory=lambda: [(EventKind.SUBMITTED.value, None)])
    has_expired: bool = False
    """Its lease, while it is held."""
    must_wait: bool = False
    """It is queued, and its pause after a loss is not over."""
    clock_was_set_back: bool = False
    """Its lease, or its pause, ends an hour too late."""

    @property
    def is_held(self) -> bool:
        """Whether a worker has a lease on it."""
        return self.state in HELD_STATES

    @property
    def is_claimable(self) -> bool:
        """Whether a worker may take it."""
        return self.state is JobState.QUEUED and not self.must_wait and not self.clock_was_set_back

    def tell(self, kind: EventKind, what: int | str | None = None) -> None:
        """Add an event."""
        self.log.append((kind.value, what))

    def claim(self, worker: str) -> Claim | None:
        """Be taken by a worker."""
        if not self.is_claimable:
            return None
        self.state, self.worker, self.has_expired = JobState.RUNNING, worker, False
        self.fence += 1
        self.tell(EventKind.STARTED, f"{self.fence} from {self.epochs}")
        return Claim(self.id, self.fence, worker, DEFAULT_OWNER)

    def check(self, held: Claim) -> None:
        """Refuse a worker whose claim is no longer good."""
        if not self.is_held or self.fence != held.fence:
            raise Refused

    def renew(self, held: Claim) -> None:
        """Take a sign of life, which every write of a worker but its last is."""
        self.check(held)
        self.has_expired = self.clock_was_set_back = False

    def record(self, held: Claim, upto: int, best: int, content: bytes | None) -> None:
        """Take epochs in, and the state after them."""
        self.renew(held)
        for epoch in range(self.epochs + 1, upto + 1):
            self.tell(EventKind.EPOCH, epoch)
        self.epochs, self.best_epoch = upto, best or None
        if content is not None:
            self.last_saved += 1
            self.losses = 0
            self.saved = [*self.saved, Saved(self.last_saved, content, upto)][-KEPT:]

    def draw(self, held: Claim, content: bytes) -> None:
        """Take a split in."""
        self.check(held)
        self.split = content

    def go_back(self, held: Claim) -> None:
        """Forget the newest state; without one, begin at the beginning."""
        self.check(held)
        self.saved = self.saved[:-1]
        self.epochs = self.saved[-1].epoch if self.saved else 0
        if self.best_epoch is not None and self.best_epoch > self.epochs:
            self.best_epoch = None
        self.tell(EventKind.CHECKPOINT_DAMAGED, self.epochs)

    def succeed(self, held: Claim, best: int, version: int) -> None:
        """End with a model, unless somebody asked to cancel."""
        self.check(held)
        if self.state is not JobState.RUNNING:
            raise Refused
        self.best_epoch, self.version = best, version
        self._end(JobState.SUCCEEDED)
        self.tell(EventKind.SUCCEEDED, version)
        self.saved = []

    def fail(self, held: Claim, code: str) -> None:
        """End with a reason, or as cancelled where somebody asked for that."""
        self.check(held)
        if self.state is JobState.CANCELLING:
            self.leave(held, None)
            return
        self.error = code
        self._end(JobState.FAILED)
        self.tell(EventKind.FAILED, code)
        if code not in RESUMABLE_ERRORS:
            self.saved = []

    def leave(self, held: Claim, kind: EventKind | None, *, must_wait: bool = False) -> JobState:
        """Go where a job goes when its worker leaves it."""
        self.check(held)
        goes = JobState.QUEUED
        if self.state is JobState.CANCELLING:
            goes = JobState.CANCELLED
        elif self.pause_requested:
            goes = JobState.PAUSED
        self._end(goes)
        self.must_wait = must_wait and goes is JobState.QUEUED
        if kind is None and goes is JobState.QUEUED:
            kind = EventKind.HANDED_BACK
        if kind is not None:
            self.tell(kind, held.fence)
        if goes is not JobState.QUEUED:
            self.tell(EventKind(goes.value))
        if goes is JobState.CANCELLED:
            self.saved = []
        return goes

    def lose(self, held: Claim, kind: EventKind) -> JobState:
        """Be taken from a worker that was lost."""
        self.check(held)
        self.losses += 1
        goes_on = self.state is JobState.RUNNING and not self.pause_requested
        if goes_on and (self.losses >= MAX_LOSSES or self.fence >= MAX_ATTEMPTS):
            self.tell(kind, held.fence)
            self.fail(held, kind.value if self.losses >= MAX_LOSSES else "too_many_attempts")
            return self.state
        return self.leave(held, kind, must_wait=True)

    def request_cancel(self) -> None:
        """Be cancelled, at once if nobody runs it."""
        if self.state in (JobState.SUCCEEDED, JobState.FAILED):
            raise Refused
        if self.state is JobState.RUNNING:
            self.state = JobState.CANCELLING
            self.tell(EventKind.CANCEL_REQUESTED)
        elif self.state in (JobState.QUEUED, JobState.PAUSED):
            self._end(JobState.CANCELLED)
            self.saved = []
            self.tell(EventKind.CANCELLED)

    def request_pause(self) -> None:
        """Be paused, at once if nobody runs it."""
        self._check_can_wait()
        if self.state is JobState.QUEUED:
            self._end(JobState.PAUSED)
            self.tell(EventKind.PAUSED)
        elif self.state is JobState.RUNNING and not self.pause_requested:
            self.pause_requested = True
            self.tell(EventKind.PAUSE_REQUESTED)

    def resume(self) -> None:
        """Go on, or wait in line again."""
        self._check_can_wait()
        if self.pause_requested:
            self.pause_requested = False
            self.tell(EventKind.RESUMED)
        elif self.state is JobState.PAUSED:
            self.state = JobState.QUEUED
            self.tell(EventKind.RESUMED)

    def retried(self, new_id: str) -> "ModelJob":
        """Return the job that goes on with this one."""
        if self.state is not JobState.FAILED:
            raise Refused
        job = ModelJob(new_id, retry_of=self.id)
        if self.saved:
            job.saved = list(map(replace, self.saved))
            job.last_saved, job.epochs = self.saved[-1].number, self.saved[-1].epoch
            job.best_epoch = None if (self.best_epoch or 0) > job.epochs else self.best_epoch
            for epoch in range(1, job.epochs + 1):
                job.tell(EventKind.EPOCH, epoch)
        return job

    def forget(self) -> None:
        """Lose the states of a job that ended long ago."""
        if self.state not in FINAL_STATES:
            raise Refused
        self.saved = []

    def _check_can_wait(self) -> None:
        if self.state in FINAL_STATES or self.state is JobState.CANCELLING:
            raise Refused

    def _end(self, state: JobState) -> None:
        self.state, self.worker, self.pause_requested = state, None, False
        self.has_expired = self.must_wait = self.clock_was_set_back = False
