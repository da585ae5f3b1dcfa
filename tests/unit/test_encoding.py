"""What is fitted on training rows: as scikit-learn fits it, and without keeping others from their work."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

from service import encoding
from service.domain.datasets import Column
from service.domain.encoders import CategoricalEncoder, NumericEncoder, Quantile
from service.domain.spec import PreparationSpec

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


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40).map(lambda cells: array(cells, object))
    | st.lists(st.integers(0, 9), min_size=1, max_size=40).map(lambda cells: array(cells, np.int64)),
    st.integers(1, 5),
    st.sampled_from([1, 20]),
)
def test_rare_categories_share_a_column_as_in_scikit_learn(values: NDArray[Any], most: int, times: int) -> None:
    values = np.repeat(values, times)
    column = Column("a", "categorical", "text" if values.dtype == object else "number", is_integer=True)
    fitted = encoding.fit(column, values, PreparationSpec(max_categories=most))
    fewest = max(1, min(encoding.MIN_ROWS_PER_CATEGORY, int(len(values) * encoding.MIN_SHARE_PER_CATEGORY)))
    expected = OneHotEncoder(max_categories=most + 1, min_frequency=fewest).fit(values[:, None])
    rare = expected.infrequent_categories_[0]
    assert isinstance(fitted, CategoricalEncoder)
    assert fitted.rare == (() if rare is None else tuple(rare.tolist()))
    assert sorted(fitted.categories + fitted.rare) == expected.categories_[0].tolist()


@pytest.mark.parametrize("rows", [2, 7, 255, 256, 257, 5000])
def test_quantiles_are_those_of_scikit_learn(rows: int) -> None:
    random = np.random.default_rng(rows)
    for values in (random.lognormal(size=rows), random.integers(0, 5, rows).astype(float), random.normal(size=rows)):
        if values.min() == values.max():
            continue
        fitted = encoding.fit(Column("a", "numeric"), values, PreparationSpec(numeric="quantile"))
        expected = QuantileTransformer(n_quantiles=min(encoding.QUANTILES, rows), subsample=None).fit(values[:, None])
        assert isinstance(fitted, NumericEncoder)
        assert isinstance(fitted.transform, Quantile)
        assert list(fitted.transform.values) == np.unique(expected.quantiles_).tolist()
