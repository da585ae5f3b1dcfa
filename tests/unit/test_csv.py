import math
import random
from typing import Any

import pytest

from service.domain.errors import InvalidTable
from tests.unit.uploads import column, upload


def cells(content: str, **asked: Any) -> list[Any]:
    """Upload a file whose first column is ``a`` and return its cells."""
    return column(upload(content.encode(), **asked)[1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a,b\n", "a header and no rows"),
        (b"a,b\n\n\n", "a header and no rows"),
        (b"a,b\n1,2\n3\n", r"1 field\(s\) in row 2 \(line 3\), which begins '3'; every row must have 2"),
        (b"a,b\n1,2\n3,4,5\n", r"3 field\(s\) in row 2 \(line 3\)"),
        (b'a,b\n"x\ny",2\n\n3\n', r"1 field\(s\) in row 2 \(line 5\)"),
        (b'a,b\n"1,2\n', r"opens a quote in row 1 \(line 2\) and does not close it"),
        (b'a,b\n1,2\n1,"2\n3,4\n', r"opens a quote in row 2 \(line 3\) and does not close it"),
        (b'a,b\n1,2\n3,"', r"opens a quote in row 2 \(line 3\) and does not close it"),
        (b'a\n1\n"x""', r"opens a quote in row 2 \(line 3\) and does not close it"),
        (b"a,a\n1,2\n", "two columns 'a'"),
        (b"a, a\n1,2\n", "two columns 'a'"),
        (b"a,\n1,2\n", "no name for column 2"),
        (b",a\n0,2\n", "index=False"),
        (b"1,2\n3,4\n", "no header line"),
        (b"1,5;2\n3;4\n", "no header line"),
        (b"\na,b\n1,2\n", "empty first line"),
        (b'"a\nb"\n1\n', "opens a quote and does not close it"),
        (b'a,"' + b"x" * 200_000 + b'"\n1,2\n', "at most 1000 printable characters"),
        (b"a\x1bb\n1\n", "at most 1000 printable characters"),
        (b"x" * (17 << 20), "first line of more than 16,777,216 bytes"),
        (b'a,b\n"' + b"x" * (40 << 20) + b'",2\n1,2\n', r"cell of more than 4,194,304 bytes in row 1 \(line 2\)"),
        (b"a,b\n1,2\n" + b"x," * (3 << 20) + b"\n", r"3,145,729 field\(s\) in row 2"),
        (b"a,b\n1,\xe9\n", "not UTF-8 at byte 6"),
        (b"a,b\n" + b"1,2\n" * 1_000_000 + b"1,caf\xe9", r"not UTF-8 at byte 4,000,009 \(0xe9"),
        (b"a,\xe9\n1,2\n", "not UTF-8 at byte 2"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-32"), "UTF-32"),
        (b"a,b\n1,x\0y\n", "NUL byte at byte 7"),
        (b"a\0b,c\n1,2\n", "NUL byte at byte 1"),
        (b"PK\x03\x04\x14\x00\x06\x00", "zip archive .*xlsx"),
        (b"\x1f\x8b\x08\x00abc", "gzip"),
        (b"\x80\x04\x95\x0b\x00\x00", "Python pickle"),
        (b"\x93NUMPY\x01\x00", "numpy array"),
        (b"PAR1\x15\x04\x00", "Parquet"),
        (b'{"a": 1}\n', "JSON"),
        (b'[{"a": 1}]', "JSON"),
        (b"<!doctype html><html>", "HTML"),
        (b"a,b\n1,1e999\n", "inf in column 'b', row 1"),
        (b"a,b\n1,2\n1,-inf\n", "-inf in column 'b', row 2"),
        (b"a,b\n1,\n1,2\n1,1e300\n", "1e.300 in column .b., row 3; .*float32"),
        ((",".join(f"c{i}" for i in range(100_000)) + "\n").encode(), "100,000 columns; at most 10,000"),
        (b"# made in June, by hand\na,b,c\n1,2,3\n", "looks like a comment"),
    ],
)
def test_no_table_is_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(InvalidTable, match=words) as refusal:
        upload(content)
    (violation,) = refusal.value.violations
    assert violation.pointer == "#"
    assert violation.detail.startswith("the file ")
    assert len(violation.detail) < 500


@pytest.mark.parametrize("content", [b"PARENT,CHILD\n1,2\n", b"PAR1,PAR2\n3,4\n", b"ORC,b\n1,2\n", b"BZh,MZ\n1,2\n"])
def test_names_that_look_like_signatures_are_names(content: bytes) -> None:
    assert upload(content)[0].rows == 1


def test_columns_are_taken_as_what_every_cell_is() -> None:
    _, rows = upload(b"i,f,t,b,zero,gap\n1,1.5,x,true,00202,1\n-2,+3e2,y,False,7,\n")
    assert rows == [
        {"i": 1, "f": 1.5, "t": "x", "b": True, "zero": "00202", "gap": 1},
        {"i": -2, "f": 300.0, "t": "y", "b": False, "zero": "7", "gap": None},
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\n+5\n 7 \n-0\n", [5, 7, 0]),
        ("a\n+5\n1e2\n", [5.0, 100.0]),
        ("a\n5.0\n6.0\n", [5.0, 6.0]),
        ("a\n.5\n5.\n", [0.5, 5.0]),
        ("a\n0\n0.5\n-0.25\n", [0.0, 0.5, -0.25]),
        ("a\n123456789012345678\n1\n", [123456789012345678, 1]),
        ("a\n-123456789012345678\n+1\n", [-123456789012345678, 1]),
        ("a\n1234567890123456789\n1\n", ["1234567890123456789", "1"]),
        ("a\n12345678901234567890123\n1.5\n", ["12345678901234567890123", "1.5"]),
        ("a\n1e25\n1\n", [1e25, 1.0]),
        ("a\n00202\n7\n", ["00202", "7"]),
        ("a\n-007\n7\n", ["-007", "7"]),
        ("a\n007.5\n7\n", ["007.5", "7"]),
        ("a\n0x1F\n0x2F\n", ["0x1F", "0x2F"]),
        ("a\n1_000\n2\n", ["1_000", "2"]),
        ("a\n--5\n+-5\n", ["--5", "+-5"]),
        ("a\nNAN\n1\n", ["NAN", "1"]),
        ("a\nnan(1)\n1\n", ["nan(1)", "1"]),
        ("a\ninf\nx\n", ["inf", "x"]),
        ("a\n\u0661\n1\n", ["\u0661", "1"]),
        ("a\nTRUE\nfalse\n true \n", [True, False, True]),
        ("a\ntrue\nyes\n", ["true", "yes"]),
        ("a\n1\ntrue\n", ["1", "true"]),
        ("a\n x\nx \n", [" x", "x "]),
        ("a,b\n=HYPERLINK(1),2\n", ["=HYPERLINK(1)"]),
    ],
)
def test_cell_is_read_as_what_it_says(content: str, expected: list[Any]) -> None:
    found = cells(content)
    assert (found, list(map(type, found))) == (expected, list(map(type, expected)))


