"""Calibration against values worked out by hand, and against what it must be for answers that are right."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from workers import calibration

# Six rows, two classes. Bins of 1/15: 0.55 and 0.58 lie in bin 8 (0.533 to 0.6), 0.9 and 0.92 in bin 13 (0.867 to
# 0.933), 1.0 in bin 14, and 0.6, at the end of bin 8, belongs to it.
PROBABILITIES = np.array([[0.55, 0.45], [0.42, 0.58], [0.9, 0.1], [0.08, 0.92], [1.0, 0.0], [0.4, 0.6]])
TRUTH = np.array([0, 0, 0, 1, 0, 1])


def test_classification_by_hand() -> None:
    measured = calibration.of_classes(TRUTH, PROBABILITIES)
    assert measured["rows"] == 6
    bins = {row["bin"]: row for row in measured["bins"]}
    assert len(bins) == 15
    assert {number: row["rows"] for number, row in bins.items() if row["rows"]} == {8: 3, 13: 2, 14: 1}
    assert bins[8]["confidence"] == pytest.approx((0.55 + 0.58 + 0.6) / 3)
    assert bins[8]["accuracy"] == pytest.approx(2 / 3)
    assert (bins[13]["confidence"], bins[13]["accuracy"]) == (pytest.approx(0.91), 1.0)
    assert (bins[14]["above"], bins[14]["to"]) == (pytest.approx(14 / 15), 1.0)
    assert (bins[0]["confidence"], bins[0]["accuracy"]) == (None, None)
    by_hand = 3 / 6 * abs(1.73 / 3 - 2 / 3) + 2 / 6 * 0.09 + 1 / 6 * 0.0
    assert measured["expected_calibration_error"] == pytest.approx(by_hand)
    squares = 2 * np.array([0.45, 0.58, 0.1, 0.08, 0.0, 0.4]) ** 2
    assert measured["brier"] == pytest.approx(squares.mean())
    losses = -np.log([0.55, 0.42, 0.9, 0.92, 1.0, 0.6])
    assert measured["log_loss"] == pytest.approx(losses.mean())


def test_three_classes_by_hand() -> None:
    measured = calibration.of_classes(np.array([2, 1]), np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]], np.float32))
    assert measured["brier"] == pytest.approx((0.04 + 0.09 + 0.25 + 0.49 + 0.64 + 0.01) / 2)
    assert measured["expected_calibration_error"] == pytest.approx((0.5 + 0.7) / 2)


def test_certain_and_wrong_has_a_finite_loss() -> None:
    measured = calibration.of_classes(np.array([1]), np.array([[1.0, 0.0]]))
    assert measured["log_loss"] == pytest.approx(-math.log(1e-12))
    assert (measured["brier"], measured["expected_calibration_error"]) == (2.0, 1.0)


def test_weights_count_rows_as_often_as_they_say() -> None:
    weights = np.array([2, 1, 3, 1, 1, 2])
    often = np.repeat(np.arange(6), weights)
    measured = calibration.of_classes(TRUTH, PROBABILITIES, weights)
    repeated = calibration.of_classes(TRUTH[often], PROBABILITIES[often])
    for name in ("expected_calibration_error", "brier", "log_loss"):
        assert measured[name] == pytest.approx(repeated[name])
    truth, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 2.0])
    weights = np.array([1, 3, 2])
    often = np.repeat(np.arange(3), weights)
    one = calibration.of_numbers(truth, predicted, 2.0, weights)
    other = calibration.of_numbers(truth[often], predicted[often], 2.0)
    for name in ("mean_residual", "residual_std", "within_one_std"):
        assert one[name] == pytest.approx(other[name])
    assert one["absolute_residual"] == other["absolute_residual"]


def test_row_without_weight_is_not_looked_at() -> None:
    measured = calibration.of_classes(TRUTH, PROBABILITIES, np.array([1, 1, 1, 1, 0, 1]))
    assert [row["rows"] for row in measured["bins"] if row["rows"]] == [3, 2]
    assert measured["bins"][14]["confidence"] is None


def test_probabilities_that_come_true_have_no_error_left_but_chance() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((1.0, 1.0, 1.0), size=40_000)
    truth = (probabilities.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)
    honest = calibration.of_classes(truth, probabilities)
    assert honest["expected_calibration_error"] < 0.02
    bold = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    boasting = calibration.of_classes(truth, bold)
    assert boasting["expected_calibration_error"] > 0.1
    assert boasting["brier"] > honest["brier"]
    assert boasting["log_loss"] > honest["log_loss"]


def test_regression_by_hand() -> None:
    truth = np.array([1.0, 2.0, 3.0, 10.0])
    predicted = np.array([2.0, 2.0, 1.0, 7.0])  # residuals -1, 0, 2, 3
    measured = calibration.of_numbers(truth, predicted, scale=4.0)
    assert measured["mean_residual"] == pytest.approx(1.0)
    deviation = math.sqrt((4 + 1 + 1 + 4) / 4)
    assert measured["residual_std"] == pytest.approx(deviation)
    assert (measured["within_one_std"], measured["within_two_std"]) == (0.5, 1.0)
    assert measured["absolute_residual"] == [
        {"share": 0.5, "at_most": pytest.approx(1.0)},
        {"share": 0.8, "at_most": pytest.approx(3.0)},
        {"share": 0.9, "at_most": pytest.approx(3.0)},
        {"share": 0.95, "at_most": pytest.approx(3.0)},
    ]


def test_normal_residuals_lie_where_the_normal_distribution_says() -> None:
    residuals = np.random.default_rng(1).normal(0.0, 5.0, 20_000)
    measured = calibration.of_numbers(residuals, np.zeros(20_000), scale=3.0)
    assert measured["within_one_std"] == pytest.approx(0.683, abs=0.015)
    assert measured["within_two_std"] == pytest.approx(0.954, abs=0.01)
    for item in measured["absolute_residual"]:
        assert item["at_most"] == pytest.approx(5.0 * NormalDist().inv_cdf((1 + item["share"]) / 2), rel=0.05)


def test_one_row_and_residuals_beyond_float64() -> None:
    one = calibration.of_numbers(np.array([3.0]), np.array([1.0]), scale=1.0)
    assert (one["mean_residual"], one["residual_std"], one["within_one_std"]) == (2.0, 0.0, 0.0)
    far = calibration.of_numbers(np.array([1e200, -1e200]), np.zeros(2), scale=1e199)
    assert far["residual_std"] == pytest.approx(1e200)
