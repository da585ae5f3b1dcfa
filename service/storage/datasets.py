"""Data sets: their description in one table, their rows as a Parquet blob."""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, BinaryIO

from sqlalchemy import Connection, RowMapping, Text, cast, delete, exists, func, select, update

from service.domain.datasets import Column, Dataset, ImportedTable, TableReport
from service.domain.errors import DatasetInUse, DatasetIsBuiltin, UnknownDataset
from service.domain.jobs import JobKind
from service.storage import blobs, jobs, pages, tables
from service.storage.database import upsert
from service.storage.owners import mine, mine_or_builtin, owner_of
from service.storage.tables import datasets

MAX_PAGE_LENGTH = 8 * 2**20
"""So much JSON may describe the columns of a page's data sets; read, it takes ten times as much memory."""


@dataclass(frozen=True, slots=True)
class NewDataset:
    """What is known of a data set before it is stored; ``content`` is Parquet, None for the article's tables."""

    id: str
    name: str
    builtin: bool
    rows: int
    columns: tuple[Column, ...]
    content: bytes | None
    default_target: str | None = None
    official_test_rows: int = 0


def add(connection: Connection, new: NewDataset) -> Dataset:
    """Store a data set, unless one of this id is stored already, and return it as stored.

    One that is built in is everybody's; the session may then be the service's own.
    """
    return _insert(
        connection,
        id=new.id,
        owner=None if new.builtin else owner_of(connection),
        name=new.name,
        builtin=new.builtin,
        rows=new.rows,
        columns=[column.to_dict() for column in new.columns],
        default_target=new.default_target,
        official_test_rows=new.official_test_rows,
        sha256=None if new.content is None else blobs.put(connection, new.content),
        size_bytes=0 if new.content is None else len(new.content),
    )


def add_imported(connection: Connection, dataset_id: str, name: str, table: ImportedTable, file: BinaryIO) -> Dataset:
    """Store an upload, whose Parquet form is in ``file``, and return it as stored.

    Raises:
        CorruptBlob: the file does not have the hash that the table says.
    """
    blobs.put_file(connection, file, table.sha256, table.size_bytes)
    return _insert(
        connection,
        id=dataset_id,
        owner=owner_of(connection),
        name=name,
        builtin=False,
        rows=table.rows,
        columns=[column.to_dict() for column in table.columns],
        report=table.report.to_dict(),
        sha256=table.sha256,
        size_bytes=table.size_bytes,
    )


def get(connection: Connection, dataset_id: str, *, for_use: bool = False) -> Dataset:
    """Read one data set; ``for_use`` keeps it from being deleted until the session ends.

    Raises:
        UnknownDataset: there is none with this id.
    """
    query = select(datasets).where(mine_or_builtin(connection), datasets.c.id == dataset_id)
    row = connection.execute(query.with_for_update(read=True) if for_use else query).mappings().first()
    if row is None:
        raise UnknownDataset(dataset_id)
    return _dataset(row)


def get_for_change(connection: Connection, dataset_id: str) -> Dataset:
    """Read an uploaded data set and hold it, so that nobody uses or changes it until the session ends.

    Raises:
        UnknownDataset: there is none with this id.
        DatasetIsBuiltin: it belongs to the service.
    """
    query = select(datasets).where(mine_or_builtin(connection), datasets.c.id == dataset_id)
    row = connection.execute(query.with_for_update()).mappings().first()
    if row is None:
        raise UnknownDataset(dataset_id)
    if row["builtin"]:
        raise DatasetIsBuiltin(dataset_id)
    return _dataset(row)


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Dataset]:
    """List data sets, newest first; fewer than asked for where they have a great many columns."""
    length = func.length(cast(datasets.c.columns, Text)).label("length")
    theirs = mine_or_builtin(connection)
    lengths = select(datasets.c.number, length).where(theirs)
    measured, _ = pages.fetch(connection, lengths, datasets.c.number, page)
    fitting = sum(total <= MAX_PAGE_LENGTH for total in accumulate(row["length"] for row in measured))
    page = replace(page, size=max(fitting, 1))
    rows, token = pages.fetch(connection, select(datasets).where(theirs), datasets.c.number, page)
    return pages.Page([_dataset(row) for row in rows], token)


def builtin_ids(connection: Connection) -> set[str]:
    """Return the ids of the built-in data sets that are stored."""
    query = select(datasets.c.id).where(datasets.c.owner.is_(None), datasets.c.builtin)
    return set(connection.execute(query).scalars())


def content(connection: Connection, sha256: str) -> bytes:
    """Read a data set's Parquet file.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return blobs.get(connection, sha256)


def copy_content(connection: Connection, sha256: str, file: BinaryIO) -> None:
    """Copy a data set's Parquet file into another file, in constant memory.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    blobs.copy_to(connection, sha256, file)


def has_jobs(connection: Connection, dataset_id: str) -> bool:
    """Whether any training, whatever its state, was made on a data set; predictions do not look at kinds of columns."""
    its = (tables.jobs.c.dataset_id == dataset_id, tables.jobs.c.kind == JobKind.TRAINING)
    return connection.execute(select(exists().where(mine(connection, tables.jobs), *its))).scalar_one()


def change(connection: Connection, dataset_id: str, name: str, columns: tuple[Column, ...]) -> None:
    """Store another name and another description of the columns; what the rows hold stays."""
    values = {"name": name, "columns": [column.to_dict() for column in columns]}
    which = (mine(connection, datasets), datasets.c.id == dataset_id)
    connection.execute(update(datasets).where(*which).values(values))


def remove(connection: Connection, dataset_id: str) -> None:
    """Delete an uploaded data set.

    Raises:
        UnknownDataset: there is none with this id.
        DatasetIsBuiltin: it belongs to the service.
        DatasetInUse: a job that has not ended needs it.
    """
    dataset = get_for_change(connection, dataset_id)
    if active := jobs.count_active(connection, dataset_id):
        raise DatasetInUse(dataset_id, active)
    connection.execute(delete(datasets).where(mine(connection, datasets), datasets.c.id == dataset_id))
    if dataset.sha256 is not None:
        blobs.delete_unused(connection, dataset.sha256)


def _insert(connection: Connection, **values: Any) -> Dataset:
    statement = upsert(connection, datasets).values(values)
    connection.execute(statement.on_conflict_do_nothing(index_elements=[datasets.c.id]))
    stored = select(datasets).where(datasets.c.owner == values["owner"], datasets.c.id == values["id"])
    return _dataset(connection.execute(stored).mappings().one())


def _dataset(row: RowMapping) -> Dataset:
    described = {
        "columns": tuple(Column.from_dict(column) for column in row["columns"]),
        "report": TableReport() if row["report"] is None else TableReport.from_dict(row["report"]),
    }
    return Dataset(**{name: value for name, value in row.items() if name != "owner"} | described)
