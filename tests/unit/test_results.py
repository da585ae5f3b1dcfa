"""Stored tables a batch at a time, and results as Parquet and CSV."""

import csv
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.domain.cells import Coded
from service.domain.models import Outputs
from service.domain.predictions import ResultColumns
from service.domain.table import Table
from service.domain.training_errors import UnusableState
from service.tables import batches, parquet, results
from service.tables.results import ResultWriter

CLASSES = Outputs("classification", "y", ("no", "yes"))
COLUMNS = ResultColumns.of(["id", "text"], CLASSES, probabilities=True)


def file_of(table: pa.Table) -> io.BytesIO:
    return io.BytesIO(parquet.encode(table))


def small_groups(table: pa.Table, rows: int) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=rows)
    return file


def texts(count: int) -> pa.Table:
    words = pa.array([f"word {place % 3}" for place in range(count)]).dictionary_encode()
    return pa.table({"id": range(count), "text": words, "id.part": range(count)})


@pytest.mark.parametrize("start", [0, 3, 5, 7, 10, 12, 13])
def test_batches_from_any_row_on_are_the_rows_from_there(start: int) -> None:
    table = texts(13)
    for found in (
        batches.stored(small_groups(table, 5), ["text", "id"], 3, start),
        batches.of_table(Table({"id": np.arange(13), "text": np.arange(13)}), ["text", "id"], 3, start),
    ):
        read = list(found)
        assert all(batch.schema.names == ["text", "id"] for batch in read)
        assert all(len(batch) <= 3 for batch in read)
        assert [row for batch in read for row in batch.column("id").to_pylist()] == list(range(start, 13))


def test_batches_that_follow_one_are_the_same_wherever_reading_begins() -> None:
    file = small_groups(texts(20), 7)
    whole = list(batches.stored(file, ["id"], 3))
    ends = np.cumsum([len(batch) for batch in whole]).tolist()
    for place, end in enumerate(ends):
        assert list(batches.stored(file, ["id"], 3, end)) == whole[place + 1 :]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 2], np.array([1, 2])),
        ([1, None], np.array([1, np.nan])),
        ([2**60 + 1, None], np.array([2**60 + 1, None], object)),
        ([1.5, None], np.array([1.5, np.nan])),
        ([True, False], np.array([True, False])),
        ([True, None], np.array([1, np.nan])),
        ([], np.array([], np.int64)),
    ],
)
def test_numbers_and_booleans_come_as_arrays(cells: list[Any], expected: np.ndarray[Any, Any]) -> None:
    kind = None if cells else pa.int64()
    found = batches.cells_of(pa.RecordBatch.from_pydict({"c": pa.array(cells, kind)}), ["c"])["c"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype or found.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cells", [["x", None, "y", "x"], [None, None]])
def test_texts_come_by_their_different_values(cells: list[Any]) -> None:
    for array in (pa.array(cells, pa.string()), pa.array(cells, pa.string()).dictionary_encode()):
        found = batches.cells_of(pa.RecordBatch.from_pydict({"c": array}), ["c"])["c"]
        assert isinstance(found, Coded)
        assert [None if code < 0 else found.cells[code] for code in found.codes.tolist()] == cells


def answers(rows: int) -> tuple[np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, np.dtype[np.bool_]]]:
    yes = np.linspace(0, 1, rows, dtype=np.float32)
    lost = np.zeros(rows, bool)
    lost[-1] = True
    return np.column_stack([1 - yes, yes]), lost


def add_all(writer: ResultWriter, table: pa.Table, rows: int) -> list[bool]:
    answer, lost = answers(table.num_rows)
    flushed, done = [], 0
    for batch in table.to_batches(rows):
        part = slice(done, done + len(batch))
        flushed.append(writer.add(batch, answer[part], lost[part]))
        done += len(batch)
    return flushed


def test_result_holds_what_was_added_in_plain_types() -> None:
    file, table = io.BytesIO(), texts(10)
    writer = ResultWriter(file, COLUMNS, CLASSES, group_rows=4)
    assert add_all(writer, table, 3) == [False, True, False, True]
    writer.close()
    content = file.getvalue()
    assert (writer.rows, writer.size_bytes) == (10, len(content))
    read = pq.read_table(io.BytesIO(content))
    assert read.schema.names == ["id", "text", "prediction", "probability: no", "probability: yes"]
    kinds = [pa.int64(), pa.string(), pa.string(), pa.float32(), pa.float32()]
    assert read.schema.types == kinds
    assert read.column("id").to_pylist() == list(range(10))
    assert read.column("text").to_pylist() == table.column("text").to_pylist()
    assert read.column("prediction").to_pylist() == ["no"] * 5 + ["yes"] * 4 + [None]
    assert read.column("probability: yes")[9].as_py() is None


