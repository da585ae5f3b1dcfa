"""Jobs that are paused, resumed and tried again."""

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import datasets, leases
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api.support import claimed, failed, problem, submit
from tests.factories import measured, progress, saved_state

KEY = {"Idempotency-Key": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}


def brought_to(client: TestClient, database: Database, state: JobState) -> str:
    """A job in some state."""
    path = f"/jobs/{submit(client)['id']}"
    held = None if state is JobState.QUEUED else claimed(database, path.removeprefix("/jobs/"))
    if state in (JobState.CANCELLING, JobState.CANCELLED, JobState.PAUSED):
        assert client.post(f"{path}/{'pause' if state is JobState.PAUSED else 'cancel'}").status_code == 202
    with database.write() as connection:
        match state, held:
            case ((JobState.PAUSED | JobState.CANCELLED), Claim()):
                leases.leave(connection, held)
            case JobState.FAILED, Claim():
                leases.fail(connection, held, "worker_lost", "why")
            case JobState.SUCCEEDED, Claim():
                leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=1)
    assert client.get(path).json()["state"] == state
    return path


def test_queued_job_is_paused_and_resumed(client: TestClient, services: Services) -> None:
    path = f"/jobs/{submit(client)['id']}"
    first, again = client.post(f"{path}/pause"), client.post(f"{path}/pause")
    assert [first.status_code, again.status_code] == [202, 200]
    assert first.json() == again.json() == client.get(path).json()
    job = first.json()
    assert (job["state"], job["pause_requested"], job["queue_position"]) == ("paused", False, None)
    assert [found["id"] for found in client.get("/jobs?state=paused").json()["items"]] == [job["id"]]
    rung = services.doorbell.waiting()
    resumed = client.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["state"], resumed.json()["queue_position"]) == (202, "queued", 1)
    assert services.doorbell.waiting() == rung + 1


def test_running_job_is_paused_when_its_worker_has_stored_it(client: TestClient, database: Database) -> None:
    job_id = submit(client)["id"]
    path, held = f"/jobs/{job_id}", claimed(database, job_id)
    for _ in range(2):
        answer = client.post(f"{path}/pause")
        job = answer.json()
        assert (answer.status_code, job["state"], job["pause_requested"]) == (202, "running", True)
    with database.write() as connection:
        leases.record(connection, held, progress(1), 1, [measured(1)], saved_state(1))
        leases.leave(connection, held)
    assert client.post(f"{path}/pause").status_code == 200
    job = client.get(path).json()
    assert (job["state"], job["pause_requested"], job["progress"]["epoch"]) == ("paused", False, 1)
    assert job["finished_at"] is None
    resumed = client.post(f"{path}/resume").json()
    assert (resumed["state"], resumed["progress"]["epoch"], resumed["attempts"]) == ("queued", 1, 1)
    claimed(database, job_id)
    assert client.get(path).json()["attempts"] == 2


def test_pause_is_taken_back_before_the_worker_has_left(
    client: TestClient, services: Services, database: Database
) -> None:
    path = brought_to(client, database, JobState.RUNNING)
    client.post(f"{path}/pause")
    rung = services.doorbell.waiting()
    answer = client.post(f"{path}/resume")
    assert (answer.status_code, answer.json()["state"], answer.json()["pause_requested"]) == (202, "running", False)
    assert services.doorbell.waiting() == rung, "nobody is needed"


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_resume_changes_nothing_where_nothing_is_paused(
    client: TestClient, database: Database, state: JobState
) -> None:
    path = brought_to(client, database, state)
    before = client.get(path).json()
    answer = client.post(f"{path}/resume")
    assert (answer.status_code, answer.json()) == (202, before)


@pytest.mark.parametrize("ask", ["pause", "resume"])
@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.CANCELLING, "job_is_cancelling"),
        (JobState.CANCELLED, "job_is_final"),
        (JobState.FAILED, "job_is_final"),
        (JobState.SUCCEEDED, "job_is_final"),
    ],
)
def test_job_that_ends_or_has_ended_is_neither_paused_nor_resumed(
    client: TestClient, database: Database, ask: str, state: JobState, code: str
) -> None:
    path = brought_to(client, database, state)
    before = client.get(path).json()
    body = problem(client.post(f"{path}/{ask}"), 409)
    assert body["code"] == code
    assert f"{ask}d" in body["detail"]
    assert client.get(path).json() == before


@pytest.mark.parametrize("ask", ["pause", "resume", "retry", "cancel"])
def test_unknown_job_is_told(client: TestClient, ask: str) -> None:
    assert problem(client.post(f"/jobs/nothing/{ask}"), 404)["code"] == "unknown_job"


def test_paused_job_is_cancelled_at_once(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.PAUSED)
    answer = client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


