import datetime as dt
import io
import random
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.domain.errors import InvalidTable
from tests.unit.uploads import column, upload


def parquet(table: pa.Table | None = None, *, written: dict[str, Any] | None = None, **columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table if table is not None else pa.table(columns), buffer, **(written or {}))
    return buffer.getvalue()


def refusal(content: bytes, **asked: Any) -> str:
    with pytest.raises(InvalidTable) as raised:
        upload(content, "parquet", **asked)
    (violation,) = raised.value.violations
    assert violation.pointer == "#"
    assert violation.detail.startswith("the file ")
    assert len(violation.detail) < 500
    return violation.detail


def test_columns_come_back_as_they_are() -> None:
    content = parquet(
        i=[1, 2, None], f=[1.5, float("nan"), -0.0], t=["x", None, "NA"], b=[True, None, False], code=["007", "x", ""]
    )
    table, rows = upload(content, "parquet")
    assert rows == [
        {"i": 1, "f": 1.5, "t": "x", "b": True, "code": "007"},
        {"i": 2, "f": None, "t": None, "b": None, "code": "x"},
        {"i": None, "f": 0.0, "t": "NA", "b": False, "code": None},
    ]
    assert [found.missing for found in table.columns] == [1, 1, 1, 1, 1]
    assert table.report.source == {"format": "parquet"}


@pytest.mark.parametrize(
    ("array", "expected", "words"),
    [
        (pa.array([1, None], pa.int8()), [1, None], ""),
        (pa.array([2**32 - 1, 0], pa.uint32()), [2**32 - 1, 0], ""),
        (pa.array([2**63 - 1, 0], pa.uint64()), [2**63 - 1, 0], ""),
        (pa.array([2**64 - 1, 0], pa.uint64()), [2.0**64, 0.0], "rounded to float64"),
        (pa.array(np.array([0.5, 1], np.float16)), [0.5, 1.0], ""),
        (pa.array([0.5, None], pa.float32()), [0.5, None], ""),
        (pa.array([Decimal("1.50"), None]), [1.5, None], "decimal128(3, 2) numbers: taken as float64"),
        (pa.array(["x", None], pa.large_string()), ["x", None], ""),
        (pa.array(["x", "y"], pa.string_view()), ["x", "y"], ""),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"], ""),
        (pa.array([3, None, 3]).dictionary_encode(), [3, None, 3], ""),
        (pa.nulls(2), [None, None], "no cells at all"),
        (pa.array([dt.date(2020, 1, 31), None]), ["2020-01-31", None], ""),
        (pa.array([dt.date(2020, 1, 31)], pa.date64()), ["2020-01-31"], ""),
        (pa.array([dt.datetime(2020, 1, 31, 10), None]), ["2020-01-31T10:00:00", None], ""),
        (pa.array([dt.datetime(2020, 1, 31, 10, 0, 0, 500)]), ["2020-01-31T10:00:00.000500"], ""),
        (pa.array([1_580_464_800_000_000_000], pa.timestamp("ns")), ["2020-01-31T10:00:00"], ""),
        (
            pa.array([dt.datetime(2020, 1, 31, 10, tzinfo=dt.UTC), None], pa.timestamp("ms", tz="Europe/Berlin")),
            ["2020-01-31T10:00:00Z", None],
            "",
        ),
        (pa.array([dt.time(10, 0, 1), dt.time(0, 0, 0, 5)]), ["10:00:01", "00:00:00.000005"], ""),
    ],
)
def test_every_type_of_cell_is_read(array: pa.Array, expected: list[Any], words: str) -> None:
    table, rows = upload(parquet(a=array), "parquet")
    assert column(rows) == expected
    assert list(map(type, column(rows))) == list(map(type, expected))
    assert words in " ".join(table.columns[0].warnings)


@pytest.mark.parametrize("unit", ["D", "s", "us"])
def test_dates_and_moments_are_dates(unit: str) -> None:
    moments = np.array(["2020-01-31", "2021-01-31", "NaT"] * 10, f"datetime64[{unit}]")
    (found,) = upload(parquet(when=pa.array(moments)), "parquet")[0].columns
    assert (found.kind, found.date_format, found.missing) == ("date", "iso", 10)


def test_categories_of_pandas_that_do_not_occur_are_none() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2]), pa.array(["z", "unused", "a"]))
    (found,) = upload(parquet(a=array), "parquet")[0].columns
    assert (found.unique, found.examples, found.top) == (2, ("a", "z"), (("a", 2), ("z", 1)))