def test_minus_zero_is_zero() -> None:
    assert [math.copysign(1, cell) for cell in cells("a\n-0.0\n0.0\n1.5\n")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "odd"), [(70_000, "oops"), (70_000, "007"), (70_000, "12345678901234567890"), (70_000, "0x1")]
)
def test_one_cell_in_the_last_row_decides_on_the_column(rows: int, odd: str) -> None:
    found = cells("a\n" + "".join(f"{i}\n" for i in range(rows)) + f"{odd}\n")
    assert (found[:2], found[-1]) == (["0", "1"], odd)


def test_number_far_down_makes_a_column_of_numbers_of_floats() -> None:
    found = cells("a\n" + "7\n" * 100_000 + "0.5\n")
    assert (found[0], type(found[0]), found[-1]) == (7.0, float, 0.5)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_line_ends_blank_lines_quotes_and_byte_order_mark_are_read(end: str) -> None:
    table, rows = upload(f'\ufeffa,"b c"{end or chr(10)}{end}1,"x,""y"{end}'.encode())
    assert rows == [{"a": 1, "b c": 'x,"y'}]
    assert table.report.source["bom"] is True


def test_quoted_line_breaks_are_read_wherever_a_block_ends() -> None:
    chosen = random.Random(0)
    texts = ["".join(chosen.choices('x,"\n\r;', k=chosen.randrange(1, 2_000))) + "." for _ in range(12_000)]
    lines = "".join('{},"{}"\n'.format(i, text.replace('"', '""')) for i, text in enumerate(texts))
    assert len(lines) > 3 * (4 << 20), "several blocks"
    _, rows = upload(f"i,a\n{lines}".encode())
    assert column(rows) == texts


def test_odd_line_separators_of_unicode_end_no_line() -> None:
    assert upload("a\u2028b,c\nx\u2028y,2\n".encode())[1] == [{"a\u2028b": "x\u2028y", "c": 2}]


