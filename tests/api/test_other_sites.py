"""A service for this machine alone: what pages of other web sites cannot do to it from somebody's browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api.support import copied_database, problem
from tests.documents import ROOT

OTHERS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]
OURS = [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}]
Opener = Callable[..., TestClient]


@pytest.fixture(scope="module")
def database(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """One for all tests, nothing of which matters."""
    return copied_database(stocked_sqlite, tmp_path_factory)


@pytest.fixture(scope="module")
def opened(database: Database) -> Iterator[Opener]:
    """Opens a service that needs no keys, with some settings, as this machine asks it; equal ones once."""
    clients: dict[str, TestClient] = {}

    def open_one(host: str = "localhost", **settings: Any) -> TestClient:
        if (client := clients.get(str(settings))) is None:
            services = Services(database, Doorbell("redis://127.0.0.1:1/0"), loopback_only=True, **settings)
            client = TestClient(create_app(services), raise_server_exceptions=False)
            clients[str(settings)] = client.__enter__()
        client.base_url = f"http://{host}"
        return client

    yield open_one
    for client in clients.values():
        client.__exit__(None, None, None)


@pytest.mark.parametrize("headers", OTHERS)
def test_page_of_another_site_changes_nothing(opened: Opener, headers: dict[str, str]) -> None:
    client = opened()
    upload = {"file": ("a.csv", b"a,b\n1,2\n", "text/csv")}
    assert problem(client.post("/datasets", files=upload, headers=headers), 403)["code"] == "cross_site"
    assert problem(client.post("/jobs/x/cancel", headers=headers), 403)["code"] == "cross_site"
    assert problem(client.delete("/jobs/x", headers=headers), 403)["code"] == "cross_site"
    answer = client.post("/v2/repository/index", headers=headers)
    assert (answer.status_code, set(answer.json())) == (403, {"error"})


@pytest.mark.parametrize("headers", OURS)
def test_own_pages_and_programs_do(opened: Opener, headers: dict[str, str]) -> None:
    client = opened()
    upload = {"file": ("a.csv", b"a,b\n1,2\n", "text/csv")}
    assert client.post("/datasets", files=upload, headers=headers).status_code == 201
    assert client.post("/jobs/x/cancel", headers=headers).status_code == 404


@pytest.mark.parametrize("headers", OTHERS)
def test_page_of_another_site_loads_nothing_but_may_link(opened: Opener, headers: dict[str, str]) -> None:
    client = opened()
    for method in ("GET", "HEAD"):
        for mode in ("no-cors", "cors", "same-origin"):
            assert client.request(method, "/jobs", headers={**headers, "Sec-Fetch-Mode": mode}).status_code == 403
    assert problem(client.get("/jobs", headers=headers), 403)["code"] == "cross_site"
    link = {**headers, "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    assert [client.get(path, headers=link).status_code for path in ("/", "/dashboard/jobs")] == [200, 200]


@pytest.mark.parametrize("headers", OURS)
def test_own_pages_and_programs_read(opened: Opener, headers: dict[str, str]) -> None:
    assert opened().get("/jobs", headers={**headers, "Sec-Fetch-Mode": "cors"}).status_code == 200


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-anything"]
)
def test_what_a_proxy_has_passed_on_is_refused_where_nobody_is_asked_for_a_key(opened: Opener, header: str) -> None:
    client = opened()
    said = problem(client.get("/jobs", headers={header: "x"}), 403)
    assert said["code"] == "through_proxy"
    assert "SELFNORM_AUTHENTICATION=on" in said["detail"]
    assert problem(client.post("/predict", json={}, headers={header: "x"}), 403)["code"] == "through_proxy"


def test_what_a_proxy_has_passed_on_is_asked_for_a_key_where_everybody_is(database: Database) -> None:
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True)
    with TestClient(create_app(services)) as client:
        assert problem(client.get("/jobs", headers={"X-Forwarded-For": "192.0.2.1"}), 401)["code"] == "no_key"


def test_request_to_another_name_is_refused_whatever_it_asks(opened: Opener) -> None:
    client = opened("evil.example")
    assert problem(client.get("/jobs"), 403)["code"] == "unknown_host"
    assert problem(client.post("/predict", json={}), 403)["code"] == "unknown_host"
    assert client.get("/v2/models/x").json()["error"].startswith("this service does not answer to the name")
    assert "SELFNORM_ALLOWED_HOSTS" in client.get("/").json()["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_under_any_name(opened: Opener, path: str) -> None:
    assert opened("10.0.0.1").get(path).status_code == 200


def test_names_that_a_setting_allows_are_answered_too(opened: Opener) -> None:
    assert opened("a.example", allowed_hosts=("a.example",)).get("/jobs").status_code == 200
    assert opened("b.example", allowed_hosts=("a.example",)).get("/jobs").status_code == 403


def test_no_other_site_may_read_unless_a_setting_says_so(opened: Opener) -> None:
    origin = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert not any(name.startswith("access-control") for name in opened().get("/jobs", headers=origin).headers)
    client = opened(cors_origins=("https://app.example",))
    asked = client.options("/jobs", headers={**origin, "Access-Control-Request-Headers": "authorization"})
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in asked.headers
    site = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    sent = client.post("/jobs/x/cancel", headers=site)
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (404, "https://app.example")
    asked = client.get("/jobs", headers={**site, "Sec-Fetch-Mode": "cors"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://app.example")
    other = client.post("/jobs/x/cancel", headers={**site, "Origin": "https://other.example"})
    assert problem(other, 403)["code"] == "cross_site"
    assert "access-control-allow-origin" not in other.headers


def test_picture_that_is_opened_alone_runs_nothing(opened: Opener) -> None:
    client = opened()
    icon = client.get("/dashboard/static/x/icon.svg")
    assert icon.headers["content-type"].startswith("image/svg+xml")
    assert "sandbox" in icon.headers["content-security-policy"]
    assert "script-src" not in icon.headers["content-security-policy"]


def test_what_is_downloaded_is_an_attachment_of_no_guessed_type() -> None:
    """Of every route that gives a file; what else it gives is tested where its files are."""
    sent = [path for path in (ROOT / "service" / "api").rglob("*.py") if "Content-Disposition" in path.read_text()]
    assert {path.name for path in sent} == {"models.py", "predictions.py"}
    assert all("attachment; filename=" in path.read_text() for path in sent)
