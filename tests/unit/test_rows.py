from typing import Any

import numpy as np
import pytest

from service.domain.errors import InvalidRows
from service.domain.models import Inputs
from service.inference.rows import MAX_VIOLATIONS, matrix

INPUTS = Inputs(("a", "b", "flag"), ("numeric", "numeric", "boolean"), (0.0,) * 3, (1.0,) * 3)


def problems(*instances: Any) -> list[str]:
    with pytest.raises(InvalidRows) as caught:
        matrix(list(instances), INPUTS)
    return [item.detail for item in caught.value.violations]


def test_arrays_and_objects_in_any_order_of_keys_agree() -> None:
    expected = np.array([[1.0, 2.5, 1.0]])
    np.testing.assert_array_equal(expected, matrix([[1, 2.5, True]], INPUTS))
    np.testing.assert_array_equal(expected, matrix([{"flag": 1, "b": 2.5, "a": 1}], INPUTS))


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ([1, 2], "row 0 has 2 values; the model takes 3: 'a', 'b', 'flag'"),
        ([1, 2, 3, 4], "row 0 has 4 values"),
        ([True, 2, 1], "row 0, column 'a': must be a number; got true"),
        ([1, "2", 1], "row 0, column 'b': must be a number; got '2'"),
        ([1, None, 1], "row 0, column 'b': is null"),
        ([1, 2, 5], "row 0, column 'flag': must be true or false; got 5"),
        ([1, 2, None], "row 0, column 'flag': must be true or false; got null"),
        ([1, 1e39, 1], "row 0, column 'b': must lie within"),
        ([1, 10**30 * 10**30, 1], "row 0, column 'b': must lie within"),
        ([1, float("nan"), 1], "row 0, column 'b': must lie within"),
        ([[1], 2, 1], "row 0, column 'a': must be a number"),
        ({"a": 1, "b": 2}, "row 0 lacks the column(s) 'flag'"),
        ({"a": 1, "b": 2, "flag": 0, "c": 3}, "does not take: 'c'"),
        (7, "row 0 must be an array of 3 numbers or an object"),
    ],
)
def test_error_names_row_column_and_what_came(instance: Any, words: str) -> None:
    [problem] = problems(instance)
    assert words in problem


def test_no_rows_are_an_error() -> None:
    assert problems() == ["has no rows; send at least one"]


def test_too_many_rows_are_sent_back() -> None:
    assert "at most 100,000" in problems(*[[1, 2, True]] * 100_001)[0]


def test_later_rows_are_named_and_the_list_ends() -> None:
    assert "row 1," in problems([1, 2, True], [1, "x", True])[0]
    assert len(problems(*[[1]] * 1000)) == MAX_VIOLATIONS
