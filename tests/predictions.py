"""Stored tables, models made by hand, and predictions over them."""

import io
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from service.domain.encoders import Encoder, NumericEncoder
from service.domain.jobs import Claim
from service.domain.models import Inputs, ModelVersion, NewVersion, Outputs
from service.domain.prediction_completion import complete_prediction
from service.domain.predictions import PredictionJob, PredictionResult, PredictionSpec, ResultColumns
from service.storage import blobs, datasets, leases, models, predictions
from service.storage.database import Database
from service.storage.datasets import NewDataset
from service.tables import parquet, profile
from service.tables.results import ResultWriter

SUM = (NumericEncoder("a"), NumericEncoder("b"))
HEAVY_UNITS = 1500
HEAVY_PARAMETERS = 50_000_000
"""What a heavy model is said to have, so that few rows are taken at once."""


def store_table(database: Database, columns: Mapping[str, Any], dataset_id: str = "rows") -> None:
    """Store a table as an upload would."""
    table = pa.table(dict(columns))
    described = profile.describe(table)
    new = NewDataset(dataset_id, dataset_id, False, table.num_rows, described, parquet.encode(table))
    with database.write() as connection:
        datasets.add(connection, new)


def store_numbers(database: Database, rows: int, dataset_id: str = "rows") -> None:
    """Store a table of two columns of numbers."""
    rng = np.random.default_rng(0)
    store_table(database, {"a": rng.normal(size=rows), "b": rng.normal(size=rows)}, dataset_id)


def register(
    database: Database,
    name: str = "m",
    *,
    encoders: tuple[Encoder, ...] = SUM,
    outputs: Outputs = Outputs("regression", "y"),  # noqa: B008  # a frozen value
    is_heavy: bool = False,
) -> ModelVersion:
    """Register a graph made by hand: the sum of what it takes, or for two classes the chance that it is above 0."""
    width = sum(encoder.width for encoder in encoders)
    new = NewVersion(
        name=name,
        job_id=secrets.token_hex(10),
        spec={"dataset": "iris"},
        data_sha256=None,
        inputs=Inputs(encoders, (0.0,) * width, (1.0,) * width),
        outputs=outputs,
        metrics={"best": {"epoch": 1, "loss": 0.5}, "test": {"r2": 0.9}},
        parity={"max_difference": 1e-7},
        parameters=HEAVY_PARAMETERS if is_heavy else 3,
        environment={"keras": "3"},
        weights=b"weights",
        onnx=_graph(width, len(outputs.classes), is_heavy=is_heavy),
        keras=b"keras",
    )
    with database.write() as connection:
        version = models.register(connection, new)
        return models.get_version(connection, name, version)


def submit(database: Database, prediction_id: str = "p1", **fields: Any) -> str:
    """Store a queued prediction."""
    spec = PredictionSpec.model_validate({"model": "m", "dataset": "rows", **fields})
    with database.write() as connection:
        version = models.get_version(connection, spec.model, spec.version)
        dataset = datasets.get(connection, spec.dataset)
        completed = complete_prediction(spec, version, dataset)
        stored = completed.spec.model_dump(mode="json")
        predictions.add(connection, prediction_id, stored, dataset.rows, completed.warnings)
    return prediction_id


def read(database: Database, prediction_id: str = "p1") -> PredictionJob:
    with database.read() as connection:
        return predictions.get(connection, prediction_id)


def result_table(database: Database, prediction_id: str = "p1") -> pa.Table:
    """What a prediction that has succeeded made."""
    found = read(database, prediction_id)
    assert found.result is not None, (found.state, found.error_detail)
    with database.read() as connection:
        content = blobs.get(connection, found.result.sha256)
    assert len(content) == found.result.size_bytes
    return pq.read_table(io.BytesIO(content))


def finish(database: Database, prediction_id: str = "p1") -> pa.Table:
    """Claim a prediction and end it with a result, of which the last row has no answer, as a worker would."""
    with database.write() as connection:
        claim = leases.claim(connection, prediction_id, "w1")
        assert claim is not None
        job = predictions.get(connection, prediction_id)
        version = models.get_version(connection, job.spec["model"], job.spec["version"])
        names = ResultColumns.of(job.spec["keep"], version.outputs, probabilities=job.spec["probabilities"])
        file = io.BytesIO()
        writer = ResultWriter(file, names, version.outputs, group_rows=2)
        for start in range(job.rows):
            batch = pa.RecordBatch.from_pydict({name: [start + 0.5] for name in job.spec["keep"]})
            answer = np.array([[0.25, 0.75]] if version.outputs.classes else [[start]], np.float32)
            writer.add(batch, answer, np.array([start == job.rows - 1]))
        writer.close()
        result = PredictionResult(job.rows, 1, names.names, writer.size_bytes, writer.sha256, ["one is missing"])
        predictions.succeed(connection, claim, file, result)
    return pq.read_table(io.BytesIO(file.getvalue()))


def _graph(width: int, classes: int, *, is_heavy: bool) -> bytes:
    """Answer the sum; a heavy one multiplies large matrices beside it, and adds nothing of that."""
    nodes = [helper.make_node("MatMul", ["x", "ones"], ["sum"])]
    constants = {"ones": np.ones((width, 1))}
    last = "sum"
    if is_heavy:
        constants |= {
            "wide": np.ones((width, HEAVY_UNITS), np.float32),
            "heavy": np.zeros((HEAVY_UNITS, HEAVY_UNITS), np.float32),
            "narrow": np.zeros((HEAVY_UNITS, 1), np.float32),
        }
        nodes += [
            helper.make_node("Cast", ["x"], ["x32"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["x32", "wide"], ["h1"]),
            helper.make_node("MatMul", ["h1", "heavy"], ["h2"]),
            helper.make_node("MatMul", ["h2", "narrow"], ["h3"]),
            helper.make_node("Cast", ["h3"], ["h4"], to=TensorProto.DOUBLE),
            helper.make_node("Add", ["sum", "h4"], ["whole"]),
        ]
        last = "whole"
    kind, columns = TensorProto.DOUBLE, 1
    if classes:
        assert classes == 2
        kind, columns = TensorProto.FLOAT, 2
        nodes += [
            helper.make_node("Neg", [last], ["negative"]),
            helper.make_node("Concat", ["negative", last], ["logits"], axis=1),
            helper.make_node("Cast", ["logits"], ["logits32"], to=TensorProto.FLOAT),
            helper.make_node("Softmax", ["logits32"], ["y"], axis=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", width])],
        [helper.make_tensor_value_info("y", kind, ["rows", columns])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def ask_for_prediction(client: TestClient, **fields: Any) -> dict[str, Any]:
    """Ask for a prediction over the stored rows."""
    answer = client.post("/predictions", json={"model": "m", "dataset": "rows", **fields})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def claim(database: Database, prediction_id: str) -> Claim:
    """Take a prediction as a worker does."""
    with database.write() as connection:
        held = leases.claim(connection, prediction_id, "w1")
    assert held is not None
    return held
