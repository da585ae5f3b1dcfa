"""Make of what a comparison's jobs measured its result: arm by arm, against the reference, and in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.comparison_claims import Claim, claims_of
from service.domain.comparison_levels import LevelReached, default_levels, reach
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparison_verdicts import ArmTest, Pair, hold_against, is_higher_better, sentence
from service.domain.comparisons import Arm, Ground, JobOutcome, arms_of
from service.domain.jobs import JobState
from service.domain.signal import propagate
from service.domain.spec import NetworkSpec
from service.domain.statistics import average_ranks, critical_difference, summarize

PRIMARY = {"classification": "accuracy", "regression": "rmse"}
LEVEL = {"classification": "val_accuracy", "regression": "val_r2"}

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
    """1 - best epoch / the reference's best epoch, seed by seed; null for the reference."""
    epochs_to_level: list[LevelReached]
    seconds: Measured
    """Of training: its epochs together."""
    verdicts: dict[int, dict[str, Any] | None]
    """Whether the network normalized itself, by seed; null where nobody has looked."""


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
    """Over how many hidden layers the signal is predicted to live, of standardized inputs; null: over 256."""
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
    """What the article claims of its experiment, beside what was measured; null without a preset."""
    depths: list[DepthScores] | None
    """Null but for a depth sweep."""


def level_metric(spec: ComparisonSpec) -> str:
    """Return the metric of which epochs to a level are counted."""
    return LEVEL[spec.task or "regression"]


def primary_metric(spec: ComparisonSpec, ground: Ground) -> str:
    """Return the metric that decides: on the test part, or without one in the best epoch on the validation part."""
    name = PRIMARY[spec.task or "regression"]
    return name if ground.test_rows else f"val_{name}"


def result_of(spec: ComparisonSpec, ground: Ground, outcomes: Iterable[JobOutcome]) -> ComparisonResult:
    """Make the result of a completed spec of what each of its jobs has come to so far."""
    by_arm: dict[str, dict[int, JobOutcome]] = {}
    for outcome in outcomes:
        by_arm.setdefault(outcome.arm, {})[outcome.seed] = outcome
    succeeded = {
        arm: {seed: outcome for seed, outcome in jobs.items() if outcome.state is JobState.SUCCEEDED}
        for arm, jobs in by_arm.items()
    }
    arms = arms_of(_networks(spec), spec.depths)
    references = {arm.name: _reference(arm, spec) for arm in arms}
    levels = _levels(spec, ground, succeeded)
    metrics = _metrics(succeeded)
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
        levels=list(levels),
        arms=[_arm_result(arm, references[arm.name], by_arm, succeeded, metrics, levels, spec) for arm in arms],
        tests=[test for found in tests.values() for test in found],
        ranks=_ranks(primary, [arm.name for arm in arms], succeeded),
        verdict=" ".join(sentence(test) for test in tests[primary]) or "there is one arm: nothing to hold it against.",
        claims=None if spec.preset is None else claims_of(spec.preset, succeeded),
        depths=None if spec.depths is None else list(_depths(spec, ground, by_arm)),
    )


def _networks(spec: ComparisonSpec) -> dict[str, NetworkSpec]:
    assert isinstance(spec.arms, dict), "a completed spec has every network"
    return spec.arms


def _reference(arm: Arm, spec: ComparisonSpec) -> str:
    """Return the arm that another is held against: in a depth sweep, the one of the same depth."""
    assert spec.reference is not None, "a completed spec has a reference"
    return spec.reference if arm.depth is None else f"{spec.reference}-{arm.depth}"


def _value(outcome: JobOutcome, metric: str) -> float | None:
    """Return what a job measured, or None where it did not, or found nothing finite."""
    values = outcome.best if metric.startswith("val_") else outcome.test
    value = (values or {}).get(metric)
    return float(value) if isinstance(value, int | float) else None


def _metrics(outcomes: Outcomes) -> list[str]:
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


