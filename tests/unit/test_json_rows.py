import json
import re
from typing import Any

import pytest

from service.domain.errors import InvalidTable
from service.tables import json_rows
from tests.unit.uploads import column, upload

BOTH = pytest.mark.parametrize("form", ["json", "ndjson"])


def written(rows: list[Any], form: str) -> bytes:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return ("[" + ",\n".join(texts) + "]" if form == "json" else "\n".join(texts)).encode()


def refusal(content: bytes, form: Any) -> str:
    with pytest.raises(InvalidTable) as raised:
        upload(content, form)
    (violation,) = raised.value.violations
    assert violation.pointer == "#"
    assert violation.detail.startswith("the file ")
    assert len(violation.detail) < 400
    return violation.detail


@BOTH
def test_rows_come_back_with_their_types(form: Any) -> None:
    rows = [
        {"i": 1, "f": 1, "b": True, "t": "00202", "d": "2020-01-31", "n": None, "e": "NA"},
        {"i": -(2**63), "f": 0.5, "b": None, "t": "7", "d": "2020-02-01T10:00:00Z", "n": None, "e": "?"},
        {"i": 2**63 - 1, "f": None, "b": False, "t": " x", "d": None, "n": None, "e": "x"},
    ]
    table, stored = upload(written(rows, form), form)
    assert stored == rows
    assert [type(cell) for cell in column(stored, "f")[:2]] == [float, float]
    assert [(found.name, found.kind) for found in table.columns] == [
        ("i", "numeric"),
        ("f", "numeric"),
        ("b", "boolean"),
        ("t", "text"),
        ("d", "date"),
        ("n", "text"),
        ("e", "text"),
    ]
    assert table.report.source == {"format": form, "encoding": "utf-8", "bom": False}


@BOTH
def test_absent_keys_and_empty_texts_are_missing_cells(form: Any) -> None:
    _, rows = upload(written([{"a": "x"}, {"b": 1}, {"a": "", "b": None}], form), form)
    assert rows == [{"a": "x", "b": None}, {"a": None, "b": 1}, {"a": None, "b": None}]


@BOTH
def test_words_are_missing_where_the_request_says_so(form: Any) -> None:
    content = written([{"a": "NA", "b": -999, "c": 1.5}, {"a": "x", "b": 3, "c": -999.0}], form)
    table, rows = upload(content, form, missing=("NA", "-999"))
    assert rows == [{"a": None, "b": None, "c": 1.5}, {"a": "x", "b": 3, "c": None}]
    assert [found.missing_tokens for found in table.columns] == [{"NA": 1}, {"-999": 1}, {"-999": 1}]


@BOTH
def test_text_that_is_numbers_becomes_numbers_where_the_request_says_so(form: Any) -> None:
    content = written([{"a": "007"}, {"a": None}, {"a": "1.5"}], form)
    assert column(upload(content, form, kinds={"a": "numeric"})[1]) == [7.0, None, 1.5]


