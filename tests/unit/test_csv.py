from pathlib import Path

import pytest

from service.domain.errors import InvalidTable
from service.tables import csv, parquet
from service.tables.profile import describe


def read(tmp_path: Path, content: bytes) -> dict[str, list[object]]:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    columns: dict[str, list[object]] = csv.read(path).to_pydict()
    return columns


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        (b'a,b\n"1,2\n', "cannot be read"),
        (b"a,a\n1,2\n", "two columns 'a'"),
        (b"a,\n1,2\n", "no name for column 2"),
        (b"1,2\n3,4\n", "no header line"),
        (b"\na,b\n1,2\n", "empty first line"),
        (b'"a\nb"\n1\n', "cannot be read"),
        (b'a,"' + b"x" * 200_000 + b'"\n1,2\n', "first line that cannot be read"),
        (b'a,b\n"' + b"x" * (40 << 20) + b'",2\n1,2\n', "row is longer"),
        (b"a;b\n1;2\n", "separated by ';'"),
        (b"a\tb\n1\t2\n", "separated by"),
        (b"a,b\n1,\xe9\n", "UTF8"),
        (b"a,\xe9\n1,2\n", "not UTF-8 at byte 2"),
        ("a,b\n1,2\n".encode("utf-16"), "NUL"),
        (b"PK\x03\x04\x00\x00", "NUL"),
        (b"a,b\n1,1e999\n", "inf"),
        (b"a,b\n1,1e300\n", "float32"),
        ((",".join(f"c{i}" for i in range(10_001)) + "\n").encode(), "10,001 columns"),
    ],
)
def test_no_table_is_refused_with_the_reason(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InvalidTable, match=words):
        read(tmp_path, content)


def test_columns_are_taken_as_what_every_cell_is(tmp_path: Path) -> None:
    table = read(tmp_path, b"i,f,t,b,zero,gap\n1,1.5,x,true,00202,1\n-2,+3e2,y,False,7,\n")
    assert table == {
        "i": [1, -2],
        "f": [1.5, 300.0],
        "t": ["x", "y"],
        "b": [True, False],
        "zero": ["00202", "7"],
        "gap": [1, None],
    }


def test_signs_zeros_and_odd_line_separators(tmp_path: Path) -> None:
    table = read(tmp_path, "i,f,a\u2028b,none\n+5,-0.0,1,NA\n-7,0.0,2,\n".encode())
    assert table == {"i": [5, -7], "f": [0.0, 0.0], "a\u2028b": [1, 2], "none": [None, None]}
    assert [str(value) for value in table["f"]] == ["0.0", "0.0"]


def test_text_in_the_last_row_makes_a_text_column(tmp_path: Path) -> None:
    rows = "".join(f"{i}\n" for i in range(100_000))
    assert read(tmp_path, f"n\n{rows}oops\n".encode())["n"][:2] == ["0", "1"]


def test_byte_order_mark_crlf_and_quotes_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbfa,"b c"\r\n1,"x,\ny"\r\n') == {"a": [1], "b c": ["x,\ny"]}


def test_formulas_come_back_as_text(tmp_path: Path) -> None:
    assert read(tmp_path, b'a,b\n1,"=HYPERLINK(1)"\n')["b"] == ["=HYPERLINK(1)"]


def test_profile_says_what_a_column_holds(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"n,t\n1,x\n2,y\n4,x\n")
    number, text = describe(csv.read(path))
    assert (number.kind, number.is_integer, number.mean, number.min, number.max, number.unique) == (
        "numeric",
        True,
        7 / 3,
        1,
        4,
        3,
    )
    assert (text.kind, text.unique, text.examples) == ("categorical", 2, ("x", "y"))


def test_stored_form_gives_the_same_values_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"f,i,b,t\n0.1,3,true,x\n1e-300,4,false,y\n")
    content = parquet.encode(csv.read(path))
    table = parquet.decode(content)
    assert table.columns["f"].tolist() == [0.1, 1e-300]
    assert table.columns["b"].tolist() == [True, False]
    assert parquet.read_rows(content, 1, 5) == [{"f": 1e-300, "i": 4, "b": False, "t": "y"}]
