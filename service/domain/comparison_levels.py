"""How many epochs an arm needed to reach some levels of a metric, which the best epoch alone does not tell."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Curve = Sequence[float | None]
"""A metric by epoch, from the first; None where it is not finite."""

DEFAULT_PARTS = (0.9, 0.95, 0.99)
"""Parts of the way from guessing to the best that the arms have in common."""
LEARNED = 0.5
"""A training that comes less than this part of the way of the best arm has not learned, and drags no level down."""


@dataclass(frozen=True, slots=True)
class LevelReached:
    """In which epoch a level was reached for the first time."""

    level: float
    mean: float | None
    """Null unless every seed that succeeded has reached it."""
    reached: int
    """How many seeds have."""
    by_seed: dict[int, int | None]
    """Null for one that never did."""


def learned_from(curves: Iterable[Iterable[Curve]], guess: float) -> float | None:
    """Return from which best value on a training has learned; ``curves`` are those of each arm, by seed.

    That is half of the way from guessing to the best arm's mean best value. None where no arm is better than guessing.
    """
    best = [[value for curve in arm if (value := best_of(curve)) is not None] for arm in curves]
    highest = max((sum(values) / len(values) for values in best if values), default=guess)
    return None if highest <= guess else guess + LEARNED * (highest - guess)


def default_levels(curves: Iterable[Iterable[Curve]], guess: float) -> tuple[float, ...]:
    """Return levels that every training that has learned has reached; ``curves`` are those of each arm, by seed.

    The common best is the lowest of the best values of all trainings that have learned. So a dead network, which stays
    at what guessing gives, does not count, and of those that do no mean over the seeds has a hole. None where no arm is
    better than guessing.
    """
    known = [list(arm) for arm in curves]
    enough = learned_from(known, guess)
    if enough is None:
        return ()
    best = [value for arm in known for curve in arm if (value := best_of(curve)) is not None]
    common = min(value for value in best if value >= enough)
    levels = (round(guess + part * (common - guess), 4) for part in DEFAULT_PARTS)
    return tuple(dict.fromkeys(levels))


def reach(level: float, curves: Mapping[int, Curve]) -> LevelReached:
    """Say when the curve of each seed reached a level."""
    by_seed = {seed: _first(level, curve) for seed, curve in curves.items()}
    reached = [epoch for epoch in by_seed.values() if epoch is not None]
    mean = sum(reached) / len(reached) if reached and len(reached) == len(by_seed) else None
    return LevelReached(level, mean, len(reached), by_seed)


def best_of(curve: Curve) -> float | None:
    """Return the highest value of a curve."""
    return max((value for value in curve if value is not None), default=None)


def _first(level: float, curve: Curve) -> int | None:
    return next((epoch for epoch, value in enumerate(curve, 1) if value is not None and value >= level), None)