def _levels(spec: ComparisonSpec, ground: Ground, outcomes: Outcomes) -> Sequence[float]:
    if ground.validation_rows == 0:
        return ()
    if spec.levels is not None:
        return spec.levels
    metric = level_metric(spec)
    return default_levels([[_curve(job, metric) for job in jobs.values()] for jobs in outcomes.values()], ground.guess)


def _curve(outcome: JobOutcome, metric: str) -> Sequence[float | None]:
    return (outcome.curves or {}).get(metric, ())


def _pairs(metric: str, arms: Sequence[Arm], references: Mapping[str, str], outcomes: Outcomes) -> Iterator[Pair]:
    for arm in arms:
        reference = references[arm.name]
        if reference == arm.name:
            continue
        values, failed, waiting = {}, 0, 0
        for seed, one in outcomes[arm.name].items():
            other = outcomes[reference][seed]
            ours, theirs = _value(one, metric), _value(other, metric)
            if not (one.state.is_final and other.state.is_final):
                waiting += 1
            elif one.state is other.state is JobState.SUCCEEDED and ours is not None and theirs is not None:
                values[seed] = (ours, theirs)
            else:
                failed += 1
        yield Pair(arm.name, reference, metric, values, failed, waiting)


def _arm_result(
    arm: Arm,
    reference: str,
    outcomes: Outcomes,
    succeeded: Outcomes,
    metrics: Sequence[str],
    levels: Sequence[float],
    spec: ComparisonSpec,
) -> ArmResult:
    jobs, compared_with = succeeded[arm.name], succeeded[reference]
    ended = [outcome for outcome in outcomes[arm.name].values() if outcome.state.is_final]
    curves = {seed: _curve(job, level_metric(spec)) for seed, job in jobs.items()}
    return ArmResult(
        arm=arm.name,
        base=arm.base,
        depth=arm.depth,
        succeeded=len(jobs),
        failed=len(ended) - len(jobs),
        metrics={metric: _measured({seed: _value(job, metric) for seed, job in jobs.items()}) for metric in metrics},
        best_epoch=_measured({seed: job.best_epoch for seed, job in jobs.items()}),
        epochs_saved=None if reference == arm.name else _measured(_saved(jobs, compared_with)),
        epochs_to_level=[reach(level, curves) for level in levels],
        seconds=_measured({seed: job.seconds for seed, job in jobs.items()}),
        verdicts={seed: None if job.verdict is None else dict(job.verdict) for seed, job in jobs.items()},
    )


def _saved(jobs: Mapping[int, JobOutcome], others: Mapping[int, JobOutcome]) -> dict[int, float | None]:
    """Return what part of the epochs a seed's best one came earlier, for the seeds that both have."""
    pairs = {seed: (job.best_epoch, others[seed].best_epoch) for seed, job in jobs.items() if seed in others}
    return {seed: 1 - one / other if one and other else None for seed, (one, other) in pairs.items()}


def _measured(by_seed: Mapping[int, float | None]) -> Measured:
    found = summarize([value for value in by_seed.values() if value is not None])
    return Measured(found.mean, found.standard_deviation, found.confidence_interval, dict(by_seed))


def _ranks(metric: str, arms: Sequence[str], outcomes: Outcomes) -> Ranks | None:
    """Rank the arms over the seeds that have a value for each of them."""
    sign = 1 if is_higher_better(metric) else -1
    by_arm = [{seed: _value(job, metric) for seed, job in outcomes[arm].items()} for arm in arms]
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
                seed: _value(job, metric) if job.state is JobState.SUCCEEDED else None
                for seed, job in outcomes[arm.name].items()
                if job.state.is_final
            }
            for arm in arms_of([name], spec.depths)
            if arm.depth is not None
        }
        means = {depth: _measured(values).mean for depth, values in by_seed.items()}
        signal = propagate(network.model_copy(update={"hidden_layers": max(spec.depths)}), ground.inputs)
        yield DepthScores(name, signal.horizon, signal.detail, means, by_seed)
