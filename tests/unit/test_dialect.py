import io

import pytest

from service.domain.errors import InvalidTable
from service.tables.dialect import Dialect, detect


def found(text: str) -> Dialect:
    return detect(io.BytesIO(text.encode()), max_columns=1_000)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_separator_and_quote_are_those_that_fit(separator: str, quote: str) -> None:
    others = ",;\t|".replace(separator, "")
    rows = "".join(f"{quote}x{others}y{quote}{separator}{i}\n" for i in range(30))
    dialect = found(f"a{separator}b\n{rows}")
    assert (dialect.separator, dialect.quote, dialect.names) == (separator, quote, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "separator", "quote"),
    [
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";", '"'),
        ("a,b,c\n1;2,3;4,5;6\n3;1,3;4,5;6\n", ",", '"'),
        ("name;sales, total;x\nA;1,5;2\nB;3,5;4\n", ";", '"'),
        ("a,b\nit's,1\nthat's,2\n'tis,3\n", ",", '"'),
        ("a,b\n\"it's\",1\n'x',2\n", ",", '"'),
        ("'a b','c'\n1,2\n", ",", "'"),
        ('"a","b"\n"1","2"\n', ",", '"'),
        ('a,b\n"x\ny",1\n"z\nw",2\n', ",", '"'),
        ("a,b\n1,2\n3\n4,5\n", ",", '"'),
        ("a,b\n", ",", '"'),
        ("a;b", ";", '"'),
        ("a b\tc d\n1 2\t3 4\n", "\t", '"'),
        ("a|b,c\n1|2,3\n", ",", '"'),
    ],
)
def test_what_does_not_separate_does_not_confuse(text: str, separator: str, quote: str) -> None:
    dialect = found(text)
    assert (dialect.separator, dialect.quote) == (separator, quote)


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n2\n",
        "a",
        "text\nhello, world\nfoo; bar, baz\nx\n",
        "x\n1,5\n2\n",
        "when\n2020-01-01 10:00:00\n",
        "a b\n1 2\n",
    ],
)
def test_file_of_one_column_has_no_separator(text: str) -> None:
    dialect = found(text)
    assert (dialect.separator, len(dialect.names)) == (None, 1)


def test_rows_that_all_have_more_fields_than_names_are_not_one_column() -> None:
    assert found("a\n1,2\n3,4\n").separator == ","


def test_names_are_stripped_and_the_rows_begin_behind_them() -> None:
    dialect = found('\ufeff a ,"b, c"\r\n1,2\r\n')
    assert dialect.names == ("a", "b, c")
    assert (dialect.bom, dialect.data_start) == (True, len('\ufeff a ,"b, c"\r\n'.encode()))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_records_begin_after_the_first_line_however_it_ends(end: str) -> None:
    assert found(f"a,b{end}1,2{end}").data_start == 3 + len(end)


def test_only_the_first_part_is_sniffed() -> None:
    assert found("a;b\n" + "1;2\n" * 100_000 + "3,4\n").separator == ";"


def test_columns_are_as_many_as_are_allowed_and_no_more() -> None:
    names = ",".join(f"c{i}" for i in range(1_000))
    assert len(found(f"{names}\n").names) == 1_000
    with pytest.raises(InvalidTable, match="1,001 columns; at most 1,000"):
        found(f"{names},x\n")
