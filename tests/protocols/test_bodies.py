"""Bodies and binary tensors, read without a server."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.protocols import binary_tensors, bodies
from service.api.protocols.infer_answers import to_json, to_parts
from service.api.protocols.infer_requests import Wanted
from service.api.protocols.text_cells import read_cells
from service.api.rephrasing import Refused
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, NumericEncoder
from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from service.use_cases.serving import Served, Serving
from tests.protocols.models import pictures, register_models


@pytest.fixture
def served(sqlite_database: Database) -> Served:
    register_models(sqlite_database)
    return Serving(sqlite_database).find(DEFAULT_OWNER, "pictures")


@given(st.lists(st.text()))
def test_texts_come_back(texts: list[str]) -> None:
    raw = binary_tensors.write_texts([text.encode() for text in texts])
    assert binary_tensors.read_texts("a", memoryview(raw), len(texts), "m") == texts


@given(st.binary(max_size=40), st.integers(0, 4))
def test_any_bytes_are_texts_or_are_refused(raw: bytes, count: int) -> None:
    with suppress(Refused):
        texts = binary_tensors.read_texts("a", memoryview(raw), count, "m")
        assert binary_tensors.write_texts([text.encode() for text in texts if text is not None]) == raw


@pytest.mark.parametrize("datatype", binary_tensors.NUMBERS)
def test_numbers_come_back(datatype: str) -> None:
    values = np.arange(5).astype(binary_tensors.NUMBERS[datatype])
    found = binary_tensors.read_numbers("a", datatype, memoryview(values.tobytes()), 5, "m")
    assert (found.dtype, found.tolist()) == (np.dtype(np.float64), [0.0, 1.0, 2.0, 3.0, 4.0])


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_json_is_read_alike_with_and_without_gaps(value: Any) -> None:
    text = json.dumps([value, float("nan")], ensure_ascii=False)
    try:
        expected = json.dumps([value, None], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # hypothesis makes no lone surrogates, but escapes may
        return
    if "\\u0000" in text:
        with pytest.raises(bodies.NotJson, match="NUL"):
            bodies.read_json(text.encode())
    else:
        assert bodies.read_json(text.encode()) == bodies.read_json(expected) == [value, None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN NaN",
        b"[NaN, Infinity]",
        b"[NaN, 1e400]",
        b'[NaN, "\\ud800"]',
        b"[NaN, \xff]",
        b"[" * 100_000 + b"NaN",
        b"[" * 30 + b"NaN" + b"]" * 30,
        b"[NaN, " + b"9" * 5000 + b"]",
        b"[NaN, nan]",
    ],
    ids=["empty", "two", "infinity", "overflow", "surrogate", "not UTF-8", "very deep", "deep", "long", "lower case"],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(bodies.NotJson):
        bodies.read_json(body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@given(content=st.binary(max_size=2000))
def test_compressed_comes_back(encoding: str, content: bytes) -> None:
    packed = bodies.compress(content, encoding)
    assert bodies.unpacked(packed, encoding, len(content)) == content
    if content:
        with pytest.raises(Refused, match="when it is decompressed"):
            bodies.unpacked(packed, encoding, len(content) - 1)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_decompress_or_are_refused(body: bytes, encoding: str) -> None:
    with suppress(Refused):
        assert len(bodies.unpacked(body, encoding, 10_000)) <= 10_000


def test_cells_that_came_as_text() -> None:
    numbers = read_cells(NumericEncoder("a", gaps=True), ["1", " 2.5 ", "1e3", "nan", "", "?", "1_0", None])
    assert numbers == [1.0, 2.5, 1000.0, None, "", "?", "1_0", None]
    assert read_cells(BooleanEncoder("a"), ["True", "false", "1", "0", "yes"]) == [True, False, True, False, "yes"]
    assert read_cells(CategoricalEncoder("a", ("00202",)), ["00202", "1"]) == ["00202", "1"]
    assert read_cells(CategoricalEncoder("a", (1, 2), holds="number"), ["1", "2.5"]) == [1, 2.5]


def test_answer_without_binary_parts_is_the_same_in_both_ways(served: Served) -> None:
    values = served.network.run(np.array(pictures(3), np.float64))
    everything = [Wanted("probabilities"), Wanted("label")]
    assert to_parts(served, values, everything, "a", ["odd"]) == [to_json(served, values, "a", ["odd"])]
    found = json.loads(to_json(served, values))
    assert found["model_name"] == "pictures"
    assert np.array_equal(np.float32(found["outputs"][0]["data"]), values.ravel())
