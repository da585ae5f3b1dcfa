"""The pages where keys are needed: signing in and out, and whose requests a cookie lets in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from service.api.app import create_app
from service.api.gate.entrance import MAX_PUBLIC_BYTES
from service.api.services import Services
from service.domain.keys import DEFAULT_SCOPES, Scope
from service.domain.quotas import Rate
from service.server import _config as server_config
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases import keys
from tests.api.pages import shown, words
from tests.api.support import copied_database, problem

HTML = {"Accept": "text/html"}
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def database(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """One for all tests, which leave each other's keys alone."""
    return copied_database(stocked_sqlite, tmp_path_factory)


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Any]:
    made = create_app(Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True))
    with TestClient(made):
        yield made


@pytest.fixture
def client(app: Any) -> TestClient:
    """A browser that follows nothing by itself, for this is about what it is told."""
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


def key(database: Database, *scopes: Scope) -> str:
    return keys.create_key(database, "test", "team", scopes or DEFAULT_SCOPES, None)[1]


@pytest.fixture
def signed_in(client: TestClient, database: Database) -> TestClient:
    answer = client.post("/sign-in", data={"key": key(database), "to": "/"}, headers=OWN)
    assert answer.status_code == 303, answer.text
    return client


@pytest.mark.parametrize("path", ["/", "/dashboard/jobs?state=failed", "/dashboard/nothing"])
def test_browser_without_a_key_is_led_to_the_form_and_back(client: TestClient, database: Database, path: str) -> None:
    led = client.get(path, headers=HTML)
    assert led.status_code == 303
    form = client.get(led.headers["location"], headers=HTML)
    assert f'name="to" value="{path}"' in form.text
    back = client.post("/sign-in", data={"key": f" {key(database)}\n", "to": path}, headers=OWN)
    assert (back.status_code, back.headers["location"]) == (303, path)


def test_what_a_page_loads_by_itself_is_refused_as_json(client: TestClient) -> None:
    problem(client.get("/dashboard/jobs/x/curves"), 401)
    problem(client.get("/dashboard/live/jobs", headers={"Accept": "text/event-stream"}), 401)


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/jobs",
        "/dashboard\r\na: b",
        "é",
        "/dashboardevil",
        "/dashboard/../../evil",
        "/dashboard/..",
        "/dashboard/./jobs",
        "/dashboard/%2e%2E/evil",
        "/dashboard/..%2f..%2fevil",
    ],
)
def test_form_leads_to_no_other_site(client: TestClient, database: Database, to: str) -> None:
    assert 'name="to" value="/"' in client.get("/sign-in", params={"to": to}).text
    answer = client.post("/sign-in", data={"key": key(database), "to": to}, headers=OWN)
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("text", ["", "word", "sn_000000000000_" + "a" * 43, "é", "\x00"])
def test_bad_key_is_said_to_open_nothing_and_leaves_no_cookie(client: TestClient, text: str) -> None:
    answer = client.post("/sign-in", data={"key": text}, headers=OWN)
    assert answer.status_code == 401
    assert "This key opens nothing here" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_form_is_small(client: TestClient, path: str) -> None:
    form = {**OWN, "Content-Type": "application/x-www-form-urlencoded"}
    room = MAX_PUBLIC_BYTES - len("key=")
    assert client.post(path, content="key=" + room * "&", headers=form).status_code in (303, 401)
    problem(client.post(path, content="key=" + (room + 1) * "&", headers=form), 413)


def test_wrong_keys_of_the_form_and_of_the_cookie_are_counted_and_bounded(database: Database) -> None:
    services = Services(
        database, Doorbell("redis://127.0.0.1:1/0"), authentication=True, wrong_key_rate=Rate(2, 86_400)
    )
    with TestClient(create_app(services), follow_redirects=False) as client:
        wrong, new = {"key": "sn_000000000000_" + "a" * 43}, key(database)
        before = counted("unknown")
        assert client.post("/sign-in", data=wrong, headers=OWN).status_code == 401
        client.cookies.set("selfnorm", wrong["key"])
        assert client.get("/sign-in").status_code == 200
        assert counted("unknown") - before == 2
        client.cookies.clear()
        answer = client.post("/sign-in", data=wrong, headers=OWN)
        assert (answer.status_code, "set-cookie" in answer.headers) == (429, False)
        assert answer.headers["retry-after"]
        client.cookies.set("selfnorm", wrong["key"])
        assert client.get("/sign-in").status_code == 200, "the form is shown, and nobody asked"
        assert counted("unknown") - before == 2
        client.cookies.clear()
        services.keys.ring.follow()
        assert client.post("/sign-in", data={"key": new}, headers=OWN).status_code == 303, "one that is known is let in"


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("selfnorm_authentication_failures_total", {"reason": reason}) or 0.0


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(client: TestClient, database: Database) -> None:
    answer = client.post("/sign-in", data={"key": key(database)}, headers=OWN)
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("selfnorm=sn_")
    assert set(attributes) == {"HttpOnly", "Max-Age=43200", "Path=/", "SameSite=strict"}


def test_cookie_over_https_is_sent_over_nothing_else(app: Any, database: Database) -> None:
    client = TestClient(app, base_url="https://testserver", follow_redirects=False)
    answer = client.post("/sign-in", data={"key": key(database)}, headers=OWN)
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-selfnorm=sn_")
    assert "Secure" in attributes
    assert client.get("/jobs").status_code == 200


