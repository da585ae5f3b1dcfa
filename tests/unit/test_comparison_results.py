"""What a comparison's result says of made-up measurements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.domain.comparison_claims import Claim
from service.domain.comparison_completion import complete_comparison
from service.domain.comparison_results import ComparisonResult, result_of
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparison_verdicts import Pair, hold_against, sentence
from service.domain.comparisons import Ground, JobOutcome
from service.domain.datasets import ARTICLE_TABLES, Column
from service.domain.jobs import JobState
from service.domain.limits import Limits
from tests.factories import make_dataset, numeric

GROUND = Ground(training_rows=120, validation_rows=40, test_rows=40, inputs=4, guess=0.1)
CLASSES = make_dataset(numeric("a"), Column("y", "categorical", "text", missing=0, unique=10), target="y")
NUMBERS = make_dataset(numeric("a"), numeric("y"), target="y")
NO_DIFFERENCE = "no significant difference"


def asked(regression: bool = False, **fields: Any) -> ComparisonSpec:
    dataset = NUMBERS if regression else CLASSES
    spec = ComparisonSpec.model_validate({"dataset": "d1", **fields})
    return complete_comparison(spec, dataset, Limits()).spec


def arms(*names: str) -> dict[str, Any]:
    return {name: {"kind": "mlp"} for name in names}


def outcome(arm: str, seed: int, test: float = 0.5, **values: Any) -> JobOutcome:
    """A training that has succeeded: what the test part gave, and ten epochs on the way to it."""
    curve = values.pop("curve", [test * part / 10 for part in range(1, 11)])
    best_epoch = values.pop("best_epoch", len(curve))
    measured = {
        "best_epoch": best_epoch,
        "best": {"loss": 1.0, "val_loss": 1 - test, "val_accuracy": test, "val_r2": test, "val_rmse": 1 / test},
        "test": {"accuracy": test, "f1": test, "rmse": 1 / test, "loss": None, "loss_not_finite": "nan"},
        "curves": {"val_accuracy": curve, "val_r2": curve, "val_loss": [1 - (value or 0) for value in curve]},
        "seconds": 2.0,
        "verdict": {"status": "held"},
    }
    return JobOutcome(arm, seed, values.pop("state", JobState.SUCCEEDED), **(measured | values))


def unfinished(arm: str, seed: int, state: JobState) -> JobOutcome:
    return JobOutcome(arm, seed, state)


def compared(scores: Mapping[str, Sequence[float]], ground: Ground = GROUND, **fields: Any) -> ComparisonResult:
    """The result of arms that measured these scores, seed by seed."""
    seeds = list(range(len(next(iter(scores.values())))))
    spec = asked(arms=arms(*scores), seeds=seeds, **fields)
    return result_of(spec, ground, [outcome(arm, seed, scores[arm][seed]) for arm in scores for seed in seeds])


def test_arms_are_summarized_by_metric() -> None:
    found = compared({"snn": [0.8, 0.9], "regular": [0.4, 0.6]})
    snn, regular = found.arms
    assert found.complete
    assert found.metric == "accuracy"
    assert found.higher_is_better
    assert snn.metrics["accuracy"].mean == pytest.approx(0.85)
    assert snn.metrics["accuracy"].by_seed == {0: 0.8, 1: 0.9}
    assert snn.metrics["accuracy"].standard_deviation == pytest.approx(0.05 * 2**0.5)
    assert snn.metrics["val_loss"].mean == pytest.approx(0.15)
    assert "loss_not_finite" not in snn.metrics
    assert snn.metrics["loss"].by_seed == {0: None, 1: None}
    assert snn.metrics["loss"].mean is None
    assert (snn.seconds.mean, snn.verdicts) == (2.0, {0: {"status": "held"}, 1: {"status": "held"}})
    assert (snn.succeeded, snn.failed) == (2, 0)
    assert regular.epochs_saved is None
    assert found.depths is None
    assert found.claims is None


def test_regression_is_judged_by_rmse_where_less_is_better() -> None:
    spec = asked(regression=True, arms=arms("snn", "regular"), seeds=[0, 1, 2, 3])
    jobs = [
        outcome(arm, seed, test + seed / 100) for arm, test in (("snn", 0.9), ("regular", 0.3)) for seed in range(4)
    ]
    found = result_of(spec, GROUND, jobs)
    assert (found.metric, found.higher_is_better, found.level_metric) == ("rmse", False, "val_r2")
    assert found.verdict.startswith("snn is better than regular on rmse: 1.09 against 3.18 (difference -2.09, 95 % ")
    [test] = [test for test in found.tests if test.metric == "rmse"]
    assert (test.better, test.significant) == ("snn", True)
    assert test.difference is not None
    assert test.difference < 0
    assert found.ranks is not None
    assert found.ranks.average == {"snn": 1.0, "regular": 2.0}


def test_without_a_test_part_the_validation_part_decides() -> None:
    ground = Ground(120, 40, 0, 4, 0.1)
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1])
    made = [outcome(arm, seed, score) for arm, score in (("snn", 0.9), ("regular", 0.3)) for seed in (0, 1)]
    found = result_of(spec, ground, [replace(job, test=None) for job in made])
    assert found.metric == "val_accuracy"
    assert "on val_accuracy" in found.verdict
    assert found.ranks is not None


def test_epochs_saved_are_paired_by_seed() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1])
    best = {"snn": (5, 4), "regular": (10, 5)}
    jobs = [outcome(arm, seed, best_epoch=best[arm][seed]) for arm in best for seed in (0, 1)]
    snn = result_of(spec, GROUND, jobs).arms[0]
    assert snn.best_epoch.by_seed == {0: 5, 1: 4}
    assert snn.epochs_saved is not None
    assert snn.epochs_saved.by_seed == pytest.approx({0: 0.5, 1: 0.2})
    assert snn.epochs_saved.mean == pytest.approx(0.35)


def test_levels_lie_between_guessing_and_the_common_best_and_no_dead_arm_drags_them_down() -> None:
    dead, slow, fast = [0.1] * 10, [0.05 * epoch for epoch in range(1, 11)], [0.6, 0.7, 0.8, 0.9]
    spec = asked(arms=arms("dead", "slow", "fast"), seeds=[0, 1])
    curves = {"dead": dead, "slow": slow, "fast": fast}
    jobs = [outcome(arm, seed, curve=curves[arm]) for arm in curves for seed in (0, 1)]
    found = result_of(spec, GROUND, jobs)
    assert found.levels == pytest.approx([0.1 + part * 0.4 for part in (0.9, 0.95, 0.99)])
    reached = {arm.arm: arm.epochs_to_level for arm in found.arms}
    assert [level.mean for level in reached["dead"]] == [None] * 3
    assert [level.by_seed for level in reached["fast"]] == [{0: 1, 1: 1}] * 3
    assert [level.mean for level in reached["slow"]] == [10.0, 10.0, 10.0]
    assert [level.reached for level in reached["slow"]] == [2, 2, 2]


def test_every_seed_that_has_learned_reaches_the_levels() -> None:
    spec = asked(arms=arms("a", "b"), seeds=[0, 1])
    best = {("a", 0): 0.9, ("a", 1): 0.8, ("b", 0): 0.6, ("b", 1): 0.12}
    jobs = [outcome(arm, seed, curve=[0.1, score]) for (arm, seed), score in best.items()]
    found = result_of(spec, GROUND, jobs)
    assert found.levels == pytest.approx([0.1 + part * 0.5 for part in (0.9, 0.95, 0.99)])
    a, b = (arm.epochs_to_level[-1] for arm in found.arms)
    assert (a.mean, a.by_seed) == (2.0, {0: 2, 1: 2})
    assert (b.mean, b.reached, b.by_seed) == (None, 1, {0: 2, 1: None})


def test_levels_can_be_named_and_a_mean_needs_every_seed() -> None:
    spec = asked(arms=arms("snn"), seeds=[0, 1], levels=[0.3, 0.7])
    found = result_of(spec, GROUND, [outcome("snn", 0, curve=[0.2, 0.4, 0.8]), outcome("snn", 1, curve=[None, 0.5])])
    low, high = found.arms[0].epochs_to_level
    assert (low.level, low.mean, low.by_seed) == (0.3, 2.0, {0: 2, 1: 2})
    assert (high.level, high.mean, high.reached, high.by_seed) == (0.7, None, 1, {0: 3, 1: None})


def test_there_are_no_levels_where_nothing_has_learned() -> None:
    spec = asked(arms=arms("a", "b"), seeds=[0])
    found = result_of(spec, GROUND, [outcome("a", 0, curve=[0.05, 0.1]), outcome("b", 0, curve=[0.1])])
    assert found.levels == []


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
    assert (test.seeds, test.left_out, test.waiting) == (2, 1, 0)
    assert test.mean == pytest.approx(0.895)
    assert "2 seeds, 1 left out because a job failed or was cancelled" in found.verdict
    assert found.complete
    assert [(arm.succeeded, arm.failed) for arm in found.arms] == [(3, 0), (2, 1)]
    assert found.ranks is not None
    assert found.ranks.seeds == 2


def test_result_of_jobs_that_run_is_incomplete() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1])
    jobs = [outcome("snn", 0, 0.9), unfinished("snn", 1, JobState.RUNNING)]
    jobs += [unfinished("regular", seed, JobState.QUEUED) for seed in (0, 1)]
    found = result_of(spec, GROUND, jobs)
    assert not found.complete
    assert found.verdict == "nothing can be said about snn and regular on accuracy yet, 2 still waited for."
    assert found.arms[0].metrics["accuracy"].by_seed == {0: 0.9}
    assert found.ranks is None


def test_nothing_is_said_where_no_seed_succeeded() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0])
    found = result_of(spec, GROUND, [outcome("snn", 0), unfinished("regular", 0, JobState.CANCELLED)])
    assert found.complete
    assert "no seed succeeded with both" in found.verdict


def test_ranks_share_ties() -> None:
    found = compared({"a": [0.9, 0.9], "b": [0.9, 0.5], "c": [0.1, 0.1]})
    assert found.ranks is not None
    assert found.ranks.average == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert found.ranks.critical_difference == pytest.approx(2.343 * 1.0, abs=1e-3)


def test_depth_sweep_holds_arms_of_one_depth_against_each_other_and_predicts_a_horizon() -> None:
    spec = asked(depths=[2, 50], seeds=[0, 1, 2, 3])
    scores = {"snn-2": 0.8, "snn-50": 0.8, "regular-2": 0.8, "regular-50": 0.1}
    jobs = [outcome(arm, seed, score + seed / 1000) for arm, score in scores.items() for seed in range(4)]
    found = result_of(spec, GROUND, jobs)
    assert [(test.arm, test.reference) for test in found.tests if test.metric == "accuracy"] == [
        ("snn-2", "regular-2"),
        ("snn-50", "regular-50"),
    ]
    assert f"{NO_DIFFERENCE} between snn-2 and regular-2" in found.verdict
    assert "snn-50 is better than regular-50" in found.verdict
    assert found.depths is not None
    snn, regular = found.depths
    assert (snn.arm, regular.arm) == ("snn", "regular")
    assert regular.horizon is not None
    assert snn.horizon is None or snn.horizon > regular.horizon
    assert regular.horizon < 50
    assert regular.detail
    assert snn.by_seed[50] == pytest.approx({0: 0.8, 1: 0.801, 2: 0.802, 3: 0.803})
    assert regular.mean == pytest.approx({2: 0.8015, 50: 0.1015})


def of_preset(name: str, snn: Mapping[str, Any], regular: Mapping[str, Any]) -> list[Claim]:
    table = ARTICLE_TABLES[name]
    dataset = make_dataset(*table.columns, rows=70_000, official_test_rows=table.test_rows, target=table.target)
    asked_for = ComparisonSpec.model_validate({"preset": f"article/{name}", "seeds": [0, 1]})
    completed = complete_comparison(asked_for, dataset, Limits())
    twins = {"snn": snn, "regular": regular, "relu_he": {}, "relu_he_batchnorm": {}}
    jobs = [outcome(arm, seed, **values) for arm, values in twins.items() for seed in (0, 1)]
    claims = result_of(completed.spec, completed.ground, jobs).claims
    assert claims is not None
    return claims


def test_fashion_mnist_claims_fewer_iterations_to_the_best_accuracy() -> None:
    [claim] = of_preset("fashion_mnist", {"curve": [0.1, 0.9, 0.8, 0.9]}, {"curve": [0.1, 0.2, 0.3, 0.9]})
    assert (claim.claimed, claim.measured, claim.holds) == (0.28, 0.5, True)
    assert "2 against 4" in claim.detail
    [claim] = of_preset("fashion_mnist", {"curve": [0.1, 0.2, 0.3, 0.9, 0]}, {"curve": [0.1, 0.2, 0.3, 0.4, 0.9]})
    assert claim.measured == pytest.approx(0.2)
    assert claim.holds is False


def test_cifar10_claims_better_curves_and_a_higher_f1() -> None:
    better, worse = {"test": 0.6, "curve": [0.3, 0.6]}, {"test": 0.5, "curve": [0.2, 0.5]}
    throughout, f1 = of_preset("cifar10", better, worse)
    assert (throughout.measured, throughout.holds) == (1.0, True)
    assert f1.measured == pytest.approx(0.2)
    assert f1.holds is True
    throughout, f1 = of_preset("cifar10", {**better, "curve": [0.3, 0.4]}, {**worse, "test": 0.59})
    assert (throughout.measured, throughout.holds) == (0.5, False)
    assert f1.measured == pytest.approx(0.6 / 0.59 - 1)
    assert f1.holds is False


def test_boston_claims_an_earlier_best_epoch() -> None:
    [claim] = of_preset("boston_housing", {"best_epoch": 4}, {"best_epoch": 8})
    assert (claim.claimed, claim.measured, claim.holds) == (0.32, 0.5, True)
    [claim] = of_preset("boston_housing", {"best_epoch": 8}, {"best_epoch": 4})
    assert (claim.measured, claim.holds) == (-1.0, False)


def test_claims_that_nothing_was_measured_for_are_open() -> None:
    claims = of_preset("cifar10", {"state": JobState.FAILED}, {})
    assert [(claim.measured, claim.holds) for claim in claims] == [(None, None)] * 2


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
        Pair("a", "b", "r2", dict(enumerate(zip(draw(rng, seeds), reference, strict=True))), 0, 0) for _ in range(arms)
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
