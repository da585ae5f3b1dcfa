"""Statements that take too long are ended by PostgreSQL itself."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN


def test_statement_that_takes_too_long_is_ended_and_answered_as_a_busy_database(postgresql_server: str) -> None:
    database = Database(f"{postgresql_server}/postgres", 1.5, statement_seconds=0.2)
    with pytest.raises(OperationalError, match="statement timeout") as ended, database.read() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    assert isinstance(ended.value, DATABASE_DOWN)
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    database.close()


def test_worker_may_take_as_long_as_it_needs(postgresql_server: str) -> None:
    database = Database(f"{postgresql_server}/postgres")
    with database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    database.close()
