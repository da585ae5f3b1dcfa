"""Make of what a comparison's jobs measured its result: arm by arm, against the reference, and in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.domain.comparison_arms import (
    ArmResult,
    Outcomes,
    Yardstick,
    arm_result,
    curve_of,
    measured_of,
    metrics_of,
    value_of,
)
from service.domain.comparison_claims import Claim, claims_of
from service.domain.comparison_levels import default_levels, learned_from
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparison_verdicts import ArmTest, Pair, hold_against, is_higher_better, sentence
from service.domain.comparisons import Arm, Ground, JobOutcome, arms_of
from service.domain.jobs import JobState
from service.domain.signal import propagate
from service.domain.spec import NetworkSpec
from service.domain.statistics import average_ranks, critical_difference

PRIMARY = {"classification": "accuracy", "regression": "rmse"}
LEVEL = {"classification": "val_accuracy", "regression": "val_r2"}


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the arms stand on average on the primary metric; 1 is the best, and ties share their ranks."""

    average: dict[str, float]
    critical_difference: float | None
    """Average ranks that differ by less are not told apart (Nemenyi, 5 %); null for one seed."""
    seeds: int
    """Those that have succeeded with every arm."""


@dataclass(frozen=True, slots=True)
class DepthScores:
    """How an arm fares by its number of hidden layers."""

    arm: str
    horizon: int | None
    """Over how many hidden layers the signal is predicted to live, of inputs with the moments that the data set's
    description tells, or with mean 0 and variance 1 where it does not; null: over 256."""
    detail: str
    """What is predicted of the deepest."""
    mean: dict[int, float | None]
    """The primary metric, by depth."""
    by_seed: dict[int, dict[int, float | None]]
    """By depth and seed, of the jobs that have ended; null for one that did not succeed."""


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """What a comparison has come to; only jobs that have succeeded count."""

    complete: bool
    """Whether every job has ended; until then it changes."""
    metric: str
    """The primary metric, on which the verdict, the ranks and the depths are."""
    higher_is_better: bool
    level_metric: str
    levels: list[float]
    arms: list[ArmResult]
    tests: list[ArmTest]
    """Every arm against the reference, or in a depth sweep against the reference of the same depth, on every metric."""
    ranks: Ranks | None
    """Null while no seed has succeeded with every arm."""
    verdict: str
    """What the tests on the primary metric say, in words."""
    claims: list[Claim] | None
    """What the article claims of its experiment, beside what was measured; null where it is not that experiment."""
    depths: list[DepthScores] | None
    """Null but for a depth sweep."""


def level_metric(spec: ComparisonSpec) -> str:
    """Return the metric of which epochs to a level are counted."""
    return LEVEL[spec.task or "regression"]


def curves_needed(spec: ComparisonSpec) -> tuple[str, ...]:
    """Return the metrics of which a result needs every epoch."""
    return (level_metric(spec),) if spec.preset is None else (level_metric(spec), "val_loss")


def primary_metric(spec: ComparisonSpec, ground: Ground) -> str:
    """Return the metric that decides: on the test part, or without one in the best epoch on the validation part."""
    name = PRIMARY[spec.task or "regression"]
    return name if ground.test_rows else f"val_{name}"


def result_of(spec: ComparisonSpec, ground: Ground, outcomes: Iterable[JobOutcome]) -> ComparisonResult:
    """Make the result of a completed spec of what each of its jobs has come to so far.

    Without the curves that ``curves_needed`` names it says nothing of levels, saved epochs and claims.
    """
    by_arm: dict[str, dict[int, JobOutcome]] = {}
    for outcome in outcomes:
        by_arm.setdefault(outcome.arm, {})[outcome.seed] = outcome
    succeeded = {
        arm: {seed: outcome for seed, outcome in jobs.items() if outcome.state is JobState.SUCCEEDED}
        for arm, jobs in by_arm.items()
    }
    arms = arms_of(_networks(spec), spec.depths)
    references = {arm.name: _reference(arm, spec) for arm in arms}
    yardstick = _yardstick(spec, ground, succeeded)
    metrics = metrics_of(succeeded)
    tests = {
        metric: hold_against(list(_pairs(metric, arms, references, by_arm)), ground)
        for metric in dict.fromkeys([primary_metric(spec, ground), *metrics])
    }
    primary = primary_metric(spec, ground)
    return ComparisonResult(
        complete=all(outcome.state.is_final for jobs in by_arm.values() for outcome in jobs.values()),
        metric=primary,
        higher_is_better=is_higher_better(primary),
        level_metric=level_metric(spec),
        levels=list(yardstick.levels),
        arms=[arm_result(arm, references[arm.name], by_arm, succeeded, metrics, yardstick) for arm in arms],
        tests=[test for found in tests.values() for test in found],
        ranks=_ranks(primary, [arm.name for arm in arms], succeeded),
        verdict=" ".join(sentence(test) for test in tests[primary]) or "there is one arm: nothing to hold it against.",
        claims=claims_of(spec.preset, succeeded, yardstick.has_learned) if spec.preset and ground.is_articles else None,
        depths=None if spec.depths is None else list(_depths(spec, ground, by_arm)),
    )


