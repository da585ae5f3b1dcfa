"""What tests of the contract say often."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper
from sqlalchemy import event

from service.domain.encoders import NumericEncoder
from service.domain.jobs import Claim
from service.domain.models import Inputs, NewVersion, Outputs
from service.storage import leases, models
from service.storage.database import Database
from tests.factories import measured, progress, saved_state

JSON = {"Content-Type": "application/json"}
IN_THEIR_OWN_TIME = ("serving", "sweeper", "webhooks")
"""Threads of the service that ask the database, whatever else happens."""


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Check that an answer is an error as the contract describes it, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@contextmanager
def queries(database: Database) -> Iterator[list[str]]:
    """What the database is asked to read meanwhile, by requests and by the test itself."""
    asked: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and threading.current_thread().name not in IN_THEIR_OWN_TIME:
            asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", keep)
    try:
        yield asked
    finally:
        event.remove(database.engine, "before_cursor_execute", keep)


def copied_database(stocked: Path, folders: pytest.TempPathFactory) -> Database:
    """A copy of a SQLite file for all tests of a module; it opens sessions for the service itself."""
    path = folders.mktemp("copied") / "selfnorm.db"
    copy(stocked, path)
    return Database(f"sqlite:///{path}")


def submit(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/jobs", json={"dataset": "iris", **fields})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def register_model(database: Database, name: str = "m", job_id: str = "j1", weight: float = 1.0) -> None:
    """Register a graph made by hand: the sum of two columns, as a regression."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "ones"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 2])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["rows", 1])],
        [helper.make_tensor("ones", TensorProto.DOUBLE, [2, 1], [weight, weight])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    new = NewVersion(
        name=name,
        job_id=job_id,
        spec={"dataset": "iris"},
        data_sha256=None,
        inputs=Inputs((NumericEncoder("a"), NumericEncoder("b")), (0.0, 0.0), (1.0, 1.0)),
        outputs=Outputs("regression", "y"),
        metrics={"best": {"epoch": 1, "loss": 0.5}, "test": {"r2": 0.9}},
        parity={"max_difference": 1e-7},
        parameters=3,
        environment={"keras": "3"},
        weights=b"weights",
        onnx=content,
        keras=b"keras",
    )
    with database.write() as connection:
        models.register(connection, new)


def claimed(database: Database, job_id: str) -> Claim:
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w")
    assert held is not None
    return held


def failed(client: TestClient, database: Database, **spec: Any) -> str:
    """A job that lost its worker three epochs after it began, one after its last checkpoint."""
    job_id: str = submit(client, **spec)["id"]
    held = claimed(database, job_id)
    with database.write() as connection:
        leases.record(connection, held, progress(2), 1, [measured(1), measured(2)], saved_state(2))
        leases.record(connection, held, progress(3), 1, [measured(3)])
        leases.fail(connection, held, "worker_lost", "why")
    return job_id
