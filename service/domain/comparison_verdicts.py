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
    """Seeds left out because a job of theirs failed, was cancelled, or measured no finite value."""
    waiting: int
    """Seeds whose jobs have not both ended."""


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
    """Of the difference, 95 %; null for fewer than two seeds."""
    p: float | None
    corrected_p: float | None
    """Holm's, over the arms that are held against the reference on this metric."""
    significant: bool
    better: str | None
    """The better arm, where the difference is significant."""
    enough_seeds: bool
    """Whether so many seeds could have shown a difference, however large, between so many arms."""
    seeds: int
    left_out: int
    """Seeds of which a job failed, was cancelled, or measured no finite value."""
    waiting: int
    """Seeds of which a job has not ended."""


def is_higher_better(metric: str) -> bool:
    """Say which way a metric is good."""
    return metric.removeprefix("val_") in HIGHER_IS_BETTER


def hold_against(pairs: Sequence[Pair], ground: Ground) -> list[ArmTest]:
    """Test arms against the reference on one metric; together they err in at most 5 % of all cases."""
    tests = [_tested(pair, ground) for pair in pairs]
    names = [str(place) for place in range(len(tests))]
    corrected = holm({name: test.p for name, test in zip(names, tests, strict=True) if test.p is not None})
    return [
        _decided(test, corrected.get(name), enough_seeds=len(corrected) * least_p(test.seeds) < SIGNIFICANCE)
        for name, test in zip(names, tests, strict=True)
    ]


def sentence(test: ArmTest) -> str:
    """Say what a test shows."""
    arm, reference, metric = test.arm, test.reference, test.metric
    if test.difference is None or test.mean is None or test.reference_mean is None:
        when = " yet" if test.waiting else ", for no seed succeeded with both"
        return f"nothing can be said about {arm} and {reference} on {metric}{when}{_counted(test)}."
    values = f"{_number(test.mean)} against {_number(test.reference_mean)}"
    if test.corrected_p is None or test.confidence_interval is None:
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


def _tested(pair: Pair, ground: Ground) -> ArmTest:
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
        significant=False,
        better=None,
        enough_seeds=False,
        seeds=len(values),
        left_out=pair.failed,
        waiting=pair.waiting,
    )


def _decided(test: ArmTest, corrected: float | None, *, enough_seeds: bool) -> ArmTest:
    test = replace(test, corrected_p=corrected, enough_seeds=corrected is not None and enough_seeds)
    if corrected is None or test.difference is None or corrected >= SIGNIFICANCE:
        return test
    arm_is_better = (test.difference > 0) == is_higher_better(test.metric)
    return replace(test, corrected_p=corrected, significant=True, better=test.arm if arm_is_better else test.reference)


def _turned(test: ArmTest) -> ArmTest:
    """Return the same, seen from the reference."""
    assert test.difference is not None
    assert test.confidence_interval is not None
    low, high = test.confidence_interval
    return replace(
        test,
        mean=test.reference_mean,
        reference_mean=test.mean,
        difference=-test.difference,
        confidence_interval=(-high, -low),
    )


def _details(test: ArmTest) -> str:
    assert test.mean is not None
    assert test.reference_mean is not None
    assert test.difference is not None
    assert test.confidence_interval is not None
    low, high = test.confidence_interval
    return (
        f"{_number(test.mean)} against {_number(test.reference_mean)} (difference {_number(test.difference)}, 95 % "
        f"interval {_number(low)} to {_number(high)}, corrected p {test.corrected_p:.2g}, {test.seeds} seeds"
        f"{_counted(test)})"
    )


def _counted(test: ArmTest) -> str:
    """Say how many seeds are missing, and why."""
    found = ""
    if test.left_out:
        found += f", {test.left_out} left out because a job failed or was cancelled"
    if test.waiting:
        found += f", {test.waiting} still waited for"
    return found


def _number(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
