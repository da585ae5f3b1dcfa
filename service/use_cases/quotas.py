"""Whether an owner has room for more; asked in the session that makes it, after it is made: none is exceeded."""

from collections.abc import Callable
from typing import TypeVar

from service.domain.quotas import Quotas, TooManyDatasets, TooManyQueuedJobs, TooManyStoredBytes
from service.storage import usage
from service.storage.database import Connection, Database

Made = TypeVar("Made")


def with_room(
    quotas: Quotas, make: Callable[[Connection], Made], check: Callable[[Connection, Quotas], None] | None = None
) -> Callable[[Connection], Made]:
    """Return what makes something, jobs where no other check is given, and refuses it where it is too much."""

    def make_within(connection: Connection) -> Made:
        made = make(connection)
        (check or check_jobs)(connection, quotas)
        return made

    return make_within


def check_jobs(connection: Connection, quotas: Quotas) -> None:
    """Refuse jobs that have just been added.

    Raises:
        TooManyQueuedJobs: more would wait than may.
        TooManyStoredBytes: the owner stores as much as it may already, and a job makes more.
    """
    if (allowed := quotas.max_stored_bytes) is not None and (stored := usage.stored_bytes(connection)) >= allowed:
        raise TooManyStoredBytes(stored + 1, allowed)
    if (allowed := quotas.max_queued_jobs) is None:
        return
    usage.hold(connection, "jobs")
    if (waiting := usage.waiting_jobs(connection)) > allowed:
        raise TooManyQueuedJobs(waiting, allowed)


def check_dataset(connection: Connection, quotas: Quotas) -> None:
    """Refuse a data set that has just been added.

    Raises:
        TooManyDatasets, TooManyStoredBytes: the owner would have more than it may.
    """
    if quotas.max_datasets is None and quotas.max_stored_bytes is None:
        return
    usage.hold(connection, "storage")
    if (allowed := quotas.max_datasets) is not None and (count := usage.count_datasets(connection)) > allowed:
        raise TooManyDatasets(count, allowed)
    if (allowed := quotas.max_stored_bytes) is not None and (stored := usage.stored_bytes(connection)) > allowed:
        raise TooManyStoredBytes(stored, allowed)


def check_room_for_dataset(database: Database, quotas: Quotas) -> None:
    """Refuse an upload before it is read, where no file could fit any more.

    Raises:
        TooManyDatasets, TooManyStoredBytes: the owner has all that it may.
    """
    if quotas.max_datasets is None and quotas.max_stored_bytes is None:
        return
    with database.read() as connection:
        if (allowed := quotas.max_datasets) is not None and (count := usage.count_datasets(connection)) >= allowed:
            raise TooManyDatasets(count + 1, allowed)
        if (allowed := quotas.max_stored_bytes) is not None and (stored := usage.stored_bytes(connection)) >= allowed:
            raise TooManyStoredBytes(stored + 1, allowed)
