"""Comparisons as HTTP shows them; what workers make of their jobs is put in by hand."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import event, func, select

from service.api.dependencies import Services
from service.domain.jobs import Claim, EpochRecord, JobState, Measure
from service.storage import comparisons as stored
from service.storage import jobs, leases
from service.storage.database import Database
from service.storage.tables import comparison_jobs, idempotency_keys
from service.storage.tables import comparisons as table
from service.storage.tables import jobs as job_table
from tests.api.support import problem
from tests.api.support import submit as submit_job
from tests.factories import progress, saved_state

TWO_ARMS: dict[str, Any] = {
    "arms": {"snn": {"units": 8}, "regular": {"kind": "mlp", "units": 8}},
    "training": {"epochs": 4, "test_fraction": 0.2},
}


def submit(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/comparisons", json={"dataset": "iris", **TWO_ARMS, "seeds": [0, 1], **fields})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def read(client: TestClient, comparison: Mapping[str, Any]) -> dict[str, Any]:
    answer = client.get(f"/comparisons/{comparison['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(client: TestClient, **fields: Any) -> dict[str, str]:
    """What is wrong, by pointer; nothing is said twice."""
    body = problem(client.post("/comparisons", json={"dataset": "iris", **fields}), 422)
    found = {item["pointer"]: item["detail"] for item in body["errors"]}
    assert len(found) == len(body["errors"])
    return found


def ids_of(comparison: Mapping[str, Any], arm: str | None = None) -> list[str]:
    return [job["id"] for job in comparison["jobs"] if arm in (None, job["arm"])]


def claimed(database: Database, job_id: str) -> Claim:
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w")
    assert held is not None
    return held


def trained(database: Database, job_id: str, *accuracies: float, model_version: int = 1) -> None:
    """Let a job succeed whose epochs came to these validation accuracies; the last one is that of the test part."""
    held = claimed(database, job_id)
    records = [
        EpochRecord(epoch, {"loss": 1.0, "val_loss": 1 - accuracy, "val_accuracy": accuracy}, 0.001, 0.5)
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    best = max(range(len(accuracies)), key=accuracies.__getitem__) + 1
    with database.write() as connection:
        leases.record(connection, held, progress(len(records)), best, records)
        test: dict[str, Measure] = {"accuracy": accuracies[-1], "f1": accuracies[-1]}
        leases.succeed(connection, held, best_epoch=best, test_metrics=test, version=model_version)


def failed(database: Database, job_id: str) -> None:
    held = claimed(database, job_id)
    with database.write() as connection:
        leases.record(connection, held, progress(1), 1, [EpochRecord(1, {"loss": 1.0}, 0.001, 0.5)], saved_state(1))
        leases.fail(connection, held, "worker_lost", "why")


def all_trained(database: Database, comparison: Mapping[str, Any]) -> None:
    for place, job in enumerate(comparison["jobs"]):
        high = 0.9 if job["arm"].startswith("snn") else 0.5
        trained(database, job["id"], 0.4, high + 0.01 * (place % 2))


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
    asked: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement), named=False
    )
    client.get("/comparisons?page_size=1")
    one = len(asked)
    client.get("/comparisons")
    assert len(asked) == 2 * one


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
    assert snn["epochs_saved"]["mean"] == 0.0
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


def test_outcomes_hold_only_what_the_result_needs(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    snn, regular = ids_of(comparison)
    trained(database, snn, 0.3, 0.8, 0.7)
    failed(database, regular)
    with database.read() as connection:
        first, second = stored.outcomes(connection, comparison["id"], ["val_accuracy"])
    assert first.curves == {"val_accuracy": [0.3, 0.8, 0.7]}
    assert (first.best_epoch, first.seconds) == (2, 1.5)
    assert first.best is not None
    assert first.best["val_accuracy"] == 0.8
    assert (second.state, second.curves, second.best) == (JobState.FAILED, None, None)


def test_data_set_of_a_comparison_can_be_deleted_when_it_has_ended(client: TestClient, database: Database) -> None:
    rows = "a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(60))
    dataset = client.post("/datasets?name=mine", content=rows, headers={"Content-Type": "text/csv"}).json()["id"]
    comparison = submit(client, dataset=dataset, target="y", seeds=[0])
    problem(client.delete(f"/datasets/{dataset}"), 409)
    all_trained(database, comparison)
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    assert read(client, comparison)["result"]["complete"] is True


def test_plots_show_all_arms_in_one_picture(client: TestClient, database: Database) -> None:
    comparison = submit(client, arms=None, depths=[1, 2], units=4)
    path = f"/comparisons/{comparison['id']}/plots"
    for name in ("learning_curves", "critical_difference", "depth_sweep"):
        assert problem(client.get(f"{path}/{name}"), 409)["code"] == "nothing_to_draw"
    all_trained(database, comparison)
    for name in ("learning_curves", "critical_difference", "depth_sweep"):
        vector = client.get(f"{path}/{name}.svg")
        assert vector.headers["content-type"] == "image/svg+xml"
        for arm in ("snn", "regular") if name == "depth_sweep" else ("snn-1", "regular-2"):
            assert arm in vector.text
        picture = client.get(f"{path}/{name}", headers={"Accept": "image/png"})
        assert picture.content.startswith(b"\x89PNG")
        tag = {"If-None-Match": vector.headers["etag"]}
        assert client.get(f"{path}/{name}.svg", headers=tag).status_code == 304
    assert "accuracy" in client.get(f"{path}/learning_curves?metric=val_accuracy").text
    refusal = problem(client.get(f"{path}/learning_curves?metric=rmse"), 422)
    assert refusal["errors"][0]["pointer"] == "?metric"
    assert problem(client.get(f"{path}/activations"), 404)["code"] == "unknown_plot"


def test_comparison_without_depths_has_no_depth_sweep(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    all_trained(database, comparison)
    for name in ("depth_sweep", "critical_difference"):
        body = problem(client.get(f"/comparisons/{comparison['id']}/plots/{name}"), 409)
        assert body["code"] == "nothing_to_draw"


def test_routes_are_described(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/comparisons", "/comparisons/{comparison_id}", "/comparisons/{comparison_id}/cancel"} <= schema[
        "paths"
    ].keys()
    asked = schema["components"]["schemas"]["ComparisonSpec-Input"]["properties"]
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
