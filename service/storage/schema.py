"""Bring the database to the newest schema, and say whether the code and the migrations agree."""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from service.storage.database import Database
from service.storage.faults import DATABASE_FAULTS

FAULTS = (*DATABASE_FAULTS, CommandError, OSError)
"""What is raised where a database cannot be migrated: it is down, damaged, no database, or of a newer version."""


def upgrade(database: Database) -> None:
    """Run every migration that has not run; safe to call again and from several processes on PostgreSQL."""
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            # Two replicas that start together must not migrate at once.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7301117)")
        command.upgrade(_config(connection), "head")


def check(database: Database) -> None:
    """Compare the tables of the code with the migrated database.

    Raises:
        alembic.util.CommandError: a migration is missing.
    """
    with database.write() as connection:
        command.check(_config(connection))


def autogenerate(database: Database, message: str, revision: str) -> None:
    """Write a new migration from the difference between the code and the database."""
    with database.write() as connection:
        command.revision(_config(connection), message=message, rev_id=revision, autogenerate=True)


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
