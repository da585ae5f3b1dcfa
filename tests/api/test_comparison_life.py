"""What becomes of a comparison: its state, cancelled, retried, deleted, also while somebody reads it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select

from service.domain.comparison_errors import ComparisonIsNotFinal
from service.domain.owners import DEFAULT_OWNER
from service.storage import comparisons as stored
from service.storage import leases, retries
from service.storage.database import Connection, Database
from service.storage.tables import comparison_jobs
from service.use_cases.comparisons import cancel_comparison, delete_comparison
from tests.api.comparing import (
    all_trained,
    claimed,
    failed,
    ids_of,
    read,
    submit,
    trained,
)
from tests.api.support import IN_THEIR_OWN_TIME, problem
from tests.api.support import submit as submit_job


def test_state_follows_the_jobs(client: TestClient, database: Database) -> None:
    comparison = submit(client)
    first, second, third, fourth = ids_of(comparison)
    held = claimed(database, first)
    running = read(client, comparison)
    assert (running["state"], running["finished_at"]) == ("running", None)
    assert running["started_at"] is not None
    assert running["result"]["complete"] is False
    with database.write() as connection:
        leases.fail(connection, held, "worker_lost", "why")
    trained(database, second, 0.5)
    trained(database, third, 0.5)
    assert read(client, comparison)["state"] == "running"
    trained(database, fourth, 0.5)
    ended = read(client, comparison)
    assert ended["state"] == "failed"
    assert ended["progress"] == {"finished_jobs": 4, "total": 4}
    assert ended["finished_at"] >= max(client.get(f"/jobs/{job_id}").json()["finished_at"] for job_id in ids_of(ended))
    assert ended["result"]["complete"] is True
    assert [item["state"] for item in client.get("/comparisons").json()["items"]] == ["failed"]


def test_unchanged_comparison_is_not_sent_again_and_can_be_waited_for(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    path = f"/comparisons/{comparison['id']}"
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(f"{path}?wait=0.2").json()["state"] == "queued"
    all_trained(database, comparison)
    ended = client.get(f"{path}?wait=60", headers={"If-None-Match": tag})
    assert ended.status_code == 200
    assert ended.json()["state"] == "succeeded"
    assert client.get(path, headers={"If-None-Match": ended.headers["etag"]}).status_code == 304


def test_cancel_ends_what_waits_and_asks_what_runs(client: TestClient, database: Database) -> None:
    comparison = submit(client)
    path = f"/comparisons/{comparison['id']}"
    first, second, *waiting = ids_of(comparison)
    trained(database, first, 0.5)
    held = claimed(database, second)
    answer = client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    states = {job["id"]: job["state"] for job in answer.json()["jobs"]}
    assert states == {first: "succeeded", second: "cancelling", **dict.fromkeys(waiting, "cancelled")}
    assert client.post(f"{path}/cancel").status_code == 202
    with database.write() as connection:
        leases.leave(connection, held)
    assert read(client, comparison)["state"] == "cancelled"
    assert client.post(f"{path}/cancel").status_code == 200


def test_comparison_that_has_ended_otherwise_takes_no_cancel(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    all_trained(database, comparison)
    body = problem(client.post(f"/comparisons/{comparison['id']}/cancel"), 409)
    assert body["code"] == "comparison_is_final"


def test_job_of_a_comparison_goes_with_it_alone(client: TestClient, database: Database) -> None:
    comparison, other = submit(client, seeds=[0]), submit_job(client)
    path, job_ids = f"/comparisons/{comparison['id']}", ids_of(comparison)
    assert problem(client.delete(path), 409)["code"] == "comparison_is_not_final"
    assert problem(client.delete(f"/jobs/{job_ids[0]}"), 409)["code"] == "job_is_not_final"
    all_trained(database, comparison)
    refusal = problem(client.delete(f"/jobs/{job_ids[0]}"), 409)
    assert refusal["code"] == "job_in_comparison"
    assert comparison["id"] in refusal["detail"]
    assert client.delete(path).status_code == 204
    assert problem(client.get(path), 404)["code"] == "unknown_comparison"
    assert [item["id"] for item in client.get("/jobs").json()["items"]] == [other["id"]]
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(comparison_jobs)).scalar() == 0


def test_retry_takes_the_place_of_the_job_that_failed(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    snn, regular = ids_of(comparison)
    failed(database, snn)
    trained(database, regular, 0.5)
    assert read(client, comparison)["state"] == "failed"
    again = client.post(f"/jobs/{snn}/retry").json()["id"]
    found = read(client, comparison)
    assert ids_of(found) == [again, regular]
    assert found["state"] == "running"
    assert client.delete(f"/jobs/{snn}").status_code == 204
    with database.write() as connection:
        held = leases.claim(connection, again, "w")
        assert held is not None
        leases.succeed(connection, held, best_epoch=1, test_metrics={"accuracy": 0.9}, version=1)
    assert read(client, comparison)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/plots/learning_curves")]
)
def test_unknown_comparison_is_not_found(client: TestClient, method: str, path: str) -> None:
    body = problem(client.request(method, f"/comparisons/nothing{path}"), 404)
    assert body["code"] == "unknown_comparison"


def test_data_set_of_a_comparison_can_be_deleted_when_it_has_ended(client: TestClient, database: Database) -> None:
    rows = "a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(60))
    dataset = client.post("/datasets?name=mine", content=rows, headers={"Content-Type": "text/csv"}).json()["id"]
    comparison = submit(client, dataset=dataset, target="y", seeds=[0])
    problem(client.delete(f"/datasets/{dataset}"), 409)
    all_trained(database, comparison)
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    assert read(client, comparison)["result"]["complete"] is True


def test_comparison_whose_job_was_handed_back_still_runs(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    held = claimed(database, ids_of(comparison)[0])
    with database.write() as connection:
        leases.hand_back(connection, held.worker)
    found = read(client, comparison)
    assert {job["state"] for job in found["jobs"]} == {"queued"}
    assert (found["state"], found["result"]["complete"]) == ("running", False)
    assert client.get("/comparisons").json()["items"][0]["state"] == "running"


def test_comparison_of_which_no_job_has_begun_is_queued(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    assert client.post(f"/jobs/{ids_of(comparison)[0]}/cancel").status_code == 202
    assert (read(client, comparison)["state"], read(client, comparison)["result"]) == ("queued", None)


def test_cancel_can_be_repeated_where_a_job_failed(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    path = f"/comparisons/{comparison['id']}/cancel"
    failed(database, ids_of(comparison)[0])
    first, *again = [client.post(path) for _ in range(3)]
    assert (first.status_code, first.json()["state"]) == (202, "failed")
    assert [(one.status_code, one.json()["state"]) for one in again] == [(200, "failed")] * 2


class Watched(Database):
    """Keeps which sessions wanted to write alone."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.alone: list[bool] = []

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        self.alone.append(alone)
        with super().write(alone=alone) as connection:
            yield connection


