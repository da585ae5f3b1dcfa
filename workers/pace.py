"""How long the steps and epochs of a training take, and so how long it will."""

from collections import deque
from dataclasses import dataclass, field

EPOCHS_IN_PACE = 10
"""The estimate of the time that is left goes by so many of the latest epochs."""


@dataclass(slots=True)
class Pace:
    """How long epochs and steps take."""

    steps_each: int
    epochs: "deque[float]" = field(default_factory=lambda: deque(maxlen=EPOCHS_IN_PACE))
    steps: int = 0
    seconds: float = 0.0

    def chunk(self, steps: int, seconds: float) -> None:
        """Take a chunk in."""
        self.steps, self.seconds = self.steps + steps, self.seconds + seconds

    def epoch(self, seconds: float) -> None:
        """Take a whole epoch in, validation included."""
        self.epochs.append(seconds)

    @property
    def seconds_per_step(self) -> float | None:
        """What a step takes, its share of validation included once whole epochs are known."""
        if self.epochs:
            return sum(self.epochs) / len(self.epochs) / self.steps_each
        return self.seconds / self.steps if self.steps else None
