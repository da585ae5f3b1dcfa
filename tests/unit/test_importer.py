"""Uploads read by the process that is made for it, its limits, and what becomes of it when they are met."""

import contextlib
import gc
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.domain.datasets import ImportedTable
from service.domain.errors import InvalidTable
from service.domain.limits import TableLimits
from service.tables import parquet
from service.tables.importer import ImportRequest, import_table
from tests.patience import until
from tests.stopwatch import stopwatch
from tests.unit.uploads import upload

SMALL = b"a,b\n1,x\n2.5,y\n,x\n"


def imported(
    content: bytes, form: Any = "csv", limits: TableLimits | None = None, **asked: Any
) -> tuple[ImportedTable, bytes]:
    """Read an upload in a process of its own, from a file that has no name."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
        source.write(content)
        source.flush()
        table = import_table(source, output, ImportRequest(form, **asked), limits or TableLimits())
        output.seek(0)
        return table, output.read()


def refusal(content: bytes, form: Any = "csv", limits: TableLimits | None = None, **asked: Any) -> str:
    with pytest.raises(InvalidTable) as raised:
        imported(content, form, limits, **asked)
    return raised.value.violations[0].detail


class TestProcess:
    def test_table_is_described_and_stored(self) -> None:
        table, content = imported(SMALL)
        assert table == upload(SMALL)[0]
        assert (table.rows, table.size_bytes) == (3, len(content))
        assert table.sha256 == hashlib.sha256(content).hexdigest()
        assert parquet.read_rows(content, 0, 5)[2] == {"a": None, "b": "x"}

    def test_equal_files_give_equal_bytes(self) -> None:
        rows = "".join(f"{i},{i % 7 / 4},w{i % 5},long text {i}\n" for i in range(150_000))
        content = f"a,b,c,d\n{rows}".encode()
        assert imported(content)[0].sha256 == imported(content)[0].sha256

    @pytest.mark.parametrize("form", ["ndjson", "json", "parquet"])
    def test_every_format_is_read(self, form: str) -> None:
        buffer = io.BytesIO()
        pq.write_table(pa.table({"a": [1, 2]}), buffer)
        contents = {"ndjson": b'{"a": 1}\n{"a": 2}', "json": b'[{"a": 1}, {"a": 2}]', "parquet": buffer.getvalue()}
        assert parquet.read_rows(imported(contents[form], form)[1], 0, 9) == [{"a": 1}, {"a": 2}]

    def test_what_is_asked_for_and_what_is_wrong_come_through(self) -> None:
        table, _ = imported(b"a,b\n007,-\n1,2\n", kinds={"a": "numeric"}, missing=("-",))
        assert [column.missing_tokens for column in table.columns] == [{}, {"-": 1}]
        assert table.columns[0].kind == "numeric"
        assert "two columns 'a'" in refusal(b"a,a\n1,2\n")

    def test_place_in_the_file_does_not_matter(self) -> None:
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
            source.write(SMALL)
            source.flush()
            for _ in range(2):
                output.truncate(0)
                output.seek(0)
                assert import_table(source, output, ImportRequest("csv"), TableLimits()).rows == 3

    def test_parent_loads_no_arrow(self) -> None:
        code = "import sys; import service.tables.importer; print('pyarrow' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

    def test_secrets_are_kept_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SELFNORM_DATABASE_URL", "postgresql://user:secret@host/database")
        with running_import(endless()) as (process, _):
            environment = Path(f"/proc/{process}/environ").read_bytes()
        assert b"SELFNORM" not in environment
        assert b"secret" not in environment


class TestLimits:
    def test_memory(self) -> None:
        rows = [b"%d,a text that is not short and never the same %d\n" % (i, i) for i in range(1_500_000)]
        limits = TableLimits(import_memory_bytes=400_000_000)
        assert "takes more than 400,000,000 bytes of memory to read" in refusal(
            b"a,b\n" + b"".join(rows), limits=limits
        )
        assert imported(b"a,b\n" + b"".join(rows[:20_000]), limits=limits)[0].rows == 20_000

    @pytest.mark.parametrize("memory_bytes", [1_000_000, 30_000_000, 60_000_000])
    def test_memory_that_does_not_suffice_to_begin(self, memory_bytes: int) -> None:
        assert "of memory to read" in refusal(SMALL, limits=TableLimits(import_memory_bytes=memory_bytes))

    def test_small_file_with_a_page_that_is_not(self) -> None:
        texts = pa.array(["x" * 200_000_000])
        buffer = io.BytesIO()
        pq.write_table(pa.table({"a": texts}), buffer, compression="zstd", use_dictionary=False, write_statistics=False)
        limits = TableLimits(import_memory_bytes=300_000_000)
        assert "of memory to read" in refusal(buffer.getvalue(), "parquet", limits)

    def test_time(self) -> None:
        content, limits = endless(), TableLimits(import_seconds=0.5)
        with stopwatch() as watch:
            began = time.monotonic()
            assert "takes longer than 0.5 s to read" in refusal(content, "ndjson", limits)
            assert watch.elapsed(began) < 5

    @pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
    def test_end_without_an_answer(self, signal_number: int) -> None:
        with running_import(endless()) as (process, outcome):
            os.kill(process, signal_number)
            outcome.thread.join()
            assert "of memory to read" in str(outcome.error)

    def test_process_ends_when_its_parent_does(self, tmp_path: Path) -> None:
        (tmp_path / "endless").write_bytes(endless())
        code = (
            "import sys, tempfile\n"
            "from service.tables.importer import *\n"
            "import_table(open(sys.argv[1], 'rb'), tempfile.TemporaryFile(), ImportRequest('ndjson'), TableLimits())"
        )
        parent = subprocess.Popen([sys.executable, "-c", code, tmp_path / "endless"])
        (child,) = wait_for_children(parent.pid)
        parent.kill()
        parent.wait()
        until(lambda: not is_running(child))

    def test_no_process_no_file_and_no_thread_is_left(self) -> None:
        imported(SMALL)
        gc.collect()  # what other tests have left is not to go meanwhile
        files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        imported(SMALL)
        refusal(b"")
        until(lambda: threading.active_count() <= threads)
        assert len(os.listdir("/proc/self/fd")) <= files
        assert children_of(os.getpid()) == []


FORMS = pytest.mark.parametrize("form", ["csv", "ndjson", "json", "parquet"])


def table_of(rows: int, columns: int, form: Any) -> bytes:
    values = {f"c{i}": np.arange(rows) % 7 + 0.5 for i in range(columns)}
    if form == "parquet":
        return parquet.encode(parquet.from_arrays(values))
    cells = list(zip(*(column.tolist() for column in values.values()), strict=True))
    if form == "csv":
        return "\n".join([",".join(values), *(",".join(map(str, row)) for row in cells)]).encode()
    objects = [json.dumps(dict(zip(values, row, strict=True))) for row in cells]
    return ("\n".join(objects) if form == "ndjson" else f"[{','.join(objects)}]").encode()


@FORMS
class TestSizes:
    @pytest.mark.parametrize(
        ("bound", "shape", "larger", "words"),
        [
            ({"max_rows": 100}, (100, 2), (101, 2), "101 rows; at most 100"),
            ({"max_columns": 5}, (10, 5), (10, 6), "columns"),
            ({"max_cells": 60}, (20, 3), (21, 3), "63 cells .*; at most 60"),
        ],
    )
    def test_table_at_the_bound_is_read_and_one_beyond_it_not(
        self, form: Any, bound: dict[str, int], shape: tuple[int, int], larger: tuple[int, int], words: str
    ) -> None:
        assert upload(table_of(*shape, form), form, allowed=bound)[0].rows == shape[0]
        with pytest.raises(InvalidTable, match=words):
            upload(table_of(*larger, form), form, allowed=bound)

    def test_decoded_bytes(self, form: Any) -> None:
        content = table_of(5_000, 3, form)
        assert upload(content, form, allowed={"max_decoded_bytes": 300_000})[0].rows == 5_000
        with pytest.raises(InvalidTable, match="at most 100,000 are allowed"):
            upload(content, form, allowed={"max_decoded_bytes": 100_000})


def test_categories_at_the_bound_and_beyond_it() -> None:
    content = b"a\n" + b"".join(b"w%d\n" % (i % 30) for i in range(120))
    assert upload(content, allowed={"max_categories": 30})[0].columns[0].kind == "categorical"
    assert upload(content, allowed={"max_categories": 29})[0].columns[0].kind == "text"
    with pytest.raises(InvalidTable, match="30 different cells; categories are at most 29"):
        upload(content, allowed={"max_categories": 29}, kinds={"a": "categorical"})


class Outcome:
    """What became of an import that runs beside the test."""

    thread: threading.Thread
    error: Exception | None = None


@contextlib.contextmanager
def running_import(content: bytes) -> Iterator[tuple[int, Outcome]]:
    """Run an import beside the test and give the id of its process."""
    outcome = Outcome()

    def run() -> None:
        try:
            imported(content, "ndjson")
        except InvalidTable as error:
            outcome.error = error

    outcome.thread = threading.Thread(target=run)
    outcome.thread.start()
    (process,) = wait_for_children(os.getpid())
    try:
        yield process, outcome
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        outcome.thread.join()


def endless() -> bytes:
    """Return a file that takes many seconds to read."""
    return b'{"a": 1, "b": "x", "c": 2.5}\n' * 3_000_000


def children_of(parent: int) -> list[int]:
    """Return the processes that a process has started and that have loaded their program."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            with contextlib.suppress(OSError):
                if b"service.tables" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def wait_for_children(parent: int) -> list[int]:
    return until(lambda: children_of(parent))


def is_running(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
