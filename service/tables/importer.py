"""Have an upload read by a process of its own, which may run out of memory or time without harm; knows no Arrow."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from typing import Any, BinaryIO

from service.domain.datasets import Column, ImportedTable, TableReport
from service.domain.errors import InvalidTable, Violation
from service.domain.limits import TableLimits
from service.domain.table_formats import TableFormat as TableFormat
from service.tables.allowance import Allowance
from service.tables.parallel import MAX_THREADS
from service.tables.refusals import refused
from service.tables.request import ImportRequest as ImportRequest

logger = logging.getLogger(__name__)

MAX_LOGGED_BYTES = 4_000
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "TZDIR")
"""All else, passwords for one, is kept from a process that reads strangers' files."""
OWN_VARIABLES = {
    "ARROW_DEFAULT_MEMORY_POOL": "mimalloc",  # the system's and jemalloc take up to ten times of what they give out
    "OPENBLAS_NUM_THREADS": "1",  # every thread reserves memory, and none of these is needed
    "OMP_NUM_THREADS": str(MAX_THREADS),  # Arrow's
    "ARROW_IO_THREADS": "2",
    "PYTHONUTF8": "1",
    # numpy's arrays of megabytes are taken from and given back to the system one by one, and the system clears every
    # page: kept instead, they are read a third faster.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(2 << 30),
    "MALLOC_TOP_PAD_": str(16 << 20),
}


class TableReader:
    """The process that reads one upload; started while the file still comes in, it loads its libraries meanwhile."""

    def __init__(self, limits: TableLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._log: BinaryIO | None = None

    def __enter__(self) -> "TableReader":
        """Return it; it starts when it must."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def start(self) -> None:
        """Start the process, unless it has been.

        Raises:
            OSError: it could not be started.
        """
        if self._process is not None:
            return
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "service.tables",
                    str(self._limits.import_memory_bytes),
                    str(self._limits.import_seconds),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | OWN_VARIABLES,
                start_new_session=True,  # ctrl-C is for this process; when it ends, that one does
            )

    def read(self, source: BinaryIO, output: BinaryIO, request: ImportRequest) -> ImportedTable:
        """Read an upload, describe it, and write it as Parquet.

        ``source`` is an open regular file, read from its start; ``output`` an open and empty one.

        Raises:
            InvalidTable: it is no table, or takes more memory or time to read than the limits allow.
            OSError: the process could not be started, or its disk is full.
        """
        self.start()
        answer = self._ask(source, output, request)
        if "violations" in answer:
            raise InvalidTable([Violation(**violation) for violation in answer["violations"]])
        if "os_error" in answer:
            raise OSError(*answer["os_error"])
        if "table" not in answer or os.fstat(output.fileno()).st_size != answer["table"]["size_bytes"]:
            raise _too_much_memory(self._limits)
        return _table(answer["table"])

    def close(self) -> None:
        """End the process; what has been said to its end is all."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        for end in (self._line, self._log):
            if end is not None:
                end.close()

    def _ask(self, source: BinaryIO, output: BinaryIO, request: ImportRequest) -> dict[str, Any]:
        """Return the answer of the process; empty where it ended without one.

        Raises:
            InvalidTable: it took too long.
        """
        process = self._process
        assert process is not None
        is_late = threading.Event()
        timer = threading.Timer(self._limits.import_seconds, _stop, (process, is_late))
        timer.start()
        try:
            said = self._talk(source, output, request)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        self._pass_on_log()
        if is_late.is_set() or process.returncode == -signal.SIGXCPU:
            seconds = self._limits.import_seconds
            raise refused(f"takes longer than {seconds:g} s to read; send fewer rows or columns")
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            logger.warning("the process that reads an upload ended with status %d and no answer", process.returncode)
            return {}
        return answer

    def _talk(self, source: BinaryIO, output: BinaryIO, request: ImportRequest) -> bytes:
        """Hand over the files, ask, and return all that is said; the line stays open, for the process ends with it."""
        assert self._line is not None
        assert self._process is not None
        assert self._process.stdout is not None
        question = {"request": asdict(request), "allowance": asdict(_allowance(self._limits))}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._line, [b"\0"], [source.fileno(), output.fileno()])
            self._line.sendall(json.dumps(question).encode() + b"\n")
        return self._process.stdout.read()

    def _pass_on_log(self) -> None:
        """Log the end of what the process wrote to stderr."""
        assert self._log is not None
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - MAX_LOGGED_BYTES))
        if text := self._log.read().decode(errors="replace").strip():
            logger.warning("the process that reads an upload says: %s", text)


def import_table(source: BinaryIO, output: BinaryIO, request: ImportRequest, limits: TableLimits) -> ImportedTable:
    """Read one upload as ``TableReader.read`` does."""
    with TableReader(limits) as reader:
        return reader.read(source, output, request)


def _allowance(limits: TableLimits) -> Allowance:
    return Allowance(
        limits.max_rows, limits.max_columns, limits.max_cells, limits.max_decoded_bytes, limits.max_categories
    )


def _stop(process: subprocess.Popen[bytes], is_late: threading.Event) -> None:
    is_late.set()
    process.kill()


def _too_much_memory(limits: TableLimits) -> InvalidTable:
    return refused(
        f"takes more than {limits.import_memory_bytes:,} bytes of memory to read, or is damaged so that reading it "
        "fails; send fewer rows or columns"
    )


def _table(values: dict[str, Any]) -> ImportedTable:
    columns = tuple(map(Column.from_dict, values["columns"]))
    return ImportedTable(**{**values, "columns": columns, "report": TableReport.from_dict(values["report"])})
