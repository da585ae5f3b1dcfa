"""Data sets: upload, list, read, delete, and the built-in ones."""

import secrets
from pathlib import Path
from typing import Any

from service.domain.bounds import shown
from service.domain.datasets import ARTICLE_TABLES, SCIKIT_LEARN_TABLES, Dataset
from service.domain.errors import DatasetNotHere, InvalidTable, Violation
from service.storage import datasets, pages
from service.storage.database import Database
from service.storage.datasets import NewDataset
from service.tables import article_files

MAX_NAME_LENGTH = 100


def add_dataset(database: Database, name: str, file: Path) -> Dataset:
    """Read an uploaded CSV file and store it.

    Raises:
        InvalidTable: the name or the file cannot be used.
    """
    from service.tables import csv, parquet, profile  # pyarrow takes 40 MB; most processes never need it

    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        allowed = f"1 to {MAX_NAME_LENGTH} printable characters"
        raise InvalidTable([Violation("?name", f"the name must be {allowed}; got {shown(name)}")])
    table = csv.read(file)
    new = NewDataset(
        id=secrets.token_hex(10),
        name=name,
        builtin=False,
        rows=table.num_rows,
        columns=profile.describe(table),
        content=parquet.encode(table),
    )
    with database.write() as connection:
        return datasets.add(connection, new)


def add_builtin_datasets(database: Database) -> None:
    """Store the built-in tables that are not stored yet; the article's are known by shape and read when needed."""
    with database.read() as connection:
        known = datasets.builtin_ids(connection)
    for new in _builtin_datasets(known):
        with database.write() as connection:
            datasets.add(connection, new)


def _builtin_datasets(known: set[str]) -> list[NewDataset]:
    found = [
        NewDataset(
            id=table.name,
            name=table.name,
            builtin=True,
            rows=table.train_rows + table.test_rows,
            columns=table.columns,
            content=None,
            default_target=table.target,
            official_test_rows=table.test_rows,
        )
        for table in ARTICLE_TABLES.values()
        if table.name not in known
    ]
    missing = [name for name in SCIKIT_LEARN_TABLES if name not in known]
    if missing:
        from service.tables import parquet, profile, scikit_learn  # large, and needed once only

        for name in reversed(missing):
            table = scikit_learn.load(name)
            found.append(
                NewDataset(
                    id=name,
                    name=name,
                    builtin=True,
                    rows=table.num_rows,
                    columns=profile.describe(table),
                    content=parquet.encode(table),
                    default_target=scikit_learn.TARGET,
                )
            )
    return found


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


def dataset_rows(
    database: Database, dataset_id: str, page: pages.PageRequest, datasets_dir: Path | None
) -> pages.Page[dict[str, Any]]:
    """Read rows as objects by column name, in the table's order.

    Raises:
        DatasetNotHere: it is one of the article's tables and its files are not on this machine.
    """
    from service.tables import parquet  # pyarrow takes 40 MB; most processes never need it

    start, size = pages.offset(page), pages.clamp(page.size)
    with database.read() as connection:
        dataset = datasets.get(connection, dataset_id)
        content = None if dataset.sha256 is None else datasets.content(connection, dataset.sha256)
    if content is not None:
        items = parquet.read_rows(content, start, size)
    elif start >= dataset.rows:
        items = []
    elif datasets_dir is not None and article_files.has(datasets_dir, dataset_id):
        items = article_files.read(datasets_dir, dataset_id, slice(start, start + size)).objects()
    else:
        raise DatasetNotHere(dataset_id)
    end = start + len(items)
    return pages.Page(items, pages.offset_token(end) if end < dataset.rows else None)
