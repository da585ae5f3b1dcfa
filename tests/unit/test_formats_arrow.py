import io
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.api.formats import limits
from service.api.formats.arrow import read
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.errors import InvalidRows, MalformedRequest
from tests.formats import MIXED, NUMBERS, arrow_body, served

SERVED = served(NUMBERS)
GAPPED = served((NumericEncoder("x", gaps=True, fill=9.0), NumericEncoder("y")))
TABLE = {"c": [3.0, 6.0, 9.0], "a": [1.0, 4.0, 7.0], "b": [2.0, 5.0, 8.0]}
ROWS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def one(encoder: Encoder, cells: Any, **options: Any) -> list[list[float]]:
    """What a column is encoded to."""
    table = {encoder.name: cells, "n": np.zeros(len(cells))}
    encoded = read(arrow_body(table, **options), served((encoder, NumericEncoder("n")))).encoded()
    rows: list[list[float]] = encoded[:, :-1].tolist()
    return rows


def refusal(body: bytes, model: Any = SERVED) -> str:
    with pytest.raises((InvalidRows, MalformedRequest)) as caught:
        read(body, model)
    return str(caught.value)


@pytest.mark.parametrize("batch_rows", [None, 1, 2])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_columns_are_found_by_name(batch_rows: int | None, compression: str | None) -> None:
    assert read(arrow_body(TABLE, batch_rows, compression=compression), SERVED).encoded().tolist() == ROWS


@pytest.mark.parametrize(
    "kind", ["float32", "float64", "int8", "uint8", "int64", "uint64", "decimal128(5, 1)", "float16"]
)
def test_numbers_of_every_type_are_taken(kind: str) -> None:
    types = {"float16": pa.float16(), "decimal128(5, 1)": pa.decimal128(5, 1)}
    cells = {name: pa.array(column).cast(types.get(kind, kind)) for name, column in TABLE.items()}
    assert read(arrow_body(cells, 2), SERVED).encoded().tolist() == ROWS
    coded = {name: array.dictionary_encode() for name, array in cells.items()}
    assert read(arrow_body(coded), SERVED).encoded().tolist() == ROWS


def test_types_may_differ_from_column_to_column() -> None:
    cells = {"a": np.array([1, 4, 7], np.int8), "b": np.array([2, 5, 8], np.float32), "c": np.array([3.0, 6.0, 9.0])}
    assert read(arrow_body(cells), SERVED).encoded().tolist() == ROWS


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int64(), pa.int8(), pa.decimal128(5, 1)])
def test_null_is_a_gap(kind: Any) -> None:
    cells = {"x": pa.array([1, None, 3], kind), "y": pa.array([4, 5, 6], kind)}
    wanted = [[1, 0, 4], [9, 1, 5], [3, 0, 6]]
    assert read(arrow_body(cells), GAPPED).encoded().tolist() == wanted
    assert read(arrow_body(cells, 1), GAPPED).encoded().tolist() == wanted, "with batches without gaps first"
    assert "row 1, column 'y': is null" in refusal(arrow_body({"x": cells["y"], "y": cells["x"]}), GAPPED)


def test_nan_is_a_gap_and_infinity_an_error() -> None:
    assert read(arrow_body({"x": [float("nan")], "y": [1.0]}), GAPPED).encoded().tolist() == [[9, 1, 1]]
    assert "row 2, column 'y': must lie within" in refusal(
        arrow_body({"x": [1.0] * 3, "y": [1, 2, float("inf")]}), GAPPED
    )
    assert "row 1, column 'b': must lie within" in refusal(arrow_body({**TABLE, "b": [1, float("-inf"), 2]}))
    halves = {name: np.array([1, 2, np.inf], np.float16) for name in "abc"}
    assert "row 2, column 'a': must lie within" in refusal(arrow_body(halves))


def test_column_without_a_cell_is_all_gaps() -> None:
    cells = {"age": pa.nulls(2), "weight": [1, 2], "job": pa.nulls(2), "member": pa.nulls(2), "since": pa.nulls(2)}
    model = served(MIXED)
    wanted = model.reader.check([{"weight": 1}, {"weight": 2}]).encoded()
    np.testing.assert_array_equal(wanted, read(arrow_body(cells), model).encoded())


