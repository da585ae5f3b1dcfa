"""What a comparison's result says of made-up measurements."""

from dataclasses import replace

import pytest

from service.domain.comparison_results import result_of
from service.domain.comparisons import Ground
from service.domain.jobs import JobState
from tests.unit.measured import GROUND, NO_DIFFERENCE, arms, asked, compared, outcome, unfinished


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


def test_arm_that_has_learned_nothing_saves_no_epochs() -> None:
    spec = asked(arms=arms("dead", "snn", "regular"), seeds=[0, 1])
    jobs = [outcome("dead", seed, curve=[0.12, 0.1, 0.1], best_epoch=1) for seed in (0, 1)]
    jobs += [outcome("snn", seed, best_epoch=5) for seed in (0, 1)]
    jobs += [outcome("regular", 0, best_epoch=10), outcome("regular", 1, curve=[0.1] * 10, best_epoch=10)]
    dead, snn, _ = result_of(spec, GROUND, jobs).arms
    assert dead.epochs_saved is not None
    assert snn.epochs_saved is not None
    assert (dead.epochs_saved.mean, dead.epochs_saved.by_seed) == (None, {0: None, 1: None})
    assert (snn.epochs_saved.mean, snn.epochs_saved.by_seed) == (0.5, {0: 0.5, 1: None})


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


def test_result_of_jobs_that_run_is_incomplete() -> None:
    spec = asked(arms=arms("snn", "regular"), seeds=[0, 1])
    jobs = [outcome("snn", 0, 0.9), unfinished("snn", 1, JobState.RUNNING)]
    jobs += [unfinished("regular", seed, JobState.QUEUED) for seed in (0, 1)]
    found = result_of(spec, GROUND, jobs)
    assert not found.complete
    assert found.verdict == "nothing can be said about snn and regular on accuracy yet, 2 still waited for."
    assert found.arms[0].metrics["accuracy"].by_seed == {0: 0.9}
    assert found.ranks is None


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


def test_horizon_is_that_of_the_inputs_moments() -> None:
    spec = asked(depths=[2, 50], seeds=[0], arms={"raw": {"kind": "mlp", "activation": "tanh"}})
    jobs = [outcome(arm, 0, 0.5) for arm in ("raw-2", "raw-50")]
    usual, far = (
        result_of(spec, replace(GROUND, moments=moments), jobs).depths for moments in ({}, {"raw": [0.0, 1e6]})
    )
    assert usual is not None
    assert far is not None
    assert usual[0].detail != far[0].detail
    assert usual[0].horizon != far[0].horizon
