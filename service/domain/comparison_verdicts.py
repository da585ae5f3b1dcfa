"""Say in words, and by a test, which of two arms is better on a metric, or that nothing shows that one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.domain.comparisons import Ground
from service.domain.statistics import SIGNIFICANCE, holm, least_p, paired_test

HIGHER_IS_BETTER = ("accuracy", "f1", "auc", "r2")


@dataclass(frozen=True, slots=True)
class Pair:
    """What two arms measured with the same seeds."""

    arm: str
    reference: str
    metric: str
    values: Mapping[int, tuple[float, float]]
    """The arm's and the reference's value, for each seed that both have."""
    failed: int
    """Seeds left out because a job of theirs failed or was cancelled."""
    unmeasured: int
    """Seeds left out because a job of theirs, which succeeded, has no finite value."""
    waiting: int
    """Seeds of which a job has not ended, and none has failed."""


@dataclass(frozen=True, slots=True)
class ArmTest:
    """An arm held against the reference on one metric, seed by seed."""

    arm: str
    reference: str
    metric: str
    mean: float | None
    """Of the arm, over the seeds that both have."""
    reference_mean: float | None
    difference: float | None
    """The arm's mean minus the reference's."""
    confidence_interval: tuple[float, float] | None
    """Of the difference, 95 %, of this arm alone: p is corrected for the number of arms, the interval is not. Null for
    fewer than three seeds, and where the differences do not vary."""
    p: float | None
    corrected_p: float | None
    """Holm's, over all arms that are to be held against the reference on this metric."""
    corrected_for: int
    """How many these are."""
    significant: bool
    """Never while a seed is waited for: each look would be one more chance to find something."""
    better: str | None
    """The better arm, where the difference is significant."""
    enough_seeds: bool
    """Whether so many seeds, with those that are waited for, can show a difference between so many arms, however
    large it is."""
    seeds: int
    failed: int
    """Seeds of which a job failed or was cancelled."""
    unmeasured: int
    """Seeds of which both jobs succeeded, and one has no finite value."""
    waiting: int
    """Seeds of which a job has not ended, and none has failed."""


def is_higher_better(metric: str) -> bool:
    """Say which way a metric is good."""
    return metric.removeprefix("val_") in HIGHER_IS_BETTER


def hold_against(pairs: Sequence[Pair], ground: Ground) -> list[ArmTest]:
    """Test arms against the reference on one metric; together they err in at most 5 % of all cases.

    Every arm counts from the beginning, one without a p as if it showed nothing: what is found of those whose seeds
    have all ended is not taken back when the others come in.
    """
    tests = [_tested(pair, ground, len(pairs)) for pair in pairs]
    names = [str(place) for place in range(len(tests))]
    corrected = holm({name: 1.0 if test.p is None else test.p for name, test in zip(names, tests, strict=True)})
    return [_decided(test, corrected[name]) for name, test in zip(names, tests, strict=True)]


def sentence(test: ArmTest) -> str:
    """Say what a test shows."""
    arm, reference, metric = test.arm, test.reference, test.metric
    if test.difference is None or test.mean is None or test.reference_mean is None:
        return f"nothing can be said about {arm} and {reference} on {metric}{_why_nothing(test)}{_counted(test)}."
    values = f"{_number(test.mean)} against {_number(test.reference_mean)}"
    if test.waiting:
        few = "" if test.enough_seeds else "; so few seeds cannot show a difference: take more"
        found = f"{values} (difference {_number(test.difference)}, {_seeds(test)}{_counted(test)})"
        return f"so far {arm} and {reference} have on {metric} {found}; nothing is decided before all have ended{few}."
    if test.p is None:
        return (
            f"one seed shows nothing about {arm} and {reference} on {metric}, for chance alone makes networks differ: "
            f"{values} (difference {_number(test.difference)}{_counted(test)}); take more seeds."
        )
    if test.better == reference:
        return f"{reference} is better than {arm} on {metric}: {_details(_turned(test))}."
    if test.better == arm:
        return f"{arm} is better than {reference} on {metric}: {_details(test)}."
    more = "" if test.enough_seeds else "; so few seeds could not have shown one: take more"
    return f"no significant difference between {arm} and {reference} on {metric}: {_details(test)}{more}."


def _tested(pair: Pair, ground: Ground, arms: int) -> ArmTest:
    values = list(pair.values.values())
    first, second = [one for one, _ in values], [other for _, other in values]
    of_validation = pair.metric.startswith("val_")
    rows = ground.validation_rows if of_validation else ground.test_rows
    found = paired_test(first, second, rows / ground.training_rows)
    mean, other = (sum(side) / len(side) if side else None for side in (first, second))
    return ArmTest(
        arm=pair.arm,
        reference=pair.reference,
        metric=pair.metric,
        mean=mean,
        reference_mean=other,
        difference=None if mean is None or other is None else mean - other,
        confidence_interval=None if found is None else found.interval,
        p=None if found is None else found.p,
        corrected_p=None,
        corrected_for=arms,
        significant=False,
        better=None,
        enough_seeds=arms * least_p(len(values) + pair.waiting) < SIGNIFICANCE,
        seeds=len(values),
        failed=pair.failed,
        unmeasured=pair.unmeasured,
        waiting=pair.waiting,
    )


def _decided(test: ArmTest, corrected: float) -> ArmTest:
    if test.p is None or test.difference is None:
        return test
    if test.waiting or corrected >= SIGNIFICANCE:
        return replace(test, corrected_p=corrected)
    arm_is_better = (test.difference > 0) == is_higher_better(test.metric)
    better = test.arm if arm_is_better else test.reference
    # Holm corrects a later arm for fewer: it may have shown something with fewer seeds than all arms together need.
    return replace(test, corrected_p=corrected, significant=True, better=better, enough_seeds=True)


def _turned(test: ArmTest) -> ArmTest:
    """Return the same, seen from the reference."""
    assert test.difference is not None
    interval = test.confidence_interval
    return replace(
        test,
        mean=test.reference_mean,
        reference_mean=test.mean,
        difference=-test.difference,
        confidence_interval=None if interval is None else (-interval[1], -interval[0]),
    )


def _details(test: ArmTest) -> str:
    assert test.mean is not None
    assert test.reference_mean is not None
    assert test.difference is not None
    interval = ""
    if test.confidence_interval is not None:
        low, high = test.confidence_interval
        alone = " of this arm alone" if test.corrected_for > 1 else ""
        interval = f"95 % interval{alone} {_number(low)} to {_number(high)}, "
    return (
        f"{_number(test.mean)} against {_number(test.reference_mean)} (difference {_number(test.difference)}, "
        f"{interval}corrected p {test.corrected_p:.2g}, {_seeds(test)}{_counted(test)})"
    )


def _why_nothing(test: ArmTest) -> str:
    if test.waiting:
        return " yet"
    return ", for no seed succeeded with both" if test.unmeasured == 0 else ", for no seed has a finite value of both"


def _seeds(test: ArmTest) -> str:
    return "1 seed" if test.seeds == 1 else f"{test.seeds} seeds"


def _counted(test: ArmTest) -> str:
    """Say how many seeds are missing, and why."""
    found = ""
    if test.failed:
        found += f", {test.failed} left out because a job failed or was cancelled"
    if test.unmeasured:
        found += f", {test.unmeasured} left out because a job measured no finite {test.metric}"
    if test.waiting:
        found += f", {test.waiting} still waited for"
    return found


def _number(value: float) -> str:
    """Write a number with three digits that count, or whole below a million where it has more before the point."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"
