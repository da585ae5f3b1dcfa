"""Alembic's entry: runs the migrations on the connection that its caller opened."""

from alembic import context
from sqlalchemy import Connection

from service.storage.tables import metadata


def run(connection: Connection) -> None:
    """Run what is missing, each migration in the one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=True,  # SQLite cannot alter most things in place
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
