import os
import subprocess
import sys
from pathlib import Path

from alembic.script import ScriptDirectory

import migrations
from service.storage import health, schema
from service.storage.database import Database
from service.storage.tables import SCHEMA_REVISION
from service.use_cases.datasets import add_builtin_datasets
from service.use_cases.health import readiness
from tests.patience import PATIENCE_SECONDS


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


def migrate(url: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", "migrate"]
    environment = {**os.environ, "SELFNORM_DATABASE_URL": url}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def test_command_makes_the_folder_and_says_in_a_line_what_it_cannot_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/not/there/yet.db"
    assert (migrate(url).returncode, migrate(url).stderr) == (0, "")
    database = Database(url)
    assert readiness(database)["migrations"] == "ok"
    database.close()
    (tmp_path / "none.db").write_bytes(os.urandom(100_000))
    for wrong in (
        "postgresql+psycopg://u:s3cret@127.0.0.1:1/none",
        f"sqlite:///{tmp_path}/not/there/yet.db/below.db",
        f"sqlite:///{tmp_path}/none.db",
        "s3cret",
        "nonsense://u:s3cret@h/d",
    ):
        failed = migrate(wrong)
        assert failed.returncode == 1
        assert failed.stderr.startswith("selfnorm: the database cannot be brought up to date: ")
        assert failed.stderr.count("\n") == 1
        assert "s3cret" not in failed.stderr
