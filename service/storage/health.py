"""Whether the database answers and has the schema that this code needs."""

from sqlalchemy import Connection, inspect, text

from service.storage.tables import SCHEMA_REVISION


def schema_revision(connection: Connection) -> str | None:
    """Return the migration that the database is at; None before the first."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def has_current_schema(connection: Connection) -> bool:
    """Whether every migration that this code needs has run."""
    return schema_revision(connection) == SCHEMA_REVISION
