from alembic.script import ScriptDirectory

import migrations
from service.storage import health, schema
from service.storage.database import Database
from service.storage.tables import SCHEMA_REVISION
from service.use_cases.datasets import add_builtin_datasets
from service.use_cases.health import readiness


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    schema.check(database)


def test_upgrade_and_stocking_can_run_again(database: Database) -> None:
    schema.upgrade(database)
    add_builtin_datasets(database)
    assert readiness(database) == {"database": "ok", "migrations": "ok", "inference": "ok"}


def test_code_names_the_newest_migration() -> None:
    assert ScriptDirectory(migrations.__path__[0]).get_current_head() == SCHEMA_REVISION


def test_empty_database_is_not_ready(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    with database.read() as connection:
        assert health.schema_revision(connection) is None
    assert "selfnorm migrate" in readiness(database)["migrations"]
    database.close()


def test_unreachable_database_is_said_to_be_so() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert "does not answer" in readiness(database)["database"]
    database.close()
