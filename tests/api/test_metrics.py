"""/metrics: what was asked, what is odd about it, and what is in memory."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.storage import aliases, models
from service.storage.database import Database
from tests.patience import until
from tests.served import mixed, named, numbers, register


def ask(client: TestClient, model: str, *rows: Any) -> None:
    answer = client.post("/predict", json={"model": model, "instances": list(rows)})
    assert answer.status_code == 200, answer.text


def told(client: TestClient, model: str) -> dict[str, float]:
    """The counts of a model's first version, but for how long it took."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    labels = re.escape(f'{{model="{model}",owner="local",version="1"}}')
    found = re.findall(rf"^selfnorm_(\w+){labels} (\S+)$", answer.text, re.MULTILINE)
    return {name: float(value) for name, value in found if "duration" not in name}


def loaded(client: TestClient) -> float:
    found = re.search(r"^selfnorm_models_loaded (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found.group(1))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model's name of each test, for the counts are those of the whole process."""
    return re.sub("[^a-z]", "-", request.node.name.lower())[:100].strip("-")


@pytest.fixture
def cramped(services: Services) -> Iterator[TestClient]:
    """An application that has room for one model."""
    with TestClient(create_app(replace(services, model_memory_bytes=0))) as opened:
        yield opened


def test_rows_far_ones_and_unseen_categories_are_counted(client: TestClient, database: Database, name: str) -> None:
    register(database, named(mixed("m"), name))
    ask(client, name, ["Paris", 1, True], ["Berlin", 100, True], ["Oslo", 1, False])
    wanted = {
        "prediction_rows_total": 3.0,
        "input_far_rows_total": 1.0,
        "input_unseen_categories_total": 2.0,
        "input_drift": 0.0,
    }
    assert told(client, name) == wanted
    assert told(client, name) == wanted  # counted once, however often it is told
    ask(client, name, ["Paris", 1, True])
    assert told(client, name) == {**wanted, "prediction_rows_total": 4.0}


def test_models_in_memory_are_counted(client: TestClient, database: Database, name: str) -> None:
    register(database, named(numbers("m"), name), named(numbers("m"), f"{name[:90]}-other"))
    assert loaded(client) == 0
    ask(client, name, [1, 2])
    assert loaded(client) == 1
    ask(client, f"{name[:90]}-other", [1, 2])
    assert loaded(client) == 2


def test_drift_is_told_until_rows_are_as_in_training_again(client: TestClient, database: Database, name: str) -> None:
    register(database, named(numbers("m"), name))
    for rows, drift in (([[3, 3]] * 200, 1.0), ([[1, -1], [-1, 1]] * 600, 0.0)):
        ask(client, name, *rows)
        until(lambda drift=drift: told(client, name)["input_drift"] == drift)  # type: ignore[misc]  # mypy cannot type a default


def test_version_that_is_deleted_drifts_no_more(client: TestClient, database: Database, name: str) -> None:
    register(database, named(numbers("m"), name), named(numbers("m"), name))
    with database.write() as connection:
        aliases.put(connection, name, "production", 1)
    ask(client, name, *[[3, 3]] * 200)
    until(lambda: told(client, name)["input_drift"] == 1.0)
    with database.write() as connection:
        aliases.remove(connection, name, "production")
        models.remove(connection, name, 1)
    until(lambda: told(client, name)["input_drift"] == 0.0)


def test_counts_of_versions_that_made_room_stay(cramped: TestClient, database: Database, name: str) -> None:
    other = f"{name[:90]}-other"
    register(database, named(numbers("m"), name), named(numbers("m"), other))
    for _ in range(3):
        for asked in (name, other):
            ask(cramped, asked, [1, 2], [1, 100])
            assert told(cramped, asked)["prediction_rows_total"] >= 2
    assert loaded(cramped) == 1
    for asked in (name, other):
        found = told(cramped, asked)
        assert (found["prediction_rows_total"], found["input_far_rows_total"]) == (6.0, 3.0)
