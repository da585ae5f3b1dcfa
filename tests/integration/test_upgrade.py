"""A database of an earlier program, with everything in it: upgraded, served as before, taken back, upgraded again.

What it holds was made by the program of that time and is frozen in ``upgrades/``; today's code has no part in it.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import JSON, Boolean, Connection, DateTime, MetaData, Table, inspect, text

from service.api.app import create_app
from service.api.services import Services
from service.stocking import add_builtin_datasets
from service.storage import schema
from service.storage.database import Database
from service.task_queue import Doorbell

BEFORE = "0006"
FROZEN: dict[str, Any] = json.loads((Path(__file__).parent / "upgrades" / f"{BEFORE}.json").read_text())
TABLES: dict[str, Any] = FROZEN["tables"]
IDS: dict[str, str] = FROZEN["ids"]
NETWORK = {"hidden_layers": 1, "units": 4}
THREE_EPOCHS = {"epochs": 3, "early_stopping": None}
FIRST_REQUEST = {
    "dataset": "iris",
    "model": "flower",
    "network": NETWORK,
    "training": THREE_EPOCHS,
    "tags": ["a", "b"],
}
"""What made the first job, under the key key-job."""
STATES = {
    "first": {"succeeded"},
    "paused": {"paused"},
    "cancelled": {"cancelled"},
    "queued": {"queued"},
    "failed": {"failed"},
    # Its worker is long gone: a sweeper may have taken it back already.
    "running": {"running", "queued"},
}


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'selfnorm.db'}"
        return
    server = request.getfixturevalue("postgresql_server")
    administration = Database(f"{server}/postgres")
    name = f"upgrade_{abs(hash(tmp_path))}"
    with administration.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield f"{server}/{name}"
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    administration.close()


both = pytest.mark.parametrize("empty_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    """A database of the migration before, as its program left it."""
    opened = Database(empty_url)
    move(opened, BEFORE)
    with opened.write() as connection:
        for name in TABLES:
            insert(connection, name)
        # The key of a request is forgotten after a day, and the requests below come under it.
        recent = {"now": datetime.now(UTC)}
        connection.execute(text("UPDATE idempotency_keys SET created_at = :now"), recent)
    yield opened
    opened.close()


def move(database: Database, revision: str) -> None:
    """Migrate to a revision, up or down."""
    with database.write() as connection:
        config = schema._config(connection)
        if revision != "base" and ("alembic_version" not in stored(connection) or revision > at(connection)):
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)


def at(connection: Connection) -> str:
    """Return the revision that a database is at."""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())


def stored(connection: Connection) -> set[str]:
    """Return the names of the tables that there are."""
    return set(inspect(connection).get_table_names())


def insert(connection: Connection, name: str) -> None:
    """Insert the frozen rows of a table as they lay in the file of SQLite."""
    columns, rows = TABLES[name]["columns"], [list(map(plain, row)) for row in TABLES[name]["rows"]]
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        names = ", ".join(f'"{column}"' for column in columns)
        connection.exec_driver_sql(f"INSERT INTO {name} ({names}) VALUES ({marks})", [tuple(row) for row in rows])
        return
    table = Table(name, MetaData(), autoload_with=connection)
    for row in rows:
        values = {column: typed(table.c[column], value) for column, value in zip(columns, row, strict=True)}
        connection.execute(table.insert(), values)
    for column in table.c.keys():  # noqa: SIM118  # it yields columns otherwise
        sequence = connection.execute(text(f"SELECT pg_get_serial_sequence('{name}', '{column}')")).scalar()
        if sequence is not None:  # what it counts goes on behind what is there
            connection.execute(text(f"SELECT setval('{sequence}', (SELECT max({column}) FROM {name}))"))


def plain(value: Any) -> Any:
    return zlib.decompress(base64.b85decode(value["zlib"])) if isinstance(value, dict) else value


def typed(column: Any, value: Any) -> Any:
    """Return what SQLite had stored as PostgreSQL wants it."""
    if value is None:
        return None
    if isinstance(column.type, JSON):
        return json.loads(value)
    if isinstance(column.type, DateTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return bool(value) if isinstance(column.type, Boolean) else value


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the frozen tables, in an order that says nothing of when it was written."""
    with database.read() as connection:
        found = {}
        for name in TABLES:
            table = Table(name, MetaData(), autoload_with=connection)
            chosen = [table.c[column] for column in sorted(TABLES[name]["columns"])]
            rows = connection.execute(table.select().with_only_columns(*chosen)).all()
            found[name] = sorted((tuple(row) for row in rows), key=repr)
        return found


