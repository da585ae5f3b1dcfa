"""Stores the built-in tables, once for a database: `selfnorm migrate` does, and every worker that finds one missing.

Five of them are scikit-learn's, which the API does not install. Where migrations run without it, they come with the
first worker (docs/adr/0027).
"""

from importlib.util import find_spec

from service.domain.datasets import ARTICLE_TABLES, SCIKIT_LEARN_TABLES
from service.storage import datasets
from service.storage.database import Database
from service.storage.datasets import NewDataset


def add_builtin_datasets(database: Database) -> None:
    """Store the built-in tables that can be read here and are not stored yet.

    The article's are known by shape, and read when they are needed.
    """
    database = database.for_everybody()
    with database.read() as connection:
        known = datasets.builtin_ids(connection)
    for new in _builtin_datasets(known):
        with database.write() as connection:
            datasets.add(connection, new)


def can_read_all() -> bool:
    """Whether scikit-learn is installed, which carries five of them; it is looked for and not imported."""
    return find_spec("sklearn") is not None


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
    if missing and can_read_all():
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