@pytest.mark.parametrize(
    "cells",
    [
        pa.array(["cook", "00202", None, "?"]),
        pa.array(["cook", "00202", None, "?"], pa.large_string()),
        pa.array(["cook", "00202", None, "?"], pa.string_view()),
        pa.array(["cook", "00202", None, "?"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays([0, 1, None, 2], pa.array(["cook", "00202", "?"], pa.string_view())),
        pa.DictionaryArray.from_arrays(pa.array([3, 0, 1, 4], pa.uint8()), ["00202", None, "unused", "cook", "?"]),
        pa.chunked_array([["cook", "00202"], [None, "?"]]).dictionary_encode(),
        pa.chunked_array([["cook", "00202"], [None, "?"]]),
    ],
)
def test_text_comes_in_many_forms(cells: Any) -> None:
    encoder = CategoricalEncoder("job", ("cook", "00202"), other=True, gaps=True, missing_tokens=("?",))
    assert one(encoder, cells) == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_dictionaries_may_change_and_grow_from_batch_to_batch() -> None:
    schema = pa.schema({"job": pa.dictionary(pa.int32(), pa.string())})
    for is_delta in (False, True):
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=is_delta)
        with pa.ipc.new_stream(sink, schema, options=options) as stream:
            for words in (["a"], ["a", "b"], ["a", "b", "c"], ["x", "c"]):
                array = pa.DictionaryArray.from_arrays(pa.array(range(len(words)), pa.int32()), words)
                stream.write_batch(pa.record_batch([array], schema=schema))
        encoded = read(sink.getvalue(), served((CategoricalEncoder("job", ("a", "b", "c")),))).encoded()
        assert ["abc"[row.index(1)] if 1 in row else "-" for row in encoded.tolist()] == list("aababc-c")


def test_unseen_categories_are_said_and_unused_ones_are_not() -> None:
    cells = pa.DictionaryArray.from_arrays(pa.array([2, 0], pa.int8()), ["x", "unused", "cook"])
    checked = read(arrow_body({"job": cells}), served((CategoricalEncoder("job", ("cook",)),)))
    assert checked.warnings == (
        "row 1, column 'job': 'x' was not seen in training and is taken as none of the known ones",
    )
    assert checked.unseen == {"job": 1}


def test_numbers_and_booleans_are_categories_too() -> None:
    floor = CategoricalEncoder("floor", (1, 2**53 + 1), gaps=True, holds="number")
    assert one(floor, pa.array([1, 2**53 + 1, None, 2**53])) == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert one(floor, pa.array([1.0, None, float("nan")])) == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert one(floor, pa.array([Decimal("1.0"), None])) == [[1, 0, 0], [0, 0, 1]]
    member = CategoricalEncoder("member", (True, False), gaps=True, holds="boolean")
    assert one(member, pa.array([False, None, True])) == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert one(BooleanEncoder("flag", gaps=True, fill=0.5), pa.array([False, None, True])) == [[0, 0], [0.5, 1], [1, 0]]
    assert one(BooleanEncoder("flag"), pa.array([0, 1])) == [[0], [1]]


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        (pa.array([date(2020, 1, 31), date(1931, 12, 1), None]), ["2020-01-31", "1931-12-01", None]),
        (pa.array([date(2020, 1, 31)], pa.date64()), ["2020-01-31"]),
        (pa.array([datetime(2020, 1, 31, 7)], pa.timestamp("s")), ["2020-01-31T07:00:00"]),
        (pa.array([datetime(2020, 1, 31, 7, 0, 0, 5)]), ["2020-01-31T07:00:00.000005"]),
        (pa.array([datetime(2020, 1, 31, 7, 0, 0, 5)], pa.timestamp("ns")), ["2020-01-31T07:00:00.000005"]),
        (pa.array([datetime(1, 1, 1), datetime(9999, 12, 31)], pa.timestamp("ms")), ["0001-01-01", "9999-12-31"]),
        (
            pa.array(
                [datetime(2020, 1, 31, 7, tzinfo=timezone(timedelta(hours=2)))], pa.timestamp("s", "Europe/Paris")
            ),
            ["2020-01-31T07:00:00+02:00"],
        ),
        (pa.array([datetime(2020, 1, 31, 7, tzinfo=UTC)]).dictionary_encode(), ["2020-01-31T07:00:00Z"]),
    ],
)
def test_moments_are_what_their_text_is(cells: Any, texts: list[str | None]) -> None:
    encoder = DateEncoder("when", "%d.%m.%Y", has_time=True, gaps=True, fill=(1.0,) * 9)
    model = served((encoder, NumericEncoder("n")))
    wanted = model.reader.check([[text, 0] for text in texts]).encoded()
    np.testing.assert_array_equal(wanted[:, :-1], one(encoder, cells))


