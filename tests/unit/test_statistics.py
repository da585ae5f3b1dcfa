import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.domain.statistics import (
    average_ranks,
    critical_difference,
    holm,
    least_p,
    paired_test,
    studentized_range,
    summarize,
    t_quantile,
    two_sided,
)

NUMBERS = st.lists(st.integers(-1000, 1000), min_size=3, max_size=8, unique=True)


def test_summary_has_the_deviation_of_a_sample_and_students_interval() -> None:
    summary = summarize([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.standard_deviation == pytest.approx(math.sqrt(7 / 3))
    assert summary.confidence_interval is not None
    expected = stats.t.interval(0.95, 2, 7 / 3, math.sqrt(7 / 9))
    assert summary.confidence_interval == pytest.approx(expected)


def test_one_value_has_a_mean_and_nothing_else() -> None:
    assert summarize([3.0]).mean == 3.0
    assert (summarize([3.0]).standard_deviation, summarize([3.0]).confidence_interval) == (None, None)
    assert summarize([]).mean is None


@given(NUMBERS)
def test_without_correction_it_is_the_paired_t_test(values: list[int]) -> None:
    others = [value**2 / 1000 for value in values]
    found = paired_test(values, others)
    expected = stats.ttest_rel(values, others)
    assert found is not None
    assert found.p == pytest.approx(max(expected.pvalue, least_p(len(values))))
    assert found.difference == pytest.approx(np.mean(values) - np.mean(others))
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_correction_widens_the_error_by_the_rows_that_repetitions_share() -> None:
    first, second = [0.90, 0.91, 0.93, 0.89, 0.92], [0.88, 0.90, 0.90, 0.88, 0.89]
    plain, corrected = paired_test(first, second), paired_test(first, second, 0.2 / 0.8)
    assert plain is not None
    assert corrected is not None
    assert corrected.difference == plain.difference == pytest.approx(0.02)
    # s^2 = 1e-4, so that t = 0.02 / sqrt(1e-4 (1/5 + 1/4)).
    assert corrected.p == pytest.approx(2 * stats.t.sf(0.02 / math.sqrt(1e-4 * 0.45), 4))
    assert corrected.p > plain.p
    assert plain.interval is not None
    assert corrected.interval is not None
    assert corrected.interval[0] < plain.interval[0] < plain.interval[1] < corrected.interval[1]


def test_differences_without_variation_decide_by_themselves() -> None:
    same, apart = paired_test([0.5, 0.5], [0.5, 0.5]), paired_test([0.4, 0.7, 0.1], [0.3, 0.6, 0.0])
    assert same is not None
    assert (same.p, same.difference, same.interval) == (1.0, 0.0, None)
    assert apart is not None
    assert apart.p == 2 / 4**3
    assert apart.difference == pytest.approx(0.1)
    assert apart.interval is None, "nothing varies, which does not mean that the true difference is known"


def test_interval_never_leaves_0_out_where_p_could_not() -> None:
    two, three = paired_test([0.9, 0.91], [0.1, 0.12]), paired_test([0.9, 0.91, 0.92], [0.1, 0.12, 0.11])
    assert two is not None
    assert three is not None
    assert (two.p, two.interval) == (2 / 4**2, None)
    assert three.p == 2 / 4**3 < 0.05
    assert three.interval is not None
    assert three.interval[0] > 0


def test_far_numbers_have_an_interval_as_long_as_it_is_of_numbers() -> None:
    near, far = summarize([1.0, 2.0, 4.0]), summarize([1e200, 2e200, 4e200])
    assert far.standard_deviation == pytest.approx((near.standard_deviation or 0) * 1e200)
    assert far.confidence_interval == pytest.approx(tuple(end * 1e200 for end in near.confidence_interval or ()))
    tested = paired_test([1e200, 2e200, 4e200], [0.0, 1e200, 0.0])
    assert tested is not None
    assert tested.interval is not None
    assert all(map(math.isfinite, tested.interval))
    assert summarize([1.5e308, -1.5e308]).confidence_interval is None


def test_p_is_never_below_the_chance_that_trainings_which_die_look_alike() -> None:
    # Both sides work or die by the toss of a coin: in all of n pairs one works and the other dies.
    for pairs in (1, 2, 3, 5):
        tosses = 2 ** (2 * pairs)
        assert least_p(pairs) == min(1.0, 2 / tosses)
    found = paired_test([0.9, 0.91, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1, 0.12])
    assert found is not None
    assert found.p == least_p(5) < 0.05 / 8


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pairs_show_nothing(count: int) -> None:
    assert paired_test([1.0] * count, [2.0] * count) is None


def test_holm_by_hand() -> None:
    # 0.01 x 4, then the greatest so far of 0.03 x 3, 0.04 x 2 and 0.9 x 1.
    found = holm({"c": 0.04, "a": 0.01, "d": 0.9, "b": 0.03})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9})
    assert list(found) == ["c", "a", "d", "b"]
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6))
def test_ranks_are_those_of_scipy(scores: list[list[int]]) -> None:
    expected = np.mean([stats.rankdata([-score for score in row]) for row in scores], axis=0)
    assert average_ranks(scores) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("count", [2, 3, 4, 10, 16])
def test_studentized_range_is_that_of_scipy(count: int) -> None:
    assert studentized_range(count, 0.95) == pytest.approx(stats.studentized_range.ppf(0.95, count, np.inf), abs=1e-4)


def test_critical_difference_is_that_of_the_literature() -> None:
    # Demsar 2006, table 5: q_0.05 = 1.960, 2.343, 2.569 for 2, 3, 4; his example of 4 over 14 data sets gives 1.25.
    for count, q in ((2, 1.960), (3, 2.343), (4, 2.569)):
        assert studentized_range(count, 0.95) / math.sqrt(2) == pytest.approx(q, abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 1) is None
    assert critical_difference(1, 10) is None


DEGREES = (*range(1, 40), 99, 999)


@pytest.mark.parametrize("t", [0.0, 1e-3, 0.1, 1.0, -2.0, 3.0, 10.0, 100.0, 1e5])
def test_tails_of_student_are_those_of_scipy(t: float) -> None:
    for freedom in DEGREES:
        assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-11, abs=1e-290), freedom


def test_quantiles_of_student_are_those_of_scipy() -> None:
    for freedom in DEGREES:
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-11), freedom


@pytest.mark.parametrize("count", [2, 3, 10])
def test_range_of_normal_values_is_that_of_scipy(count: int) -> None:
    assert studentized_range(count, 0.95) == pytest.approx(stats.studentized_range.ppf(0.95, count, np.inf), rel=1e-6)
