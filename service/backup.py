"""``selfnorm backup``: a copy of the data folder, made while the service runs, on which another one can run."""

import os
import shlex
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote

from service.processes import ending_signals

DATABASE_NAME = "selfnorm.db"
PARTIAL_NAME = f"{DATABASE_NAME}.partial"
PAGES_AT_ONCE = 1024
"""Of 16 KiB: after each so many, ctrl-C is heard."""
COUNTS = {
    "job": "SELECT count(*) FROM jobs",
    "model": "SELECT count(*) FROM models",
    "data set": "SELECT count(*) FROM datasets",
}


class NoBackup(Exception):
    """There is no backup, and nothing is left of it; the text says why and what to do."""


def run(data_dir: Path, folder: Path) -> int:
    """Make a backup and say what is in it; return the exit status."""
    for number in ending_signals():
        signal.signal(number, _end)
    folder = folder.expanduser().resolve()
    try:
        counts = make(data_dir.expanduser().resolve(), folder)
    except NoBackup as error:
        print(f"selfnorm: {error}", file=sys.stderr)  # noqa: T201  # a command speaks to its user
        return 1
    except SystemExit:
        print("selfnorm: stopped; there is no backup", file=sys.stderr)  # noqa: T201  # a command speaks to its user
        raise
    size = (folder / DATABASE_NAME).stat().st_size / 2**20
    held = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    command = f"selfnorm up --data-dir {shlex.quote(str(folder))}"
    print(f"selfnorm: a backup of {size:.1f} MiB is in {folder}: {held}; it runs by: {command}")  # noqa: T201  # as above
    return 0


def make(data_dir: Path, folder: Path) -> dict[str, int]:
    """Copy the database as it is at one moment, check the copy, and only then give it its name; return its counts.

    Raises:
        NoBackup: there is nothing to copy, the folder is not empty, the disk is full, or the database is damaged.
    """
    source = data_dir / DATABASE_NAME
    if not source.is_file():
        raise NoBackup(f"there is no {source}; say --data-dir (a PostgreSQL is copied by pg_dump)")
    try:
        with _new_file(folder, source.stat().st_mode & 0o777) as partial:
            _copy(source, partial)
            counts = _checked(partial)
            _sync(partial)
            partial.rename(folder / DATABASE_NAME)
            _sync(folder)
        with suppress(OSError):  # it may be entered but not read, and the backup is whole
            _sync(folder.parent)
    except (OSError, sqlite3.Error) as error:
        raise NoBackup(f"the backup of {source} in {folder} failed: {error}") from None
    return counts


@contextmanager
def _new_file(folder: Path, mode: int) -> Iterator[Path]:
    """Make the folder and a file in it; where that does not get its last name, all that was made is removed."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise NoBackup(f"{folder} is not empty; choose a new folder for each backup")
    partial = folder / PARTIAL_NAME
    partial.touch(mode, exist_ok=False)
    try:
        yield partial
    except BaseException:
        for file in folder.glob(f"{DATABASE_NAME}*"):  # the folder was empty
            file.unlink()
        if is_new:
            folder.rmdir()
        raise


def _copy(source: Path, partial: Path) -> None:
    """Copy every page of one snapshot.

    The open transaction holds the snapshot, so that no writer makes SQLite begin again, and nobody waits.
    """
    address = f"file:{quote(str(source))}?mode=rw"  # it is only read, but a reader of a WAL file writes beside it
    with (
        closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=30)) as original,
        closing(sqlite3.connect(partial, isolation_level=None)) as copy,
    ):
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):  # it is synced once, at its end
            copy.execute(f"PRAGMA {pragma}")
        original.execute("BEGIN")
        original.execute("SELECT count(*) FROM sqlite_master").fetchone()
        original.backup(copy, pages=PAGES_AT_ONCE, progress=lambda *_: None)
        original.execute("ROLLBACK")


def _checked(partial: Path) -> dict[str, int]:
    """Count what a copy holds.

    Raises:
        NoBackup: it is damaged.
    """
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        damage = [str(line) for (line,) in copy.execute("PRAGMA integrity_check(5)")]
        if damage != ["ok"]:
            raise NoBackup(f"the database is damaged: {damage[0]}; keep it, and start on an earlier backup")
        return {name: int(copy.execute(query).fetchone()[0]) for name, query in COUNTS.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
