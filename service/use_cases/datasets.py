"""Data sets: upload, list, read, change, delete, and the built-in ones."""

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from service.domain.audit import Action
from service.domain.datasets import Column, ColumnKind, Dataset
from service.domain.errors import DatasetHasJobs, DatasetNotHere, InvalidTable, Violation
from service.domain.kinds import change_kind
from service.domain.limits import TableLimits
from service.domain.quotas import NO_QUOTAS, Quotas
from service.domain.wording import pointer_step, shown
from service.stocking import add_builtin_datasets as add_builtin_datasets
from service.storage import audit, blobs, datasets, pages
from service.storage.database import Connection, Database
from service.tables import article_files
from service.tables.importer import TableReader
from service.tables.request import ImportRequest
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once
from service.use_cases.quotas import check_dataset, check_room_for_dataset, with_room

MAX_NAME_LENGTH = 100
MAX_PAGE_BYTES = 16 * 2**20
"""About so large may a page of rows grow, long names of columns included."""
CELL_BYTES = 24


def check_name(name: str) -> None:
    """Refuse a name that a data set cannot have, before its file is looked at.

    Raises:
        InvalidTable: it is empty, too long, or not printable.
    """
    if violations := _name_violations(name, "?name"):
        raise InvalidTable(violations)


def add_dataset(
    database: Database, name: str, source: BinaryIO, request: ImportRequest, reader: TableReader
) -> Dataset:
    """Read an uploaded file in a process of its own and store the table.

    Raises:
        InvalidTable: the name or the file cannot be used.
    """
    imported = _imported(database, name, source, request, reader)
    with imported as (informed, add), informed.write(alone=True) as connection:
        return add(connection)


