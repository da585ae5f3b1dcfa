import json
from typing import Any

import numpy as np
import pytest

from service.domain.cells import Coded, numbers_among
from service.domain.encoders import (
    DAY_PARTS,
    TIME_PARTS,
    BooleanEncoder,
    CategoricalEncoder,
    DateEncoder,
    Encoder,
    NumericEncoder,
    Quantile,
    Robust,
    date_parts,
    encode,
    from_json,
    to_json,
)

ENCODERS: tuple[Encoder, ...] = (
    NumericEncoder("plain"),
    NumericEncoder("gappy", gaps=True, fill=2.0, missing_tokens=("?",)),
    NumericEncoder("robust", transform=Robust(1.0, 2.0)),
    NumericEncoder("quantile", transform=Quantile((0.0, 1.0, 10.0), (-2.0, 0.0, 2.0))),
    BooleanEncoder("flag", gaps=True, fill=0.25),
    CategoricalEncoder("text", ("x", "y"), other=True, gaps=True, rare=("z",)),
    CategoricalEncoder("number", (1, 2.5)),
    CategoricalEncoder("boolean", (False, True)),
    DateEncoder("day", "%d.%m.%Y"),
    DateEncoder("moment", "iso", has_time=True, gaps=True, fill=(0.5,) * 9),
)


def objects(*cells: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def test_encoders_survive_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(ENCODERS)))) == ENCODERS


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_names_are_as_many_as_encoded_columns(encoder: Encoder) -> None:
    cells = {"numeric": 1.0, "boolean": True, "categorical": "x", "date": "01.02.2020"}
    assert encoder.encode(objects(cells[encoder.kind])).shape == (1, len(encoder.columns))


def test_gap_becomes_the_mean_and_is_marked() -> None:
    encoded = NumericEncoder("n", gaps=True, fill=2.5).encode(np.array([1.0, np.nan]))
    assert encoded.tolist() == [[1.0, 0.0], [2.5, 1.0]]
    assert BooleanEncoder("b", gaps=True, fill=0.5).encode(objects(True, None)).tolist() == [[1, 0], [0.5, 1]]


def test_categories_are_one_hot_and_unseen_ones_share_a_column() -> None:
    shared = CategoricalEncoder("c", ("x", "y"), other=True, gaps=True)
    assert shared.columns == ("c = x", "c = y", "c: other", "c: missing")
    assert shared.encode(objects("y", "q", None)).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    alone = CategoricalEncoder("c", ("x", "y"))
    assert alone.encode(objects("x", "q")).tolist() == [[1, 0], [0, 0]]


def test_numbers_as_categories_are_known_as_integers_and_floats() -> None:
    encoder = CategoricalEncoder("c", (1, 2), gaps=True)
    expected = [[1, 0, 0], [0, 1, 0]]
    assert encoder.encode(np.array([1, 2])).tolist() == expected
    assert encoder.encode(np.array([1.0, 2.0, np.nan])).tolist() == [*expected, [0, 0, 1]]


@pytest.mark.parametrize(
    "encoder", [CategoricalEncoder("c", ("x", "y"), other=other, gaps=True) for other in (False, True)]
)
def test_coded_cells_are_encoded_as_cells_are(encoder: CategoricalEncoder) -> None:
    cells = ["y", None, "new", "x", "y"]
    coded = Coded(("x", "new", "y"), np.array([2, -1, 1, 0, 2], np.int32))
    np.testing.assert_array_equal(encoder.encode(objects(*cells)), encoder.encode(coded))
    np.testing.assert_array_equal(encoder.encode(objects(*cells[1:3])), encoder.encode(coded[1:3]))


def test_moments_are_encoded_as_their_texts_are() -> None:
    encoder = DateEncoder("d", "iso", has_time=True, gaps=True, fill=tuple(range(9)))
    moments = np.array(["2020-02-29T18:00", "NaT"], "datetime64[us]")
    np.testing.assert_array_equal(encoder.encode(objects("2020-02-29T18:00", None)), encoder.encode(moments))


def test_numbers_among_words_for_gaps_are_finite() -> None:
    assert numbers_among(("?", "-999", "1e3", "nan", "inf", "")) == {-999.0, 1000.0}


def test_robust_scaling_bends_far_values_softly() -> None:
    robust = Robust(center=10.0, scale=2.0)
    near, far, farther = robust.apply(np.array([11.0, 1e4, 1e300]))
    assert near == pytest.approx(0.5 / np.sqrt(1 + (0.5 / 3) ** 2))
    assert 2.99 < far < farther <= 3.0


def test_quantiles_map_in_straight_lines_and_end_at_the_ends() -> None:
    mapped = Quantile((0.0, 1.0, 10.0), (-2.0, 0.0, 2.0)).apply(np.array([-5.0, 0.5, 1.0, 5.5, 99.0]))
    assert mapped.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]


def test_dates_come_apart_into_parts() -> None:
    moments = np.array(["2020-02-29T18:00", "1969-12-31T00:00"], "datetime64[us]")
    parts = dict(zip(DAY_PARTS + TIME_PARTS, date_parts(moments, has_time=True).T.tolist(), strict=True))
    assert parts["days"] == [18321.75, -1.0]
    assert parts["year"] == [2020, 1969]
    assert parts["day"] == [29, 31]
    february, saturday = 2 * np.pi / 12, 2 * np.pi * 5 / 7
    assert parts["month_sin"][0] == pytest.approx(np.sin(february))
    assert parts["month_cos"][0] == pytest.approx(np.cos(february))
    assert parts["weekday_sin"][0] == pytest.approx(np.sin(saturday))
    assert (parts["hour_sin"][0], parts["hour_cos"][0]) == (pytest.approx(-1), pytest.approx(0))


def test_missing_date_becomes_the_mean_of_every_part() -> None:
    encoder = DateEncoder("d", "iso", gaps=True, fill=tuple(range(7)))
    assert encoder.encode(objects(None)).tolist() == [[*range(7), 1]]


def test_columns_lie_side_by_side_in_order() -> None:
    columns = {"b": objects(True, False), "a": np.array([1, 2]), "c": objects("y", "x")}
    encoders: list[Encoder] = [NumericEncoder("a"), CategoricalEncoder("c", ("x", "y")), BooleanEncoder("b")]
    assert encode(columns, encoders).tolist() == [[1, 0, 1, 1], [2, 1, 0, 0]]
