"""Comparisons as HTTP takes and shows them."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import event, func, select, text

from service.api.services import Services
from service.domain.jobs import JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import comparisons as stored
from service.storage import datasets, jobs, outcomes
from service.storage.database import Database
from service.storage.tables import comparison_jobs, idempotency_keys
from service.storage.tables import comparisons as table
from service.storage.tables import jobs as job_table
from tests.api.comparing import (
    TWO_ARMS,
    all_trained,
    failed,
    ids_of,
    read,
    refused,
    submit,
    trained,
)
from tests.api.support import problem, queries


def test_submitted_comparison_is_stored_complete_and_rings_for_every_job(
    client: TestClient, services: Services, broker_url: str
) -> None:
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
        asked = {"dataset": "iris", **TWO_ARMS, "seeds": [3, 4], "tags": ["x"], "model": "m"}
        answer = client.post("/comparisons", json=asked)
        assert answer.status_code == 202
        assert services.doorbell.waiting() == 4
    found = answer.json()
    assert answer.headers["location"] == f"/comparisons/{found['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (found["state"], found["reference"], found["tags"]) == ("queued", "regular", ["x"])
    assert (found["result"], found["verdict"], found["started_at"], found["finished_at"]) == (None,) * 4
    assert found["progress"] == {"finished_jobs": 0, "total": 4}
    assert [(job["arm"], job["seed"], job["state"]) for job in found["jobs"]] == [
        ("snn", 3, "queued"),
        ("snn", 4, "queued"),
        ("regular", 3, "queued"),
        ("regular", 4, "queued"),
    ]
    spec = found["spec"]
    assert spec["target"] == "target"
    assert spec["training"]["learning_rate"] == 0.0005
    assert "seed" not in spec["training"]
    assert spec["arms"]["snn"]["dropout"] == 0.05
    assert client.get(answer.headers["location"]).json() == found
    job = client.get(f"/jobs/{found['jobs'][1]['id']}").json()
    assert job["tags"] == ["x"]
    assert job["spec"]["model"] == "m-snn"
    assert job["spec"]["training"]["seed"] == 4
    assert job["spec"]["training"] == {**spec["training"], "seed": 4}
    assert [item["id"] for item in client.get("/jobs?tag=x").json()["items"]] == ids_of(found)[::-1]
    again = client.post("/comparisons?validate_only=true", json=spec).json()
    assert again["spec"] == spec


def test_smallest_body_and_presets_are_enough(client: TestClient) -> None:
    small = client.post("/comparisons?validate_only=true", json={"dataset": "iris"}).json()
    assert list(small["spec"]["arms"]) == ["snn", "regular", "relu_he", "relu_he_batchnorm"]
    assert small["jobs"] == 20
    preset = client.post("/comparisons?validate_only=true", json={"preset": "article/boston_housing"}).json()
    assert (preset["spec"]["dataset"], preset["spec"]["target"], preset["jobs"]) == ("boston_housing", "MEDV", 20)
    assert preset["spec"]["training"]["epochs"] == 50


def test_validate_only_makes_nothing_and_adds_up_the_time(client: TestClient) -> None:
    body = {"dataset": "iris", **TWO_ARMS, "seeds": [0, 1]}
    answer = client.post("/comparisons?validate_only=true", json=body)
    assert answer.status_code == 200
    found = answer.json()
    singles = [
        client.post(
            "/jobs?validate_only=true", json={"dataset": "iris", "network": network, "training": TWO_ARMS["training"]}
        ).json()["training_seconds"]
        for network in TWO_ARMS["arms"].values()
    ]
    assert found["training_seconds"] == pytest.approx(2 * sum(singles))
    assert found["jobs"] == 4
    assert client.get("/comparisons").json()["items"] == []
    assert client.get("/jobs").json()["items"] == []
    problem(client.post("/comparisons?validate_only=true", json={**body, "seeds": []}), 422)


def test_preset_gives_the_data_set_that_a_null_leaves_open(client: TestClient) -> None:
    body = {"preset": "article/boston_housing", "dataset": None}
    answer = client.post("/comparisons?validate_only=true", json=body)
    assert (answer.status_code, answer.json()["spec"]["dataset"]) == (200, "boston_housing")


def test_comparison_says_what_it_cannot_show(client: TestClient) -> None:
    warnings = submit(client, training={"split": "order", "test_fraction": 0.2})["warnings"]
    assert any("takes the same rows for every part with every seed" in warning for warning in warnings)
    assert any("became 0.05 in 'snn', but 0 in 'regular'" in warning for warning in warnings)


def test_every_violation_of_the_form_is_named_at_once(client: TestClient) -> None:
    arms = {"regular": {"kind": "mlp", "units": 0, "unitz": 1}, "snn": {"activation": "relu"}, "odd": {"kind": "cnn"}}
    body = {"arms": arms, "seeds": [1, 1], "levels": [], "depths": [0], "training": {"seed": 1, "epochs": "9"}, "x": 1}
    found = refused(client, **body)
    assert found.keys() == {
        "#/arms/regular/units",
        "#/arms/regular/unitz",
        "#/arms/snn/activation",
        "#/arms/odd",
        "#/seeds",
        "#/levels",
        "#/depths/0",
        "#/training/seed",
        "#/training/epochs",
        "#/x",
    }
    assert "known are activation" in found["#/arms/regular/unitz"]
    assert "selu_activation" in found["#/arms/snn/activation"]
    assert "seeds" in found["#/training/seed"]
    assert "known are arms" in found["#/x"]


def test_every_misfit_is_named_once(client: TestClient) -> None:
    arms = {"snn": {"units": 4200}, "regular": {"kind": "mlp", "units": 4200}, "ok": {}}
    assert refused(client, arms=arms).keys() == {"#/arms/snn", "#/arms/regular"}
    found = refused(client, target="nothing", units=9, arms={"a": {}})
    assert found.keys() == {"#/target", "#/units"}
    assert refused(client, dataset="nothing").keys() == {"#/dataset"}
    assert refused(client, dataset=None).keys() == {"#/dataset"}
    many = refused(client, seeds=list(range(50)), arms={str(number): {} for number in range(5)})
    assert "250 jobs; at most 200" in many["#/seeds"]
    assert client.get("/jobs").json()["items"] == []


def test_comparison_is_made_once_under_a_key(client: TestClient, database: Database) -> None:
    body, key = {"dataset": "iris", **TWO_ARMS, "seeds": [0]}, {"Idempotency-Key": "one"}
    first, second = (client.post("/comparisons", json=body, headers=key) for _ in range(2))
    assert first.status_code == 202
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    other = client.post("/comparisons", json={**body, "seeds": [1]}, headers=key)
    assert problem(other, 422)["code"] == "idempotency_key_reused"
    problem(client.post("/comparisons", json={**body, "seeds": [1], "x": 1}, headers={"Idempotency-Key": "two"}), 422)
    with database.read() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(one)).scalar()
            for one in (table, comparison_jobs, job_table, idempotency_keys)
        ]
    assert counts == [1, 2, 2, 1]


def test_lists_are_paged_newest_first_in_a_fixed_number_of_queries(client: TestClient, database: Database) -> None:
    made = [submit(client, seeds=[0])["id"] for _ in range(3)]
    items = client.get("/comparisons").json()["items"]
    assert [item["id"] for item in items] == made[::-1]
    assert items[0]["progress"] == {"finished_jobs": 0, "total": 2}
    assert "result" not in items[0]
    page = client.get("/comparisons?page_size=2").json()
    rest = client.get(f"/comparisons?page_size=2&page_token={page['next_page_token']}").json()
    assert [item["id"] for item in page["items"] + rest["items"]] == made[::-1]
    assert rest["next_page_token"] is None
    with queries(database) as asked:
        client.get("/comparisons?page_size=1")
        one = len(asked)
        client.get("/comparisons")
    assert len(asked) == 2 * one


def test_result_holds_the_arms_against_each_other(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0, 1, 2, 3, 4])
    all_trained(database, comparison)
    found = read(client, comparison)
    assert found["state"] == "succeeded"
    result = found["result"]
    snn, regular = result["arms"]
    assert (snn["arm"], snn["succeeded"], snn["failed"]) == ("snn", 5, 0)
    assert snn["metrics"]["accuracy"]["mean"] == pytest.approx(0.904)
    assert snn["metrics"]["accuracy"]["by_seed"].keys() == set("01234")
    assert snn["metrics"]["val_accuracy"]["by_seed"]["0"] == 0.9
    assert snn["best_epoch"]["mean"] == 2.0
    assert snn["epochs_saved"]["by_seed"] == dict.fromkeys("01234"), "the regular network has not come half of the way"
    assert snn["seconds"]["mean"] == 1.0
    assert regular["epochs_saved"] is None
    assert snn["verdicts"] == dict.fromkeys("01234")
    assert found["verdict"] == result["verdict"]
    assert found["verdict"].startswith("snn is better than regular on accuracy: 0.904 against 0.506")
    [test] = [test for test in result["tests"] if test["metric"] == "accuracy"]
    assert test["significant"] is True
    assert test["p"] <= test["corrected_p"] < 0.05
    assert test["confidence_interval"][0] <= test["difference"] <= test["confidence_interval"][1]
    assert result["ranks"]["average"] == {"snn": 1.0, "regular": 2.0}
    assert result["ranks"]["critical_difference"] == pytest.approx(1.96 / 5**0.5, abs=1e-3)
    assert len(result["levels"]) == 3
    assert [level["by_seed"]["0"] for level in snn["epochs_to_level"]] == [2, 2, 2]
    assert (result["claims"], result["depths"]) == (None, None)


def test_depth_sweep_shows_depths(client: TestClient, database: Database) -> None:
    comparison = submit(client, arms=None, depths=[1, 2], units=4, seeds=[0])
    assert [job["arm"] for job in comparison["jobs"]] == ["snn-1", "snn-2", "regular-1", "regular-2"]
    all_trained(database, comparison)
    depths = read(client, comparison)["result"]["depths"]
    assert [(one["arm"], one["mean"].keys()) for one in depths] == [("snn", {"1", "2"}), ("regular", {"1", "2"})]


def test_outcomes_hold_only_what_the_result_needs(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    snn, regular = ids_of(comparison)
    trained(database, snn, 0.3, 0.8, 0.7)
    failed(database, regular)
    with database.read() as connection:
        first, second = outcomes.read(connection, comparison["id"], ["val_accuracy"])
    assert first.curves == {"val_accuracy": [0.3, 0.8, 0.7]}
    assert (first.best_epoch, first.seconds) == (2, 1.5)
    assert first.best is not None
    assert first.best["val_accuracy"] == 0.8
    assert (second.state, second.curves, second.best) == (JobState.FAILED, None, None)


def test_routes_are_described(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/comparisons", "/comparisons/{comparison_id}", "/comparisons/{comparison_id}/cancel"} <= schema[
        "paths"
    ].keys()
    schemas = schema["components"]["schemas"]
    asked = schemas["ComparisonSpec"]["properties"]
    assert "epochs" in schemas["SharedTraining"]["properties"]
    assert "seed" not in schemas["SharedTraining"]["properties"]
    assert {"preset", "arms", "seeds", "depths", "levels", "reference"} <= asked.keys()
    assert "network" not in asked
    assert json.dumps(schema)


def test_storage_names_members_by_arm_and_seed(client: TestClient, database: Database) -> None:
    comparison = submit(client)
    with database.read() as connection:
        members = stored.members(connection, comparison["id"])
        numbers = [jobs.get(connection, member.id).number for member in members]
    assert [(member.arm, member.seed) for member in members] == [("snn", 0), ("snn", 1), ("regular", 0), ("regular", 1)]
    assert numbers == sorted(numbers)


def test_comparison_that_does_not_fit_is_refused_without_the_write_lock(client: TestClient, database: Database) -> None:
    with ThreadPoolExecutor(1) as pool, database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("LOCK TABLE comparisons, jobs IN EXCLUSIVE MODE"))
        answer = pool.submit(client.post, "/comparisons", json={"dataset": "iris", "features": ["nothing"]}).result(20)
        assert problem(answer, 422)["errors"][0]["pointer"] == "#/features/0"


@pytest.mark.parametrize("change", ["deleted", "renamed"])
def test_data_set_that_changes_while_a_comparison_is_completed_is_looked_at_again(
    client: TestClient, database: Database, database_url: str, change: str
) -> None:
    rows = "a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(60))
    dataset = client.post("/datasets?name=mine", content=rows, headers={"Content-Type": "text/csv"}).json()["id"]
    other = Database(database_url).owned_by(DEFAULT_OWNER)

    def meddle(_connection: Any, options: dict[str, Any]) -> None:
        if not options.get("writes"):
            return
        with other.write() as writing:
            if change == "deleted":
                datasets.remove(writing, dataset)
            else:
                datasets.change(writing, dataset, "other", datasets.get(writing, dataset).columns)

    event.listen(database.engine, "set_connection_execution_options", meddle)
    try:
        body = {"dataset": dataset, "target": "y", **TWO_ARMS, "seeds": [0]}
        answer = client.post("/comparisons", json=body)
    finally:
        event.remove(database.engine, "set_connection_execution_options", meddle)
        other.close()
    if change == "deleted":
        assert problem(answer, 422)["errors"][0]["pointer"] == "#/dataset"
    else:
        assert (answer.status_code, answer.json()["spec"]["model"]) == (202, "other")