class TestMissing:
    def test_empty_cells_and_usual_words_are_missing_and_counted(self) -> None:
        content = b'a,b\n1,x\n?,NA\n,"?"\n NaN ,\n"N/A",null\nNULL,  \nnan,y\n'
        table, rows = upload(content)
        assert column(rows) == [1, None, None, None, None, None, None]
        assert column(rows, "b") == ["x", None, None, None, None, None, "y"]
        assert [column.missing_tokens for column in table.columns] == [
            {"?": 1, "": 1, "NaN": 1, "N/A": 1, "NULL": 1, "nan": 1},
            {"NA": 1, "?": 1, "": 2, "null": 1},
        ]
        assert [column.missing for column in table.columns] == [6, 5]

    def test_unknown_is_missing_among_numbers_only(self) -> None:
        table, rows = upload(b"a,b\n1,x\nunknown,unknown\n")
        assert rows == [{"a": 1, "b": "x"}, {"a": None, "b": "unknown"}]
        assert [column.missing_tokens for column in table.columns] == [{"unknown": 1}, {}]

    def test_words_of_the_request_replace_the_usual_ones(self) -> None:
        table, rows = upload(b"a,b\n1,NA\n-999,none\n,y\n", missing=("-999", "none"))
        assert rows == [{"a": 1, "b": "NA"}, {"a": None, "b": None}, {"a": None, "b": "y"}]
        assert [column.missing_tokens for column in table.columns] == [{"-999": 1, "": 1}, {"none": 1}]

    def test_infinity_can_stand_for_a_missing_cell(self) -> None:
        assert cells("a\n1\ninf\n2\n", missing=("inf",)) == [1, None, 2]

    def test_no_word_but_the_empty_cell_may_be_missing(self) -> None:
        assert cells("a\nNA\n\n?\n,\n".replace(",", '""'), missing=()) == ["NA", "?", None]

    def test_column_without_cells_is_text_with_a_warning(self) -> None:
        table, rows = upload(b"a,b\n1,NA\n2,\n")
        (_, empty) = table.columns
        assert (empty.kind, empty.stored, empty.missing, empty.unique) == ("text", "text", 2, 0)
        assert "no cells at all" in empty.warnings[0]
        assert column(rows, "b") == [None, None]


class TestNearNumbers:
    def test_few_cells_that_are_no_numbers_are_named(self) -> None:
        content = "a\n" + "".join(f"{i / 4}\n" for i in range(97)) + "abc\nabc\n3\n"
        table, rows = upload(content.encode())
        assert column(rows)[-3:] == ["abc", "abc", "3"]
        (warning, *_) = table.columns[0].warnings
        assert warning.startswith("2 of 100 cells are no numbers, the first 'abc' in row 98")
        assert "?missing=abc" in warning
        assert "?kinds=a:numeric" in warning
        assert column(upload(content.encode(), missing=("abc",))[1])[-3:] == [None, None, 3.0]

    def test_many_such_cells_are_nothing_to_warn_of(self) -> None:
        table, _ = upload(b"a\n1\n2\n1\nx\nx\n")
        assert table.columns[0].warnings == ()

    def test_codes_are_said_to_be_readable_as_numbers(self) -> None:
        table, _ = upload(b"a\n001\n002\n001\n002\n")
        assert "leading zeros" in table.columns[0].warnings[0]

    def test_few_cells_that_are_no_dates_are_named(self) -> None:
        content = "a\n" + "".join(f"2020-01-{i % 28 + 1:02}\n" for i in range(99)) + "soon\n"
        table, _ = upload(content.encode())
        assert table.columns[0].kind == "categorical"
        assert "1 of 100 cells are no dates, the first 'soon' in row 100" in table.columns[0].warnings[0]


