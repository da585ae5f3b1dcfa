"""Predictions over stored data sets as HTTP shows them; what a worker makes of them is put in by hand."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import func, select

from service.api.services import Services
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.jobs import JobKind, Progress
from service.domain.model_errors import VersionInUse
from service.domain.models import Outputs
from service.storage import aliases, datasets, leases, models
from service.storage.database import Database
from service.storage.tables import jobs, model_versions
from service.storage.tables import models as model_table
from tests.api.support import problem
from tests.api.support import submit as submit_training
from tests.factories import progress
from tests.predictions import ask_for_prediction, claim, finish, register, store_numbers, store_table

OUTPUTS = Outputs("classification", "y", ("no", "yes"))


@pytest.fixture(autouse=True)
def model_and_rows(database: Database) -> None:
    register(database, outputs=OUTPUTS)
    store_numbers(database, 5)


def refused(client: TestClient, **fields: Any) -> dict[str, str]:
    """What is wrong with a spec, by pointer."""
    body = problem(client.post("/predictions", json={"model": "m", "dataset": "rows", **fields}), 422)
    return {found["pointer"]: found["detail"] for found in body["errors"]}


def test_submitted_prediction_is_stored_complete_and_rings_the_doorbell(
    client: TestClient, services: Services, broker_url: str
) -> None:
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
        answer = client.post("/predictions", json={"model": "m", "dataset": "rows", "keep": ["b"], "tags": ["x"]})
        found = answer.json()
        assert services.doorbell.waiting() == 1
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/predictions/{found['id']}"
    assert answer.headers["retry-after"] == "1"
    assert found.pop("id")
    assert found.pop("created_at")
    assert found == {
        "kind": "prediction",
        "state": "queued",
        "spec": {
            "model": "m",
            "version": 1,
            "alias": None,
            "dataset": "rows",
            "probabilities": True,
            "keep": ["b"],
            "tags": ["x"],
            "target": None,
        },
        "progress": {"rows_done": 0, "rows": 5, "fraction": 0.0, "rows_per_second": None, "eta_seconds": None},
        "result": None,
        "error": None,
        "attempts": 0,
        "queue_position": 1,
        "tags": ["x"],
        "warnings": [],
        "started_at": None,
        "finished_at": None,
    }
    assert client.get(answer.headers["location"]).json() == answer.json()


def test_version_is_fixed_when_the_prediction_is_submitted(client: TestClient, database: Database) -> None:
    register(database, outputs=OUTPUTS)
    newest, named = ask_for_prediction(client), ask_for_prediction(client, version=1)
    with database.write() as connection:
        aliases.put(connection, "m", "production", 1)
        aliases.put(connection, "m", "next", 2)
    default, aliased = ask_for_prediction(client), ask_for_prediction(client, alias="next")
    versions = [found["spec"]["version"] for found in (newest, named, default, aliased)]
    assert versions == [2, 1, 1, 2]
    assert aliased["spec"]["alias"] == "next"
    with database.write() as connection:
        aliases.put(connection, "m", "next", 1)
    assert client.get(f"/predictions/{aliased['id']}").json()["spec"]["version"] == 2
    again = client.post("/predictions", json=aliased["spec"])
    assert again.json()["spec"] == aliased["spec"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nobody"}, 404, "unknown_model"),
        ({"version": 9}, 404, "unknown_version"),
        ({"alias": "none"}, 404, "unknown_alias"),
        ({"dataset": "none"}, 422, "invalid_spec"),
        ({"model": "trained-next"}, 409, "model_not_ready"),
    ],
)
def test_what_is_not_there_is_named(client: TestClient, fields: dict[str, Any], status: int, code: str) -> None:
    submit_training(client, model="trained-next")
    body = problem(client.post("/predictions", json={"model": "m", "dataset": "rows", **fields}), status)
    assert body["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {"dataset": "rows"},
        {"model": "m", "dataset": "rows", "rows": 1},
        {"model": "m", "dataset": "rows", "version": "1"},
        {"model": "m", "dataset": "rows", "version": 0},
        {"model": "m", "dataset": "rows", "probabilities": 1},
        {"model": "m", "dataset": "rows", "keep": "a"},
        {"model": "m", "dataset": "rows", "keep": [1]},
        {"model": "m m", "dataset": "rows"},
    ],
)
def test_body_is_strict(client: TestClient, body: dict[str, Any]) -> None:
    assert problem(client.post("/predictions", json=body), 422)["errors"]


def test_columns_that_are_missing_or_of_another_kind_are_named(client: TestClient, database: Database) -> None:
    encoders = (
        NumericEncoder("size"),
        NumericEncoder("age"),
        BooleanEncoder("flat"),
        BooleanEncoder("new"),
        CategoricalEncoder("city", ("Bern",)),
        CategoricalEncoder("floor", (1, 2), holds="number"),
        DateEncoder("since", "%d.%m.%Y"),
        DateEncoder("until", "iso"),
        NumericEncoder("gone"),
        NumericEncoder("empty"),
    )
    register(database, "mixed", encoders=encoders)
    columns = {
        "size": ["large", "small"],
        "age": [True, False],
        "flat": ["yes", "no"],
        "new": [5, 7],
        "city": [1, 2],
        "floor": ["1", "2"],
        "since": ["sometime", "never"],
        "until": [1, 2],
        "empty": [None, None],
    }
    store_table(database, columns, "mixed")
    body = problem(client.post("/predictions", json={"model": "mixed", "dataset": "mixed"}), 422)
    assert {found["pointer"] for found in body["errors"]} == {"#/dataset"}
    assert [found["detail"] for found in body["errors"]] == [
        "mixed lacks 1 column(s) that mixed version 1 takes: 'gone'",
        "column 'size' holds text; the model takes numbers; upload the table again with ?kinds=size:numeric",
        "column 'age' holds true and false; the model takes numbers",
        "column 'flat' holds text; the model takes true and false",
        "column 'new' holds numbers from 5 to 7; the model takes true and false, or 0 and 1",
        "column 'city' holds numbers; the model takes categories that are text",
        "column 'floor' holds text; the model takes categories that are numbers",
        "column 'since' holds text that is no date, such as 'sometime', 'never'; the model takes dates as 2020-01-31 "
        "or as in %d.%m.%Y",
        "column 'until' holds numbers; the model takes dates",
        "column 'empty' has no cells at all, and training saw no gaps in it",
    ]


def test_everything_else_that_is_wrong_is_named_at_once(client: TestClient, database: Database) -> None:
    register(database, "numbers")
    found = refused(client, model="numbers", probabilities=True, keep=["a", "x", "a"])
    assert found == {
        "#/probabilities": "must be false or null: numbers version 1 is a regression",
        "#/keep/1": "'x' is no column of rows; its columns are 'a', 'b'",
        "#/keep/2": "'a' is listed twice",
    }


def test_result_that_would_be_too_large_is_refused(client: TestClient, database: Database) -> None:
    many = Outputs("classification", "y", tuple(range(100_000)))
    with database.write() as connection:
        found = models.get_version(connection, "m")
        connection.execute(
            model_versions.update()
            .where(model_versions.c.name == found.name)
            .values(outputs={"task": "classification", "target": "y", "classes": list(many.classes)})
        )
    store_numbers(database, 3000, "many")
    found_problems = refused(client, dataset="many")
    assert "1.1 GiB" in found_problems["#/probabilities"]
    assert ask_for_prediction(client, dataset="many", probabilities=False)["state"] == "queued"


def test_gaps_that_training_did_not_see_are_said_beforehand(client: TestClient, database: Database) -> None:
    store_table(database, {"a": [1.0, None, None], "b": [1.0, 2.0, 3.0]}, "gappy")
    assert ask_for_prediction(client, dataset="gappy")["warnings"] == [
        "column 'a': 2 cell(s) are missing, and training saw no gaps in it; these rows get no prediction"
    ]


def test_prediction_is_made_once_under_a_key(client: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    first, second = (client.post("/predictions", json={"model": "m", "dataset": "rows"}, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    other = client.post("/predictions", json={"model": "m", "dataset": "rows", "tags": ["x"]}, headers=key)
    assert problem(other, 422)["code"] == "idempotency_key_reused"
    assert len(client.get("/predictions").json()["items"]) == 1


def test_lists_are_paged_and_filtered(client: TestClient, database: Database) -> None:
    register(database, "other")
    store_numbers(database, 3, "more")
    ids = [
        ask_for_prediction(client, tags=["x"])["id"],
        ask_for_prediction(client, model="other")["id"],
        ask_for_prediction(client, dataset="more", tags=["x", "y"])["id"],
    ]
    claim(database, ids[1])

    def listed(query: str) -> list[str]:
        return [found["id"] for found in client.get(f"/predictions?{query}").json()["items"]]

    assert listed("") == ids[::-1]
    assert listed("state=running") == [ids[1]]
    assert listed("state=queued") == [ids[2], ids[0]]
    assert listed("model=other") == [ids[1]]
    assert listed("dataset=more") == [ids[2]]
    assert listed("tag=x") == [ids[2], ids[0]]
    assert listed("tag=y") == [ids[2]]
    page = client.get("/predictions?page_size=2").json()
    assert [found["id"] for found in page["items"]] == [ids[2], ids[1]]
    assert listed(f"page_token={page['next_page_token']}") == [ids[0]]


def test_trainings_and_predictions_do_not_see_each_other(client: TestClient, database: Database) -> None:
    training, prediction = (
        submit_training(client, model="m", tags=["x"])["id"],
        ask_for_prediction(client, tags=["x"])["id"],
    )
    for query in ("", "?state=queued", "?tag=x", "?model=m"):
        assert [job["id"] for job in client.get(f"/jobs{query}").json()["items"]] == [training]
        assert [job["id"] for job in client.get(f"/predictions{query}").json()["items"]] == [prediction]
    for path in ("", "/metrics", "/events", "/split", "/split/rows"):
        assert problem(client.get(f"/jobs/{prediction}{path}"), 404)["code"] == "unknown_job"
    for action in ("cancel", "pause", "resume", "retry"):
        assert problem(client.post(f"/jobs/{prediction}/{action}"), 404)["code"] == "unknown_job"
    assert problem(client.delete(f"/jobs/{prediction}"), 404)["code"] == "unknown_job"
    for path in ("", "/result"):
        assert problem(client.get(f"/predictions/{training}{path}"), 404)["code"] == "unknown_prediction"
    assert problem(client.post(f"/predictions/{training}/cancel"), 404)["code"] == "unknown_prediction"
    assert problem(client.delete(f"/predictions/{training}"), 404)["code"] == "unknown_prediction"
    assert client.get(f"/predictions/{prediction}").json()["queue_position"] == 2
    with database.read() as connection:
        assert connection.execute(select(func.count()).where(jobs.c.kind == JobKind.PREDICTION)).scalar() == 1


def test_progress_is_in_rows(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    held = claim(database, found["id"])
    with database.write() as connection:
        leases.record_progress(connection, held, Progress(3, 3 / 5, 120.0, 0.5))
    job = client.get(f"/predictions/{found['id']}").json()
    assert (job["state"], job["attempts"], job["queue_position"]) == ("running", 1, None)
    expected = {"rows_done": 3, "rows": 5, "fraction": 0.6, "rows_per_second": 120.0, "eta_seconds": 0.5}
    assert job["progress"] == expected


def test_held_answer_comes_with_the_end_and_unchanged_ones_are_304(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    path = f"/predictions/{found['id']}"
    waiting = client.get(f"{path}?wait=0.2")
    assert waiting.json()["state"] == "queued"
    tag = waiting.headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    finish(database, found["id"])
    ended = client.get(f"{path}?wait=60", headers={"If-None-Match": tag})
    assert ended.json()["state"] == "succeeded"


def test_cancel(client: TestClient, database: Database) -> None:
    waiting, running, done = (ask_for_prediction(client)["id"] for _ in range(3))
    answer = client.post(f"/predictions/{waiting}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert client.post(f"/predictions/{waiting}/cancel").status_code == 200
    claim(database, running)
    assert client.post(f"/predictions/{running}/cancel").json()["state"] == "cancelling"
    finish(database, done)
    assert problem(client.post(f"/predictions/{done}/cancel"), 409)["code"] == "job_is_final"


def test_what_an_unfinished_prediction_needs_cannot_be_deleted(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    assert problem(client.delete("/datasets/rows"), 409)["code"] == "dataset_in_use"
    with pytest.raises(VersionInUse), database.write() as connection:
        models.remove(connection, "m", 1)
    finish(database, found["id"])
    with database.write() as connection:
        models.remove(connection, "m", 1)
    assert client.delete("/datasets/rows").status_code == 204
    assert client.get(f"/predictions/{found['id']}/result").status_code == 200


def test_predictions_leave_the_kinds_of_columns_free(client: TestClient, database: Database) -> None:
    ask_for_prediction(client)
    assert client.patch("/datasets/rows", json={"kinds": {"a": "categorical"}}).status_code == 200
    submit_training(client, dataset="rows", target="b", task="regression")
    answer = client.patch("/datasets/rows", json={"kinds": {"a": "numeric"}})
    assert problem(answer, 409)["code"] == "dataset_has_jobs"


def test_model_whose_only_job_is_a_prediction_is_unknown(client: TestClient, database: Database) -> None:
    """A prediction registers nothing, so nobody waits for it."""
    ask_for_prediction(client)
    with database.write() as connection:
        connection.execute(model_versions.delete())
        connection.execute(model_table.delete())
    answer = client.post("/predict", json={"model": "m", "instances": [[1.0, 2.0]]})
    assert problem(answer, 404)["code"] == "unknown_model"


def test_training_that_ended_has_no_rows(database: Database, client: TestClient) -> None:
    """What both kinds share is told apart by kind alone."""
    job = submit_training(client)
    held = claim(database, job["id"])
    with database.write() as connection:
        leases.record(connection, held, progress(1), 1, [])
        leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=1)
        assert datasets.has_jobs(connection, "iris")
    assert client.get(f"/jobs/{job['id']}").json()["model"] == {"name": "iris", "version": 1}
    assert client.get("/predictions").json() == {"items": [], "next_page_token": None}