def test_parts_put_together_are_the_bytes_of_the_whole() -> None:
    table = texts(12)
    whole = io.BytesIO()
    writer = ResultWriter(whole, COLUMNS, CLASSES, group_rows=3)
    add_all(writer, table, 3)
    writer.close()
    answer, lost = answers(12)
    parts = []
    for start, end in ((0, 6), (6, 9), (9, 12)):
        file = io.BytesIO()
        part = ResultWriter(file, COLUMNS, CLASSES, group_rows=3)
        for first in range(start, end, 3):
            rows = slice(first, first + 3)
            [batch] = table.slice(first, 3).to_batches()
            part.add(batch, answer[rows], lost[rows])
        part.close({"until": end})
        assert results.findings_of(file) == {"until": end}
        parts.append(file)
    together = io.BytesIO()
    assembled = ResultWriter(together, COLUMNS, CLASSES, group_rows=3)
    assert [done for file in parts for done in assembled.copy(file)] == [3, 6, 9, 12]
    assembled.close()
    assert together.getvalue() == whole.getvalue()
    assert assembled.sha256 == writer.sha256


@pytest.mark.parametrize("content", [b"", b"rotten", parquet.encode(pa.table({"a": [1]}))])
def test_what_is_no_part_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UnusableState, match="no part of a result"):
        results.findings_of(io.BytesIO(content))


def test_heavy_rows_are_written_before_there_are_many() -> None:
    file = io.BytesIO()
    columns = ResultColumns.of(["text"], CLASSES, probabilities=False)
    writer = ResultWriter(file, columns, CLASSES, group_rows=1_000_000)
    batch = pa.RecordBatch.from_pydict({"text": ["x" * 2**20] * 20})
    assert writer.add(batch, np.zeros((20, 2), np.float32), np.zeros(20, bool))


def test_texts_of_different_batches_go_into_one_group() -> None:
    file = io.BytesIO()
    columns = ResultColumns.of(["text"], CLASSES, probabilities=False)
    writer = ResultWriter(file, columns, CLASSES, group_rows=4)
    for words in (["a", "b"], ["c", None]):
        batch = pa.RecordBatch.from_pydict({"text": pa.array(words).dictionary_encode()})
        writer.add(batch, np.zeros((2, 2), np.float32), np.zeros(2, bool))
    writer.close()
    assert pq.read_table(io.BytesIO(file.getvalue())).column("text").to_pylist() == ["a", "b", "c", None]


def test_csv_tells_empty_texts_from_missing_cells() -> None:
    columns = {"text": ['say "so", twice', "", None], "number": [1.5, None, 3.0], "flag": [True, None, False]}
    csv = b"".join(results.as_csv(small_groups(pa.table(columns), 2))).decode()
    assert csv == '"text","number","flag"\n"say ""so"", twice",1.5,true\n"",,\n,3,false\n'


@pytest.mark.parametrize(
    ("kept", "labels", "names"),
    [
        ((), ("a", "b"), ("prediction", "probability: a", "probability: b")),
        ((), (False, True), ("prediction", "probability: false", "probability: true")),
        ((), (1, 2.5), ("prediction", "probability: 1", "probability: 2.5")),
        (("prediction",), ("a",), ("prediction", "prediction (2)", "probability: a")),
        (
            ("prediction (2)", "prediction", "probability: a"),
            ("a",),
            ("prediction (2)", "prediction", "probability: a", "prediction (3)", "probability: a (2)"),
        ),
    ],
)
def test_names_of_columns_are_unique(kept: tuple[str, ...], labels: tuple[Any, ...], names: tuple[str, ...]) -> None:
    outputs = Outputs("classification", "y", labels)
    assert ResultColumns.of(kept, outputs, probabilities=True).names == names


def test_csv_holds_no_text_that_a_spreadsheet_would_run() -> None:
    texts = ["=1+1", "+2-3", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "a=1", "", None, "-1.5", "+2", "-1e-5", "'"]
    table = pa.table({"=name": texts, "-7": [-1.5] * len(texts), "kind": pa.array(texts).dictionary_encode()})
    rows = list(csv.reader(io.StringIO(b"".join(results.as_csv(small_groups(table, 4))).decode(), newline="")))
    written = ["'=1+1", "'+2-3", "'-2+3", "'@SUM(A1)", "'\t=1", "'\r=1", "a=1", "", "", "-1.5", "+2", "-1e-5", "'"]
    assert rows[0] == ["'=name", "-7", "kind"]
    assert rows[1:] == [[text, "-1.5", text] for text in written]
