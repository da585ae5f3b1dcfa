"""A model made by hand and the same rows in every format that /predict takes."""

import io
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.models import Inputs, ModelVersion, NewVersion, Outputs
from service.domain.owners import DEFAULT_OWNER
from service.inference.guard import InputGuard
from service.inference.rows import RowReader
from service.inference.sessions import ServedNetwork
from service.storage import models
from service.storage.database import Database
from service.use_cases.serving import Served

NUMBER = Outputs("regression", "price")
CLASSES = Outputs("classification", "kind", ("a", 'b,"c"', "ü"))
NUMBERS: tuple[Encoder, ...] = (NumericEncoder("a"), NumericEncoder("b"), NumericEncoder("c"))
MIXED: tuple[Encoder, ...] = (
    NumericEncoder("age", gaps=True, fill=30.0, missing_tokens=("?", "-999")),
    NumericEncoder("weight"),
    CategoricalEncoder("job", ("cook", "nurse", "00202"), other=True, gaps=True, rare=("diver",)),
    CategoricalEncoder("floor", (1, 2.5), gaps=True, holds="number"),
    CategoricalEncoder("member", (True, False), gaps=True, holds="boolean"),
    BooleanEncoder("flag", gaps=True, fill=0.5),
    DateEncoder("since", "%d.%m.%Y", gaps=True, fill=(1.0,) * 7),
)


def graph(width: int, classes: int) -> bytes:
    """Weigh every column by another number, so that no two may change places; a sum, or chances of classes."""
    weights = np.random.default_rng(3).normal(size=(width, classes or 1))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sum"])]
    kind = TensorProto.FLOAT if classes else TensorProto.DOUBLE
    if classes:
        nodes.append(helper.make_node("Cast", ["sum"], ["logits"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Softmax", ["logits"], ["y"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    made = helper.make_graph(
        nodes,
        "weighted",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", width])],
        [helper.make_tensor_value_info("y", kind, ["rows", classes or 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def card(encoders: Sequence[Encoder], outputs: Outputs, name: str = "m") -> dict[str, Any]:
    """What is known of a version."""
    width = sum(encoder.width for encoder in encoders)
    return {
        "name": name,
        "job_id": secrets.token_hex(10),
        "spec": {"dataset": "iris"},
        "data_sha256": None,
        "inputs": Inputs(tuple(encoders), (0.0,) * width, (1e6,) * width),
        "outputs": outputs,
        "metrics": {"best": {"epoch": 1, "loss": 0.5}, "test": {"r2": 0.9}},
        "parity": {"max_difference": 1e-7},
        "parameters": 3,
        "environment": {"keras": "3"},
    }


def served(encoders: Sequence[Encoder] = MIXED, outputs: Outputs = NUMBER) -> Served:
    """A version in memory, without a database."""
    known = card(encoders, outputs)
    stored: dict[str, Any] = {
        "weights_sha256": "",
        "onnx_sha256": "",
        "keras_sha256": None,
        "created_at": datetime.now(UTC),
    }
    version = ModelVersion(**known, version=7, **stored)
    return Served(
        owner=DEFAULT_OWNER,
        version=version,
        network=ServedNetwork(graph(len(version.inputs.mean), len(outputs.classes))),
        reader=RowReader(version.inputs),
        guard=InputGuard(version.inputs, is_standardized=True, is_self_normalizing=False),
        takes_numbers=all(encoder.is_plain for encoder in encoders),
    )


def register(
    database: Database, encoders: Sequence[Encoder] = MIXED, outputs: Outputs = NUMBER, name: str = "m"
) -> ModelVersion:
    """Register it."""
    known = card(encoders, outputs, name)
    content = graph(len(known["inputs"].mean), len(outputs.classes))
    with database.write() as connection:
        number = models.register(connection, NewVersion(**known, weights=b"w", onnx=content, keras=b"k"))
        return models.get_version(connection, name, number)


def arrow_body(
    table: Mapping[str, Any] | pa.Table | pa.RecordBatch, batch_rows: int | None = None, **options: Any
) -> bytes:
    """An IPC stream of a table, in batches of so many rows."""
    whole = table if isinstance(table, pa.Table) else pa.table(dict(table)) if isinstance(table, Mapping) else None
    whole = pa.Table.from_batches([table]) if whole is None else whole
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, whole.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(whole, batch_rows)
    return sink.getvalue()


def npy_body(matrix: Any) -> bytes:
    """What numpy.save writes."""
    sink = io.BytesIO()
    np.save(sink, np.asarray(matrix), allow_pickle=False)
    return sink.getvalue()


def csv_body(names: Sequence[str], rows: Sequence[Sequence[Any]], *, header: bool = True) -> bytes:
    """CSV as RFC 4180 has it; None is an empty cell."""
    lines = [[_quoted(name) for name in names]] if header else []
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "".join(",".join(line) + "\r\n" for line in lines).encode()


def ndjson_body(rows: Sequence[Any]) -> bytes:
    """A row a line."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    return _quoted(cell) if isinstance(cell, str) else json.dumps(cell)


def _quoted(text: str) -> str:
    is_plain = text.strip() == text and not set(text) & set(',"\r\n')
    return text if text and is_plain else '"' + text.replace('"', '""') + '"'
