"""What users pass and what of it is sent: rows, frames, files, specs."""

import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.client import jobs
from service.client import rows as wire
from service.client.frames import to_arrow
from service.client.requests import at, encoded, fields_of
from service.client.sources import table_of
from service.domain.spec import JobSpec


def sent_as(source: Any) -> Any:
    """Return the Parquet table that an upload of this would be."""
    with table_of(source) as table:
        assert table.media_type == "application/vnd.apache.parquet"
        assert not isinstance(table.body, bytes)
        table.body.seek(0)
        return pq.read_table(io.BytesIO(table.body.read()))


PANDAS = pd.DataFrame(
    {
        "number": [1.5, np.nan, 3.0],
        "whole": pd.array([1, pd.NA, 3], "Int64"),
        "text": ["a", None, float("nan")],
        "group": pd.Categorical(["u", None, "v"]),
        "when": [pd.Timestamp("2020-01-31"), pd.NaT, pd.Timestamp("2020-02-29")],
        "flag": pd.array([True, pd.NA, False], "boolean"),
    },
    index=[7, 8, 9],
)


def test_every_kind_of_gap_of_pandas_is_a_null_and_the_index_is_left_out() -> None:
    table = sent_as(PANDAS)
    assert table.column_names == list(PANDAS.columns)
    assert [column.null_count for column in table.columns] == [1, 1, 2, 1, 1, 1]
    assert table.column("group").to_pylist() == ["u", None, "v"]
    assert table.column("whole").to_pylist() == [1, None, 3]


def test_frames_of_all_packages_become_the_same_table() -> None:
    cells = {"size": [50.0, None, 80.0], "city": ["Bern", "Basel", None], "flat": [True, False, True]}
    wanted = pa.table(cells)
    frames = [pd.DataFrame(cells), pl.DataFrame(cells), pl.LazyFrame(cells), wanted, wanted.to_batches()[0]]
    for frame in frames:
        table = to_arrow(frame)
        assert table.column_names == wanted.column_names
        assert table.to_pylist() == wanted.to_pylist(), type(frame)


def test_columns_keep_their_order_and_are_named_by_text() -> None:
    assert to_arrow(pd.DataFrame({"b": [1], 3: [2], "a": [3]})).column_names == ["b", "3", "a"]