def test_moment_beyond_the_calendar_is_no_date() -> None:
    cells = pa.array([2**40], pa.timestamp("s"))
    words = refusal(arrow_body({"when": cells}), served((DateEncoder("when", "iso"),)))
    assert "row 0, column 'when': must be a date" in words


def test_moments_are_categories_as_text() -> None:
    assert one(CategoricalEncoder("day", ("2020-01-31",)), pa.array([date(2020, 1, 31), date(2020, 2, 1)])) == [
        [1],
        [0],
    ]
    assert one(CategoricalEncoder("at", ("07:30:00",)), pa.array([time(7, 30), time(7, 31)])) == [[1], [0]]


def test_target_is_left_out_and_said() -> None:
    checked = read(arrow_body({**TABLE, "price": [[1], [2], [3]]}), SERVED)
    assert checked.encoded().tolist() == ROWS
    assert checked.warnings == ("column 'price' is what the model predicts, and was left out",)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"a": [1.0], "b": [2.0]}, "the table lacks the column(s) 'c'"),
        ({**TABLE, "id": [1, 2, 3]}, "does not take: 'id'; leave them out"),
        ({**TABLE, "b": [[1], [2], [3]]}, "column 'b' holds 'list<item: int64>'; cells are numbers, text"),
        ({**TABLE, "b": [{"x": 1}] * 3}, "column 'b' holds 'struct<x: int64>'"),
        ({**TABLE, "b": [b"x"] * 3}, "column 'b' holds 'binary'"),
        ({**TABLE, "b": pa.array([timedelta(1)] * 3)}, "column 'b' holds 'duration[us]'"),
        ({**TABLE, "b": pa.RunEndEncodedArray.from_arrays([3], [1.0])}, "column 'b' holds 'run_end_encoded"),
        ({**TABLE, "b": pa.array(["1", "2", "3"])}, "row 0, column 'b': must be a number; got '1'"),
        ({**TABLE, "b": pa.array([True, False, True])}, "row 0, column 'b': must be a number; got true"),
        ({name: cells[:0] for name, cells in TABLE.items()}, "has no rows"),
    ],
)
def test_table_that_the_model_cannot_take_is_refused_with_the_reason(cells: Any, words: str) -> None:
    assert words in refusal(arrow_body(cells))


def test_equal_names_are_refused() -> None:
    table = pa.table([[1.0], [2.0], [3.0], [4.0]], ["a", "b", "c", "b"])
    assert "has two columns 'b'" in refusal(arrow_body(table))


def test_extension_types_are_refused() -> None:
    array = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))
    assert "column 'b' holds" in refusal(arrow_body({"a": [1.0], "b": array, "c": [1.0]}))


@pytest.mark.parametrize("cut", [0, 1, 4, 7, 20, 100, 300, 500])
def test_stream_that_is_cut_off_is_refused(cut: int) -> None:
    body = arrow_body(TABLE, 1)
    assert "Arrow" in refusal(body[:cut]) or "is empty" in refusal(body[:cut])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"\0" * 64, "goes on for 60 bytes after the end of its stream"),
        (b"garbage, and more than a few bytes of it", "cannot be read as an Arrow stream"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "cannot be read as an Arrow stream"),
        (b"ARROW1\0\0" + arrow_body(TABLE), "is an Arrow file, not a stream"),
        (arrow_body(TABLE) + b"more", "goes on for 4 bytes after the end of its stream"),
        (arrow_body(TABLE) * 2, "after the end of its stream"),
    ],
)
def test_body_that_is_no_stream_is_refused_with_the_reason(body: bytes, words: str) -> None:
    assert words in refusal(body)


