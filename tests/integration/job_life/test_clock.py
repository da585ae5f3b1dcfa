"""The clock by which these lives are told stands still."""

import time
from datetime import datetime, timedelta

from sqlalchemy import select

from service.storage.database import Database, database_time


def test_clock_stands_still(database: Database) -> None:
    def ahead(seconds: float) -> datetime:
        with database.read() as connection:
            return connection.execute(select(database_time(seconds))).scalar_one()

    first = ahead(0)
    time.sleep(0.01)
    assert ahead(0) == first
    assert ahead(30) == first + timedelta(seconds=30)
