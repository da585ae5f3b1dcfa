"""The faults of a run: drawn from a seed, so that a schedule can be shown and replayed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

PAUSE_SECONDS = (2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault that can be drawn."""

    name: str
    weight: float
    lasts: tuple[float, float] | None = None
    """Between how many and how many seconds; short ones are more likely."""
    only: str | None = None
    """The database that it needs."""
    takes: str = ""
    """``busy``: needs a worker that trains; ``loss``: its job may lose that worker by it; ``queued``: a waiting job."""

    @property
    def is_kill(self) -> bool:
        """Whether it is a kill -9."""
        return self.name.startswith("kill_")


KINDS = (
    Kind("kill_trainer", 30, takes="loss"),
    Kind("kill_worker", 14, takes="loss"),
    Kind("kill_worker_and_trainer", 6, takes="loss"),
    Kind("kill_api", 6),
    Kind("kill_broker", 5),
    Kind("kill_database", 4, only="postgresql"),
    Kind("quit_database", 3, only="postgresql"),
    Kind("freeze_trainer", 5, lasts=(1, 45), takes="loss"),
    Kind("freeze_worker", 5, lasts=(1, 45), takes="loss"),
    Kind("freeze_api", 2, lasts=(1, 10)),
    Kind("term_worker", 6, takes="busy"),
    Kind("term_api", 2),
    Kind("flush_broker", 4),
    Kind("restart_broker", 3),
    Kind("cut_broker", 4),
    Kind("silence_broker", 3, lasts=(1, 20)),
    Kind("refuse_broker", 2, lasts=(1, 20)),
    Kind("cut_database", 4, only="postgresql"),
    Kind("silence_database", 3, lasts=(1, 20), only="postgresql"),
    Kind("refuse_database", 2, lasts=(1, 20), only="postgresql"),
    Kind("lock_database", 4, lasts=(1, 20), only="sqlite"),
    Kind("fill_disk", 3, lasts=(1, 8), only="sqlite"),
    Kind("clock_forward", 2, takes="loss"),
    Kind("clock_back", 2, takes="busy"),
    Kind("clock_forward_in_queue", 1, takes="queued"),
    Kind("clock_back_in_queue", 2, takes="queued"),
)
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule."""

    name: str
    pause: float
    """Seconds that pass before it."""
    choice: float
    """Which of those that it could hit, 0 to 1."""
    seconds: float = 0.0
    """How long it lasts."""

    @property
    def kind(self) -> Kind:
        """What can be said of all faults of its name."""
        return BY_NAME[self.name]

    @property
    def is_kill(self) -> bool:
        """Whether it is a kill -9."""
        return self.kind.is_kill

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"after {self.pause:.1f} s {self.name}{lasts} (choice {self.choice:.2f})"


def draw(seed: int, database: str, longest: float = 45.0) -> Iterator[Fault]:
    """Draw faults without end; equal arguments give equal faults. None lasts for more than ``longest`` seconds."""
    source = random.Random(f"faults of {seed}")
    kinds = [kind for kind in KINDS if kind.only in (None, database)]
    weights = [kind.weight for kind in kinds]
    while True:
        [kind] = source.choices(kinds, weights)
        pause, choice, length = source.uniform(*PAUSE_SECONDS), source.random(), source.random()
        shortest, most = kind.lasts or (0.0, 0.0)
        yield Fault(kind.name, pause, choice, min(shortest + (most - shortest) * length**2, longest))
