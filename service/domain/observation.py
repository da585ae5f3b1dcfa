"""What an operator wants to know of everybody's jobs and workers, in numbers."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Observation:
    """What the database says at one moment."""

    jobs: dict[str, int]
    """By state; every state is there."""
    queue_age_seconds: float
    """How long the oldest job waits that could be claimed; 0 where none does."""
    heartbeat_age_seconds: float
    """How long ago the worker of a running job was last heard, of the one heard longest ago; 0 where none runs."""
    expired_leases: int
    workers: dict[str, int]
    """By state; ``lost`` are those that have ended without a word within a day."""
    worker_sign_age_seconds: float | None
    """How long ago any worker was last seen; None where there is none."""
    rows_per_second: float
    """Of all running jobs together."""
    verdicts: dict[tuple[str, str], int] = field(default_factory=dict)
    """Trainings by state, running or succeeded (the latest ones), and the status of their verdict."""
    failures: dict[str, int] = field(default_factory=dict)
    """The latest failures by their code."""
    deliveries: dict[str, int] = field(default_factory=dict)
    """What webhooks are told, by state: what is pending, and what came of the latest."""
    webhooks_failing: int = 0
    """Webhooks that did not take what they were sent last."""
    database_bytes: int | None = None
    disk_free_bytes: int | None = None
    """Where the database is a file of this machine."""