class TestKindsOfTheRequest:
    def test_codes_become_numbers(self) -> None:
        table, rows = upload(b"a\n00202\n+7\n 1 \n?\n12345678901234567890\n", kinds={"a": "numeric"})
        assert column(rows) == [202.0, 7.0, 1.0, None, 12345678901234567890.0]
        assert (table.columns[0].kind, table.columns[0].missing_tokens) == ("numeric", {"?": 1})

    @pytest.mark.parametrize(
        ("content", "kinds", "words"),
        [
            ("a\n1\n?\nx y\nz\n", {"a": "numeric"}, "column 'a' cannot be numeric: row 3 holds 'x y'"),
            ("a\n0x1F\n", {"a": "numeric"}, "row 1 holds '0x1F'"),
            ("a\ntrue\n", {"a": "numeric"}, "row 1 holds 'true'"),
            ("a\n?\n", {"a": "numeric"}, "no cells at all"),
            ("a\n2020-01-01\n?\nsoon\n", {"a": "date"}, "the first 'soon' in row 3"),
            ("a\n5\n", {"a": "date"}, "cannot be date"),
            ("a\n01/02/2020\n03/04/2020\n", {"a": "date"}, "either way round"),
            ("a\nNA\n", {"a": "date"}, "no cells at all"),
            ("a\n1\n2\n", {"a": "boolean"}, "between 1 and 2; only columns of 0 and 1"),
            ("a\nyes\nno\n", {"a": "boolean"}, "write these, or take it as categorical"),
            ("a\nx\n", {"b": "text"}, "'b', which the file has not; its columns are 'a'"),
            ("a\n" + "".join(f"{i}\n" for i in range(1001)), {"a": "categorical"}, "1,001 different cells"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_first_cell(
        self, content: str, kinds: dict[str, str], words: str
    ) -> None:
        with pytest.raises(InvalidTable, match=words) as refusal:
            upload(content.encode(), kinds=kinds)
        assert [violation.pointer for violation in refusal.value.violations] == ["?kinds"]

    def test_number_beyond_float32_is_refused_here_too(self) -> None:
        with pytest.raises(InvalidTable, match="column 'a', row 2"):
            upload(b"a\n001\n1e39\n", kinds={"a": "numeric"})

    @pytest.mark.parametrize("kind", ["categorical", "id", "text", "numeric"])
    def test_numbers_stay_numbers_whatever_they_are_taken_for(self, kind: str) -> None:
        table, rows = upload(b"a\n1\n2\n2\n", kinds={"a": kind})
        assert (table.columns[0].kind, table.columns[0].stored, column(rows)) == (kind, "number", [1, 2, 2])
        assert table.columns[0].warnings == ()

    def test_zero_and_one_can_be_boolean(self) -> None:
        table, rows = upload(b"a\n0\n1\n1\n", kinds={"a": "boolean"})
        assert (table.columns[0].kind, table.columns[0].stored, column(rows)) == ("boolean", "number", [0, 1, 1])

    def test_dates_with_few_rows_can_be_sure(self) -> None:
        table, _ = upload(b"a\n31.12.2020\nNA\n", kinds={"a": "date"})
        assert (table.columns[0].kind, table.columns[0].date_format) == ("date", "%d.%m.%Y")


class TestDecimalMark:
    @pytest.mark.parametrize(
        ("content", "expected", "mark"),
        [
            ("a;b\n1,5;x\n2,25;y\n", [1.5, 2.25], ","),
            ("a;b\n1.234,5;x\n-2;y\n", [1234.5, -2.0], ","),
            ("a;b\n1.234.567,5;x\n;y\n", [1234567.5, None], ","),
            ("a;b\n1,5;x\nunknown;y\n", [1.5, None], ","),
            ("a\tb\n,5\t1\n5,\t2\n1,5e3\t3\n", [0.5, 5.0, 1500.0], ","),
            ("a\n1,5\n2\n", [1.5, 2.0], ","),
            ("a;b\n1.5;x\n2.25;y\n", [1.5, 2.25], "."),
            ("a;b\n1.500;x\n2.250;y\n", [1.5, 2.25], "."),
            ("a;b\n0,5;x\n0,25;1.000\n", [0.5, 0.25], ","),
            ("a;b\n1;x\n2;y\n", [1, 2], "."),
            ('a,b\n"1,5",x\n"2,5",y\n', ["1,5", "2,5"], "."),
            ("a;b\n1.5,2;x\n2,5;y\n", ["1.5,2", "2,5"], "."),
            ("a;b\n01,5;x\n2,5;y\n", ["01,5", "2,5"], "."),
        ],
    )
    def test_comma_is_the_mark_where_nothing_else_fits(self, content: str, expected: list[Any], mark: str) -> None:
        table, rows = upload(content.encode())
        assert (column(rows), table.report.source["decimal"]) == (expected, mark)

    def test_points_group_digits_in_a_file_with_decimal_commas_and_it_is_said(self) -> None:
        table, rows = upload(b"a;b\n1,5;1.500\n2,25;12\n")
        assert column(rows, "b") == [1500, 12]
        assert "the first as 1,500" in table.columns[1].warnings[0]

    def test_columns_go_by_their_own_marks_where_both_are_met(self) -> None:
        table, rows = upload(b"a;b;c\n1,5;1.5;1.500\n2,25;2.5;2.250\n")
        assert rows[0] == {"a": 1.5, "b": 1.5, "c": 1.5}
        assert table.report.source["decimal"] == "."
        assert table.report.warnings[0].startswith("decimal commas in 'a', decimal points in 'b'")

    def test_what_may_be_a_thousand_times_more_is_not_guessed(self) -> None:
        table, rows = upload(b"a;b\n1,500;x\n2,250;y\n")
        assert column(rows) == ["1,500", "2,250"]
        assert "may hold decimal commas or commas between groups" in table.columns[0].warnings[0]
        assert column(upload(b"a;b\n1,500;x\n2,250;y\n", kinds={"a": "numeric"})[1]) == [1.5, 2.25]
