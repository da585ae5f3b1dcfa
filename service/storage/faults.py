"""What goes wrong with a database, told apart: it is down, full, damaged, or at another migration than this code.

Its object store, where it has one, is a part of it.
"""

import sqlite3

from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.storage.object_store import ObjectStoreDown


class DatabaseDown(Exception):
    """The database does not answer at the moment, so that this request did not wait for it."""


DATABASE_DOWN = (OperationalError, InterfaceError, InternalError, PoolTimeout, DatabaseDown, ObjectStoreDown)
"""What is raised when the database or its object store does not answer, or every connection stays busy."""
DATABASE_FAULTS = (SQLAlchemyError, DatabaseDown)
"""Whatever else is wrong with it, too; mistakes of ours among them."""
STATEMENT_REFUSED = DatabaseError
"""What the driver says of anything that fails while a statement runs."""

FULL = "53100"
LOCK_NOT_AVAILABLE = "55P03"
DAMAGED = ("XX001", "XX002")
UNKNOWN_NAMES = ("42P01", "42703")
"""PostgreSQL's codes; these are for tables and columns that are not there."""
FULL_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""The second is what SQLite says of a quota, or of a file that may not grow."""
DAMAGED_SQLITE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
UNKNOWN_SQLITE = ("no such table", "no such column", "has no column named")


def reason(error: BaseException) -> str:
    """Return what the database said, in one line and without the statement."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0].rstrip(".")


def is_full(error: BaseException) -> bool:
    """Whether the database failed for want of room on its disk."""
    return _sqlite_code(error) in FULL_SQLITE or _sqlstate(error) == FULL


def is_awaited(error: BaseException) -> bool:
    """Whether waiting is all that helps, also where the database itself answers: its disk is full, its store down."""
    return is_full(error) or isinstance(error, ObjectStoreDown)


def is_locked(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for a lock that another session holds."""
    return _sqlstate(error) == LOCK_NOT_AVAILABLE


def is_damaged(error: BaseException) -> bool:
    """Whether the database found that its files are damaged."""
    return _sqlite_code(error) & 0xFF in DAMAGED_SQLITE or _sqlstate(error) in DAMAGED


def is_unmigrated(error: BaseException) -> bool:
    """Whether the database lacks a table or a column: it is at another migration than this code."""
    original = getattr(error, "orig", None)
    said = str(original) if isinstance(original, sqlite3.OperationalError) else ""
    return any(words in said for words in UNKNOWN_SQLITE) or _sqlstate(error) in UNKNOWN_NAMES


def _sqlite_code(error: BaseException) -> int:
    code: int = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code


def _sqlstate(error: BaseException) -> str | None:
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state
