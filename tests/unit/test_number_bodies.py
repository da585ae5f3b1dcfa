import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import strict_json
from service.domain.errors import MalformedRequest
from service.inference.number_bodies import read_many_rows, read_rows
from service.inference.strict_rows import read_fields

ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(
            st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53)),
            min_size=width,
            max_size=width,
        ),
        min_size=1,
        max_size=8,
    )
)
FIELDS = {"model": "m", "version": None}


def body_of(instances: Any, **fields: Any) -> bytes:
    return json.dumps({"instances": instances, **FIELDS, **fields}).encode()


@given(ROWS, st.booleans())
def test_numbers_are_read_as_the_strict_reader_reads_them(rows: list[list[float]], comes_first: bool) -> None:
    fields = {"instances": rows, **FIELDS} if comes_first else {**FIELDS, "instances": rows}
    body = json.dumps(fields, indent=len(rows) % 3 or None).encode()
    expected = np.array(strict_json.loads(body)["instances"], np.float64)
    for read in (read_rows, read_many_rows):
        found = read(body, "instances")
        assert found is not None
        assert found[0] == FIELDS
        assert found[1].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "instances",
    [
        [],
        [1, 2],
        [[1, 2], [3]],
        [[1, [2]]],
        [[[1, 2]]],
        [[1, 2], [[3], 4]],
        [[1, True]],
        [[1, None]],
        [["1"]],
        [{"a": 1}],
        {"a": 1},
        {"a": [], "b": [[1]]},
        7,
        None,
        "x",
        [[10**30]],
    ],
)
def test_what_is_not_rows_of_numbers_is_left_to_the_strict_reader(instances: Any) -> None:
    assert read_rows(body_of(instances), "instances") is None
    assert read_many_rows(body_of(instances), "instances") is None
    assert read_rows(body_of([[1, 2]]), "instances") is not None, "the parser can be used again"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[[1]]",
        b'{"instances":[[1]]',
        b'{"instances":[[1]]} x',
        b'{"instances":[[1] [2]]}',
        b'{"instances":[[1],]}',
        b'{"instances":[[1],,[2]]}',
        b'{"instances":[[1e400]]}',
        b'{"instances":[[NaN]]}',
        b'{"instances":[[01]]}',
        b'\xef\xbb\xbf{"instances":[[1]]}',
        b'{"model":"\xff","instances":[[1]]}',
        b'{"instances":[[1]],"instances":[[2]]}',
        b'{"model":"a","model":"b","instances":[[1]]}',
        b'{"model":{"instances":[[1]]}}',
    ],
)
def test_what_is_not_strict_json_is_left_to_the_strict_reader(body: bytes) -> None:
    assert read_rows(body, "instances") is None
    assert read_many_rows(body, "instances") is None
    found = read_fields(body)
    assert found is None or "instances" not in found


def test_rows_of_many_pieces_come_whole() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 3)).round(3)
    found = read_many_rows(body_of(rows.tolist()), "instances", 10)
    assert found is not None
    np.testing.assert_array_equal(rows, found[1])
    assert read_many_rows(body_of([*rows.tolist(), [1, 2]]), "instances", 10) is None
    assert read_many_rows(body_of([*rows.tolist(), [1, 2, True]]), "instances", 10) is None


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.sampled_from('ab:{}[]",\\é '))
)
OBJECTS = st.lists(st.dictionaries(st.sampled_from(["a", "b:", "c", "{"]), CELLS), min_size=1, max_size=4)


@given(st.one_of(OBJECTS, st.lists(st.lists(CELLS, max_size=3), min_size=1, max_size=4)))
def test_fields_are_read_as_the_strict_reader_reads_them_or_not_at_all(instances: Any) -> None:
    body = body_of(instances, alias="x:y")
    found = read_fields(body)
    try:
        expected = strict_json.loads(body)
    except MalformedRequest:
        assert found is None
        return
    if found is None:
        assert b"\\" in body
    else:
        assert found == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1,"a":2}',
        b'{"a":"x:y","a":2}',
        b'{"a":2,"a":"x:y"}',
        b'{"instances":[{"b":1,"b":2}]}',
        b'{"instances":[{"b":"::","b":2},{"c":":"}]}',
        b'{"instances":[{"b":2,"b":":"}],"c":":"}',
    ],
)
def test_key_that_comes_twice_is_left_to_the_strict_reader(body: bytes) -> None:
    assert read_fields(body) is None
