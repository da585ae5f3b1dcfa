"""What one arm of a comparison has come to, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.comparison_levels import LevelReached, best_of, reach
from service.domain.comparisons import Arm, JobOutcome
from service.domain.statistics import summarize

Outcomes = Mapping[str, Mapping[int, JobOutcome]]
"""By arm and seed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number that an arm has for each seed."""

    mean: float | None
    standard_deviation: float | None
    """Of the sample; null for fewer than two seeds."""
    confidence_interval: tuple[float, float] | None
    """Of the mean, 95 %; null for fewer than two seeds."""
    by_seed: dict[int, float | None]
    """Null where there is none, or it is not finite."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What one arm has come to, over the seeds whose jobs have succeeded."""

    arm: str
    base: str
    """Its name without the depth; the same as ``arm`` but in a depth sweep."""
    depth: int | None
    succeeded: int
    failed: int
    """Seeds whose jobs failed or were cancelled."""
    metrics: dict[str, Measured]
    """Those of the test part, and with ``val_`` those of the validation part in the best epoch."""
    best_epoch: Measured
    epochs_saved: Measured | None
    """1 - best epoch / the reference's best epoch, seed by seed; null for the reference, and for seeds of which one of
    the two has not learned."""
    epochs_to_level: list[LevelReached]
    seconds: Measured
    """Of training: its epochs together."""
    verdicts: dict[int, dict[str, Any] | None]
    """Whether the network normalized itself, by seed; null where nobody has looked."""


def value_of(outcome: JobOutcome, metric: str) -> float | None:
    """Return what a job measured, or None where it did not, or found nothing finite."""
    values = outcome.best if metric.startswith("val_") else outcome.test
    value = (values or {}).get(metric)
    return float(value) if isinstance(value, int | float) else None


def metrics_of(outcomes: Outcomes) -> list[str]:
    """Return every metric that some job has measured: on the test part, then on the validation part."""
    found: dict[str, None] = {}
    for jobs in outcomes.values():
        for outcome in jobs.values():
            found |= dict.fromkeys(name for name in outcome.test or {} if not name.endswith("_not_finite"))
    for jobs in outcomes.values():
        for outcome in jobs.values():
            names = [name for name in outcome.best or {} if name.startswith("val_")]
            found |= dict.fromkeys(name for name in names if not name.endswith("_not_finite"))
    return list(found)


def curve_of(outcome: JobOutcome, metric: str) -> Sequence[float | None]:
    """Return a metric by epoch, as far as it was read."""
    return (outcome.curves or {}).get(metric, ())


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the epochs of all arms are measured by."""

    metric: str
    """Of which epochs to a level are counted."""
    levels: Sequence[float]
    enough: float | None
    """From which best value on a training has learned; None where none has."""

    def has_learned(self, job: JobOutcome) -> bool:
        """Whether a training came far enough from guessing for its epochs to mean something."""
        best = best_of(curve_of(job, self.metric))
        return best is not None and self.enough is not None and best >= self.enough


def arm_result(
    arm: Arm, reference: str, outcomes: Outcomes, succeeded: Outcomes, metrics: Sequence[str], yardstick: Yardstick
) -> ArmResult:
    """Make the result of one arm; ``reference`` is the arm that it is held against."""
    jobs = succeeded[arm.name]
    ended = [outcome for outcome in outcomes[arm.name].values() if outcome.state.is_final]
    curves = {seed: curve_of(job, yardstick.metric) for seed, job in jobs.items()}
    saved = None if reference == arm.name else measured_of(_saved(jobs, succeeded[reference], yardstick))
    return ArmResult(
        arm=arm.name,
        base=arm.base,
        depth=arm.depth,
        succeeded=len(jobs),
        failed=len(ended) - len(jobs),
        metrics={name: measured_of({seed: value_of(job, name) for seed, job in jobs.items()}) for name in metrics},
        best_epoch=measured_of({seed: job.best_epoch for seed, job in jobs.items()}),
        epochs_saved=saved,
        epochs_to_level=[reach(level, curves) for level in yardstick.levels],
        seconds=measured_of({seed: job.seconds for seed, job in jobs.items()}),
        verdicts={seed: None if job.verdict is None else dict(job.verdict) for seed, job in jobs.items()},
    )


def _saved(
    jobs: Mapping[int, JobOutcome], others: Mapping[int, JobOutcome], yardstick: Yardstick
) -> dict[int, float | None]:
    """Return what part of the epochs a seed's best one came earlier, for the seeds that both have.

    A network that learns nothing is at its best in the first epoch, and would save most.
    """
    found: dict[int, float | None] = {}
    for seed in (seed for seed in jobs if seed in others):
        one, other = jobs[seed], others[seed]
        learned = yardstick.has_learned(one) and yardstick.has_learned(other)
        found[seed] = 1 - one.best_epoch / other.best_epoch if learned and one.best_epoch and other.best_epoch else None
    return found


def measured_of(by_seed: Mapping[int, float | None]) -> Measured:
    """Summarize what an arm has for each seed."""
    found = summarize([value for value in by_seed.values() if value is not None])
    return Measured(found.mean, found.standard_deviation, found.confidence_interval, dict(by_seed))
