"""What the simulation costs the server: processor, log, rows, connections."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from service.storage.database import Database
from tests.processes import descendants

TICKS = os.sysconf("SC_CLK_TCK")
OWN, WITH_CHILDREN = slice(13, 15), slice(13, 17)
"""Where a process' processor time stands in /proc, and that of its children that have ended."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment."""

    at: float
    processor_seconds: float
    log_bytes: int
    rows_written: int
    updates: int
    light_updates: int
    commits: int


def read(database: Database, pid: int) -> Reading:
    """Read the counters of a server and its database."""
    query = (
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, d.tup_inserted + d.tup_updated + d.tup_deleted, "
        "t.n_tup_upd, t.n_tup_hot_upd, d.xact_commit FROM pg_stat_database d, pg_stat_user_tables t "
        "WHERE d.datname = current_database() AND t.relname = 'jobs'"
    )
    with database.read() as connection:
        row = connection.execute(text(query)).one()
    return Reading(time.monotonic(), processor_seconds(pid), *map(int, row))


def processor_seconds(pid: int) -> float:
    """Return what a process and those below it have taken of processors."""
    return (_ticks(pid, WITH_CHILDREN) + sum(_ticks(child, OWN) for child in descendants(pid))) / TICKS


def sizes(database: Database) -> dict[str, int]:
    """Return what the tables take with their indexes, in bytes, by name."""
    query = "SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables ORDER BY 2 DESC"
    with database.read() as connection:
        return {row[0]: int(row[1]) for row in connection.execute(text(query))}


def resident_bytes(pid: int) -> tuple[int, int]:
    """Return the memory that the server's processes have for themselves, and how many there are."""
    found = [_private(child) for child in (pid, *descendants(pid))]
    return sum(found), len(found)


def _private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _ticks(pid: int, which: slice) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0  # it has just ended
    return sum(map(int, fields[which.start - 2 : which.stop - 2]))
