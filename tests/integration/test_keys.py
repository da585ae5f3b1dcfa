"""Keys with real databases and real processes: made, used, revoked, and while the database is down."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copy, rmtree
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.client import ApiError, Client
from service.domain.audit import Action
from service.domain.key_errors import NoSuchKey
from service.domain.keys import DEFAULT_SCOPES, KeyState, Scope
from service.storage import keys as stored
from service.storage.database import Database, sqlite_url
from service.storage.schema import upgrade
from service.task_queue import Doorbell
from service.use_cases import keys
from service.use_cases.audit import EntryFilter, newest_entries
from service.use_cases.key_ring import KeyRing
from tests import servers
from tests.api_process import ApiProcess, api_process
from tests.command_line import command
from tests.patience import until
from tests.processes import linux_only
from tests.raw_http import RawAnswer, connected, prediction
from tests.served import numbers, register
from tests.servers import PostgresqlServer
from tests.stopwatch import stopwatch

REVOKED_SECONDS = 5.0
"""So soon a key that is revoked opens nothing any more, in every process."""
QUIET_SECONDS = 2.5
"""Twice as long as any process takes to hear of it, and more."""
ROW = {"model": "numbers", "instances": [[1, 2]]}


@pytest.fixture
def everybodys(database: Database) -> Database:
    return database.for_everybody()


def make(database: Database, *scopes: Scope, owner: str = "local", lasts: float | None = None) -> str:
    return keys.create_key(database, "test", owner, scopes or DEFAULT_SCOPES, lasts)[1]


def test_key_is_stored_without_its_secret(everybodys: Database) -> None:
    key, text = keys.create_key(everybodys, "ann", "team", [Scope.ADMIN], 3600)
    assert keys.list_keys(everybodys) == [key]
    assert (key.owner, key.name, key.scopes, key.state) == ("team", "ann", (Scope.ADMIN,), KeyState.ACTIVE)
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).total_seconds() == pytest.approx(3600, abs=1)
    with everybodys.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
        said = connection.exec_driver_sql("SELECT * FROM audit_log").all()
    assert text.rpartition("_")[2] not in repr(rows) + repr(said)


def test_ring_knows_what_a_key_opens(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    reader, admin = make(everybodys, Scope.READ, owner="a"), make(everybodys, Scope.ADMIN)
    assert ring.follow() == 2
    access = ring.known(reader.encode())
    assert access is not None
    assert (access.owner, access.scopes) == ("a", frozenset({Scope.READ}))
    implied = ring.known(admin.encode())
    assert implied is not None
    assert implied.scopes == set(Scope)
    for other in (reader[:-1], reader + "x", "", "sn_", reader.replace("_", "-"), f"xx{reader[2:]}"):
        assert ring.known(other.encode()) is None


def test_revoked_and_expired_keys_open_nothing_after_the_next_look(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    first, second, third = make(everybodys), make(everybodys, lasts=0.3), make(everybodys)
    ring.follow()
    held = [ring.known(text.encode()) for text in (first, second, third)]
    assert all(held)
    revoked = keys.revoke_key(everybodys, first.split("_")[1])
    assert revoked.state == KeyState.REVOKED
    time.sleep(0.4)
    assert ring.known(second.encode()) is None  # by this process' own clock, without a look
    assert ring.follow() == 1
    assert [ring.known(text.encode()) is not None for text in (first, second, third)] == [False, False, True]
    assert [access is not None and access.is_over for access in held] == [True, True, False]
    states = [key.state for key in keys.list_keys(everybodys)]
    assert sorted(states) == [KeyState.ACTIVE, KeyState.EXPIRED, KeyState.REVOKED]
    assert keys.revoke_key(everybodys, first.split("_")[1]).revoked_at == revoked.revoked_at
    entries = newest_entries(everybodys, None, EntryFilter(Action.KEY_REVOKED), 10)
    assert [entry.target for entry in entries] == [revoked.id], "a second time changes nothing"


def test_key_that_is_new_is_found_by_asking_and_one_that_is_none_is_not_asked_for_again(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    text, none = make(everybodys), "sn_000000000000_" + "a" * 43
    key_id = ring.unknown_id(text.encode())
    assert key_id == text.split("_")[1]
    ring.look_up([key_id, "000000000000"])
    assert ring.known(text.encode()) is not None
    assert ring.unknown_id(none.encode()) is None
    assert ring.unknown_id(f"{text[:-1]}x".encode()) is None  # its id is known, so its secret is wrong
    assert ring.unknown_id(b"\xff" * 59) is None


def test_key_that_has_ended_is_told_from_one_that_never_was_to_who_has_it_whole(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    revoked, expired, good = make(everybodys), make(everybodys, lasts=0.3), make(everybodys)
    ring.follow()
    assert [ring.ended(text.encode()) for text in (revoked, good)] == [None, None]
    time.sleep(0.4)
    assert ring.ended(expired.encode()) == (expired.split("_")[1], KeyState.EXPIRED)  # before the next look
    keys.revoke_key(everybodys, revoked.split("_")[1])
    ring.follow()
    ring.look_up([text.split("_")[1] for text in (revoked, expired)] + ["0" * 12])
    assert ring.ended(revoked.encode()) == (revoked.split("_")[1], KeyState.REVOKED)
    assert ring.ended(expired.encode()) == (expired.split("_")[1], KeyState.EXPIRED)
    for other in (revoked[:-1], revoked[:-43] + "a" * 43, f"xx{revoked[2:]}", "sn_000000000000_" + "a" * 43, "\xff"):
        assert ring.ended(other.encode("latin-1")) is None


def test_guesses_are_not_remembered_without_end(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    for start in range(0, 10_000, 1000):
        ring.look_up([f"{number:012x}" for number in range(start, start + 1000)])
    assert len(ring._absent) <= 4096


def test_last_use_is_stored_now_and_then(everybodys: Database) -> None:
    ring = KeyRing(everybodys)
    used, unused = make(everybodys), make(everybodys)
    ring.follow()
    ring.known(used.encode())
    ring.follow()
    ring.store_uses()
    told = {key.id: key.last_used_at for key in keys.list_keys(everybodys)}
    assert told[used.split("_")[1]] is not None
    assert told[unused.split("_")[1]] is None


def test_key_that_is_not_there_cannot_be_revoked(everybodys: Database) -> None:
    with pytest.raises(NoSuchKey, match="no key with the id 'x'"):
        keys.revoke_key(everybodys, "x")
    with everybodys.read() as connection:
        assert stored.valid(connection) == []


@pytest.fixture(scope="module")
def database_file(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "selfnorm.db"
    copy(stocked_sqlite, path)
    opened = Database(sqlite_url(path)).owned_by("team")
    register(opened, numbers("numbers", spec={"network": {"kind": "mlp"}}))
    opened.close()
    return path


@pytest.fixture(scope="module")
def api(database_file: Path) -> Iterator[ApiProcess]:
    """Two processes that need keys, and take any number of wrong ones."""
    settings = {
        "SELFNORM_AUTHENTICATION": "on",
        "SELFNORM_API_PROCESSES": "2",
        "SELFNORM_WRONG_KEY_RATE": "100000/minute",
    }
    with api_process(database_file, database_file.parent, **settings) as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture(scope="module")
def service_database(database_file: Path) -> Database:
    return Database(sqlite_url(database_file))


def cli(database_file: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*command("keys"), *words, "--data-dir", str(database_file.parent)], capture_output=True, text=True, check=False
    )


def ask(api: ApiProcess, *headers: str) -> RawAnswer:
    with connected(api.port) as connection:
        return connection.ask(prediction(ROW, *headers))


def is_short(answer: RawAnswer) -> bool:
    """Whether an answer took the short way, whose ids count up behind a beginning that stays."""
    return str(answer.header("x-request-id"))[8:11] == "000"


@linux_only
def test_small_prediction_takes_the_short_way_with_a_key_that_is_known(
    api: ApiProcess, service_database: Database
) -> None:
    text = make(service_database, owner="team")
    with connected(api.port) as connection:
        asked = prediction(ROW, f"Authorization: Bearer {text}")
        answers = [connection.ask(asked) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert is_short(answers[2])
        lengthened = connection.ask(prediction(ROW, f"Authorization: Bearer {text}", "X-Other: 1"))
        assert not is_short(lengthened)
        assert sorted(lengthened.lasting[1]) == sorted(answers[2].lasting[1])
        assert ("cache-control", "no-store") in answers[2].headers


@linux_only
def test_short_way_lets_nobody_in_who_is_not_to_be(api: ApiProcess, service_database: Database) -> None:
    owner, reader = make(service_database, owner="team"), make(service_database, Scope.READ, owner="team")
    other = make(service_database, owner="other")
    assert ask(api, f"Authorization: Bearer {owner}").status == 200
    assert ask(api).status == 401
    assert ask(api, f"Authorization: Bearer {owner}x").status == 401
    assert ask(api, f"Authorization: Basic {owner}").status == 401
    assert ask(api, f"Authorization: Bearer {owner}", f"Authorization: Bearer {owner}").status == 401
    assert ask(api, f"Authorization: Bearer {reader}").status == 403
    assert ask(api, f"Authorization: Bearer {other}").status == 404  # the model is another's
    assert ask(api, "Authorization: Bearer \xe9").status == 401


@linux_only
def test_revoked_key_opens_nothing_within_five_seconds_in_any_process(api: ApiProcess, database_file: Path) -> None:
    document = json.loads(cli(database_file, "create", "short", "--owner", "team", "--json").stdout)
    shown = f"Authorization: Bearer {document['key']}"
    asked = [prediction(ROW, shown), f"GET /jobs HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n\r\n".encode()]
    with ExitStack() as stack:  # the acceptor gives each process half of the connections
        connections = [stack.enter_context(connected(api.port)) for _ in range(4)]
        watch = stack.enter_context(stopwatch())
        assert [connection.ask(one).status for connection in connections for one in asked] == [200] * 8
        assert cli(database_file, "revoke", document["id"]).returncode == 0
        revoked_at = last_good = time.monotonic()
        while time.monotonic() - last_good < QUIET_SECONDS:
            answers = [connection.ask(one).status for connection in connections for one in asked]
            last_good = time.monotonic() if 200 in answers else last_good
            time.sleep(0.05)
        assert set(answers) == {401}
        assert watch.elapsed(revoked_at, last_good) < REVOKED_SECONDS


@linux_only
def test_stream_ends_without_another_word_when_its_key_is_revoked(api: ApiProcess, service_database: Database) -> None:
    text, other = make(service_database, owner="team"), make(service_database, owner="team")
    headers = {"Authorization": f"Bearer {text}"}
    with api.client.stream("GET", "/dashboard/live/jobs", headers=headers) as stream:
        pieces = stream.iter_bytes()
        assert b"retry" in next(pieces)
        keys.revoke_key(service_database, text.split("_")[1])
        until(lambda: api.client.get("/jobs", headers=headers).status_code != 200)
        time.sleep(QUIET_SECONDS)  # the other process follows by itself
        made = api.client.post("/jobs", json={"dataset": "iris"}, headers={"Authorization": f"Bearer {other}"})
        assert made.status_code == 202
        assert made.json()["id"].encode() not in b"".join(pieces)


@linux_only
def test_while_the_database_is_down_known_keys_open_what_is_in_memory(tmp_path: Path) -> None:
    folder = servers.public_folder() / f"selfnorm-{tmp_path.name}-{abs(hash(tmp_path))}"
    folder.mkdir()
    try:
        with servers.postgresql_server(folder) as server:
            _check_outage(server)
    finally:
        rmtree(folder)


def _check_outage(server: PostgresqlServer) -> None:
    database = Database(f"{server.url}/postgres", 1.5)
    upgrade(database)
    register(database.owned_by("team"), numbers("numbers", spec={"network": {"kind": "mlp"}}))
    known, other = make(database, owner="team"), make(database)
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True)
    with TestClient(create_app(services)) as client:

        def predicted(text: str) -> Any:
            return client.post("/predict", json=ROW, headers={"Authorization": f"Bearer {text}"})

        assert predicted(known).status_code == 200
        server.freeze()
        until(lambda: client.get("/jobs", headers={"Authorization": f"Bearer {known}"}).status_code != 200)
        assert predicted(known).status_code == 200
        assert predicted(other).status_code == 503  # which models it has, only the database knows
        unknown = predicted("sn_000000000000_" + "a" * 43)
        assert (unknown.status_code, unknown.json()["code"]) == (503, "database_down")
        assert int(unknown.headers["retry-after"]) > 0
        assert predicted("word").status_code == 401
        assert client.post("/predict", json=ROW).status_code == 401
        server.thaw()


@linux_only
def test_client_and_command_line_show_their_key(api: ApiProcess, database_file: Path) -> None:
    url = str(api.client.base_url)
    text = json.loads(cli(database_file, "create", "cli", "--owner", "team", "--json").stdout)["key"]
    with Client(url, text) as client:
        assert [model.name for model in client.models.list()] == ["numbers"]
    with Client(url) as stranger, pytest.raises(ApiError) as refused:
        list(stranger.models.list())
    assert (refused.value.status, refused.value.code) == (401, "no_key")
    words = [*command("models"), "--url", url]
    shown = subprocess.run([*words, "--api-key", text], capture_output=True, text=True, check=False)
    assert (shown.returncode, "numbers" in shown.stdout) == (0, True)
    bare = subprocess.run(words, capture_output=True, text=True, check=False)
    assert bare.returncode == 3
    assert "show a key: SELFNORM_API_KEY, or --api-key" in bare.stderr
    assert "cli" in cli(database_file, "list").stdout


def test_service_for_others_does_not_start_without_keys() -> None:
    words = [sys.executable, "-m", "service.cli", "api", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104  # refused
    for processes in ("1", "2"):
        environment = {"SELFNORM_AUTHENTICATION": "off", "SELFNORM_API_PROCESSES": processes, "PATH": "/usr/bin"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=60)
        assert done.returncode == 1
        assert "whoever reaches this address could use the service" in done.stderr
