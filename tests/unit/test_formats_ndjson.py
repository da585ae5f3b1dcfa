from typing import Any

import pytest

from service.api.formats import ndjson
from service.api.formats.ndjson import read
from service.domain.errors import InvalidRows, MalformedRequest
from service.inference.rows import MAX_ROWS
from tests.formats import MIXED, NUMBERS, ndjson_body, served

SERVED = served(NUMBERS)


@pytest.mark.parametrize(
    "body",
    [
        b"[1, 2, 3]\n[4, 5, 6]\n",
        b"[1, 2, 3]\r\n\r\n \t[4, 5, 6]",
        b'\xef\xbb\xbf{"c": 3, "a": 1, "b": 2}\n[4, 5, 6]',
        b'{"a": 1, "b": 2, "c": 3}\n{"\\u0061": 4, "b": 5, "c": 6}',
    ],
)
def test_row_a_line_by_order_or_by_name(body: bytes) -> None:
    assert read(body, SERVED).encoded().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_many_lines_are_read_as_one_by_one() -> None:
    rows: list[list[Any]] = [[place, 1.5, "cook", 1, True, None, "01.02.2000"] for place in range(2000)]
    model = served(MIXED)
    whole = read(ndjson_body(rows), model)
    assert whole.encoded().tobytes() == model.reader.check(rows).encoded().tobytes()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b" \n\n", "is empty"),
        (b"[1, 2, 3]\n[1, 2", "line 2 of the body is not JSON"),
        (b"[1, 2, 3]\n\n[1, 2, 3] [4, 5, 6]", "line 3 of the body goes on after its row with '[4, 5, 6]'"),
        (b"[1, 2, 3],\n[4, 5, 6]", "line 1 of the body goes on after its row with ','"),
        (b"[1, 2,\n3]", "line 1 of the body is not JSON: Expecting value at its character 7"),
        (b"[1, 2, NaN]", "line 1 of the body holds NaN"),
        (b"[1, 2, 1e999]", "line 1 of the body holds a number beyond"),
        (b'{"a": 1, "a": 2, "b": 1, "c": 1}', "line 1 of the body has an object with the key 'a' twice"),
        (b'["\\ud800", 2, 3]', "line 1 of the body holds a lone surrogate"),
        (b"[1, 2, 3]\n\xff\xfe", "line 2 of the body is not UTF-8 at its byte 0"),
        (b"[" * 2000 + b"]" * 2000, "line 1 of the body nests deeper than 16"),
        (b"[1, 2, 3], [4, 5, 6]\n[7, 8, 9]", "line 1 of the body goes on after its row"),
        (b"[1, 2, 3]\n[4, 5, 6]\x0b", "line 2 of the body goes on after its row"),
    ],
)
def test_line_that_is_no_row_is_refused_by_its_number(body: bytes, words: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        read(body, SERVED)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"b":2,"c":"x}\n{","d":1}\n{"a":1,"b":2,"c":3},{"a":1,"b":2,"c":3}\n[1,2,3]',
        b"[1,2,3],[1,2,3]\n[[1,2\n3]]",
        b"[1,2,3]]\n[[1,2,3]",
        b"[1,2,3]\n,\n[1,2,3]",
    ],
)
def test_rows_do_not_go_over_lines(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read(body, SERVED)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[1, 2, 3]\n[1, 2]", "row 1 has 2 values"),
        (b"[1, 2, 3]\n7", "row 1 must be an array"),
        (b'{"a": 1, "b": 2}', "row 0 lacks the column"),
        (b'{"a": 1, "b": 2, "c": 3, "price": 3}', "does not take: 'price'"),
        (b"[[1], 2, 3]", "row 0, column 'a': must be a number"),
        (b"[" * 20 + b"]" * 20, "row 0 has 1 values"),
        (b"[1, null, 3]", "row 0, column 'b': is null"),
        (b"[1, 1e39, 3]", "row 0, column 'b': must lie within"),
    ],
)
def test_row_that_the_model_cannot_take_is_named(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRows) as caught:
        read(body, SERVED)
    assert words in str(caught.value)


def test_too_many_lines_are_sent_back_unread() -> None:
    with pytest.raises(InvalidRows, match="at most 100,000"):
        read(b"{\n" * (MAX_ROWS + 1), SERVED)


def test_what_is_read_at_once_changes_nothing() -> None:
    lines = [b'{"a": 1, "b": 2, "c": %d}' % place for place in range(2 * ndjson.LINES_AT_ONCE + 1)]
    assert read(b"\n".join(lines), SERVED).encoded()[:, 2].tolist() == list(range(len(lines)))
