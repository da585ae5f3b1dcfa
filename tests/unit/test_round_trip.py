"""Whatever table goes in, in whatever format and dialect: what is stored is what went in.

But that words for a missing cell, and cells of blanks, become null; and that -0.0 becomes 0.0.
"""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.datasets import MISSING_TOKENS
from tests.unit.uploads import upload

Cells = list[Any]

CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0\x1f", exclude_categories=["Cs"])
ODD = st.sampled_from(
    [
        "x,y",
        "a;b|c\td",
        'say "x"',
        "it's",
        "'",
        '"',
        "\n",
        "x\r\ny",
        "\r",
        " x ",
        "é",
        "\u2028",
        "=1+1",
        "\U0001d518",
        "\ufeff",
    ]
)
TEXTS = st.one_of(ODD, st.text(CHARACTERS, max_size=12))
FLOATS = st.floats(-3e38, 3e38, allow_subnormal=False).map(lambda number: number + 0.0)
INTEGERS = st.integers(-(10**18) + 1, 10**18 - 1)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@dataclass(frozen=True)
class Drawn:
    """A table, as it went in."""

    columns: dict[str, Cells]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    names = draw(st.lists(NAMES.map(str.strip).filter(bool), min_size=1, max_size=5, unique=True))
    # A first line of numbers is no header, one that begins with # and fits nothing a comment.
    names = [f"n{name}" for name in names]
    rows = draw(st.integers(1, 12))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from([INTEGERS, FLOATS, st.booleans(), TEXTS]))
        cells = draw(st.lists(st.none() | kind, min_size=rows, max_size=rows))
        if kind is TEXTS:  # one cell that says that it is a column of text
            cells[draw(st.integers(0, rows - 1))] = draw(st.sampled_from(["word", "Ünï", "two\nlines"]))
        columns[name] = cells
    return Drawn(columns)


def expected(cell: Any, *, words: bool) -> Any:
    """Return what becomes of a cell: blanks alone stand for a missing one, and in text files the usual words do."""
    if not isinstance(cell, str):
        return cell
    # Arrow and Python agree on which characters are blank but for these separators.
    trimmed = cell.strip().strip("\x1c\x1d\x1e\x1f")
    return None if not trimmed or (words and trimmed in MISSING_TOKENS) else cell


def check(rows: list[dict[str, Any]], drawn: Drawn, *, words: bool) -> None:
    wanted = [{name: expected(cell, words=words) for name, cell in row.items()} for row in drawn.rows]
    assert rows == wanted
    for found_row, wanted_row in zip(rows, wanted, strict=True):
        for found, cell in zip(found_row.values(), wanted_row.values(), strict=True):
            assert isinstance(found, bool) == isinstance(cell, bool)


def written_as_csv(drawn: Drawn, dialect: dict[str, Any], end: str, bom: bool) -> bytes:
    def cell(value: Any) -> str:
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, **dialect)
    writer.writerow(drawn.columns)
    writer.writerows([list(map(cell, row.values())) for row in drawn.rows])
    return (("\ufeff" if bom else "") + text.getvalue()).encode()


CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)


@CALM
@given(
    tables(),
    st.sampled_from(",;\t|"),
    st.sampled_from("\"'"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_csv(drawn: Drawn, separator: str, quote: str, end: str, bom: bool, quote_all: bool) -> None:
    # Where few cells are quoted nothing says that ' is the quote; Python's writer leaves line ends without quotes that
    # are not those of its lines; and an unquoted line of one empty cell is a blank line.
    has_line_ends = any(set("\r\n") & set(str(cell)) for cells in drawn.columns.values() for cell in cells)
    sparing = quote == '"' and not has_line_ends and len(drawn.columns) > 1 and not quote_all
    quoting = csv.QUOTE_MINIMAL if sparing else csv.QUOTE_ALL
    content = written_as_csv(drawn, {"delimiter": separator, "quotechar": quote, "quoting": quoting}, end, bom)
    table, rows = upload(content)
    check(rows, drawn, words=True)
    assert table.report.source["bom"] == bom
    assert table.report.source["quote"] == quote
    assert table.report.source["separator"] in (separator, None)


@CALM
@given(tables(), st.booleans())
def test_json(drawn: Drawn, escaped: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=escaped) for row in drawn.rows]
    check(upload("\n".join(lines).encode(), "ndjson")[1], drawn, words=False)
    check(upload(f"[{','.join(lines)}]".encode(), "json")[1], drawn, words=False)


@CALM
@given(tables(), st.sampled_from(["none", "snappy", "zstd"]), st.booleans(), st.integers(1, 12))
def test_parquet(drawn: Drawn, compression: str, dictionary: bool, group: int) -> None:
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(drawn.columns), buffer, compression=compression, use_dictionary=dictionary, row_group_size=group
    )
    check(upload(buffer.getvalue(), "parquet")[1], drawn, words=False)
