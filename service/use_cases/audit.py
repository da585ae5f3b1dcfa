"""The audit log, as those may read it whose things it is about, and operators."""

from service.domain.audit import Entry
from service.storage import audit, pages
from service.storage.audit import EntryFilter as EntryFilter
from service.storage.database import Database


def list_entries(database: Database, wanted: EntryFilter, page: pages.PageRequest) -> pages.Page[Entry]:
    """List who did what to the things of whom the database was opened for, newest first."""
    with database.read() as connection:
        return audit.list_page(connection, wanted, page)


def newest_entries(database: Database, owner: str | None, wanted: EntryFilter, limit: int) -> list[Entry]:
    """Read who did what to the things of one owner, or of everybody, newest first: for operators."""
    with database.for_everybody().read() as connection:
        return audit.newest(connection, owner, wanted, limit)