def holds(expected: Any, found: Any) -> bool:
    """Whether an answer says all that it said before; it may say more, and round a last digit otherwise."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(key in found and holds(expected[key], found[key]) for key in expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(holds, expected, found))
    return bool(expected == found or (isinstance(expected, float) and expected == pytest.approx(found, rel=1e-9)))


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    schema.upgrade(database)
    add_builtin_datasets(database)
    with TestClient(create_app(Services(database, Doorbell("redis://127.0.0.1:1/0")))) as opened:
        yield opened


@both
def test_upgraded_database_is_served_as_before(client: TestClient, database: Database) -> None:
    schema.check(database)
    for path, expected in FROZEN["answers"].items():
        if expected is not None:
            assert holds(expected, client.get(path).json()), path
    for name, states in STATES.items():
        assert client.get(f"/jobs/{IDS[name]}").json()["state"] in states, name
    rows = client.get("/datasets/iris/rows?page_size=5").json()["items"]
    flowers = [{name: value for name, value in row.items() if name != "target"} for row in rows]
    weights = [{"colour": "red", "size": 3}, {"colour": "green", "size": 100}]
    for asked, frozen in (
        ({"model": "flower", "version": 1, "instances": flowers}, FROZEN["predictions"][0]),
        ({"model": "weigher", "instances": weights}, FROZEN["predictions"][1]),
    ):
        assert holds(frozen["answer"], client.post("/predict", json=asked).json()), frozen["of"]
    assert client.get("/models/flower/aliases/champion").json()["version"] == 2
    assert client.get(f"/predictions/{IDS['prediction']}/result").status_code == 200


@both
def test_upgraded_database_takes_what_comes(client: TestClient) -> None:
    again = client.post("/jobs", json=FIRST_REQUEST, headers={"Idempotency-Key": "key-job"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json()["id"] == IDS["first"]
    new = client.post("/jobs", json=FIRST_REQUEST)
    assert new.status_code == 202
    assert [job["id"] for job in client.get("/jobs?tag=a").json()["items"]] == [new.json()["id"], IDS["first"]]
    added = client.post("/datasets?name=new", content=b"a,b\n1,2\n3,4\n", headers={"Content-Type": "text/csv"})
    assert added.status_code == 201
    assert client.put("/models/flower/aliases/champion", json={"version": 1}).status_code == 200
    assert client.post(f"/jobs/{IDS['paused']}/resume").json()["state"] == "queued"
    assert client.post(f"/jobs/{IDS['queued']}/cancel").json()["state"] == "cancelled"
    assert client.delete(f"/comparisons/{IDS['comparison']}").status_code == 204


@both
def test_upgrade_taken_back_leaves_everything_as_it_was(database: Database) -> None:
    before = contents(database)
    schema.upgrade(database)
    move(database, BEFORE)
    assert contents(database) == before
    schema.upgrade(database)
    schema.check(database)


@both
def test_every_migration_can_be_taken_back_with_data_in_it(database: Database) -> None:
    for revision in ("0005", "0004", "0003", "0002"):
        move(database, revision)
    with pytest.raises(NotImplementedError, match=r"the version before cannot serve this encoder.*colour"):
        move(database, "0001")
    with database.write() as connection:
        connection.execute(text("DELETE FROM model_versions WHERE name = 'weigher'"))
    for revision in ("0001", "base"):
        move(database, revision)
    with database.read() as connection:
        assert stored(connection) == {"alembic_version"}
    schema.upgrade(database)
    schema.check(database)