def add_dataset_once(
    database: Database,
    name: str,
    source: BinaryIO,
    request: ImportRequest,
    reader: TableReader,
    keyed: KeyedRequest | None,
    answer: Callable[[Dataset], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[Dataset]:
    """Read an uploaded file and store the table, unless this upload has been answered before.

    Whether it has is known when the file has been read; ``replay`` says it earlier, for what was answered by then.

    Raises:
        InvalidTable: the name or the file cannot be used.
        QuotaExceeded: its owner has no room for it.
        IdempotencyKeyReused: another request came under this key.
    """
    database.watch.check()  # reading a file that cannot be stored is in vain
    check_room_for_dataset(database, quotas)
    with _imported(database, name, source, request, reader) as (informed, add):
        return once(informed, keyed, with_room(quotas, add, check_dataset), answer, takes_long=True)


@contextmanager
def _imported(
    database: Database, name: str, source: BinaryIO, request: ImportRequest, reader: TableReader
) -> Iterator[tuple[Database, Callable[[Connection], Dataset]]]:
    """Read an uploaded file in a process of its own, and give what stores its table, and in which database."""
    check_name(name)
    with tempfile.TemporaryFile() as file:
        table = reader.read(source, file, request)
        informed = blobs.put_ahead(database, blobs.FileContent(file, table.sha256, table.size_bytes))

        def add(connection: Connection) -> Dataset:
            added = datasets.add_imported(connection, secrets.token_hex(10), name, table, file)
            audit.record(connection, Action.DATASET_UPLOADED, added.id, name=name, rows=added.rows)
            return added

        yield informed, add


def change_dataset(
    database: Database, dataset_id: str, name: str | None, kinds: Mapping[str, ColumnKind], limits: TableLimits
) -> Dataset:
    """Give an upload another name, and columns other kinds; None leaves the name as it is.

    Raises:
        InvalidTable: the name, a column or a kind cannot be; every violation is said.
        DatasetHasJobs: a kind would change on which a job rests.
    """
    with database.write() as connection:
        dataset = datasets.get_for_change(connection, dataset_id)
        violations = [] if name is None else _name_violations(name, "#/name")
        columns, kind_violations = _with_kinds(dataset, kinds, limits.max_categories)
        if violations := violations + kind_violations:
            raise InvalidTable(violations)
        if columns != dataset.columns and datasets.has_jobs(connection, dataset_id):
            raise DatasetHasJobs(dataset_id)
        datasets.change(connection, dataset_id, dataset.name if name is None else name, columns)
        audit.record(connection, Action.DATASET_CHANGED, dataset_id, name=name, kinds=len(kinds))
        return datasets.get(connection, dataset_id)


def get_dataset(database: Database, dataset_id: str) -> Dataset:
    """Read one data set's description."""
    with database.read() as connection:
        return datasets.get(connection, dataset_id)


def list_datasets(database: Database, page: pages.PageRequest) -> pages.Page[Dataset]:
    """List data sets, newest first."""
    with database.read() as connection:
        return datasets.list_page(connection, page)


def delete_dataset(database: Database, dataset_id: str) -> None:
    """Delete an upload that no unfinished job needs."""
    with database.write() as connection:
        datasets.remove(connection, dataset_id)
        audit.record(connection, Action.DATASET_DELETED, dataset_id)


def dataset_rows(
    database: Database, dataset_id: str, page: pages.PageRequest, datasets_dir: Path | None
) -> pages.Page[dict[str, Any]]:
    """Read rows as objects by column name, in the table's order.

    Raises:
        DatasetNotHere: it is one of the article's tables and its files are not on this machine.
    """
    start, size = pages.offset(page), pages.clamp(page.size)
    with tempfile.TemporaryFile() as file:
        with database.read() as connection:
            # Held, for a data set that is deleted meanwhile would look like one whose rows are lost.
            dataset = datasets.get(connection, dataset_id, for_use=True)
            if dataset.sha256 is not None and start < dataset.rows:
                datasets.copy_content(connection, dataset.sha256, file)
        items = _rows(dataset, start, min(size, _fitting_rows(dataset)), file, datasets_dir)
    end = start + len(items)
    return pages.Page(items, pages.offset_token(end) if end < dataset.rows else None)


def are_rows_here(dataset: Dataset, datasets_dir: Path | None) -> bool:
    """Whether the rows of a data set can be read on this machine; only the article's tables may lie elsewhere."""
    is_stored = dataset.sha256 is not None
    return is_stored or (datasets_dir is not None and article_files.has(datasets_dir, dataset.id))


def _rows(dataset: Dataset, start: int, count: int, file: BinaryIO, datasets_dir: Path | None) -> list[dict[str, Any]]:
    if start >= dataset.rows:
        return []
    if dataset.sha256 is not None:
        from service.tables import parquet  # pyarrow takes 40 MB; most processes never need it

        return parquet.read_rows(file, start, count)
    if datasets_dir is not None and article_files.has(datasets_dir, dataset.id):
        return article_files.read(datasets_dir, dataset.id, slice(start, start + count)).objects()
    raise DatasetNotHere(dataset.id)


def _fitting_rows(dataset: Dataset) -> int:
    """Return how many rows of a table a page has room for: every row repeats the names of all columns."""
    row_bytes = sum(len(column.name) + CELL_BYTES for column in dataset.columns)
    return max(1, MAX_PAGE_BYTES // max(1, row_bytes))


def _name_violations(name: str, pointer: str) -> list[Violation]:
    if 1 <= len(name) <= MAX_NAME_LENGTH and name.isprintable():
        return []
    return [Violation(pointer, f"the name must be 1 to {MAX_NAME_LENGTH} printable characters; got {shown(name)}")]


def _with_kinds(
    dataset: Dataset, kinds: Mapping[str, ColumnKind], max_categories: int
) -> tuple[tuple[Column, ...], list[Violation]]:
    """Return the columns with other kinds, and what is wrong with those that cannot have theirs."""
    changed = {column.name: column for column in dataset.columns}
    violations = []
    for name, kind in kinds.items():
        pointer = f"#/kinds/{pointer_step(name)}"
        if name not in changed:
            violations.append(Violation(pointer, f"there is no column {shown(name)}; GET the data set to see them"))
            continue
        try:
            changed[name] = change_kind(changed[name], kind, max_categories)
        except InvalidTable as error:
            violations += [Violation(pointer, violation.detail) for violation in error.violations]
    return tuple(changed.values()), violations