@BOTH
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([1], "holds 1 as row 1; each row must be an object"),
        ([{"a": 1}, [1]], "holds a list as row 2"),
        ([{"a": 1}, None], "holds null as row 2"),
        ([{}], "rows without any cells"),
        ([{"a": 1}, {"a": None}, {"a": "x"}], "holds 'x' in column 'a', row 3, where the rows before hold a number"),
        ([{"a": "x"}, {"a": 1}], "holds 1 in column 'a', row 2, where the rows before hold text"),
        ([{"a": True}, {"a": 1}], "row 2, where the rows before hold true or false"),
        ([{"a": 1}, {"a": [1]}], "a list in column 'a', row 2"),
        ([{"a": {"b": 1}}], "an object in column 'a', row 1"),
        ([{"a": 1}, {"a": 2**63}], "integer of more than 64 bits in column 'a', row 2"),
        ([{"a": 0.5}, {"a": -(2**63) - 1}], "integer of more than 64 bits in column 'a', row 2"),
        ([{"a": 10**400}], "integer of more than 64 bits in column 'a', row 1"),
        (['{"a": ' + "1" * 5000 + "}"], "row 1: it holds a number with too many digits"),
        ([{"a": 1}, '{"a": NaN}'], "row 2: it holds NaN"),
        (['{"a": -Infinity}'], "row 1: it holds -Infinity"),
        (['{"a": 1e400}'], "holds inf in column 'a', row 1"),
        ([{"a": 1}, {"a": 1e39}], "column 'a', row 2; .*float32"),
        (['{"a": 1, "a": 2}'], "row 1: it has an object with the key 'a' twice"),
        ([{"a": "x"}, '{"a": "\\ud800"}'], "lone surrogate, .*column 'a', row 2"),
        ([{"a": "x"}, '{"a": "\\u0000"}'], "NUL character in column 'a', row 2"),
        (['{"a\\u0000": 1}'], "NUL character; .*column name of row 1"),
        (['{"\\ud800": 1}'], "lone surrogate, .*column name of row 1"),
        (["{" + '"a":{' * 100_000], "row 1: it nests deeper"),
        (['{"a": ' + "[" * 100_000], "row 1: it nests deeper"),
        ([{"": 1}], "no name for column 1"),
        ([{"a\r\nb": 1}], "printable characters"),
        ([{f"k{i}": 1 for i in range(20_000)}], "more than 10,000 columns.* row 1"),
        ([{"a": 1}, '{"a" 2}'], "row 2: it is not JSON"),
    ],
)
def test_row_that_makes_no_table_is_named(form: Any, rows: list[Any], words: str) -> None:
    assert re.search(words, refusal(written(rows, form), form))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"[]", "no rows"),
        (b"null", "begins with 'n'"),
        (b'{"a": 1}\n{"a": 2}\n', "begins with '{'; .*application/x-ndjson"),
        (b'[{"a": 1}', "ends after row 1, before its list does"),
        (b'[{"a": 1},', "row 2: it ends within the row"),
        (b'[{"a": 1}, {"a": ', "row 2: it ends within the row|row 2: it is not JSON"),
        (b'[{"a": 1},]', "row 2: it is not JSON"),
        (b'[{"a": 1} {"a": 2}]', r"goes on with '\{' after row 1"),
        (b'[{"a": 1}] x', "goes on with 'x' after the end of its list"),
        (b'[{"a": "\xe9"}]', "not UTF-8 at byte 8"),
        ('[{"a": 1}]'.encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04\x14\x00", "zip archive"),
        (b'[{"a": "' + b"x" * (20 << 20) + b'"}]', "row 1: .*more than 16,777,216 characters"),
        (b"[" * 100_000, "row 1: it nests deeper"),
    ],
)
def test_file_that_is_no_list_is_refused(content: bytes, words: str) -> None:
    assert re.search(words, refusal(content, "json"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'[{"a": 1}]', "a list as row 1"),
        (b'{"a": 1}{"a": 2}', "goes on after the end of row 1"),
        (b'{"a": 1},\n{"a": 2}', "goes on after the end of row 1 with ','"),
        (b'{"a": 1\n}', "row 1: it is not JSON"),
        (b'{"a": 1}\n{"a": "\xe9"}\n', "not UTF-8 at byte 16"),
        (b'{"a": "' + b"x" * (20 << 20) + b'"}', "more than 16,777,216 bytes in row 1"),
        (b"a,b\n1,2\n", "row 1: it is not JSON"),
    ],
)
def test_file_that_has_no_object_a_line_is_refused(content: bytes, words: str) -> None:
    assert re.search(words, refusal(content, "ndjson"))


def test_byte_order_mark_blanks_and_blank_lines_are_read() -> None:
    table, rows = upload(b'\xef\xbb\xbf \n{"a": 1} \r\n\n\t{"a": 2}', "ndjson")
    assert (rows, table.report.source["bom"]) == ([{"a": 1}, {"a": 2}], True)
    table, rows = upload(b'\xef\xbb\xbf [ {"a" :\n1 } , {"a": 2}\n ] \n', "json")
    assert (rows, table.report.source["bom"]) == ([{"a": 1}, {"a": 2}], True)


@BOTH
def test_file_is_read_in_parts_wherever_they_end(form: Any) -> None:
    rows = [{"i": i, "t": 'ü\\"' * (i % 700)} for i in range(9_000)]
    content = written(rows, form)
    assert len(content) > 5 * json_rows.CHUNK_BYTES
    assert upload(content, form)[1] == [{**row, "t": row["t"] or None} for row in rows]


@BOTH
def test_column_that_comes_late_and_one_that_becomes_fractions(form: Any) -> None:
    rows = [{"a": 1}] * 5_000 + [{"a": 0.5, "b": "x"}] + [{"a": 2}] * 5_000
    _, stored = upload(written(rows, form), form)
    assert (column(stored)[0], type(column(stored)[0]), column(stored)[5_000]) == (1.0, float, 0.5)
    assert column(stored, "b") == [None] * 5_000 + ["x"] + [None] * 5_000


@BOTH
def test_row_that_differs_is_named_in_a_later_part_too(form: Any) -> None:
    assert "row 6,001" in refusal(written([{"a": 1}] * 6_000 + [{"a": "x"}], form), form)
