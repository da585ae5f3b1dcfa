"""The form in which tables are stored, and how parts of them come out of it."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.tables import parquet


def stored(**columns: object) -> bytes:
    return parquet.encode(pa.table(columns))


def test_columns_come_back_as_arrays_of_their_kind() -> None:
    content = stored(
        integers=[1, 2],
        gaps=pa.array([1, None], pa.int64()),
        floats=[0.1, None],
        flags=[True, False],
        few_flags=[True, None],
        texts=["x", None],
        classes=pa.array(["x", None]).dictionary_encode(),
        nothing=pa.array([None, None], pa.string()),
    )
    columns = parquet.decode(content).columns
    assert {name: array.dtype.kind for name, array in columns.items()} == {
        "integers": "i",
        "gaps": "f",
        "floats": "f",
        "flags": "b",
        "few_flags": "O",
        "texts": "O",
        "classes": "O",
        "nothing": "O",
    }
    assert columns["gaps"][0] == 1.0
    assert np.isnan(columns["gaps"][1])
    assert columns["few_flags"].tolist() == [True, None]
    assert columns["texts"].tolist() == columns["classes"].tolist() == ["x", None]


def test_named_columns_come_alone_and_in_order_dots_or_not() -> None:
    content = stored(**{"a": [1], "a.b": [2], "c": [3], "a.b.c": [4]})
    table = parquet.decode(content, ["c", "a"])
    assert {name: array.tolist() for name, array in table.columns.items()} == {"c": [3], "a": [1]}
    assert list(table.columns) == ["c", "a"]
    assert parquet.read_rows(content, 0, 1) == [{"a": 1, "a.b": 2, "c": 3, "a.b.c": 4}]


def test_equal_texts_are_one_object_across_groups_of_rows() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"t": ["a long text", "another"] * 500}), buffer, row_group_size=100)
    texts = parquet.decode(buffer.getvalue()).columns["t"]
    assert len({id(text) for text in texts}) == 2


def test_rows_are_read_from_the_groups_that_hold_them() -> None:
    rows = 150_000
    content = stored(i=np.arange(rows), t=pa.array([f"text {i}" for i in range(rows)]))
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups > 2
    for start in (0, 65_530, rows - 3):
        found = parquet.read_rows(content, start, 10)
        assert found == [{"i": i, "t": f"text {i}"} for i in range(start, min(start + 10, rows))]
    assert parquet.read_rows(content, rows, 10) == []


def test_rows_are_read_from_an_open_file_again_and_again() -> None:
    with io.BytesIO(stored(a=[1, 2, 3])) as file:
        assert [parquet.read_rows(file, start, 1) for start in (2, 0)] == [[{"a": 3}], [{"a": 1}]]
        assert not file.closed


def test_wide_table_is_read_some_columns_at_a_time() -> None:
    content = stored(**{f"c{i}": np.full(3_000, i) for i in range(1_500)})
    assert parquet.read_rows(content, 2_999, 5) == [{f"c{i}": i for i in range(1_500)}]


def test_equal_tables_are_equal_bytes_and_the_hash_is_theirs() -> None:
    table = pa.table({"a": [1.5, None], "t": ["x", "y"]})
    first, second = io.BytesIO(), io.BytesIO()
    assert parquet.write(table, first) == parquet.write(table, second)
    assert first.getvalue() == second.getvalue() == parquet.encode(table)
