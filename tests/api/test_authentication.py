"""Who is let in, by which key, to which route; and what those hear who are not."""

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from service.api.app import create_app
from service.api.gate.scopes import DESCRIPTIONS, ScopedRoute, contexts, is_declared, needed
from service.api.services import Services
from service.domain.keys import DEFAULT_SCOPES, Scope
from service.logs import JsonLines
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases import keys
from tests.api.support import copied_database, problem, register_model

PUBLIC = {
    "/healthz",
    "/readyz",
    "/version",
    "/ping",
    "/v2/health/live",
    "/v2/health/ready",
    "/sign-in",
    "/sign-out",
    "/dashboard/static/{folder}/{name}",
}
ENDLESS = "/dashboard/live/jobs"
FILLED = {"version": "1", "file": "model.onnx", "kind": "activations", "layer": "0", "number": "1"}
ROWS = {"model": "m", "instances": [[1, 2]]}


@pytest.fixture(scope="module")
def database(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """One for all tests, which leave each other's keys alone."""
    return copied_database(stocked_sqlite, tmp_path_factory)


@pytest.fixture(scope="module")
def services(database: Database) -> Services:
    return Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True)


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


def key(database: Database, *scopes: Scope, owner: str = "local", lasts: float | None = None) -> str:
    """Make a key; with every usual scope where none is named."""
    return keys.create_key(database, "test", owner, scopes or DEFAULT_SCOPES, lasts)[1]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def every_route(services: Services) -> list[Any]:
    return [found for found in contexts(create_app(services).routes) if found.path not in DESCRIPTIONS]


def requests(services: Services) -> Iterator[tuple[str, str, frozenset[Scope]]]:
    """Every method of every route with an address, and the scopes that open it."""
    for found in every_route(services):
        if isinstance(found.original_route, ScopedRoute) and found.path != "/sign-in":  # which refuses by itself
            path = re.sub(r"{(\w+)(:path)?}", lambda match: FILLED.get(match[1], "x"), found.path)
            for method in sorted(found.methods):
                yield method, path, needed(found.endpoint)


def test_every_route_says_which_scope_it_needs(services: Services) -> None:
    routes = [found for found in every_route(services) if found.path != "/static-offline-docs"]
    assert [found.path for found in routes if not isinstance(found.original_route, ScopedRoute)] == []
    assert [found.path for found in routes if not is_declared(found.endpoint)] == []
    assert {found.path for found in routes if not needed(found.endpoint)} == PUBLIC


def test_no_route_but_the_public_ones_answers_without_a_key(services: Services, client: TestClient) -> None:
    for method, path, scopes in requests(services):
        answer = client.request(method, path, follow_redirects=False)
        assert (answer.status_code == 401) == bool(scopes), (method, path, answer.text)


def test_no_route_answers_to_a_key_without_its_scope(
    services: Services, client: TestClient, database: Database
) -> None:
    made = {scope: bearer(key(database, scope)) for scope in (Scope.READ, Scope.SUBMIT, Scope.PREDICT)}
    for method, path, scopes in requests(services):
        for scope, headers in made.items():
            if scopes and scope not in scopes:
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 403, (method, path, scope, answer.text)
                assert method == "HEAD" or all(word in answer.text for word in (*scopes, "this one has", scope))


def test_every_route_answers_to_a_key_with_its_scope_and_to_an_admins(
    services: Services, client: TestClient, database: Database
) -> None:
    made = {scope: bearer(key(database, scope)) for scope in Scope}
    for method, path, scopes in requests(services):
        for scope in {*scopes, Scope.ADMIN} if scopes and path != ENDLESS else ():
            answer = client.request(method, path, headers=made[scope])
            assert answer.status_code not in (401, 403, 500), (method, path, scope, answer.text)


