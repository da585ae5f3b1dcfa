"""What an owner may have at once: at the limit it is taken, just over it refused, and another owner never notices."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.quotas import Quotas
from service.storage import usage
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api.comparing import TWO_ARMS
from tests.api.support import failed, problem, register_model, submit

TABLE = b"a,b,y\n" + b"1,2,3\n3,4,7\n" * 20
COMPARISON = {"dataset": "iris", **TWO_ARMS}
CSV = {"Content-Type": "text/csv"}


@contextmanager
def limited(services: Services, **quotas: int) -> Iterator[TestClient]:
    limits = replace(
        services, doorbell=Doorbell("redis://127.0.0.1:1/0"), quotas=Quotas(**quotas)
    )  # each closes its own
    with TestClient(create_app(limits)) as client:
        yield client


def upload(client: TestClient, **headers: str) -> Any:
    return client.post("/datasets?name=t", content=TABLE, headers={**CSV, **headers})


def stored(database: Database) -> int:
    with database.owned_by("local").read() as connection:
        return usage.stored_bytes(connection)


def test_queue_takes_as_many_jobs_as_it_may(services: Services) -> None:
    with limited(services, max_queued_jobs=2) as client:
        first = submit(client)
        client.post(f"/jobs/{submit(client)['id']}/pause")  # it would wait again as soon as it is resumed
        answer = client.post("/jobs", json={"dataset": "iris"})
        refused = problem(answer, 429)
        assert refused["code"] == "too_many_queued_jobs"
        assert refused["detail"].startswith("3 jobs would wait, queued or paused; at most 2 of an owner may. Wait")
        assert answer.headers["retry-after"] == "30"
        assert len(client.get("/jobs").json()["items"]) == 2
        client.post(f"/jobs/{first['id']}/cancel")
        submit(client)


def test_every_way_to_make_a_job_is_bounded(services: Services, database: Database) -> None:
    register_model(database)
    with limited(services, max_queued_jobs=1) as client:
        dataset = upload(client).json()["id"]
        failed_id = failed(client, database)
        submit(client)
        for path, body in (
            ("/jobs", {"dataset": "iris"}),
            (f"/jobs/{failed_id}/retry", None),
            ("/comparisons", {**COMPARISON, "seeds": [0]}),
            ("/predictions", {"model": "m", "dataset": dataset}),
            ("/models/m/versions/1/evaluate", {"dataset": dataset}),
        ):
            assert problem(client.post(path, json=body), 429)["code"] == "too_many_queued_jobs", path
        assert len(client.get("/jobs?state=queued").json()["items"]) == 1


def test_comparison_counts_as_its_jobs(services: Services) -> None:
    with limited(services, max_queued_jobs=3) as client:
        answer = client.post("/comparisons", json={**COMPARISON, "seeds": [0, 1]})
        assert problem(answer, 429)["detail"].startswith("4 jobs would wait")
        assert client.get("/jobs").json()["items"] == []
        assert client.post("/comparisons", json={**COMPARISON, "seeds": [0]}).status_code == 202


def test_request_that_was_answered_is_answered_again_though_there_is_no_room(services: Services) -> None:
    with limited(services, max_queued_jobs=1, max_datasets=1) as client:
        for ask in (
            lambda key: client.post("/jobs", json={"dataset": "iris"}, headers={"Idempotency-Key": key}),
            lambda key: upload(client, **{"Idempotency-Key": f"upload {key}"}),
        ):
            first = ask("a")
            again = ask("a")
            assert again.content == first.content
            assert again.headers["idempotent-replayed"] == "true"
            assert problem(ask("b"), 429)
            assert ask("a").content == first.content


def test_two_submissions_at_once_do_not_take_the_last_place_both(services: Services) -> None:
    with limited(services, max_queued_jobs=5) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.post("/jobs", json={"dataset": "iris"}).status_code, range(16)))
        assert sorted(answers) == [202] * 5 + [429] * 11


def test_owner_may_have_as_many_data_sets_as_it_may(services: Services) -> None:
    with limited(services, max_datasets=2) as client:
        made = [upload(client).json()["id"] for _ in range(2)]
        answer = upload(client)
        assert problem(answer, 429)["code"] == "too_many_datasets"
        assert answer.headers["retry-after"] == "3600"
        client.delete(f"/datasets/{made[0]}")
        assert upload(client).status_code == 201


def test_owner_may_store_as_many_bytes_as_it_may(services: Services, database: Database) -> None:
    with limited(services) as client:
        upload(client)
    size = stored(database)
    assert size > 0
    with limited(services, max_stored_bytes=2 * size) as client:
        made = upload(client)
        assert made.status_code == 201
        assert stored(database) == 2 * size
        assert problem(upload(client), 429)["code"] == "too_many_stored_bytes"
        # Who has all that it may makes nothing that would take more.
        assert problem(client.post("/jobs", json={"dataset": "iris"}), 429)["code"] == "too_many_stored_bytes"
        client.delete(f"/datasets/{made.json()['id']}")
        submit(client)
    with limited(services, max_stored_bytes=2 * size - 1) as client:
        assert problem(upload(client), 429)["code"] == "too_many_stored_bytes"
        assert stored(database) == size, "what was refused is not kept"


def test_two_uploads_at_once_do_not_take_the_last_place_both(services: Services) -> None:
    with limited(services, max_datasets=2) as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: upload(client).status_code, range(4)))
        assert sorted(answers) == [201, 201, 429, 429]


def test_files_of_models_are_stored_bytes(services: Services, database: Database) -> None:
    before = stored(database)
    register_model(database)
    assert stored(database) > before


@pytest.mark.parametrize("count", ["waiting_jobs", "count_datasets", "stored_bytes"])
def test_things_of_others_are_not_counted(services: Services, database: Database, count: str) -> None:
    with limited(services) as client:
        submit(client)
        upload(client)
    counts = []
    for owner in ("local", "else"):
        with database.owned_by(owner).read() as connection:
            counts.append(getattr(usage, count)(connection))
    assert counts[0] > 0
    assert counts[1] == 0
