"""The same rows are the same rows, to the last bit, whatever the format in which they come."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.formats import arrow, csv, ndjson, npy
from service.domain.datasets import MISSING_TOKENS
from service.domain.encoders import DateEncoder, NumericEncoder
from service.inference.rows import CheckedRows
from tests.formats import MIXED, NUMBERS, arrow_body, csv_body, ndjson_body, npy_body, served

MIXED_SERVED = served(MIXED)
NUMBERS_SERVED = served(NUMBERS)
GAPPED = served(tuple(NumericEncoder(name, gaps=True, fill=2.5) for name in "abc"))
ISO_DATE = served((DateEncoder("since", "iso", gaps=True, fill=(1.0,) * 7),))

NUMBER = st.floats(-(2.0**127), 2.0**127, width=64)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
JOB = st.sampled_from(["cook", "nurse", "00202", "diver"]) | TEXT.filter(
    lambda text: text.strip() not in MISSING_TOKENS
)
DAY = st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(lambda day: day.strftime("%d.%m.%Y"))
MIXED_ROW = st.tuples(
    st.none() | st.integers(-1000, 1000) | NUMBER,
    NUMBER,
    st.none() | JOB,
    st.none() | st.sampled_from([1, 2.5, 3, 1e300]),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.none() | DAY,
).map(list)


def same(one: CheckedRows, other: CheckedRows) -> None:
    assert one.encoded().tobytes() == other.encoded().tobytes()
    assert one.unseen == other.unseen
    assert len(one.warnings) == len(other.warnings)


@settings(max_examples=60)
@given(
    rows=st.lists(MIXED_ROW, min_size=1, max_size=12),
    order=st.permutations(range(len(MIXED))),
    batch_rows=st.integers(1, 12),
    block_bytes=st.integers(200, 400),
)
def test_mixed_rows(rows: list[list[Any]], order: list[int], batch_rows: int, block_bytes: int) -> None:
    names = [encoder.name for encoder in MIXED]
    wanted = MIXED_SERVED.reader.check(rows)
    turned = [names[place] for place in order]
    turned_rows = [[row[place] for place in order] for row in rows]
    same(wanted, ndjson.read(ndjson_body(rows), MIXED_SERVED))
    same(wanted, ndjson.read(ndjson_body([dict(zip(turned, row, strict=True)) for row in turned_rows]), MIXED_SERVED))
    body = csv_body(turned, turned_rows)
    same(wanted, csv.read(body, MIXED_SERVED))
    same(wanted, csv.read(body, MIXED_SERVED, block_bytes=block_bytes))
    same(wanted, csv.read(csv_body(names, rows, header=False), MIXED_SERVED, header=False))
    columns = {names[place]: pa.array([row[place] for row in rows], ARROW_TYPES[names[place]]) for place in order}
    same(wanted, arrow.read(arrow_body(columns), MIXED_SERVED))
    same(wanted, arrow.read(arrow_body(columns, batch_rows), MIXED_SERVED))
    coded = {name: array.dictionary_encode() for name, array in columns.items()}
    same(wanted, arrow.read(arrow_body(coded, batch_rows, compression="zstd"), MIXED_SERVED))


@settings(max_examples=50)
@given(st.lists(st.lists(NUMBER, min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 6))
def test_numbers(rows: list[list[float]], batch_rows: int) -> None:
    wanted = NUMBERS_SERVED.reader.check(rows)
    matrix = np.array(rows)
    columns = dict(zip("abc", matrix.T, strict=True))
    for array in (matrix, np.asfortranarray(matrix), matrix.astype(">f8")):
        same(wanted, npy.read(npy_body(array), NUMBERS_SERVED))
    same(wanted, ndjson.read(ndjson_body(rows), NUMBERS_SERVED))
    same(wanted, ndjson.read(ndjson_body([dict(zip("abc", row, strict=True)) for row in rows]), NUMBERS_SERVED))
    same(wanted, csv.read(csv_body("abc", rows), NUMBERS_SERVED))
    same(wanted, arrow.read(arrow_body(columns), NUMBERS_SERVED))
    same(wanted, arrow.read(arrow_body(columns, batch_rows, compression="lz4"), NUMBERS_SERVED))


@settings(max_examples=50)
@given(st.lists(st.lists(st.none() | NUMBER, min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 6))
def test_numbers_with_gaps(rows: list[list[float | None]], batch_rows: int) -> None:
    wanted = GAPPED.reader.check(rows)
    same(wanted, npy.read(npy_body(np.array(rows, np.float64)), GAPPED))
    same(wanted, ndjson.read(ndjson_body(rows), GAPPED))
    same(wanted, csv.read(csv_body("abc", rows), GAPPED))
    columns = {name: pa.array([row[place] for row in rows], pa.float64()) for place, name in enumerate("abc")}
    same(wanted, arrow.read(arrow_body(columns), GAPPED))
    same(wanted, arrow.read(arrow_body(columns, batch_rows), GAPPED))


@given(st.lists(st.none() | st.dates(), min_size=1, max_size=5))
def test_days(days: list[date | None]) -> None:
    wanted = ISO_DATE.reader.check([{"since": day and day.isoformat()} for day in days])
    for kind in (pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("us"), pa.string()):
        column = pa.array(days, pa.date32()).cast(kind)
        same(wanted, arrow.read(arrow_body({"since": column}), ISO_DATE))


ARROW_TYPES = {
    "age": pa.float64(),
    "weight": pa.float64(),
    "job": pa.string(),
    "floor": pa.float64(),
    "member": pa.bool_(),
    "flag": pa.bool_(),
    "since": pa.string(),
}