def test_groups_of_rows_with_dictionaries_of_their_own_are_joined() -> None:
    words = [f"w{i % 90}" for i in range(1_000)]
    table, rows = upload(parquet(a=words, written={"row_group_size": 70}), "parquet")
    assert (column(rows), table.columns[0].unique) == (words, 90)


def test_words_are_missing_where_the_request_says_so() -> None:
    content = parquet(a=["NA", "x"], b=[-999, 1], c=[-999.0, float("nan")])
    table, rows = upload(content, "parquet", missing=("NA", "-999"))
    assert rows == [{"a": None, "b": None, "c": None}, {"a": "x", "b": 1, "c": None}]
    assert [found.missing_tokens for found in table.columns] == [{"NA": 1}, {"-999": 1}, {"-999": 1}]


def test_text_becomes_numbers_where_the_request_says_so() -> None:
    assert column(upload(parquet(a=["007", None, " 1.5"]), "parquet", kinds={"a": "numeric"})[1]) == [7.0, None, 1.5]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (pa.array([[1]]), "list<element: int64>' in column 'a'; .*make columns of its parts"),
        (pa.array([{"x": 1}]), "struct<x: int64>' in column 'a'"),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "in column 'a'"),
        (pa.array([b"x"]), "binary' in column 'a'"),
        (pa.array([b"xy"], pa.binary(2)), "in column 'a'"),
        (pa.array([1], pa.duration("s")), r"duration\[s\]' in column 'a'"),
        (pa.array([1.0, float("inf")]), "inf in column 'a', row 2; .*float32"),
        (pa.array([1e300]), "column 'a', row 1; .*float32"),
        (pa.array(["x", "a\0b"]), "NUL character in column 'a', row 2"),
        (pa.array([2**31 - 1], pa.date32()), "beyond the years 1 to 9999 in column 'a'"),
        (pa.array([2**62], pa.timestamp("us")), "beyond the years 1 to 9999 in column 'a'"),
        (
            pa.Array.from_buffers(
                pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
            ),
            "UTF8",
        ),
    ],
)
def test_column_that_holds_no_cells_is_named(array: pa.Array, words: str) -> None:
    assert re.search(words, refusal(parquet(a=array)))


WHOLE = parquet(a=list(range(1_000)), b=["x", "y"] * 500)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PAR1", "damaged, cut off or encrypted"),
        (WHOLE[:100], "damaged, cut off or encrypted"),
        (WHOLE[:-1], "damaged, cut off or encrypted"),
        (WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1", "damaged, cut off or encrypted"),
        (WHOLE[4:], "is not Parquet"),
        (b"PARE" + WHOLE[4:-4] + b"PARE", "encrypted Parquet"),
        (WHOLE[:-4] + b"PARE", "damaged, cut off or encrypted"),
        (b"a,b\n1,2\n", "is not Parquet"),
        (b"PK\x03\x04\x14\x00", "seems to be a zip archive"),
        (parquet(pa.table({})), "no columns"),
        (parquet(a=pa.array([], pa.int64())), "no rows"),
        (parquet(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"])), "two columns 'a'"),
        (parquet(pa.table({"": [1]})), "no name for column 1"),
        (parquet(pa.table({"a\0b": [1]})), "printable characters"),
    ],
)
def test_file_that_is_no_table_is_refused(content: bytes, words: str) -> None:
    assert words in refusal(content)


def test_damaged_bytes_are_refused_or_read_and_nothing_else() -> None:
    chosen = random.Random(11)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(WHOLE)
        for _ in range(chosen.randint(1, 4)):
            damaged[chosen.randrange(4, len(damaged))] = chosen.randrange(256)
        try:
            upload(bytes(damaged), "parquet")
        except InvalidTable:
            outcomes.add("refused")
        else:
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


def test_small_file_that_decodes_to_gigabytes_is_refused() -> None:
    huge = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 1_000_000]))
    bomb = parquet(a=huge, written={"compression": "zstd"})
    assert len(bomb) < 1_000
    assert re.search("holds 20,000,080,000 bytes of cells or more; at most 4,294,967,296", refusal(bomb))


def test_rows_are_counted_by_what_the_footer_says_before_any_is_read() -> None:
    many = parquet(a=pa.array(np.zeros(3_000_000, np.int8)), written={"compression": "zstd"})
    assert "3,000,000 rows; at most 2,999,999" in refusal(many, allowed={"max_rows": 2_999_999})
