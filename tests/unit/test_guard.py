"""What a version was asked, held against its training rows."""

import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.cells import FLOAT32_MAX
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.models import Inputs
from service.inference.guard import FAR, MAX_WARNINGS, RECENT_ROWS, InputGuard, Recent, drift

PLAIN = Inputs((NumericEncoder("a"), NumericEncoder("b")), (10.0, -2.0), (2.0, 0.5))
CONSTANT = 1e300


def guard_of(inputs: Inputs = PLAIN, **known: bool) -> InputGuard:
    return InputGuard(inputs, **{"is_standardized": True, "is_self_normalizing": True, **known})


def rows_of(inputs: Inputs, count: int, shift: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Rows as training saw them, or shifted by so many standard deviations."""
    standard = np.random.default_rng(seed).normal(size=(count, len(inputs.mean)))
    return np.asarray((standard + shift) * np.array(inputs.scale) + np.array(inputs.mean))


def taken(guard: InputGuard, *batches: NDArray[np.float64]) -> InputGuard:
    for batch in batches:
        guard.take(batch)
    guard.digest()
    return guard


def said(guard: InputGuard) -> tuple[str, ...]:
    return guard.warnings


def has_news(guard: InputGuard) -> bool:
    return guard.is_changed


def test_bounds_are_eight_deviations_from_the_mean() -> None:
    guard = guard_of()
    assert guard.low.tolist() == [10 - FAR * 2, -2 - FAR * 0.5]
    assert guard.high.tolist() == [10 + FAR * 2, -2 + FAR * 0.5]
    edges = np.array([[26.0, -2.0], [-6.0, 2.0], [10.0, -6.0]])
    assert guard.are_near(edges)
    assert guard.look_at(edges) == []
    for place in (0, 1):
        for beyond in (np.nextafter(guard.high, np.inf), np.nextafter(guard.low, -np.inf), [np.nan] * 2, [np.inf] * 2):
            row = np.array([[10.0, -2.0]])
            row[0, place] = beyond[place]
            assert not guard.are_near(row)


def test_far_values_are_named_by_row_and_column_and_counted() -> None:
    guard = guard_of()
    rows = np.array([[10.0, -2.0], [110.0, -2.0], [10.0, 2.5], [-90.0, -2.0]])
    first, second, third = guard.look_at(rows, first_row=1024)
    assert first.startswith("row 1025, column 'a': lies 50 standard deviations above the mean")
    assert second.startswith("row 1026, column 'b': lies 9 standard deviations above the mean")
    assert third.startswith("row 1027, column 'a': lies 50 standard deviations below the mean")
    guard.look_at(np.array([[110.0, 100.0]]))
    assert guard.far_rows == 4
    assert dict(guard.far) == {"a": 3, "b": 2}


def test_no_more_than_twenty_far_values_are_said_and_all_are_counted() -> None:
    guard = guard_of()
    assert len(guard.look_at(np.full((5000, 2), 1e6))) == MAX_WARNINGS
    assert (guard.far_rows, guard.counts()["far"]) == (5000, {"a": 5000, "b": 5000})


def test_column_that_training_saw_constant_is_never_far_and_has_no_moments() -> None:
    inputs = Inputs((NumericEncoder("a"), NumericEncoder("b")), (1.0, 7.0), (1.0, CONSTANT))
    guard = guard_of(inputs)
    assert guard.are_near(np.array([[1.0, 7e30], [1.0, -FLOAT32_MAX]]))
    taken(guard, np.tile([1.0, 7e30], (200, 1)))
    assert guard.recent.columns == ("a",)
    only_constant = guard_of(Inputs((NumericEncoder("b"),), (7.0,), (CONSTANT,)))
    taken(only_constant, np.full((200, 1), 8.0))
    assert (only_constant.recent.rows, only_constant.recent.mean, only_constant.warnings) == (200, (), ())


def test_columns_of_zero_and_one_are_never_far() -> None:
    encoders = (
        NumericEncoder("n", gaps=True, fill=5.0),
        BooleanEncoder("b"),
        CategoricalEncoder("c", ("x", "y"), other=True, gaps=True),
        DateEncoder("d", "%Y-%m-%d"),
    )
    width = sum(encoder.width for encoder in encoders)
    inputs = Inputs(encoders, (0.001,) * width, (0.01,) * width)  # a rare 1 is a hundred deviations away
    guard = guard_of(inputs)
    row = np.zeros((1, width))
    row[0, 1:7] = 1.0
    row[0, 9:] = 1.0  # month, day, weekday
    assert guard.are_near(row)
    far = [name for name, is_far in zip(inputs.encoded, (guard.high < FLOAT32_MAX).tolist(), strict=True) if is_far]
    assert far == ["n", "d: days", "d: year"]


def test_without_standardization_nothing_is_far_and_no_moments_are_told() -> None:
    guard = guard_of(is_standardized=False)
    assert guard.are_near(np.array([[FLOAT32_MAX, -FLOAT32_MAX]]))
    assert not guard.are_near(np.array([[1e39, 0.0]]))
    taken(guard, rows_of(PLAIN, 500, shift=3))
    assert (guard.recent, guard.warnings) == (Recent(500, unseen_share={}), ())


def test_moments_are_those_of_the_standardized_rows() -> None:
    guard = taken(guard_of(), rows_of(PLAIN, 300, seed=1), rows_of(PLAIN, 500, shift=1, seed=2))
    given = np.concatenate([rows_of(PLAIN, 300, seed=1), rows_of(PLAIN, 500, shift=1, seed=2)])
    standard = (given - np.array(PLAIN.mean)) / np.array(PLAIN.scale)
    assert guard.recent.rows == 800
    assert np.allclose(guard.recent.mean, standard.mean(axis=0))
    assert np.allclose(guard.recent.variance, standard.var(axis=0))
    assert np.allclose(guard.recent.overall, (standard.mean(), standard.var()))


@pytest.mark.parametrize("batch", [1, 7, 49, 50, 51, 999, 1000, 1001, 20_000])
def test_only_about_the_last_thousand_rows_count(batch: int) -> None:
    guard = guard_of()
    guard.take(np.full((3000, 2), 1e6))
    guard.digest()
    for start in range(0, 1100 + batch, batch):
        guard.take(rows_of(PLAIN, batch, seed=start))
        if start % 3 == 0:
            guard.digest()
    guard.digest()
    assert RECENT_ROWS <= guard.recent.rows < RECENT_ROWS + 100
    assert np.abs(guard.recent.mean).max() < 0.2
    assert said(guard) == ()


def test_warning_of_drift_comes_with_a_hundred_rows_and_goes_when_rows_are_as_in_training_again() -> None:
    guard = taken(guard_of(), rows_of(PLAIN, 99, shift=0.5))
    assert said(guard) == ()
    [warning] = taken(guard, rows_of(PLAIN, 1, shift=0.5)).warnings
    assert warning.startswith("the last 100 rows, standardized as in training, have mean 0.")
    taken(guard, rows_of(PLAIN, 200, shift=0.5))
    guard.digest()
    assert said(guard) not in ((), (warning,))
    taken(guard, *(rows_of(PLAIN, 1, seed=seed) for seed in range(1200)))
    assert said(guard) == ()


def test_rows_that_vary_too_little_are_said_too() -> None:
    [warning] = taken(guard_of(), np.tile(PLAIN.mean, (150, 1))).warnings
    assert "have mean 0 and variance 0;" in warning


def test_plain_networks_assume_no_domain() -> None:
    assert taken(guard_of(is_self_normalizing=False), rows_of(PLAIN, 500, shift=3)).warnings == ()


CATEGORIES = Inputs((CategoricalEncoder("c", ("x", "y")), NumericEncoder("n")), (0.5, 0.5, 0.0), (0.5, 0.5, 1.0))


def test_share_of_unseen_categories_is_over_the_last_thousand_rows() -> None:
    guard = guard_of(CATEGORIES, is_self_normalizing=False)

    def ask(rows: int, **unseen: int) -> None:
        guard.take(np.zeros((rows, 3)))
        guard.take_unseen(rows, unseen)
        guard.digest()

    ask(90, c=5)
    assert said(guard) == ()  # few rows
    ask(10, c=1)
    assert guard.recent.unseen_share == {"c": 0.06}
    assert said(guard) == ("column 'c': 6% of the last 100 rows hold categories unknown to training",)
    for _ in range(900):
        ask(1)
    assert guard.recent.unseen_share == {"c": 0.006}
    assert said(guard) == ()
    for _ in range(110):
        ask(1)
    assert guard.recent.unseen_share == {}
    ask(20_000, c=10_000)
    assert guard.recent.unseen_share == {"c": 0.5}
    assert guard.counts()["unseen"] == {"c": 10_006}


def test_news_are_told_once_and_add_up_to_the_counts() -> None:
    guard = guard_of(CATEGORIES)
    assert not has_news(guard)
    total: dict[str, Any] = {"rows": 0, "far": 0, "unseen": 0}
    for number in range(1, 4):
        guard.take(np.zeros((number, 3)))
        guard.take_unseen(number, {"c": 1})
        guard.look_at(np.array([[0, 0, 100.0]]))
        assert has_news(guard)
        news = guard.news()
        assert not has_news(guard)
        assert news == {"rows": number, "far_rows": 1, "far": {"n": 1}, "unseen": {"c": 1}}
        total = {"rows": total["rows"] + number, "far": total["far"] + 1, "unseen": total["unseen"] + 1}
    assert guard.counts() == {"rows": 6, "far_rows": 3, "far": {"n": 3}, "unseen": {"c": 3}}


def test_values_as_far_as_they_can_be_leave_numbers_that_json_has() -> None:
    tiny = Inputs((NumericEncoder("a"), NumericEncoder("b")), (0.0, 0.0), (1e-290, 1e-200))
    guard = taken(guard_of(tiny), np.full((300, 2), FLOAT32_MAX), np.full((300, 2), -FLOAT32_MAX))
    text = json.dumps([guard.recent.to_dict(), guard.recent.overall], allow_nan=False)
    assert Recent.from_dict(json.loads(text)[0]) == guard.recent
    assert len(guard.warnings) == 1


def test_memory_does_not_depend_on_how_large_the_batches_are() -> None:
    width = 100
    inputs = Inputs(tuple(NumericEncoder(f"c{place}") for place in range(width)), (0.0,) * width, (1.0,) * width)
    guard = guard_of(inputs)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for batch in (1, 10, 999, 1000, 1001, 30_000):
            for _ in range(2000 // batch + 2):
                matrix = np.zeros((batch, width))
                for start in range(0, batch, 1024):  # as an answer is made, piece by piece of one large matrix
                    guard.take(matrix[start : start + 1024])
                del matrix
            kept = tracemalloc.get_traced_memory()[0] - before
            assert kept < 3 * RECENT_ROWS * width * 8
        guard.digest()
        assert tracemalloc.get_traced_memory()[0] - before < 500_000  # sums, and none of the rows
    finally:
        tracemalloc.stop()


def test_counts_of_many_threads_add_up_while_others_look() -> None:
    guard = guard_of(CATEGORIES)
    threads, times = 8, 300
    over = threading.Event()

    def ask(_: int) -> None:
        for _ in range(times):
            guard.take(np.zeros((3, 3)))
            guard.take_unseen(3, {"c": 1})
            guard.look_at(np.array([[0, 0, 9.0]]))

    def look(_: int) -> int:
        told = 0
        while not over.is_set():
            guard.digest()
            told += guard.news()["rows"]
            assert guard.recent.rows < RECENT_ROWS + 100
        return told

    with ThreadPoolExecutor(threads + 2) as pool:
        lookers = [pool.submit(look, number) for number in range(2)]
        list(pool.map(ask, range(threads)))
        over.set()
        told = sum(looker.result() for looker in lookers)
    asked = threads * times
    assert guard.counts() == {"rows": 3 * asked, "far_rows": asked, "far": {"n": asked}, "unseen": {"c": asked}}
    assert told + guard.news()["rows"] == 3 * asked


def test_moments_round_trip_and_nothing_is_read_from_nothing() -> None:
    guard = taken(guard_of(), rows_of(PLAIN, 120))
    assert Recent.from_dict(guard.recent.to_dict()).to_dict() == guard.recent.to_dict()
    assert Recent.from_dict({}) == Recent(0)
    assert drift(Recent(0), is_self_normalizing=True) == []
