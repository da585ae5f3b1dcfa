"""Data sets: their description in one table, their rows as a Parquet blob."""

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, select

from service.domain.datasets import Column, Dataset
from service.domain.errors import DatasetInUse, DatasetIsBuiltin, UnknownDataset
from service.storage import blobs, jobs, pages
from service.storage.database import upsert
from service.storage.tables import datasets


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
    """Store a data set, unless one of this id is stored already, and return it as stored."""
    statement = upsert(connection, datasets).values(
        id=new.id,
        name=new.name,
        builtin=new.builtin,
        rows=new.rows,
        columns=[column.to_dict() for column in new.columns],
        default_target=new.default_target,
        official_test_rows=new.official_test_rows,
        sha256=None if new.content is None else blobs.put(connection, new.content),
        size_bytes=0 if new.content is None else len(new.content),
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=[datasets.c.id]))
    return get(connection, new.id)


def get(connection: Connection, dataset_id: str, *, for_use: bool = False) -> Dataset:
    """Read one data set; ``for_use`` keeps it from being deleted until the session ends.

    Raises:
        UnknownDataset: there is none with this id.
    """
    query = select(datasets).where(datasets.c.id == dataset_id)
    row = connection.execute(query.with_for_update(read=True) if for_use else query).mappings().first()
    if row is None:
        raise UnknownDataset(dataset_id)
    return _dataset(row)


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Dataset]:
    """List data sets, newest first."""
    rows, token = pages.fetch(connection, select(datasets), datasets.c.number, page)
    return pages.Page([_dataset(row) for row in rows], token)


def builtin_ids(connection: Connection) -> set[str]:
    """Return the ids of the built-in data sets that are stored."""
    return set(connection.execute(select(datasets.c.id).where(datasets.c.builtin)).scalars())


def content(connection: Connection, sha256: str) -> bytes:
    """Read a data set's Parquet file.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return blobs.get(connection, sha256)


def remove(connection: Connection, dataset_id: str) -> None:
    """Delete an uploaded data set.

    Raises:
        UnknownDataset: there is none with this id.
        DatasetIsBuiltin: it belongs to the service.
        DatasetInUse: a job that has not ended needs it.
    """
    row = connection.execute(select(datasets).where(datasets.c.id == dataset_id).with_for_update()).mappings().first()
    if row is None:
        raise UnknownDataset(dataset_id)
    if row["builtin"]:
        raise DatasetIsBuiltin(dataset_id)
    if active := jobs.count_active(connection, dataset_id):
        raise DatasetInUse(dataset_id, active)
    connection.execute(delete(datasets).where(datasets.c.id == dataset_id))
    if row["sha256"]:
        blobs.delete_unused(connection, row["sha256"])


def _dataset(row: RowMapping) -> Dataset:
    values = {name: value for name, value in row.items() if name != "columns"}
    return Dataset(**values, columns=tuple(Column.from_dict(column) for column in row["columns"]))
