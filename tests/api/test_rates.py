"""How often an owner may ask, and an address show a wrong key."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.keys import Scope
from service.domain.quotas import Rate
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases.keys import create_key
from tests.api.support import problem
from tests.patience import until

NOWHERE = "redis://127.0.0.1:1/0"
DAY = 86_400
"""No test meets the end of a period, but once a day."""


@contextmanager
def limited(
    database: Database, requests: int | None = None, wrong_keys: int | None = None, **others: Any
) -> Iterator[TestClient]:
    services = Services(
        database,
        Doorbell(NOWHERE),
        request_rate=None if requests is None else Rate(requests, DAY),
        wrong_key_rate=None if wrong_keys is None else Rate(wrong_keys, DAY),
        **others,
    )
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        yield client


def bearer(database: Database, owner: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_key(database, 'test', owner, list(Scope), None)[1]}"}


def test_owner_is_let_in_as_often_as_it_may(sqlite_database: Database) -> None:
    with limited(sqlite_database, requests=3) as client:
        for left in (2, 1, 0):
            answer = client.get("/jobs")
            assert answer.status_code == 200
            assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=86400'
            assert answer.headers["ratelimit"].startswith(f'"requests";r={left};t=')
        answer = client.get("/jobs")
        refused = problem(answer, 429)
        assert refused["code"] == "too_many_requests"
        assert refused["detail"].startswith("all requests of this period are used, 3 a day are allowed; ask again in")
        assert 0 < int(answer.headers["retry-after"]) <= DAY
        assert client.get("/healthz").status_code == 200, "what watches the service is not counted"
        assert client.get("/metrics").status_code == 200, "and must see that owners are refused"
        assert client.post("/v2/models/m/infer", content=b"{}").json().keys() == {"error"}


def test_owners_are_counted_each_for_itself(sqlite_database: Database) -> None:
    with limited(sqlite_database, requests=2, authentication=True) as client:
        mine, others = bearer(sqlite_database, "a"), bearer(sqlite_database, "b")
        assert [client.get("/jobs", headers=mine).status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/jobs", headers=others).status_code == 200


def test_address_may_show_so_many_wrong_keys(sqlite_database: Database) -> None:
    with limited(sqlite_database, wrong_keys=2, authentication=True) as client:
        known, new = bearer(sqlite_database, "a"), bearer(sqlite_database, "b")
        assert client.get("/jobs", headers=known).status_code == 200
        wrong = {"Authorization": new["Authorization"][:-1] + "x"}
        assert [client.get("/jobs", headers=wrong).status_code for _ in range(2)] == [401, 401]
        answer = client.get("/jobs", headers=wrong)
        assert problem(answer, 429)["code"] == "too_many_wrong_keys"
        assert answer.headers["retry-after"]
        assert client.get("/jobs", headers=known).status_code == 200, "a key that is known is let in as before"
        assert client.get("/jobs").status_code == 401, "who shows none is told so"


def test_processes_count_together(sqlite_database: Database, broker_url: str) -> None:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(limited(sqlite_database, requests=1000, rates_url=broker_url)) for _ in range(2)
        )
        for _ in range(20):
            first.get("/jobs")

        def heard() -> bool:
            left = second.get("/jobs").headers["ratelimit"]
            return int(left.partition("r=")[2].partition(";")[0]) < 980

        until(heard)


@pytest.mark.parametrize("url", [NOWHERE, "sentinel://:p@h1:26379;sentinel://:p@h2:26379", None])
def test_requests_are_counted_without_redis(sqlite_database: Database, url: str | None) -> None:
    with limited(sqlite_database, requests=2, rates_url=url) as client:
        assert [client.get("/jobs").status_code for _ in range(3)] == [200, 200, 429]
