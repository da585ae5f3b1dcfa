import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import MalformedRequest
from service.domain.strict_json import MAX_DEPTH, crowd, loads


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ('\ufeff{"a": 1}'.encode(), "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": [1, -Infinity]}', "-Infinity"),
        (b'{"a": 1e400}', "beyond"),
        (b'{"a": [0.5, -1e400]}', "beyond"),
        (b"[" + b"1" * 400 + b"]", "beyond"),
        (b'{"a": ' + b"1" * 5000 + b"}", "too many digits"),
        (b"[" * 100_000, "nests deeper"),
        (b"[" * 17 + b"]" * 17, "nests deeper"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "x\\u0000y"}', "NUL"),
    ],
)
def test_refused(body: bytes, words: str) -> None:
    with pytest.raises(MalformedRequest, match=words):
        loads(body)


def test_deepest_allowed_nesting() -> None:
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


def test_thirty_digits_are_a_number() -> None:
    assert loads(b"[123456789012345678901234567890]") == [123456789012345678901234567890]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(values)
def test_what_json_can_hold_comes_back(value: object) -> None:
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(("row", "most"), [(b"[]", 800_000), (b"{}", 500_000), (b"[[]]", 400_000)])
def test_arrays_and_objects_are_bounded_by_what_they_take(row: bytes, most: int) -> None:
    assert crowd(row * most) is None
    assert str(crowd(row * (most + 1))).endswith("or some of both are read at once")
