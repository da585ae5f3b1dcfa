"""When an arm is called better than another, and in which words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.domain.comparison_results import ComparisonResult, result_of
from service.domain.comparison_verdicts import Pair, hold_against, sentence
from service.domain.jobs import JobState
from tests.unit.measured import GROUND, NO_DIFFERENCE, arms, asked, compared, outcome, unfinished


def test_difference_is_said_with_its_interval_and_corrected_p() -> None:
    found = compared({"snn": [0.51, 0.50, 0.52, 0.51, 0.505], "regular": [0.40, 0.41, 0.40, 0.40, 0.405]})
    assert found.verdict.startswith(
        "snn is better than regular on accuracy: 0.509 against 0.403 (difference 0.106, 95 %"
    )
    assert found.verdict.endswith("5 seeds).")
    turned = compared({"snn": [0.40, 0.41, 0.40, 0.40, 0.405], "regular": [0.51, 0.50, 0.52, 0.51, 0.505]})
    assert turned.verdict == found.verdict.replace("snn is better than regular", "regular is better than snn")


def test_equal_arms_show_no_significant_difference() -> None:
    found = compared({"snn": [0.5, 0.6, 0.55], "regular": [0.56, 0.52, 0.57]})
    assert found.verdict.startswith(f"{NO_DIFFERENCE} between snn and regular on accuracy: 0.55 against 0.55 (")
    assert not any(test.significant or test.better for test in found.tests)


def test_one_seed_shows_nothing() -> None:
    found = compared({"snn": [0.9], "regular": [0.3]})
    assert found.verdict.startswith("one seed shows nothing about snn and regular on accuracy")
    assert "0.9 against 0.3" in found.verdict
    [test] = [test for test in found.tests if test.metric == "accuracy"]
    assert (test.p, test.corrected_p, test.significant, test.confidence_interval) == (None, None, False, None)
    assert test.difference == pytest.approx(0.6)
    assert found.ranks is not None
    assert found.ranks.critical_difference is None


def test_one_arm_is_held_against_nothing() -> None:
    found = compared({"snn": [0.9, 0.8]})
    assert found.tests == []
    assert "one arm" in found.verdict


def test_corrected_p_grows_with_the_number_of_arms() -> None:
    rng = np.random.default_rng(0)
    scores = {name: (0.5 + 0.02 * rng.normal(size=5)).tolist() for name in ("regular", "a", "b", "c")}
    found = compared(scores, reference="regular")
    tests = [test for test in found.tests if test.metric == "accuracy"]
    assert {test.arm for test in tests} == {"a", "b", "c"}
    smallest = min(tests, key=lambda test: test.p or 1)
    assert smallest.p is not None
    assert smallest.corrected_p == pytest.approx(min(1, 3 * smallest.p))
    assert found.verdict.count(" on accuracy: ") == 3


def test_seeds_whose_job_failed_are_left_out_of_the_pair_and_counted() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1, 2])
    jobs = [outcome("snn", seed, 0.9 - seed / 100) for seed in range(3)]
    jobs += [outcome("regular", 0, 0.3), outcome("regular", 1, 0.31), unfinished("regular", 2, JobState.FAILED)]
    found = result_of(spec, GROUND, jobs)
    [test] = [test for test in found.tests if test.metric == "accuracy"]
    assert (test.seeds, test.failed, test.unmeasured, test.waiting) == (2, 1, 0, 0)
    assert test.mean == pytest.approx(0.895)
    assert "2 seeds, 1 left out because a job failed or was cancelled" in found.verdict
    assert found.complete
    assert [(arm.succeeded, arm.failed) for arm in found.arms] == [(3, 0), (2, 1)]
    assert found.ranks is not None
    assert found.ranks.seeds == 2


def test_seeds_without_a_finite_value_are_counted_apart_from_those_that_failed() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1, 2, 3])
    jobs = [outcome(arm, seed, 0.5 + seed / 10) for arm in ("snn", "regular") for seed in range(2)]
    unmeasured: dict[str, Any] = {"accuracy": None, "accuracy_not_finite": "nan"}
    jobs += [replace(outcome("snn", 2), test=unmeasured), outcome("regular", 2)]
    jobs += [outcome("snn", 3), unfinished("regular", 3, JobState.FAILED)]
    found = result_of(spec, GROUND, jobs)
    [test] = [test for test in found.tests if test.metric == "accuracy"]
    assert (test.seeds, test.failed, test.unmeasured, test.waiting) == (2, 1, 1, 0)
    said = "1 left out because a job failed or was cancelled, 1 left out because a job measured no finite accuracy"
    assert said in found.verdict
    alone = result_of(asked(arms=arms("snn", "regular"), seeds=[2]), GROUND, jobs[4:6])
    assert "for no seed has a finite value of both, 1 left out because a job measured no finite" in alone.verdict


def made(scores: Mapping[str, Sequence[float | None]], regular: Sequence[float], seeds: int) -> ComparisonResult:
    """What comes of arms that measured these against the regular one; a None, and what is not there, is waited for."""
    spec = asked(arms=arms(*scores, "regular"), seeds=list(range(seeds)))
    jobs = []
    for arm, values in {**scores, "regular": list(regular)}.items():
        padded = [*values, *[None] * (seeds - len(values))]
        jobs += [
            unfinished(arm, seed, JobState.QUEUED) if value is None else outcome(arm, seed, value)
            for seed, value in enumerate(padded)
        ]
    return result_of(spec, GROUND, jobs)


SURE = [0.9, 0.91, 0.92, 0.91, 0.9]
WORSE = [0.4, 0.42, 0.41, 0.4, 0.41]


def test_no_arm_is_called_better_while_seeds_are_waited_for() -> None:
    running, ended = made({"snn": SURE[:4]}, WORSE, 5), made({"snn": SURE}, WORSE, 5)
    [test] = [test for test in running.tests if test.metric == "accuracy"]
    assert (test.significant, test.better, test.waiting, test.enough_seeds) == (False, None, 1, True)
    assert test.corrected_p is not None
    assert test.corrected_p < 0.05, "it would be, if one looked only now"
    assert running.verdict == (
        "so far snn and regular have on accuracy 0.91 against 0.407 (difference 0.503, 4 seeds, 1 still waited for); "
        "nothing is decided before all have ended."
    )
    assert ended.verdict.startswith("snn is better than regular")


def test_arms_that_are_still_to_come_count_from_the_beginning() -> None:
    others: list[str] = ["b", "c", "d", "e"]
    early = made({"a": SURE[:4], **{name: [] for name in others}}, WORSE, 4)
    late = made({"a": SURE[:4], **{name: [0.41, 0.42, 0.4, 0.41] for name in others}}, WORSE, 4)
    [first], [last] = (
        [test for test in found.tests if test.metric == "accuracy" and test.arm == "a"] for found in (early, late)
    )
    assert first.p is not None
    assert first.corrected_for == last.corrected_for == 5
    assert first.corrected_p == last.corrected_p == pytest.approx(5 * first.p)
    assert (first.significant, first.better) == (last.significant, last.better)


def test_seeds_that_are_waited_for_may_be_enough() -> None:
    [soon] = [test for test in made({"snn": SURE[:1]}, WORSE, 5).tests if test.metric == "accuracy"]
    assert (soon.seeds, soon.waiting, soon.enough_seeds) == (1, 4, True)
    assert "take more" not in made({"snn": SURE[:1]}, WORSE, 5).verdict
    assert "1 seed, 4 still waited for" in made({"snn": SURE[:1]}, WORSE, 5).verdict
    few = made({"snn": SURE[:1]}, WORSE[:2], 2)
    assert "so few seeds cannot show a difference: take more" in few.verdict


def test_what_is_significant_had_enough_seeds() -> None:
    # With three seeds 2 x 2/4^3 is above 5 %, but Holm corrects the second arm for itself alone.
    pairs = [
        Pair("a", "r", "accuracy", {seed: (0.9 + seed / 100, 0.1) for seed in range(9)}, 0, 0, 0),
        Pair("b", "r", "accuracy", {seed: (0.9 + seed / 1000, 0.1) for seed in range(3)}, 0, 0, 0),
    ]
    found = hold_against(pairs, GROUND)
    assert [(test.significant, test.enough_seeds) for test in found] == [(True, True)] * 2


def test_interval_is_not_said_where_it_would_contradict_the_words() -> None:
    equal = made({"snn": [0.5, 0.6, 0.7]}, [0.4, 0.5, 0.6], 3)
    assert equal.verdict == (
        "snn is better than regular on accuracy: 0.6 against 0.5 (difference 0.1, corrected p 0.031, 3 seeds)."
    )
    two = made({"snn": SURE[:2]}, WORSE[:2], 2)
    assert two.verdict == (
        "no significant difference between snn and regular on accuracy: 0.905 against 0.41 (difference 0.495, "
        "corrected p 0.12, 2 seeds); so few seeds could not have shown one: take more."
    )
    assert "95 % interval of this arm alone " in made({"a": SURE, "b": SURE}, WORSE, 5).verdict
    assert "of this arm alone" not in made({"a": SURE}, WORSE, 5).verdict


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (999.4, "999"),
        (999.9, "1,000"),
        (12345.6, "12,346"),
        (0.0123456, "0.0123"),
        (1e200, "1e+200"),
        (-2.5e6, "-2.5e+06"),
    ],
)
def test_numbers_are_short_however_far_they_are(value: float, said: str) -> None:
    pair = Pair("a", "b", "rmse", {0: (value, 0.0)}, 0, 0, 0)
    assert f": {said} against 0 (" in sentence(hold_against([pair], GROUND)[0])


def test_nothing_is_said_where_no_seed_succeeded() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0])
    found = result_of(spec, GROUND, [outcome("snn", 0), unfinished("regular", 0, JobState.CANCELLED)])
    assert found.complete
    assert "no seed succeeded with both" in found.verdict


Draw = Callable[[np.random.Generator, int], Any]
TIMES = 1000
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0.8, 0.02, size),
    "skewed": lambda rng, size: rng.exponential(1.0, size),
    "heavy": lambda rng, size: rng.standard_t(2, size),
    "flat": lambda rng, size: rng.uniform(0, 1, size),
    "two_modes": lambda rng, size: rng.choice([0.1, 0.9], size) + rng.normal(0, 0.01, size),
    "coarse": lambda rng, size: rng.binomial(40, 0.9, size) / 40,
}


def says(rng: np.random.Generator, draw: Draw, seeds: int, arms: int, shift: float = 0.0) -> list[str]:
    """What is said of arms of one kind that are held against another such, or against one that is worse by a shift."""
    reference = draw(rng, seeds) - shift
    pairs = [
        Pair("a", "b", "r2", dict(enumerate(zip(draw(rng, seeds), reference, strict=True))), 0, 0, 0)
        for _ in range(arms)
    ]
    return [sentence(test) for test in hold_against(pairs, GROUND)]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("seeds", "arms"), [(2, 1), (3, 3), (5, 3)])
def test_same_arm_twice_is_said_to_show_no_difference(distribution: str, seeds: int, arms: int) -> None:
    rng = np.random.default_rng(seeds + arms)
    right = [
        all(NO_DIFFERENCE in said for said in says(rng, DISTRIBUTIONS[distribution], seeds, arms)) for _ in range(TIMES)
    ]
    assert sum(right) >= 0.95 * TIMES


@pytest.mark.parametrize(("seeds", "arms", "shift"), [(3, 1, 0.4), (4, 3, 0.2), (5, 3, 0.12), (10, 3, 0.08)])
def test_real_difference_is_found(seeds: int, arms: int, shift: float) -> None:
    rng = np.random.default_rng(seeds)
    found = [said for _ in range(200) for said in says(rng, DISTRIBUTIONS["normal"], seeds, arms, shift)]
    assert sum(said.startswith("a is better than b on r2") for said in found) >= 0.9 * len(found)


@pytest.mark.parametrize(("seeds", "arms"), [(2, 1), (3, 3)])
def test_seeds_that_are_too_few_to_show_anything_are_said_to_be(seeds: int, arms: int) -> None:
    said = says(np.random.default_rng(0), DISTRIBUTIONS["normal"], seeds, arms, shift=100.0)
    assert all(NO_DIFFERENCE in text and "so few seeds could not have shown one" in text for text in said)
    enough = says(np.random.default_rng(0), DISTRIBUTIONS["normal"], 5, 3)
    assert all("so few" not in text for text in enough)