@pytest.mark.parametrize(
    "path", ["/nothing", "/jobs/", "/docs/x", "/dashboard/static", "/static-offline-docsx", "//jobs"]
)
def test_address_that_is_none_tells_nothing_without_a_key(client: TestClient, path: str) -> None:
    problem(client.get(path), 401)


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/static-offline-docs/swagger-ui.css"])
def test_description_of_the_api_needs_no_key(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_request_without_a_key_is_told_how_to_send_one(client: TestClient) -> None:
    answer = client.get("/jobs")
    assert problem(answer, 401)["code"] == "no_key"
    assert answer.headers["www-authenticate"] == 'Bearer realm="selfnorm"'


def test_all_bad_keys_are_answered_alike(client: TestClient, database: Database) -> None:
    good, revoked = key(database), key(database)
    keys.revoke_key(database, revoked.split("_")[1])
    expired = key(database, lasts=0.001)
    time.sleep(0.01)
    shown: list[str | bytes] = [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        good,
        "Bearer sn_000000000000_" + "a" * 43,
        f"Bearer {revoked}",
        f"Bearer {expired}",
        f"Bearer {good[:-1]}",
        f"Bearer {good}x",
        f"Bearer {good.replace('_', '-', 2)}",
        f"Bearer {good[:15]}:{good[16:]}",
        f"Bearer {good} {good}",
        "Bearer " + "é" * 10,
        b"Bearer \xff\xfe",
        "Bearer " + "a" * 10_000,
    ]
    assert client.get("/jobs", headers=bearer(good)).status_code == 200
    answers = [client.get("/jobs", headers={b"Authorization": _bytes(value)}) for value in shown]
    answers.append(client.get("/jobs", headers=[("Authorization", f"Bearer {good}")] * 2))
    said = [{**problem(answer, 401), "request_id": ""} for answer in answers]
    assert all(one == said[0] for one in said)
    assert said[0]["code"] == "invalid_key"
    assert {answer.headers["www-authenticate"] for answer in answers} == {
        'Bearer realm="selfnorm", error="invalid_token"'
    }


def test_key_that_was_made_a_moment_ago_opens_at_once(client: TestClient, database: Database) -> None:
    for _ in range(5):
        assert client.get("/jobs", headers=bearer(key(database))).status_code == 200


def test_bad_key_opens_public_routes(client: TestClient) -> None:
    assert client.get("/healthz", headers=bearer("nothing")).status_code == 200


def test_things_belong_to_the_owner_of_the_key(client: TestClient, database: Database) -> None:
    ours, theirs = key(database, owner="a"), key(database, owner="b")
    made = client.post("/jobs", json={"dataset": "iris"}, headers=bearer(ours))
    assert made.status_code == 202, made.text
    assert client.get(made.headers["location"], headers=bearer(ours)).status_code == 200
    assert client.get(made.headers["location"], headers=bearer(theirs)).status_code == 404


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v2/models/m", {"error"}),
        ("/v1/models/m", {"error"}),
        ("/v1/nothing", {"error"}),
        ("/invocations", {"error_code", "message"}),
    ],
)
def test_protocols_refuse_in_their_own_shape(
    client: TestClient, database: Database, path: str, shape: set[str]
) -> None:
    method = "POST" if path == "/invocations" else "GET"
    without = client.request(method, path)
    assert (without.status_code, set(without.json())) == (401, shape)
    assert without.headers["www-authenticate"].startswith("Bearer")
    if path != "/v1/nothing":
        wrong = client.request(method, path, headers=bearer(key(database, Scope.SUBMIT)))
        assert (wrong.status_code, set(wrong.json())) == (403, shape)


def test_answers_under_a_key_are_kept_by_nobody_else(client: TestClient, database: Database) -> None:
    register_model(database.owned_by("local"))
    headers = bearer(key(database))
    assert client.get("/jobs", headers=headers).headers["cache-control"] == "no-store"
    assert client.post("/predict", json=ROWS, headers=headers).headers["cache-control"] == "no-store"
    job = client.post("/jobs", json={"dataset": "iris"}, headers=headers)
    tagged = client.get(job.headers["location"], headers=headers)
    assert "etag" in tagged.headers
    assert tagged.headers["cache-control"] == "private, no-cache"
    assert "cache-control" not in client.get("/healthz", headers=headers).headers


def test_every_answer_says_that_it_is_for_nobody_else_to_frame_or_guess(client: TestClient, database: Database) -> None:
    headers = bearer(key(database))
    for path in ("/jobs", "/nothing", "/healthz", "/docs", "/sign-in", "/", "/v2/models/x"):
        for answer in (client.get(path), client.get(path, headers=headers)):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["x-frame-options"] == "DENY"


def test_description_names_the_scopes_of_each_operation(client: TestClient, services: Services) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert schema["paths"]["/jobs"]["post"]["security"] == [{"key": ["submit"]}]
    assert schema["paths"]["/v2/models/{name}"]["get"]["security"] == [{"key": ["read"]}, {"key": ["predict"]}]
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            is_public = path in PUBLIC
            assert bool(operation["security"]) != is_public
            assert ({"401", "403"} <= set(operation["responses"])) != is_public
    open_to_all = create_app(replace(services, authentication=False)).openapi()
    assert "securitySchemes" not in open_to_all["components"]
    assert "security" not in open_to_all["paths"]["/jobs"]["post"]


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


class Lines(logging.Handler):
    """Keeps what the log says, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []
        self.setFormatter(JsonLines("api"))

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(json.loads(self.format(record)))


def test_key_that_has_ended_is_named_in_the_log_and_counted_and_its_user_hears_nothing_of_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True, logs_access=True)
    revoked, expired, unknown = key(database), key(database, lasts=0.001), "sn_000000000000_" + "a" * 43
    keys.revoke_key(database, revoked.split("_")[1])
    lines = Lines()
    caplog.set_level(logging.INFO)
    logging.getLogger("service.api.gate.observation").addHandler(lines)
    with TestClient(create_app(services)) as client:
        time.sleep(0.01)
        before = [faults(reason) for reason in ("revoked", "expired", "unknown")]
        answers = [client.get("/jobs", headers=bearer(text)) for text in (revoked, expired, unknown)]
    logging.getLogger("service.api.gate.observation").removeHandler(lines)
    assert [faults(reason) for reason in ("revoked", "expired", "unknown")] == [count + 1 for count in before]
    assert len({problem(answer, 401)["detail"] for answer in answers}) == 1
    named = [line.get("key_id") for line in lines.told if line.get("status") == 401]
    assert named == [revoked.split("_")[1], expired.split("_")[1], None]


def faults(reason: str) -> float:
    return REGISTRY.get_sample_value("selfnorm_authentication_failures_total", {"reason": reason}) or 0.0
