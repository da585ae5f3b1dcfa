"""What the threads of a process say of a database that lacks something, or does not answer: each thing once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from service.outbound import Outbound
from service.storage.database import Database
from service.storage.faults import DatabaseDown
from service.sweeper import Sweeper
from service.use_cases.key_ring import KeyRing
from service.use_cases.serving import Serving
from service.webhook_sender import WebhookSender
from tests.patience import until
from workers.trainer import Claims

UNMIGRATED = "the database lacks what this version needs; run: selfnorm migrate"
MIGRATED = "the database has what this version needs"
TABLES = ("jobs", "webhook_deliveries", "model_aliases", "api_keys")


def test_threads_that_meet_an_unmigrated_database_say_once_what_to_run_and_once_that_it_is_well(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="service.storage.trouble")
    with renamed(database), threads(database):
        until(lambda: len(met_by(caplog)) == 4)
        assert said(caplog) == [UNMIGRATED]
        rename(database, back=True)
        until(lambda: MIGRATED in said(caplog))
    assert said(caplog) == [UNMIGRATED, MIGRATED]
    assert not [record for record in caplog.records if record.exc_info]


def test_a_worker_that_meets_an_unmigrated_database_says_so_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    claims = Claims(database, "w")
    with renamed(database):
        assert [claims.take() for _ in range(3)] == [None] * 3
    assert claims.take() is None
    assert said(caplog) == [UNMIGRATED, MIGRATED]


def test_that_the_database_is_down_is_left_to_the_watch_to_say(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with sqlite_database.trouble.outlived("sweeper"):
            meet(DatabaseDown("the database did not answer when it was asked last"))
    assert said(caplog) == []


def test_another_mistake_is_told_with_where_it_was_made(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite_database.trouble.outlived("sweeper"):
        meet(ValueError("a mistake"))
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.getMessage() == "the sweeper failed; it tries again"


def meet(error: Exception) -> None:
    raise error


@contextmanager
def threads(database: Database) -> Iterator[None]:
    parts = (
        Sweeper(database),
        WebhookSender(database, Outbound()),
        KeyRing(database.for_everybody()),
        Serving(database),
    )
    for part in parts:
        part.start()
    try:
        yield
    finally:
        for part in parts:
            part.stop()


@contextmanager
def renamed(database: Database) -> Iterator[None]:
    rename(database)
    try:
        yield
    finally:
        rename(database, back=True)


def rename(database: Database, *, back: bool = False) -> None:
    """Take tables away that a migration would make, or bring them back; nothing where that is so already."""
    with database.write(alone=True) as connection:
        for table in TABLES:
            before, after = (f"{table}_away", table) if back else (table, f"{table}_away")
            if database.engine.dialect.has_table(connection, before):
                connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said at a level that is logged, without what is in brackets."""
    spoken = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [text.partition(" (")[0] for text in spoken if not text.startswith("there is no key yet")]


def met_by(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return which threads have met it, as they said, if only for whoever debugs."""
    found = [record.getMessage() for record in caplog.records if UNMIGRATED in record.getMessage()]
    return {text.partition(" (the ")[2].partition(":")[0] for text in found}
