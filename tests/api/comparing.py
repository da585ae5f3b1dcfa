"""Comparisons for tests: submitted and read over HTTP; what workers make of their jobs is put in by hand."""

from collections.abc import Mapping
from typing import Any

from fastapi.testclient import TestClient

from service.domain.jobs import Claim, EpochRecord, Measure
from service.storage import leases
from service.storage.database import Database
from tests.api.support import problem
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
