from typing import Any

import numpy as np
import pytest

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.errors import InvalidRows
from service.domain.models import Inputs
from service.inference.columns import MAX_VIOLATIONS
from service.inference.rows import check

INPUTS = Inputs((NumericEncoder("a"), NumericEncoder("b"), BooleanEncoder("flag")), (0.0,) * 3, (1.0,) * 3)
MIXED_ENCODERS = (
    NumericEncoder("age", gaps=True, fill=30.0, missing_tokens=("?", "-999")),
    CategoricalEncoder("job", ("cook", "nurse"), other=True, rare=("diver",)),
    CategoricalEncoder("floor", (1, 2), gaps=True, holds="number"),
    DateEncoder("since", "%d.%m.%Y"),
)
MIXED = Inputs(MIXED_ENCODERS, (0.0,) * 15, (1.0,) * 15)
ROW: dict[str, Any] = {"age": 40, "job": "cook", "floor": 2, "since": "02.01.1970"}
ENCODED = [40.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1970.0]


def problems(*instances: Any, inputs: Inputs = INPUTS) -> list[str]:
    with pytest.raises(InvalidRows) as caught:
        check(list(instances), inputs)
    return [item.detail for item in caught.value.violations]


def test_arrays_and_objects_in_any_order_of_keys_agree() -> None:
    expected = np.array([[1.0, 2.5, 1.0]])
    np.testing.assert_array_equal(expected, check([[1, 2.5, True]], INPUTS).encoded())
    np.testing.assert_array_equal(expected, check([{"flag": 1, "b": 2.5, "a": 1}], INPUTS).encoded())


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ([1, 2], "row 0 has 2 values; the model takes 3: 'a', 'b', 'flag'"),
        ([1, 2, 3, 4], "row 0 has 4 values"),
        ([True, 2, 1], "row 0, column 'a': must be a number; got true"),
        ([1, "2", 1], "row 0, column 'b': must be a number; got '2'"),
        ([1, None, 1], "row 0, column 'b': is null"),
        ([1, 2, 5], "row 0, column 'flag': must be true or false; got 5"),
        ([1, 2, None], "row 0, column 'flag': is null, and training saw no gaps"),
        ([1, 1e39, 1], "row 0, column 'b': must lie within"),
        ([1, 10**30 * 10**30, 1], "row 0, column 'b': must lie within"),
        ([1, float("nan"), 1], "row 0, column 'b': must lie within"),
        ([[1], 2, 1], "row 0, column 'a': must be a number"),
        ({"a": 1, "b": 2}, "row 0 lacks the column(s) 'flag'"),
        ({"a": 1, "b": 2, "flag": 0, "c": 3}, "does not take: 'c'"),
        (7, "row 0 must be an array of 3 values or an object"),
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


def encoded(row: Any) -> list[float]:
    values: list[float] = check([row], MIXED).encoded()[0, :10].tolist()
    return values


def test_mixed_rows_are_encoded_by_name_and_by_order() -> None:
    assert encoded(ROW) == ENCODED
    assert encoded(list(ROW.values())) == ENCODED
    assert encoded(dict(reversed(ROW.items()))) == ENCODED
    assert encoded({**ROW, "since": "1970-01-02"}) == ENCODED, "ISO dates are understood beside the column's own"


@pytest.mark.parametrize("gap", [None, "", "?", " ? ", -999, -999.0])
def test_gap_is_taken_where_training_saw_gaps(gap: Any) -> None:
    assert encoded({**ROW, "age": gap})[:2] == [30.0, 1.0]


def test_column_may_be_left_out_where_training_saw_gaps() -> None:
    rest = {name: value for name, value in ROW.items() if name not in ("age", "floor")}
    assert encoded(rest)[:2] == [30.0, 1.0]
    assert encoded(rest)[5:8] == [0.0, 0.0, 1.0]


def test_unseen_category_is_taken_as_rare_ones_are_and_said() -> None:
    answer = check([ROW, {**ROW, "job": "diver"}, {**ROW, "job": "pilot"}, {**ROW, "floor": 9}], MIXED)
    encoded_rows = answer.encoded()
    assert encoded_rows[1:3, 2:5].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert encoded_rows[3, 5:8].tolist() == [0, 0, 0]
    assert answer.warnings == (
        "row 2, column 'job': 'pilot' was not seen in training and is taken as the rare categories are",
        "row 3, column 'floor': 9 was not seen in training and is taken as none of the known ones",
    )


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"age": "40"}, "row 0, column 'age': must be a number; got '40'"),
        ({"age": True}, "row 0, column 'age': must be a number; got true"),
        ({"job": None}, "row 0, column 'job': is null, and training saw no gaps"),
        ({"job": ""}, "row 0, column 'job': is '', and training saw no gaps"),
        ({"job": 7}, "row 0, column 'job': must be text; got 7"),
        ({"job": ["cook"]}, "row 0, column 'job': must be text; got ['cook']"),
        ({"floor": "2"}, "row 0, column 'floor': must be a number; got '2'"),
        ({"floor": True}, "row 0, column 'floor': must be a number; got true"),
        ({"since": "31.02.2020"}, "row 0, column 'since': must be a date such as 2020-01-31 or as in %d.%m.%Y"),
        ({"since": 5}, "row 0, column 'since': must be a date such as 2020-01-31 or as in %d.%m.%Y; got 5"),
    ],
)
def test_cell_that_a_column_cannot_take_is_named(cells: dict[str, Any], words: str) -> None:
    [problem] = problems({**ROW, **cells}, inputs=MIXED)
    assert words in problem


def test_problems_of_all_columns_come_in_the_order_of_the_rows() -> None:
    found = problems({**ROW, "since": "x"}, {**ROW, "age": "x"}, inputs=MIXED)
    assert [text.split(":")[0] for text in found] == ["row 0, column 'since'", "row 1, column 'age'"]


def test_rows_are_encoded_in_parts_as_they_are_at_once() -> None:
    rows = check([{**ROW, "age": age} for age in range(10)], MIXED)
    parts = [rows.encoded(start, start + 3) for start in range(0, 10, 3)]
    np.testing.assert_array_equal(rows.encoded(), np.concatenate(parts))


def test_category_column_without_known_categories_takes_what_it_is_stored_as() -> None:
    empty = Inputs((CategoricalEncoder("c", (), other=True, gaps=True, holds="number"),), (0.0,) * 2, (1.0,) * 2)
    assert check([[2.0], [None]], empty).encoded().tolist() == [[1, 0], [0, 1]]
    assert "must be a number" in problems(["x"], inputs=empty)[0]