def test_arrays_become_columns_with_nan_as_gaps() -> None:
    table = to_arrow(np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert table.to_pylist() == [{"c0": 1.0, "c1": None}, {"c0": 2.0, "c1": 3.0}]
    named = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert to_arrow(named).to_pylist() == [{"a": 1, "b": 2.5}, {"a": 3, "b": 4.5}]


@pytest.mark.parametrize(
    ("frame", "error", "said"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "column names repeat: a"),
        (pd.DataFrame({"a": [1, "x"]}), TypeError, "cells of one kind"),
        (pd.Series([1, 2]), TypeError, "to_frame"),
        (pl.Series([1, 2]), TypeError, "to_frame"),
        (np.array([1, 2]), ValueError, "2 dimensions"),
        (pa.array([1, 2]), TypeError, "no table"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_do(frame: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        to_arrow(frame)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("wine.csv", "text/csv"),
        ("wine.TSV", "text/csv"),
        ("wine.parquet", "application/vnd.apache.parquet"),
        ("wine.jsonl", "application/x-ndjson"),
        ("wine.json", "application/json"),
    ],
)
def test_file_is_sent_as_its_ending_says_and_called_by_its_name(tmp_path: Path, name: str, media_type: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"a,b\n1,2\n")
    for source in (path, str(path)):
        with table_of(source) as table:
            assert (table.media_type, table.name) == (media_type, "wine")
        assert not isinstance(table.body, bytes)
        assert table.body.closed
    with path.open("rb") as file, table_of(file) as table:
        assert (table.media_type, table.name) == (media_type, "wine")
        assert table.body is file


def test_stream_that_can_be_read_once_is_kept_so_that_it_can_be_sent_twice() -> None:
    class Once(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with table_of(Once(b"a\n1\n")) as table:
        assert not isinstance(table.body, bytes)
        for _ in range(2):
            table.body.seek(0)
            assert table.body.read() == b"a\n1\n"


def test_file_in_the_middle_is_sent_from_there() -> None:
    file = io.BytesIO(b"# a comment\na\n1\n")
    file.readline()
    with table_of(file) as table:
        assert not isinstance(table.body, bytes)
        table.body.seek(0)
        assert table.body.read() == b"a\n1\n"


def test_bytes_are_csv_unless_they_begin_as_parquet_or_a_format_is_named() -> None:
    assert table_of(b"a\n1\n").media_type == "text/csv"
    assert table_of(b"PAR1....").media_type == "application/vnd.apache.parquet"
    assert table_of(b'{"a": 1}', "ndjson").media_type == "application/x-ndjson"


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("table.xlsx", ValueError, "known endings are .csv"),
        ("no/such/table.csv", FileNotFoundError, "table.csv"),
        (io.StringIO("a\n1\n"), TypeError, "binary mode"),
        ([], ValueError, "at least one"),
        ([[1, 2]], TypeError, "dicts by column name"),
        (5, TypeError, "cannot upload int"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_with_what_can(source: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        table_of(source)


def test_cells_become_what_json_has() -> None:
    row = {
        "gaps": [None, float("nan"), np.nan, pd.NaT, pd.NA, np.float32("nan")],
        "numbers": [np.int64(3), np.float32(0.5), Decimal("1.5"), np.array([1, 2])],
        "times": [dt.date(2020, 1, 31), pd.Timestamp("2020-01-31 12:00")],
        "flags": (True, np.bool_(False)),
    }
    assert json.loads(encoded(row)) == {
        "gaps": [None] * 6,
        "numbers": [3, 0.5, 1.5, [1, 2]],
        "times": ["2020-01-31", "2020-01-31T12:00:00"],
        "flags": [True, False],
    }


@pytest.mark.parametrize(("value", "error"), [(float("inf"), ValueError), (np.inf, ValueError), (object(), TypeError)])
def test_cells_that_json_lacks_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        encoded([value])


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), np.array([1, np.nan]), pd.NA, Decimal("nan")])
def test_number_that_is_none_is_no_gap_in_a_spec(value: Any) -> None:
    with pytest.raises(ValueError, match="no number"):
        jobs.submit(dataset="iris", training={"learning_rate": value})


def test_spec_is_sent_with_the_fields_that_are_named_in_place_of_its_own() -> None:
    spec = JobSpec.model_validate({"dataset": "iris", "tags": ["a"]})
    asked = json.loads(encoded(fields_of(spec, {"tags": ["b"], "dataset": "wine"})))
    assert (asked["dataset"], asked["tags"]) == ("wine", ["b"])
    assert JobSpec.model_validate_json(encoded(fields_of(spec, {}))) == spec


def test_address_holds_any_name_and_no_empty_one() -> None:
    assert at("datasets", "a/b ü?#", "rows") == "/datasets/a%2Fb%20%C3%BC%3F%23/rows"
    with pytest.raises(ValueError, match="empty"):
        at("jobs", "")


def test_rows_are_sent_in_the_form_that_suits_them() -> None:
    many, few = np.zeros((5000, 3)), np.zeros((10, 3))
    assert wire.rows_of(many).media_type == wire.NPY
    assert wire.rows_of(few).media_type == wire.JSON
    assert wire.rows_of(few.tolist()).media_type == wire.JSON
    assert wire.rows_of(np.array([["a", 1]], object)).media_type == wire.JSON
    for frame in (pd.DataFrame(few, columns=list("abc")), pl.DataFrame(few), pa.table({"a": [1]})):
        assert wire.rows_of(frame).media_type == wire.ARROW
        assert wire.rows_of(frame, as_json=True).media_type == wire.JSON
    array = np.load(io.BytesIO(wire.rows_of(many).part(10, 30)))
    assert array.shape == (20, 3)


@pytest.mark.parametrize(("rows", "columns"), [(250_000, 1), (30_000, 784), (3, 3_000_000)])
def test_no_part_is_larger_than_the_service_takes_at_once(rows: int, columns: int) -> None:
    found = wire.rows_of(np.broadcast_to(np.float64(0), (rows, columns)))
    at_once = found.stop(0)
    assert 1 <= at_once <= wire.MAX_ROWS
    assert at_once == 1 or at_once * columns <= wire.MAX_CELLS
    assert at_once == 1 or at_once * columns * 8 <= wire.MAX_BYTES


@pytest.mark.parametrize(
    "rows",
    [
        [{f"pixel {place}": 0.5 for place in range(64)}] * 10_000,
        [{"note": "é" * length} for length in range(4000)],
        [[1]] * (wire.MAX_ROWS + 1),
        [["a"], ["b" * (wire.MAX_JSON_BYTES + 1)], ["c"]],
    ],
    ids=["names", "uneven", "many", "huge"],
)
def test_no_part_is_larger_than_the_json_that_the_service_takes(rows: list[Any]) -> None:
    found = wire.rows_of(rows)
    read, parts, start = [], 0, 0
    while start < found.count:
        stop = found.stop(start)
        part = found.part(start, stop)
        read += json.loads(part)
        assert len(part) <= wire.MAX_JSON_BYTES + 2 or stop == start + 1
        assert stop - start <= wire.MAX_ROWS
        parts, start = parts + 1, stop
    assert read == rows
    assert parts > 1


@pytest.mark.parametrize("rows", [{"a": 1}, "abc", np.zeros(4), np.zeros((2, 2, 2)), 5])
def test_what_is_no_list_of_rows_is_refused(rows: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"rows must|dimensions"):
        wire.rows_of(rows)
