"""Whose rows a session may see: every query of a user's things has its owner in its WHERE."""

from sqlalchemy import ColumnElement, Connection, FromClause

from service.storage.database import OWNER


def owner_of(connection: Connection) -> str:
    """Return for whom a session was opened, by ``Database.owned_by``.

    Raises:
        LookupError: for nobody; what is somebody's cannot be asked for in it, which is a mistake of the program.
    """
    owner: str | None = connection.get_execution_options().get(OWNER)
    if owner is None:
        raise LookupError("this session was opened for no owner; open it on database.owned_by(owner)")
    return owner


def mine(connection: Connection, table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a row belongs to whom the session was opened for."""
    condition: ColumnElement[bool] = table.c.owner == owner_of(connection)
    return condition