def test_nobody_waits_for_the_end_of_a_cancel_of_many_jobs(client: TestClient, database_url: str) -> None:
    comparison, watched = submit(client), Watched(database_url)
    watched.owner = DEFAULT_OWNER
    assert cancel_comparison(watched, comparison["id"]) is True
    watched.close()
    assert watched.alone == [True]


@contextmanager
def deleted_before(database: Database, url: str, comparison_id: str, place: int) -> Iterator[list[str]]:
    """Delete a comparison, by another session, before the reading statement with this number, from 0."""
    other, asked = Database(url).owned_by(DEFAULT_OWNER), list[str]()

    def look(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if connection.get_execution_options().get("writes") or not statement.startswith("SELECT"):
            return
        if threading.current_thread().name in IN_THEIR_OWN_TIME:
            return
        asked.append(statement)
        if len(asked) == place + 1:
            with other.write() as writing:
                stored.remove(writing, comparison_id)

    event.listen(database.engine, "before_cursor_execute", look)
    try:
        yield asked
    finally:
        event.remove(database.engine, "before_cursor_execute", look)
        other.close()


@pytest.mark.parametrize(
    ("method", "path", "fine"),
    [
        ("GET", "/comparisons", {200}),
        ("GET", "/comparisons/ID", {200, 404}),
        ("GET", "/comparisons/ID?wait=1", {200, 404}),
        ("GET", "/comparisons/ID/plots/learning_curves", {200, 404}),
        ("GET", "/comparisons/ID/plots/critical_difference", {200, 404}),
        ("POST", "/comparisons/ID/cancel", {200, 404}),
    ],
)
def test_comparison_can_be_deleted_at_any_moment_of_reading_it(
    client: TestClient, database: Database, database_url: str, method: str, path: str, fine: set[int]
) -> None:
    def ask(place: int) -> tuple[int, int]:
        comparison = ended(client, database)
        with deleted_before(database, database_url, comparison["id"], place) as asked:
            answer = client.request(method, path.replace("ID", comparison["id"]))
        assert answer.status_code in fine, (place, answer.text)
        return answer.status_code, len(asked)

    submit(client, seeds=[0])
    status, statements = ask(-1)
    assert status == 200
    assert {status, *(ask(place)[0] for place in range(statements))} == fine


def ended(client: TestClient, database: Database) -> dict[str, Any]:
    """A comparison of which a job was cancelled and all others have succeeded."""
    comparison = submit(client, seeds=[0, 1, 2])
    *others, last = ids_of(comparison)
    for job_id in others:
        trained(database, job_id, 0.5, 0.9)
    client.post(f"/jobs/{last}/cancel")
    return comparison


@pytest.mark.parametrize("wish", ["cancel", "delete"])
def test_job_that_is_retried_at_the_same_time_is_not_missed(client: TestClient, database: Database, wish: str) -> None:
    comparison = submit(client, seeds=[0])
    snn, regular = ids_of(comparison)
    failed(database, snn)
    trained(database, regular, 0.5)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            retries.retry(connection, snn, "again")
            do = cancel_comparison if wish == "cancel" else delete_comparison
            waiting = pool.submit(do, database, comparison["id"])
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        if wish == "cancel":
            assert waiting.result(30) is True
        else:
            with pytest.raises(ComparisonIsNotFinal):
                waiting.result(30)
    found = read(client, comparison)
    assert ids_of(found) == ["again", regular]
    assert found["jobs"][0]["state"] == ("cancelled" if wish == "cancel" else "queued")
