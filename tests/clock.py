"""A database whose clock stands still, so that what a test sees does not depend on how fast the machine is."""

import sqlite3
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event

from service.storage.database import Database


def stop_clock(database: Database) -> None:
    """Let the clock stand still for all sessions of this object; time is moved by changing what is stored.

    What the product asks for the time is put before the function of the same name that each system has.
    """
    engine, now = database.engine, datetime.now(UTC)
    if database.dialect == "sqlite":
        moment = f"{now:%Y-%m-%d %H:%M:%S.%f}"
        clock = sqlite3.connect(":memory:", check_same_thread=False)

        def time_at(form: str, _now: str, shift: str) -> str:
            return str(clock.execute("SELECT strftime(?, ?, ?)", (form, moment, shift)).fetchone()[0])

        def put_clock(connection: Any, _entry: object) -> None:
            connection.create_function("strftime", 3, time_at)

    else:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE SCHEMA still")
            connection.exec_driver_sql(
                "CREATE FUNCTION still.clock_timestamp() RETURNS timestamptz LANGUAGE sql IMMUTABLE "
                f"AS $$ SELECT timestamptz '{now.isoformat()}' $$"
            )

        def put_clock(connection: Any, _entry: object) -> None:
            connection.execute("SET search_path = still, pg_catalog, public")
            connection.commit()

    engine.dispose()
    event.listen(engine, "connect", put_clock)