def test_text_that_is_no_utf8_is_refused() -> None:
    array = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe"))
    assert "cannot be read" in refusal(arrow_body({"job": array}), served((CategoricalEncoder("job", ("a",)),)))


def test_codes_without_a_cell_are_refused() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int32()), pa.array(["a"]), safe=False)
    assert "cannot be read" in refusal(arrow_body({"job": array}), served((CategoricalEncoder("job", ("a",)),)))


def test_offsets_beyond_the_text_are_refused() -> None:
    body = arrow_body({"job": ["ab", "cde"]})
    damaged = body.replace(struct.pack("<iii", 0, 2, 5), struct.pack("<iii", 0, 2**30, 2**30))
    assert damaged != body
    assert "cannot be read" in refusal(damaged, served((CategoricalEncoder("job", ("a",)),)))


def test_rows_that_hold_no_bytes_are_counted_all_the_same() -> None:
    model = served((NumericEncoder("x", gaps=True), NumericEncoder("y", gaps=True)))
    assert "at most 100,000" in refusal(arrow_body({"x": pa.nulls(10**9)}), model)
    wide = {f"x{number}": pa.nulls(100_000) for number in range(100)}
    many = served(tuple(NumericEncoder(name, gaps=True) for name in wide))
    assert f"at most {limits.MAX_CELLS:,} cells" in refusal(arrow_body(wide), many)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_bomb_is_refused_before_it_is_decoded(compression: str) -> None:
    body = arrow_body({"job": ["a" * 70_000_000]}, compression=compression)
    assert len(body) < 500_000
    before = pa.default_memory_pool().bytes_allocated()
    assert "decodes to more than" in refusal(body, served((CategoricalEncoder("job", ("a",)),)))
    assert pa.default_memory_pool().bytes_allocated() == before


def test_compressed_dictionary_bomb_is_refused() -> None:
    body = arrow_body({"job": pa.array(["a" * 70_000_000]).dictionary_encode()}, compression="zstd")
    assert "decodes to more than" in refusal(body, served((CategoricalEncoder("job", ("a",)),)))


def test_dictionary_that_grows_without_end_is_refused() -> None:
    schema, sink = pa.schema({"job": pa.dictionary(pa.int32(), pa.string())}), io.BytesIO()
    words: list[str] = []
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as stream:
        for number in range(200):
            words.append(f"{number}" * 10_000)
            array = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), words)
            stream.write_batch(pa.record_batch([array], schema=schema))
    assert len(sink.getvalue()) < 10_000_000
    assert "decodes to more than" in refusal(sink.getvalue(), served((CategoricalEncoder("job", ("a",)),)))


def test_one_long_text_in_many_rows_is_refused() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["a" * 9_000_000])
    assert "bytes of different texts" in refusal(
        arrow_body({"job": array}), served((CategoricalEncoder("job", ("a",)),))
    )


def test_views_that_show_the_same_bytes_again_and_again_are_refused() -> None:
    text, rows = b"x" * 1_000_000, 100
    views = b"".join(struct.pack("<i4sii", len(text) - row, text[:4], 0, row) for row in range(rows))
    array = pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(views), pa.py_buffer(text)])
    body = arrow_body({"job": array})
    assert len(body) < 2_000_000
    assert "has 99,995,050 bytes of text" in refusal(body, served((CategoricalEncoder("job", ("a",)),)))


def test_very_many_batches_are_refused() -> None:
    schema, sink = pa.schema({"x": pa.float64(), "y": pa.float64()}), io.BytesIO()
    batch = pa.record_batch([[1.0], [2.0]], schema=schema)
    with pa.ipc.new_stream(sink, schema) as stream:
        for _ in range(10_001):
            stream.write_batch(batch)
    assert "more than 10,000 batches" in refusal(sink.getvalue(), GAPPED)
