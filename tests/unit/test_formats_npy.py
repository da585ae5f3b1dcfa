import io
from typing import Any

import numpy as np
import pytest

from service.api.formats import limits
from service.api.formats.npy import read
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, NumericEncoder
from service.domain.errors import InvalidRows, MalformedRequest
from tests.formats import NUMBERS, npy_body, served

ROWS = np.array([[1.5, -2.0, 0.25], [3.0, 1e-30, 7.0]])
SERVED = served(NUMBERS)


def npy(description: str, content: bytes = b"", version: int = 1) -> bytes:
    """A file with any header."""
    head = description.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2 if version == 1 else 4, "little") + head + content


def refusal(body: bytes) -> str:
    with pytest.raises(MalformedRequest) as caught:
        read(body, SERVED)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4", "<f2", "<i8", ">i2", "|u1", "<u8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order_are_read_as_they_are(dtype: str, order: Any) -> None:
    rows = np.asarray(np.abs(ROWS).astype(dtype), order=order)
    np.testing.assert_array_equal(rows.astype(np.float64), read(npy_body(rows), SERVED).encoded())


def test_nothing_is_copied_where_the_body_holds_the_rows() -> None:
    body = bytearray(npy_body(ROWS))
    matrix = read(body, SERVED).matrix
    assert matrix is not None
    assert np.shares_memory(matrix, np.frombuffer(body, np.uint8))


def test_one_row_may_come_alone() -> None:
    np.testing.assert_array_equal(ROWS[:1], read(npy_body(ROWS[0]), SERVED).encoded())


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_is_read_whatever_the_order_of_its_header(version: int) -> None:
    header = "{'shape': (2, 3,), 'fortran_order': False, 'descr': '<f8'}"
    np.testing.assert_array_equal(ROWS, read(npy(header, ROWS.tobytes(), version), SERVED).encoded())


def test_nan_is_a_gap() -> None:
    model = served((NumericEncoder("a", gaps=True, fill=9.0), NumericEncoder("b")))
    assert read(npy_body([[np.nan, 2.0]]), model).encoded().tolist() == [[9.0, 1.0, 2.0]]
    with pytest.raises(InvalidRows, match="row 0, column 'b': is null"):
        read(npy_body([[1.0, np.nan]]), model)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_infinity_is_refused_by_row_and_column(dtype: str) -> None:
    rows = ROWS.astype(dtype)
    rows[1, 2] = np.inf
    with pytest.raises(InvalidRows, match="row 1, column 'c': must lie within"):
        read(npy_body(rows), SERVED)


def test_number_beyond_float32_is_refused() -> None:
    with pytest.raises(InvalidRows, match="row 0, column 'b'"):
        read(npy_body([[1.0, 1e39, 1.0]]), SERVED)


def test_categories_and_booleans_that_are_numbers_are_taken() -> None:
    model = served((CategoricalEncoder("floor", (1, 2), holds="number"), BooleanEncoder("flag")))
    assert read(npy_body([[2, 1], [1, 0]]), model).encoded().tolist() == [[0, 1, 1], [1, 0, 0]]
    with pytest.raises(InvalidRows, match="row 0, column 'flag': must be true or false; got 3"):
        read(npy_body([[2, 3]]), model)


def test_text_cannot_come_as_numbers() -> None:
    with pytest.raises(InvalidRows, match="must be text; got 1"):
        read(npy_body([[1]]), served((CategoricalEncoder("job", ("cook",)),)))


@pytest.mark.parametrize(("shape", "words"), [((2, 2), "has 2 values; the model takes 3"), ((0, 3), "has no rows")])
def test_wrong_shape_is_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidRows, match=words):
        read(npy_body(np.zeros(shape)), SERVED)


def test_too_many_rows_or_cells_are_sent_back() -> None:
    with pytest.raises(InvalidRows, match="at most 100,000"):
        read(npy_body(np.zeros((100_001, 3), np.int8)), SERVED)
    with pytest.raises(InvalidRows, match=f"at most {limits.MAX_CELLS:,} cells"):
        read(npy_body(np.zeros((99_000, 90), np.int8)), SERVED)
    with pytest.raises(InvalidRows, match=f"at most {limits.MAX_CELLS:,} cells"):
        read(npy_body(np.zeros(limits.MAX_CELLS + 1, np.int8)), SERVED)


def test_header_that_claims_more_or_less_than_there_is_is_refused() -> None:
    whole = npy_body(ROWS)
    assert "claims an array of shape (2, 3) and type float64, 48 bytes, and holds 47" in refusal(whole[:-1])
    assert "holds 49" in refusal(whole + b"x")
    huge = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000000), }")
    assert "and holds 0" in refusal(huge)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04", "does not begin as .npy does"),
        (b"\x93NUMPY", "ends within its header"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "ends within its header"),
        (b"\x93NUMPY\x09\x00\x01\x00{\n", "is of version 9"),
        (npy("{'descr': '<f8', 'fortran_order': False}"), "has a header that cannot be read"),
        (npy("{'descr': '<f8', 'fortran_order': 0, 'shape': (1, 3)}"), "has a header that cannot be read"),
        (npy("(" * 3000), "has a header that cannot be read"),
        (npy("[" * 3000), "has a header that cannot be read"),
        (npy("-" * 3000 + "1"), "has a header that cannot be read"),
        (npy("__import__('os').abort()"), "has a header that cannot be read"),
        (npy(" " * 5000), "has a header of 5,001 bytes"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3)}"), "it must hold float16"),
        (npy("{'descr': '<U5', 'fortran_order': False, 'shape': (1, 3)}"), "it must hold float16"),
        (npy("{'descr': '<c16', 'fortran_order': False, 'shape': (1, 3)}"), "it must hold float16"),
        (npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1, 3)}"), "it must hold float16"),
        (npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,)}"), "it must hold float16"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 3)}"), "it must be (rows, columns)"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3)}"), "it must be (rows, columns)"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 3)}"), "it must be (rows, columns)"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}"), "it must be (rows, columns)"),
        (npy("{'descr': '|b1', 'fortran_order': False, 'shape': (1, 3)}", b"\0\1\7"), "neither 0 nor 1 but 7"),
    ],
)
def test_body_that_is_no_array_of_numbers_is_refused_with_the_reason(body: bytes, words: str) -> None:
    assert words in refusal(body)


def test_nothing_is_unpickled() -> None:
    sink = io.BytesIO()
    np.save(sink, np.array([[print, 1]], object), allow_pickle=True)
    assert "objects" in refusal(sink.getvalue())
