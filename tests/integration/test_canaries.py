"""No secret in a log, an error, /metrics, the schema, or where it need not be in the database; with a real process."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

import pytest

from service.domain.keys import Scope
from service.storage.database import Database, sqlite_url
from service.use_cases import keys
from tests.api_process import ApiProcess, api_process
from tests.canaries import BROKER_URL, CANARY, ENVIRONMENT, spilled, sung
from tests.patience import until
from tests.processes import linux_only

pytestmark = linux_only
JSON = {"Content-Type": "application/json"}
HOOK = {"url": "http://127.0.0.1:1/x", "events": ["job.failed"]}


@dataclass
class Told:
    """A service that has been asked with keys in every place, and what it answered."""

    api: ApiProcess
    database: Path
    answers: dict[str, bytes]
    """All but those that give a secret to who may have it."""


@pytest.fixture(scope="module")
def told(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("canaries")
    path = folder / "selfnorm.db"
    copy(stocked_sqlite, path)
    database = Database(sqlite_url(path))
    _, key = keys.create_key(database, "k", "ann", [Scope.ADMIN], None)
    revoked_key, revoked = keys.create_key(database, "old", "ann", [Scope.READ], None)
    keys.revoke_key(database, revoked_key.id)
    database.close()
    settings = {"AUTHENTICATION": "on", "ACCESS_LOG": "true", "WEBHOOK_ALLOW_PRIVATE": "true", "RATES_URL": BROKER_URL}
    with api_process(path, folder, **{f"SELFNORM_{name}": value for name, value in settings.items()}) as api:
        yield Told(api, path, dict(_answers(api, key, revoked)))


def _answers(api: ApiProcess, key: str, revoked: str) -> Iterator[tuple[str, bytes]]:
    """Put keys into every part of a request, and make what has secrets of its own."""
    bearer = {"Authorization": f"Bearer {key}"}
    made = api.client.post("/webhooks", json=HOOK, headers={**bearer, "Idempotency-Key": "a"})
    assert made.status_code == 201, made.text
    hook = f"/webhooks/{made.json()['id']}"
    assert "whsec_" in api.client.post(f"{hook}/rotate-secret", headers=bearer).text
    asked = [
        *(
            ("GET", path, bearer, b"")
            for path in ("/openapi.json", "/metrics", "/audit", "/webhooks", hook, "/version", "/")
        ),
        ("GET", f"{hook}/deliveries", bearer, b""),
        ("POST", f"{hook}/test", bearer, b""),
        ("GET", "/jobs", {"Authorization": f"Bearer {revoked}"}, b""),
        ("GET", "/jobs", {"Authorization": f"Basic {key}"}, b""),
        ("GET", "/jobs", {"X-Api-Key": key}, b""),
        ("GET", "/jobs", {"Cookie": f"selfnorm_key={key}; other={CANARY}"}, b""),
        ("POST", "/jobs", {**bearer, **JSON}, b'{"dataset": "iris"}'),  # which the broker does not hear of
        ("POST", "/jobs", {**bearer, **JSON}, b'{"dataset": '),
        ("POST", "/jobs", {**bearer, **JSON, "Idempotency-Key": "x" * 1000}, b"{}"),
        ("GET", f"/jobs?api_key={key}&token={CANARY}", {}, b""),
        ("PUT", "/jobs", bearer, b""),
        ("GET", "/jobs", {**bearer, "traceparent": "x", "X-Request-Id": "y" * 500}, b""),
    ]
    for method, path, headers, body in asked:
        answer = api.client.request(method, path, headers=headers, content=body)
        assert answer.status_code != 500
        yield f"{method} {path}", repr(answer.headers).encode() + answer.content


def test_no_answer_holds_a_secret(told: Told) -> None:
    assert {name: found for name, answer in told.answers.items() if (found := sung(answer))} == {}


def test_no_log_and_no_file_holds_a_secret(told: Told) -> None:
    until(lambda: "the broker did not take the message" in told.api.log())  # it tells of what it cannot reach
    log = told.api.log()
    assert "/webhooks" in log, "and of requests"
    assert spilled(told.api.log_file, told.api.temporary) == []


def test_database_holds_no_key_and_secrets_of_webhooks_only_where_they_sign(told: Told) -> None:
    assert spilled(told.database, *told.database.parent.glob("selfnorm.db-*")) == []
    database = Database(sqlite_url(told.database))
    with database.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        holding = {
            table: sorted(
                column
                for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').mappings()
                for column, value in row.items()
                if re.search("whsec_[A-Za-z0-9+/]{20}", value if isinstance(value, str) else repr(value))
            )
            for table in tables
        }
    database.close()
    assert {table: set(columns) for table, columns in holding.items() if columns} == {
        "webhooks": {"secret", "previous_secret"},
        "idempotency_keys": {"body"},  # the answer that made it, to be given again for a week
    }


@pytest.mark.parametrize("command", ["api", "migrate", "doctor"])
def test_command_that_cannot_reach_its_database_tells_no_password(command: str, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://selfnorm:{CANARY}@127.0.0.1:1/selfnorm"
    environment = {**ENVIRONMENT, **os.environ, "SELFNORM_DATABASE_URL": url, "SELFNORM_BROKER_URL": BROKER_URL}
    options = ["--port", "0"] if command == "api" else []
    log = tmp_path / "log"
    with log.open("wb") as output:
        line = [sys.executable, "-m", "service.cli", command, *options]
        process = subprocess.Popen(line, env=environment, cwd=tmp_path, stdout=output, stderr=output)

    def has_ended() -> bool:
        if command == "api" and b"database" in log.read_bytes():
            process.terminate()  # which waits for it
        return process.poll() is not None

    try:
        until(has_ended)
    finally:
        process.kill()
        process.wait()
    said = log.read_bytes()
    assert said
    assert sung(said) == set()


@pytest.mark.parametrize(
    "secret", [f"x{CANARY}x", "key sn_0123456789ab_" + "A" * 43, "whsec_" + "B" * 43], ids=["canary", "key", "webhook"]
)
def test_secret_that_spills_is_found(tmp_path: Path, secret: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "empty").touch()
    log = tmp_path / "logs" / "api.log"
    log.write_bytes(b"\xff" * 100_000 + secret.encode())
    [found] = spilled(tmp_path)
    assert str(log) in found
    assert sung(log.read_bytes())
    log.write_text("sn_*** and whsec_***")
    assert spilled(tmp_path) == []
