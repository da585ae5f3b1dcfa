"""The distinct values of a column, which NumPy would find without letting anybody else work."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import encoding

WHOLE = st.integers(-(2**63), 2**63 - 1)


def array(values: list[Any], dtype: Any) -> NDArray[Any]:
    made = np.empty(len(values), dtype)
    made[:] = values
    return made


def column(cells: st.SearchStrategy[Any], dtype: Any) -> st.SearchStrategy[NDArray[Any]]:
    return st.lists(cells, max_size=30).map(lambda values: array(values, dtype))


COLUMNS = st.one_of(
    column(st.text(max_size=3), object),
    column(WHOLE, object),  # beside gaps these are objects, as booleans are
    column(st.booleans(), object),
    column(WHOLE, np.int64),
    column(st.booleans(), bool),
    column(st.floats(allow_nan=False), np.float64),
)


def check(values: NDArray[Any]) -> None:
    labels, places = np.unique(values, return_inverse=True)
    found, codes = encoding.distinct(values)
    assert found == labels.tolist()
    assert [type(label) for label in found] == [type(label) for label in labels.tolist()]
    assert codes.dtype == places.dtype
    np.testing.assert_array_equal(codes, places)


@settings(deadline=None)
@given(COLUMNS)
def test_distinct_values_are_those_of_numpy(values: NDArray[Any]) -> None:
    check(values)


@pytest.mark.parametrize("rows", [encoding.CHUNK_ROWS, 2 * encoding.CHUNK_ROWS + 5000])
def test_distinct_texts_of_many_rows_are_those_of_numpy(rows: int) -> None:
    """Some are seen in the last piece first, and stand before all others."""
    names = [f"label {number}" for number in np.random.default_rng(0).integers(0, 1000, rows - 1)]
    check(array([*names, "a label"], object))


def test_others_may_work_between_the_pieces() -> None:
    calls: list[None] = []
    encoding.distinct(array(["a", "b"] * encoding.CHUNK_ROWS, object), lambda: calls.append(None))
    assert len(calls) >= 2
