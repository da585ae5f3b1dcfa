"""Rows of a file, piece by piece, and the same rows on their way out."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from service.cli import row_files
from service.cli.row_files import PIECE_BYTES, PIECE_ROWS, Piece, RowFormat, pieces_of
from service.cli.row_writing import CsvWriter, JsonWriter, written_to
from service.domain.table_formats import SUFFIXES

WANTED = ["size", "city"]


def read(path: Path, form: RowFormat | None = None) -> list[Piece]:
    return list(pieces_of(path, form, WANTED))


def stored(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_cells_are_sent_as_they_stand_and_only_those_that_are_wanted(tmp_path: Path) -> None:
    path = stored(tmp_path, "rows.csv", 'id,city,size\r\n1,"Bern, BE",0070\r\n\r\n2,"a ""b""\nc",\r\n')
    (piece,) = read(path)
    assert piece.names == ["id", "city", "size"]
    assert piece.rows == [["1", "Bern, BE", "0070"], ["2", 'a "b"\nc', ""]]
    assert list(csv.reader(io.StringIO(piece.only(WANTED).decode(), newline=""))) == [
        ["size", "city"],
        ["0070", "Bern, BE"],
        ["", 'a "b"\nc'],
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiter_is_the_one_that_gives_the_wanted_names(delimiter: str, mark: str, tmp_path: Path) -> None:
    path = stored(tmp_path, "rows.csv", mark + delimiter.join(["a,b", "size", "city"]) + "\n" + delimiter.join("x12"))
    path.write_text(path.read_text().replace("a,b", "id" if delimiter == "," else "a,b"))
    (piece,) = read(path)
    assert piece.names[1:] == ["size", "city"]
    assert piece.rows == [["x", "1", "2"]]


def test_rows_of_json_keep_their_values_and_their_gaps(tmp_path: Path) -> None:
    rows = [{"size": 70, "city": "Bern"}, {"city": None, "note": "x"}]
    expected = [{"size": 70, "city": "Bern"}, {"city": None}]
    as_lines = "".join(json.dumps(row) + "\n\n" for row in rows)
    for path in (stored(tmp_path, "a.json", json.dumps(rows)), stored(tmp_path, "a.jsonl", as_lines)):
        (piece,) = read(path)
        assert piece.names == ["size", "city", "note"]
        assert piece.only(WANTED) == expected


def test_arrays_have_the_order_of_the_model(tmp_path: Path) -> None:
    (piece,) = read(stored(tmp_path, "a.ndjson", '[70, "Bern"]\n[null, "Basel"]\n'))
    assert piece.only(WANTED) == [{"size": 70, "city": "Bern"}, {"size": None, "city": "Basel"}]


def test_parquet_comes_in_pieces(tmp_path: Path) -> None:
    count = PIECE_ROWS * 2 + 1
    pq.write_table(pa.table({"size": range(count), "city": ["Bern"] * count}), tmp_path / "rows.parquet")
    pieces = read(tmp_path / "rows.parquet")
    assert [(piece.start, len(piece.rows)) for piece in pieces] == [
        (0, PIECE_ROWS),
        (PIECE_ROWS, PIECE_ROWS),
        (20_000, 1),
    ]
    assert pieces[-1].only(["city", "size"]) == pa.table({"city": ["Bern"], "size": [count - 1]})


def test_cells_of_parquet_are_sent_as_they_are(tmp_path: Path) -> None:
    table = pa.table({"size": pa.array([float("inf"), None]), "note": [b"\xff", None], "city": [b"\xff", None]})
    pq.write_table(table, tmp_path / "rows.parquet")
    (piece,) = read(tmp_path / "rows.parquet")
    assert piece.only(WANTED) == table.select(WANTED)
    assert piece.only(["another"]).num_rows == 2


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.json"])
@pytest.mark.parametrize("city", ["\u6570" * 10, "Bern"])
def test_rows_of_json_are_cut_by_what_is_sent_with_their_names(name: str, city: str, tmp_path: Path) -> None:
    rows = [{"size": 1, "city": city, **{f"{'pixel' * 8}{place}": 0 for place in range(64)}}] * 2_000
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path = stored(tmp_path, name, "\n".join(lines) if name == "rows.ndjson" else f"[{','.join(lines)}]")
    asked = [piece.only([*rows[0]]) for piece in read(path)]
    assert [row for each in asked for row in each] == rows
    longest = len(json.dumps(rows[0])) + 2
    assert max(len(json.dumps(each)) for each in asked) < PIECE_BYTES + longest
    assert len(asked) == -(-2_000 * longest // PIECE_BYTES)


def test_column_that_comes_too_late_is_said_and_none_of_a_list_does(tmp_path: Path) -> None:
    rows = [{"size": 1}] * PIECE_ROWS + [{"size": 2, "late": 3}]
    pieces = pieces_of(stored(tmp_path, "rows.ndjson", "\n".join(map(json.dumps, rows))), None, WANTED)
    assert next(pieces).names == ["size"]
    with pytest.raises(typer.BadParameter, match=f"row {PIECE_ROWS} .* has 'late', which none of the first"):
        next(pieces)
    first, second = read(stored(tmp_path, "rows.json", json.dumps(rows)))
    assert (first.names, first.rows[0]) == (["size", "late"], [1, ...])
    assert (second.names, second.rows) == (["size", "late"], [[2, 3]])


def test_empty_line_is_a_gap_of_a_single_column_only(tmp_path: Path) -> None:
    (single,) = read(stored(tmp_path, "single.csv", "size\n1\n\n3\n"))
    assert single.rows == [["1"], [""], ["3"]]
    assert list(csv.reader(io.StringIO(single.only(WANTED).decode()))) == [["size"], ["1"], [""], ["3"]]
    (several,) = read(stored(tmp_path, "several.csv", "size,city\n1,a\n\n3,b\n"))
    assert several.rows == [["1", "a"], ["3", "b"]]


def test_large_file_is_read_as_far_as_it_is_asked_about(tmp_path: Path) -> None:
    line = f"1,{'x' * 10_000}\n"
    path = stored(tmp_path, "rows.csv", "size,city\n" + line * 1000)
    sizes = [(piece.start, len(piece.rows)) for piece in pieces_of(path, None, WANTED)]
    assert len(sizes) > 2
    assert all(rows * len(line) < PIECE_BYTES + len(line) for _, rows in sizes)
    assert sum(rows for _, rows in sizes) == 1000
    assert [start for start, _ in sizes] == [sum(rows for _, rows in sizes[:place]) for place in range(len(sizes))]


def test_stdin_is_csv_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"size,city\n1,a\n")))
    assert [piece.rows for piece in pieces_of(None, None, WANTED)] == [[["1", "a"]]]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'[{"size": 1}]')))
    assert [piece.rows for piece in pieces_of(None, RowFormat.JSON, WANTED)] == [[[1]]]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("rows.csv", "size,city\n1\n", "row 0 .* has 1 cells, the line of names 2"),
        ("rows.csv", b"size,city\n\xff,a\n", "can't decode"),
        ("rows.csv", 'size,city\n"1,a\n', "unexpected end"),
        ("rows.ndjson", "{", "cannot be read as ndjson"),
        ("rows.ndjson", "1\n", "neither an object nor an array"),
        ("rows.ndjson", "[1]\n", "has 1 cells, the model takes 2"),
        ("rows.json", "{}", "must hold a list"),
        ("rows.parquet", "PAR1", "cannot be read as parquet"),
        ("rows.xlsx", "", "say --format"),
    ],
)
def test_file_that_cannot_be_read_is_said_with_its_fault(
    name: str, content: str | bytes, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        read(stored(tmp_path, name, content))


def test_file_without_rows_gives_no_piece(tmp_path: Path) -> None:
    assert read(stored(tmp_path, "rows.csv", "")) == []
    assert read(stored(tmp_path, "rows.csv", "size,city\n")) == []
    assert read(stored(tmp_path, "rows.json", "[]")) == []


def test_every_format_has_a_reader() -> None:
    assert set(row_files._READERS) == set(RowFormat)
    assert set(SUFFIXES.values()) == set(RowFormat)


ROW: list[Any] = ["a\x1bb", None, True, 0.1, float("nan"), date(2026, 1, 2), Decimal("1.5"), [1, "x"], float("inf")]
NAMES = [f"c{place}" for place in range(len(ROW))]


def test_csv_has_a_line_for_each_row() -> None:
    stream = io.StringIO()
    writer = CsvWriter(stream)
    writer.begin(NAMES)
    writer.write([ROW])
    writer.end()
    assert stream.getvalue() == f'{",".join(NAMES)}\na\x1bb,,true,0.1,,2026-01-02,1.5,"[1, ""x""]",inf\n'


def test_json_is_one_list_of_objects_without_the_cells_that_a_row_lacks() -> None:
    stream = io.StringIO()
    writer = JsonWriter(stream)
    writer.begin(["a", "b"])
    for row in ([1, "\u202e"], [..., 2]):
        writer.write([row])
    writer.end()
    assert stream.getvalue().isascii()
    assert json.loads(stream.getvalue()) == [{"a": 1, "b": "\u202e"}, {"b": 2}]


def test_terminal_gets_no_control_characters() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    CsvWriter(stream).write([ROW])
    assert stream.getvalue().startswith("a\\x1bb,")


def test_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(typer.BadParameter), written_to(path, is_json=False) as writer:
        writer.write(_rows_that_break_off())
    assert path.read_text() == "before"
    with written_to(path, is_json=False) as writer:
        writer.begin(["a"])
        writer.write([[1]])
        assert path.read_text() == "before"
    assert path.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def _rows_that_break_off() -> Iterator[list[Any]]:
    yield [1]
    raise typer.BadParameter("there is no more")


def test_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "nothing"
    link.symlink_to("/dev/null")
    with written_to(link, is_json=False) as writer:
        writer.begin(["a"])
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()


def test_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(typer.BadParameter, match="cannot be written"),
        written_to(tmp_path / "no/out.csv", is_json=False),
    ):
        pass