def test_paused_job_is_not_deleted_and_its_data_set_neither(client: TestClient) -> None:
    content = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i % 5) for i in range(40))
    dataset = client.post("/datasets?name=mine", content=content, headers={"Content-Type": "text/csv"}).json()["id"]
    path = f"/jobs/{submit(client, dataset=dataset, target='y')['id']}"
    client.post(f"{path}/pause")
    assert problem(client.delete(path), 409)["code"] == "job_is_not_final"
    assert problem(client.delete(f"/datasets/{dataset}"), 409)["code"] == "dataset_in_use"


def test_wait_goes_on_while_a_job_is_paused(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.PAUSED)
    assert client.get(f"{path}?wait=0.5").json()["state"] == "paused"


def test_failed_job_is_tried_again_as_a_new_one_from_its_last_checkpoint(
    client: TestClient, services: Services, database: Database
) -> None:
    job_id = failed(client, database, tags=["night"], model="flowers", training={"epochs": 10})
    before, rung = client.get(f"/jobs/{job_id}").json(), services.doorbell.waiting()
    answer = client.post(f"/jobs/{job_id}/retry")
    new = answer.json()
    assert answer.status_code == 202
    assert new["id"] != job_id
    assert answer.headers["location"] == f"/jobs/{new['id']}"
    assert answer.headers["retry-after"] == "1"
    assert new == client.get(answer.headers["location"]).json()
    assert (new["state"], new["retry_of"], new["attempts"], new["error"]) == ("queued", job_id, 0, None)
    assert (new["spec"], new["tags"], new["warnings"]) == (before["spec"], before["tags"], before["warnings"])
    assert (new["progress"]["epoch"], new["metrics"]["latest"]["epoch"], new["metrics"]["best"]["epoch"]) == (2, 2, 1)
    assert new["progress"]["fraction"] == 0.2, "as far as its checkpoint"
    epochs = client.get(f"{answer.headers['location']}/metrics").json()["items"]
    assert epochs == client.get(f"/jobs/{job_id}/metrics").json()["items"][:2]
    told = client.get(f"{answer.headers['location']}/events").json()["items"]
    assert [item["event"] for item in told] == [EventKind.SUBMITTED, EventKind.EPOCH, EventKind.EPOCH]
    assert services.doorbell.waiting() == rung + 1
    assert client.get(f"/jobs/{job_id}").json() == before, "the failed one stays as it was"
    assert (before["state"], before["retry_of"], before["pause_requested"]) == ("failed", None, False)


def test_retry_without_a_checkpoint_begins_at_the_beginning(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.FAILED)
    new = client.post(f"{path}/retry").json()
    assert (new["retry_of"], new["progress"]["epoch"], new["progress"]["fraction"]) == (path[6:], 0, 0.0)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.FAILED])
def test_only_a_failed_job_is_tried_again(client: TestClient, database: Database, state: JobState) -> None:
    path = brought_to(client, database, state)
    body = problem(client.post(f"{path}/retry", headers=KEY), 409)
    assert body["code"] == "job_did_not_fail"
    assert f"is {state}" in body["detail"]
    assert len(client.get("/jobs").json()["items"]) == 1


def test_retry_under_a_key_makes_one_job(client: TestClient, services: Services, database: Database) -> None:
    job_id = failed(client, database)
    rung = services.doorbell.waiting()
    first, again = (client.post(f"/jobs/{job_id}/retry", headers=KEY) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(client.get("/jobs").json()["items"]) == 2
    assert services.doorbell.waiting() == rung + 1
    other = failed(client, database)
    refused = problem(client.post(f"/jobs/{other}/retry", headers=KEY), 422)
    assert refused["code"] == "idempotency_key_reused"
    client.delete(f"/jobs/{job_id}")
    assert client.post(f"/jobs/{job_id}/retry", headers=KEY).content == first.content, "it was answered before"
    assert client.post(f"/jobs/{other}/retry").json()["retry_of"] == other


def test_refused_retry_leaves_its_key_free(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.RUNNING)
    problem(client.post(f"{path}/retry", headers=KEY), 409)
    with database.write() as connection:
        leases.fail(connection, Claim(path.removeprefix("/jobs/"), 1, "w", DEFAULT_OWNER), "worker_lost", "why")
    answer = client.post(f"{path}/retry", headers=KEY)
    assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (202, None)


def test_retry_of_a_job_whose_data_set_is_gone_is_refused(client: TestClient, database: Database) -> None:
    content = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i % 5) for i in range(40))
    dataset = client.post("/datasets?name=mine", content=content, headers={"Content-Type": "text/csv"}).json()["id"]
    job_id = failed(client, database, dataset=dataset, target="y")
    with database.write() as connection:
        datasets.remove(connection, dataset)
    assert problem(client.post(f"/jobs/{job_id}/retry"), 409)["code"] == "dataset_is_gone"
    assert client.get(f"/jobs/{job_id}").json()["state"] == "failed"


def test_retry_is_taken_while_the_broker_is_down(database: Database) -> None:
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"))
    with TestClient(create_app(services)) as client:
        job_id = failed(client, database)
        assert client.post(f"/jobs/{job_id}/retry").status_code == 202
        path = brought_to(client, database, JobState.PAUSED)
        assert client.post(f"{path}/resume").status_code == 202