def test_proxy_that_is_named_is_believed_and_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.9")
    services = Services(
        database, Doorbell("redis://127.0.0.1:1/0"), authentication=True, wrong_key_rate=Rate(9, 86_400)
    )
    config = server_config(services)
    config.load()
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    assert services.strangers is not None
    for address, cookie, left in (("10.0.0.9", "__Host-selfnorm=", 8), ("10.0.0.10", "selfnorm=", 8)):
        client = TestClient(config.loaded_app, client=(address, 50_000), headers={**said, **OWN})
        answer = client.post("/sign-in", data={"key": key(database)}, follow_redirects=False)
        assert answer.headers["set-cookie"].startswith(cookie)
        assert client.get("/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert services.strangers.left("203.0.113.9") == left
    assert services.strangers.left("10.0.0.10") == 8


def test_who_has_signed_in_sees_the_pages_and_what_they_ask_for(signed_in: TestClient) -> None:
    assert "Sign out" in shown(signed_in, "/")
    assert signed_in.get("/dashboard/jobs", headers=HTML).status_code == 200
    assert signed_in.get("/jobs", headers=OWN).status_code == 200
    assert signed_in.get("/jobs", headers={"Sec-Fetch-Site": "none"}).status_code == 200
    assert signed_in.get("/sign-in?to=/dashboard/jobs").headers["location"] == "/dashboard/jobs"


def test_who_has_signed_out_sees_nothing_any_more(signed_in: TestClient) -> None:
    assert signed_in.post("/sign-out", headers=OWN).headers["location"] == "/sign-in"
    assert not signed_in.cookies
    assert signed_in.get("/", headers=HTML).status_code == 303
    assert "Sign out" not in shown(signed_in, "/sign-in")


def test_page_that_a_key_does_not_open_says_so(client: TestClient, database: Database) -> None:
    client.post("/sign-in", data={"key": key(database, Scope.PREDICT)}, headers=OWN)
    assert "needs a key with the scope read; this one has predict" in words(shown(client, "/dashboard/jobs", 403))


def test_revoked_key_ends_its_sessions(signed_in: TestClient, database: Database, app: Any) -> None:
    keys.revoke_key(database, keys.list_keys(database)[-1].id)
    app.state.services.keys.ring.follow()
    assert signed_in.get("/", headers=HTML).headers["location"].startswith("/sign-in")
    problem(signed_in.get("/jobs", headers=OWN), 401)


SUBMISSION = {"dataset": "nothing"}


@pytest.mark.parametrize(
    "headers",
    [
        {},  # of no browser that is known: cookies count only where it says from where
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:81"},
    ],
)
def test_cookie_does_not_count_for_what_another_site_may_have_sent(
    signed_in: TestClient, headers: dict[str, str]
) -> None:
    assert problem(signed_in.post("/jobs", headers=headers, json=SUBMISSION), 403)["code"] == "cross_site"
    assert problem(signed_in.delete("/jobs/x", headers=headers), 403)["code"] == "cross_site"


@pytest.mark.parametrize("headers", [OWN, {"Origin": "http://testserver"}, {"Origin": "http://testserver", **OWN}])
def test_cookie_counts_for_what_the_pages_send(signed_in: TestClient, headers: dict[str, str]) -> None:
    assert signed_in.post("/jobs", headers=headers, json=SUBMISSION).status_code == 422


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_cookie_does_not_count_for_what_another_site_reads(signed_in: TestClient, site: str) -> None:
    assert problem(signed_in.get("/jobs", headers={"Sec-Fetch-Site": site}), 403)["code"] == "cross_site"


def test_link_of_another_site_leads_to_the_page_through_a_second_look(signed_in: TestClient) -> None:
    """A browser sends no cookie with the first request, and does with the one that our page makes."""
    cookies = dict(signed_in.cookies)
    signed_in.cookies.clear()
    signed_in.headers["Sec-Fetch-Site"] = "cross-site"
    answer = signed_in.get("/dashboard/jobs?tag=a&state=failed", headers=HTML)
    assert '<meta http-equiv="refresh" content="0; url=/dashboard/jobs?tag=a&amp;state=failed">' in answer.text
    signed_in.cookies.update(cookies)
    assert signed_in.get("/dashboard/jobs", headers={**HTML, **OWN}).status_code == 200


def test_form_of_another_site_signs_nobody_in_or_out(client: TestClient, database: Database) -> None:
    text = key(database)
    for path in ("/sign-in", "/sign-out"):
        answer = client.post(path, data={"key": text}, headers={"Sec-Fetch-Site": "cross-site"})
        assert problem(answer, 403)["code"] == "cross_site"


def test_service_that_needs_no_key_has_no_form(database: Database) -> None:
    app = create_app(Services(database, Doorbell("redis://127.0.0.1:1/0")))
    with TestClient(app, follow_redirects=False) as client:
        assert client.get("/sign-in?to=/dashboard/jobs").headers["location"] == "/dashboard/jobs"
        answer = client.post("/sign-in", data={"key": "x"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)
        assert "Sign out" not in shown(client, "/")
