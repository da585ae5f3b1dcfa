"""Models made by hand for whoever serves them: of numbers, of mixed columns, slow ones, large ones."""

import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, Encoder, NumericEncoder
from service.domain.models import ClassLabel, Inputs, ModelVersion, NewVersion, Outputs, VersionCard
from service.domain.owners import DEFAULT_OWNER
from service.inference.guard import InputGuard
from service.inference.rows import RowReader
from service.inference.sessions import ServedNetwork
from service.storage import models
from service.storage.database import Database
from service.use_cases.serving import Served

SNN = {"network": {"kind": "snn"}}
LARGE_PARAMETERS = 2 * 10**9
"""So many are said of some small networks, that each of their rows is worth a thread."""
SLOW_ROWS = 1024
"""So many rows keep the slow network busy for half a second or more."""
MIXED_COLUMNS: tuple[Encoder, ...] = (
    CategoricalEncoder("city", ("Paris", "Rome"), other=True),
    NumericEncoder("age", gaps=True, fill=0.25),
    BooleanEncoder("member"),
)


def version(
    name: str,
    encoders: Sequence[Encoder],
    graph: bytes,
    classes: tuple[ClassLabel, ...] = (),
    parameters: int = 10,
    spec: dict[str, Any] = SNN,
) -> NewVersion:
    """A version whose training rows had mean 0 and deviation 1 in every encoded column."""
    width = sum(encoder.width for encoder in encoders)
    return NewVersion(
        name=name,
        job_id=secrets.token_hex(8),
        spec={"dataset": "iris", **spec},
        data_sha256=None,
        inputs=Inputs(tuple(encoders), (0.0,) * width, (1.0,) * width),
        outputs=Outputs("classification" if classes else "regression", "y", classes),
        metrics={"best": {"epoch": 1, "loss": 0.5}, "test": None},
        parity={"max_difference": 1e-7},
        parameters=parameters,
        environment={"keras": "3"},
        weights=b"weights",
        onnx=graph,
        keras=b"keras",
    )


def numbers(name: str, width: int = 2, weight: float = 1.0, **known: Any) -> NewVersion:
    """The sum of some columns, times a weight."""
    weights = np.full((width, 1), weight)
    return version(name, _numeric(width), graph([node("MatMul", "x", "w", to="y")], width, 1, w=weights), **known)


def classifier(name: str, width: int = 4, classes: int = 3, **known: Any) -> NewVersion:
    """Probabilities of as many classes as are wanted."""
    weights = np.random.default_rng(7).normal(size=(width, classes)).astype(np.float32)
    nodes = [
        node("Cast", "x", to="rows", to_type=TensorProto.FLOAT),
        node("MatMul", "rows", "w", to="scores"),
        node("Softmax", "scores", to="y"),
    ]
    labels = tuple(f"kind {place}" for place in range(classes))
    return version(name, _numeric(width), graph(nodes, width, classes, TensorProto.FLOAT, w=weights), labels, **known)


def mixed(name: str, classes: int = 0, **known: Any) -> NewVersion:
    """Categories, gaps and booleans; a number, or probabilities."""
    width = sum(encoder.width for encoder in MIXED_COLUMNS)
    plain = classifier(name, width, classes) if classes else numbers(name, width, 0.5)
    told = {"spec": SNN, **known}
    return version(name, MIXED_COLUMNS, plain.onnx, plain.outputs.classes, **told)


def inverse(name: str, **known: Any) -> NewVersion:
    """1 / a, which is infinite where a is 0."""
    return version(name, _numeric(1), graph([node("Reciprocal", "x", to="y")], 1, 1), **known)


def slow(name: str, **known: Any) -> NewVersion:
    """The first column, after many products of large matrices; ``SLOW_ROWS`` rows take half a second or more."""
    side, times = 1024, 24
    mixing = np.eye(side, dtype=np.float32)
    nodes = [
        node("Cast", "x", to="rows", to_type=TensorProto.FLOAT),
        node("MatMul", "rows", "first", to="h0"),
        *(node("MatMul", f"h{place}", "mixing", to=f"h{place + 1}") for place in range(times)),
        node("MatMul", f"h{times}", "last", to="sum"),
        node("Cast", "sum", to="y", to_type=TensorProto.DOUBLE),
    ]
    first, last = np.zeros((1, side), np.float32), np.zeros((side, 1), np.float32)
    first[0, 0] = last[0, 0] = 1.0
    content = graph(nodes, 1, 1, first=first, mixing=mixing, last=last)
    return version(name, _numeric(1), content, **{"parameters": LARGE_PARAMETERS, **known})


def node(operator: str, *names: str, to: str, to_type: int | None = None) -> NodeProto:
    attributes: dict[str, Any] = {} if to_type is None else {"to": to_type}
    return helper.make_node(operator, list(names), [to], **attributes)


def graph(
    nodes: Sequence[NodeProto], width: int, out: int, kind: int = TensorProto.DOUBLE, **constants: NDArray[Any]
) -> bytes:
    """A graph that takes ``x``, float64 (rows, width), and gives ``y`` (rows, out)."""
    made = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", width])],
        [helper.make_tensor_value_info("y", kind, ["rows", out])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def register(database: Database, *versions: NewVersion) -> int:
    """Store versions; return the last one's number."""
    number = 0
    for new in versions:
        with database.write() as connection:
            number = models.register(connection, new)
    return number


def served(new: NewVersion, number: int = 1) -> Served:
    """A version in memory that is in no registry."""
    card = {field.name: getattr(new, field.name) for field in fields(VersionCard)}
    moment = datetime.now(UTC)
    stored = ModelVersion(
        **card, version=number, weights_sha256="0", onnx_sha256="0", keras_sha256=None, created_at=moment
    )
    return Served(
        owner=DEFAULT_OWNER,
        version=stored,
        network=ServedNetwork(new.onnx),
        reader=RowReader(new.inputs),
        guard=InputGuard(new.inputs, is_standardized=True, is_self_normalizing=True),
        takes_numbers=all(encoder.is_plain for encoder in new.inputs.encoders),
    )


def named(new: NewVersion, name: str) -> NewVersion:
    return replace(new, name=name)


def _numeric(width: int) -> tuple[Encoder, ...]:
    return tuple(NumericEncoder(f"c{place}") for place in range(width))
