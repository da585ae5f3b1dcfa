"""What is simulated, and what comes of it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers there are and what they do, in seconds; the defaults are what real workers do.

    A pause of 0 means: never.
    """

    url: str
    workers: int = 1000
    seconds: float = 120.0
    warm_up_seconds: float = 15.0
    job_seconds: float = 10.0
    """What a job takes on average; so many workers begin workers / job_seconds jobs a second."""
    connections: int = 16
    look_seconds: float = 1.0
    beat_seconds: float = 3.0
    progress_seconds: float = 0.5
    checkpoint_seconds: float = 5.0
    checkpoint_bytes: int = 64 * 1024
    report_seconds: float = 5.0
    sweep_seconds: float = 2.0
    sweepers: int = 4
    vanishing: float = 0.005
    """The part of all attempts in which the worker goes without a word."""
    cuts_leases: bool = False
    """Whether the lease of a worker that goes ends at once; else it takes its time."""
    until_done: bool = False
    """Whether it ends as soon as every job has ended."""
    most_running: int | None = None
    oldest_first: bool = False
    """Whether jobs are claimed in the order in which they came, as before owners took turns."""
    number: int = 0
    """Which of several processes this is."""
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What a process of simulated workers saw."""

    times: dict[str, list[float]] = field(default_factory=dict)
    """By what was done: how long each took, with the wait for a connection, after the warm-up."""
    late: list[float] = field(default_factory=list)
    """How much later than it was due each thing was begun: where this grows, the machine is full."""
    ended: list[str] = field(default_factory=list)
    """Every job that was ended well, each time."""
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Outcome") -> None:
        """Take in what another process saw."""
        for name, times in other.times.items():
            self.times.setdefault(name, []).extend(times)
        self.late += other.late
        self.ended += other.ended
        self.counts += other.counts
