"""What is said of a network before, while and after it trains."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.domain.diagnostics import Diagnosis
from service.domain.jobs import Claim, Progress
from service.domain.owners import DEFAULT_OWNER
from service.domain.verdict import Verdict, judge
from service.inference.diagnosis import Probe, fresh_layers, look
from service.storage import diagnostics, leases
from service.storage.database import Database
from service.use_cases import probe as probes
from tests.api.support import problem, submit
from tests.factories import measured, saved_state
from tests.unit.networks import spec_of

DEEP: dict[str, Any] = {"hidden_layers": 20, "units": 100}
SIGMOID: dict[str, Any] = {"kind": "mlp", "activation": "sigmoid", **DEEP}


def lint_of(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {finding["rule"]: finding["status"] for finding in findings}


def test_validation_says_whether_the_network_can_normalize_itself(client: TestClient) -> None:
    answer = client.post("/jobs?validate_only=true", json={"dataset": "digits", "network": SIGMOID}).json()
    assert lint_of(answer["lint"])["depth"] == "fail"
    vanishing = next(finding for finding in answer["lint"] if finding["rule"] == "depth")
    assert vanishing["detail"].startswith("vanishing")
    assert vanishing.keys() == {"rule", "status", "detail", "value", "source", "layer", "fix"}
    assert answer["suggested_spec"]["network"]["kind"] == "snn"
    better = client.post("/jobs?validate_only=true", json=answer["suggested_spec"]).json()
    assert "fail" not in lint_of(better["lint"]).values()
    assert better["suggested_spec"] is None


def test_lint_is_stored_with_the_job(client: TestClient) -> None:
    expected = client.post("/jobs?validate_only=true", json={"dataset": "iris", "network": SIGMOID}).json()["lint"]
    job = submit(client, network=SIGMOID)
    seen = client.get(f"/jobs/{job['id']}/diagnostics").json()
    assert seen == {"lint": expected, "verdict": None, "items": []}
    assert job["verdict"] is None


def looked_at(database: Database, job_id: str, *epochs: int, gain: float = 1.0) -> None:
    """Store what a worker would have seen of a network whose weights grow."""
    network = spec_of({"kind": "snn", "units": [20, 20]})
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w")
        assert held is not None
        diagnoses: list[Diagnosis] = []
        verdicts: list[Verdict] = []
        for epoch in epochs:
            layers = fresh_layers(network, 4, 3, seed=0)
            for layer in layers:
                layer.kernel[:] *= gain**epoch
            diagnoses.append(look(network, layers, Probe(rows, np.zeros(64, np.int64), True), epoch))
            verdicts.append(judge(verdicts[-1] if verdicts else None, diagnoses[-1], network))
        done = max(epochs)
        leases.record(connection, held, Progress(done, 0.5, None, None), 1, [measured(e) for e in range(1, done + 1)])
        leases.record_looks(connection, held, diagnoses, verdicts)


def test_layers_and_verdict_can_be_read_while_it_trains(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, 2, gain=3.0)
    seen = client.get(f"/jobs/{job}/diagnostics").json()
    assert [item["epoch"] for item in seen["items"]] == [0, 1, 2]
    assert [layer["layer"] for layer in seen["items"][0]["layers"]] == [1, 2]
    assert seen["items"][0]["weights"] is None
    assert seen["verdict"] == client.get(f"/jobs/{job}").json()["verdict"]
    assert seen["verdict"]["status"] == "left"
    assert seen["verdict"]["cause"]
    events = client.get(f"/jobs/{job}/events").json()["items"]
    lost = [event["data"] for event in events if event["event"] == "self_normalization_lost"]
    told = {name: seen["verdict"][name] for name in ("status", "epoch", "layer", "cause")}
    assert lost == [told]


def test_histograms_come_where_they_are_asked_for(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1)
    item = client.get(f"/jobs/{job}/diagnostics?histograms=true").json()["items"][1]
    assert [sum(histogram["counts"]) for histogram in item["weights"]] == [4 * 20, 20 * 20]
    assert [sum(histogram["counts"]) for histogram in item["activations"]] == [64 * 20, 64 * 20]


def test_event_is_told_once_and_looks_are_stored_once(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, gain=3.0)
    with database.write() as connection:
        again = diagnostics.read(connection, job)
        held = Claim(job, 1, "w", DEFAULT_OWNER)
        verdict = judge(None, again[-1], spec_of({"kind": "snn", "units": [20, 20]}))
        leases.record_looks(connection, held, again, [verdict])
    events = [event["event"] for event in client.get(f"/jobs/{job}/events").json()["items"]]
    assert events.count("self_normalization_lost") == 1
    assert len(client.get(f"/jobs/{job}/diagnostics").json()["items"]) == 2


def test_retry_goes_on_with_the_verdict_up_to_its_checkpoint(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, 2, gain=3.0)
    seen = client.get(f"/jobs/{job}/diagnostics").json()
    with database.write() as connection:
        held = Claim(job, 1, "w", DEFAULT_OWNER)
        leases.record(connection, held, Progress(2, 0.5, None, None), 1, [], saved_state(2))
        leases.fail(connection, held, "out_of_memory", "too large")
    again = client.post(f"/jobs/{job}/retry").json()
    assert again["verdict"] == seen["verdict"]
    assert client.get(f"/jobs/{again['id']}/diagnostics").json() == seen


def test_verdict_of_looks_that_do_not_count_any_more_is_taken_back(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "hidden_layers": 2, "units": 400}, dataset="digits")["id"]
    looked_at(database, job, 0, 1, gain=3.0)
    with database.write() as connection:
        leases.go_back(connection, Claim(job, 1, "w", DEFAULT_OWNER), None, "damaged")
    assert [item["epoch"] for item in client.get(f"/jobs/{job}/diagnostics").json()["items"]] == [0]
    verdict = client.get(f"/jobs/{job}").json()["verdict"]
    assert verdict is None or verdict["epoch"] in (None, 0)


def test_unknown_job_has_no_diagnostics(client: TestClient) -> None:
    assert problem(client.get("/jobs/none/diagnostics"), 404)["code"] == "unknown_job"


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "diabetes"])
def test_probe_finds_a_fresh_self_normalizing_network_in_the_box(client: TestClient, dataset: str) -> None:
    task = {"task": "regression"} if dataset == "diabetes" else {}
    answer = client.post("/probe", json={"dataset": dataset, "network": {"kind": "snn", **DEEP}, **task})
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert len(seen["layers"]) == 20
    assert seen["prediction"]["status"] in ("held", "stable")
    assert all(abs(layer["mean"]) < 0.3 and 0.4 < layer["variance"] < 1.7 for layer in seen["layers"])
    assert all(layer["gradient_norm"] > 0 for layer in seen["layers"])
    assert seen["rows"] <= seen["read_rows"]


def test_probe_judges_a_sigmoid_network_before_it_trains(client: TestClient) -> None:
    seen = client.post("/probe", json={"dataset": "digits", "network": SIGMOID}).json()
    assert seen["verdict"]["status"] == "vanishing"
    assert seen["prediction"]["status"] == "vanishing"
    assert seen["layers"][0]["gradient_ratio"] < 1e-9
    assert lint_of(seen["lint"])["depth"] == "fail"


def test_probe_measures_what_the_description_does_not_tell(client: TestClient) -> None:
    network = {"kind": "mlp", "standardize": False, **DEEP}
    seen = client.post("/probe", json={"dataset": "wine", "network": network}).json()
    raw = next(finding for finding in seen["lint"] if finding["rule"] == "standardized_inputs")
    assert raw["status"] == "fail"
    assert raw["value"] > 1000
    constant = client.post("/probe", json={"dataset": "digits"}).json()["lint"]
    assert "pixel" in next(finding["detail"] for finding in constant if finding["rule"] == "constant_inputs")


def test_probe_takes_messy_tables(client: TestClient) -> None:
    rows = "".join(
        f"{n * 1.5},{('Bern', 'Basel', '')[n % 3]},2024-01-{n % 28 + 1:02d},{n % 2 == 0 if n % 7 else ''},{n % 3}\n"
        for n in range(80)
    )
    made = client.post("/datasets?name=t", content=f"a,city,day,flag,y\n{rows}", headers={"Content-Type": "text/csv"})
    answer = client.post("/probe", json={"dataset": made.json()["id"], "target": "y"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["inputs"] > 5


def test_probe_reads_few_rows_of_a_wide_table(client: TestClient) -> None:
    columns = 1500
    head = ",".join(f"c{number}" for number in range(columns))
    rng = np.random.default_rng(0)
    rows = "\n".join(",".join(f"{value:.1f}" for value in row) for row in rng.normal(size=(60, columns)))
    made = client.post("/datasets?name=wide", content=f"{head}\n{rows}\n", headers={"Content-Type": "text/csv"}).json()
    body = {"dataset": made["id"], "target": "c0", "task": "regression"}
    seen = client.post("/probe", json=body).json()
    assert seen["inputs"] == columns - 1
    assert seen["read_rows"] == 60
    assert seen["read_rows"] * seen["inputs"] <= probes.MOST_CELLS


def test_far_values_are_looked_for_in_numbers_as_they_came(client: TestClient) -> None:
    rows = "".join(f"{'' if n == 7 else n % 50},{n == 3},{n % 2}\n" for n in range(600))
    made = client.post("/datasets?name=t", content=f"a,flag,y\n{rows}", headers={"Content-Type": "text/csv"}).json()
    lint = client.post("/probe", json={"dataset": made["id"], "target": "y"}).json()["lint"]
    far = next(finding for finding in lint if finding["rule"] == "heavy_tails")
    assert far["status"] == "pass"
    assert 1 < far["value"] < 3


def test_probe_makes_nothing(client: TestClient) -> None:
    client.post("/probe", json={"dataset": "iris"})
    assert client.get("/jobs").json()["items"] == []


def test_probe_refuses_what_a_job_would_be_refused_for(client: TestClient) -> None:
    assert problem(client.post("/probe", json={"dataset": "none"}), 422)["errors"][0]["pointer"] == "#/dataset"
    body = {"dataset": "iris", "features": ["nothing"]}
    assert problem(client.post("/probe", json=body), 422)["errors"][0]["pointer"] == "#/features/0"
    wide = {"kind": "snn", "hidden_layers": 2, "units": 5000}
    refused = problem(client.post("/probe", json={"dataset": "iris", "network": wide}), 422)
    assert f"{probes.MOST_PARAMETERS:,}" in refused["errors"][0]["detail"]


def test_probe_of_rows_that_are_not_here_says_where_they_are_read_from(client: TestClient) -> None:
    assert problem(client.post("/probe", json={"dataset": "cifar10"}), 409)["code"] == "dataset_not_here"