def _networks(spec: ComparisonSpec) -> dict[str, NetworkSpec]:
    assert isinstance(spec.arms, dict), "a completed spec has every network"
    return spec.arms


def _reference(arm: Arm, spec: ComparisonSpec) -> str:
    """Return the arm that another is held against: in a depth sweep, the one of the same depth."""
    assert spec.reference is not None, "a completed spec has a reference"
    return spec.reference if arm.depth is None else f"{spec.reference}-{arm.depth}"


def _yardstick(spec: ComparisonSpec, ground: Ground, outcomes: Outcomes) -> Yardstick:
    metric = level_metric(spec)
    if ground.validation_rows == 0:
        return Yardstick(metric, (), None)
    curves = [[curve_of(job, metric) for job in jobs.values()] for jobs in outcomes.values()]
    levels = default_levels(curves, ground.guess) if spec.levels is None else spec.levels
    return Yardstick(metric, levels, learned_from(curves, ground.guess))


def _pairs(metric: str, arms: Sequence[Arm], references: Mapping[str, str], outcomes: Outcomes) -> Iterator[Pair]:
    for arm in arms:
        reference = references[arm.name]
        if reference == arm.name:
            continue
        values: dict[int, tuple[float, float]] = {}
        counts = {"failed": 0, "unmeasured": 0, "waiting": 0}
        for seed, one in outcomes[arm.name].items():
            other = outcomes[reference][seed]
            if missing := _missing(one, other, metric):
                counts[missing] += 1
            else:
                values[seed] = (value_of(one, metric) or 0.0, value_of(other, metric) or 0.0)
        yield Pair(arm.name, reference, metric, values, **counts)


def _missing(one: JobOutcome, other: JobOutcome, metric: str) -> Literal["failed", "unmeasured", "waiting"] | None:
    """Say why two trainings with the same seed cannot be held against each other; None where they can."""
    states = {one.state, other.state}
    if states & {JobState.FAILED, JobState.CANCELLED}:
        return "failed"
    if states != {JobState.SUCCEEDED}:
        return "waiting"
    return "unmeasured" if value_of(one, metric) is None or value_of(other, metric) is None else None


def _ranks(metric: str, arms: Sequence[str], outcomes: Outcomes) -> Ranks | None:
    """Rank the arms over the seeds that have a value for each of them."""
    sign = 1 if is_higher_better(metric) else -1
    by_arm = [{seed: value_of(job, metric) for seed, job in outcomes[arm].items()} for arm in arms]
    rows = [[values.get(seed) for values in by_arm] for seed in by_arm[0]]
    scores = [[sign * value for value in row if value is not None] for row in rows if None not in row]
    if not scores:
        return None
    average = dict(zip(arms, average_ranks(scores), strict=True))
    return Ranks(average, critical_difference(len(arms), len(scores)), len(scores))


def _depths(spec: ComparisonSpec, ground: Ground, outcomes: Outcomes) -> Iterator[DepthScores]:
    assert spec.depths is not None, "only a depth sweep has depths"
    metric = primary_metric(spec, ground)
    for name, network in _networks(spec).items():
        by_seed = {
            arm.depth: {
                seed: value_of(job, metric) if job.state is JobState.SUCCEEDED else None
                for seed, job in outcomes[arm.name].items()
                if job.state.is_final
            }
            for arm in arms_of([name], spec.depths)
            if arm.depth is not None
        }
        means = {depth: measured_of(values).mean for depth, values in by_seed.items()}
        mean, variance = ground.moments.get(name, (0.0, 1.0))
        deepest = network.model_copy(update={"hidden_layers": max(spec.depths)})
        signal = propagate(deepest, ground.inputs, mean, variance)
        yield DepthScores(name, signal.horizon, signal.detail, means, by_seed)
