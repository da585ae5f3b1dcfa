"""Models made by hand for the clients of other protocols: numbers, gaps, and every kind of column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.models import Inputs, NewVersion, Outputs
from service.storage import aliases, models
from service.storage.database import Database

HOUSES = tuple(NumericEncoder(f"c{place}") for place in range(13))
PICTURES = tuple(NumericEncoder(f"pixel{place}") for place in range(64))
FLOWERS = (NumericEncoder("petal", gaps=True, fill=1.5), NumericEncoder("sepal"))
PEOPLE: tuple[Encoder, ...] = (
    NumericEncoder("age", gaps=True, fill=30.0),
    NumericEncoder("weight"),
    CategoricalEncoder("job", ("cook", "nurse", "00202"), other=True, gaps=True),
    CategoricalEncoder("floor", (1, 2, 3), holds="number"),
    CategoricalEncoder("member", (True, False), holds="boolean"),
    BooleanEncoder("flag", gaps=True, fill=0.5),
    DateEncoder("since", "%Y-%m-%d", gaps=True, fill=(1.0,) * 7),
)
PERSON: dict[str, Any] = {
    "age": 44.5,
    "weight": 70.25,
    "job": "nurse",
    "floor": 2,
    "member": True,
    "flag": False,
    "since": "2020-01-31",
}
OTHER_PERSON: dict[str, Any] = {
    "age": None,
    "weight": 55.0,
    "job": None,
    "floor": 3,
    "member": False,
    "flag": None,
    "since": None,
}
PRICE = Outputs("regression", "price")
DIGIT = Outputs("classification", "digit", tuple(range(10)))
FLOWER = Outputs("classification", "flower", ("rose", 'a "tulip"', "Veilchen, weiß"))
LEAVES = Outputs("classification", "leaves", (False, True))


def register_models(database: Database) -> None:
    """Register two versions of ``houses``, the first of which is in production, and one of each other model.

    To rows far outside, ``brittle`` has no answer.
    """
    _register(database, "houses", HOUSES, PRICE, seed=1)
    _register(database, "houses", HOUSES, PRICE, seed=2)
    _register(database, "pictures", PICTURES, DIGIT)
    _register(database, "flowers", FLOWERS, FLOWER)
    _register(database, "people", PEOPLE, PRICE)
    _register(database, "leavers", PEOPLE, LEAVES)
    _register(database, "brittle", FLOWERS, FLOWER, scale=100.0)
    with database.write() as connection:
        aliases.put(connection, "houses", "production", 1)
        aliases.put(connection, "houses", "next", 2)


def register_one(database: Database, name: str = "houses") -> None:
    """Register nothing but one version of a model that takes 13 numbers."""
    _register(database, name, HOUSES, PRICE)


def houses(count: int, seed: int = 0) -> list[list[float]]:
    """Rows for ``houses``, whose numbers are those of float32, so that they are the same in every form."""
    rows: list[list[float]] = np.random.default_rng(seed).normal(size=(count, len(HOUSES))).astype(np.float32).tolist()
    return rows


def pictures(count: int, seed: int = 0) -> list[list[float]]:
    """Rows for ``pictures``."""
    rows: list[list[float]] = np.random.default_rng(seed).random((count, len(PICTURES)), np.float32).tolist()
    return rows


def _register(
    database: Database, name: str, encoders: Sequence[Encoder], outputs: Outputs, seed: int = 0, scale: float = 1.0
) -> None:
    width = sum(encoder.width for encoder in encoders)
    new = NewVersion(
        name=name,
        job_id=f"job of {name} {seed}",
        spec={"dataset": "iris", "network": {"kind": "mlp"}},
        data_sha256=None,
        inputs=Inputs(tuple(encoders), (0.0,) * width, (1e6,) * width),
        outputs=outputs,
        metrics={"best": {"epoch": 1, "loss": 0.5}, "test": {"r2": 0.9}},
        parity={"max_difference": 1e-7},
        parameters=width * max(len(outputs.classes), 1),
        environment={"keras": "3"},
        weights=b"weights",
        onnx=_graph(width, len(outputs.classes), seed, scale),
        keras=b"keras",
    )
    with database.write() as connection:
        models.register(connection, new)


def _graph(width: int, classes: int, seed: int, scale: float) -> bytes:
    """Weigh every column by another number, so that no two may change places."""
    weights = np.random.default_rng([seed, width]).normal(size=(width, classes or 1)) * scale / width
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sum"])]
    if classes:
        nodes.append(helper.make_node("Cast", ["sum"], ["logits"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Softmax", ["logits"], ["y"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    answer = helper.make_tensor_value_info(
        "y", TensorProto.FLOAT if classes else TensorProto.DOUBLE, ["rows", classes or 1]
    )
    graph = helper.make_graph(
        nodes,
        "weighted",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", width])],
        [answer],
        [numpy_helper.from_array(weights, "w")],
    )
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
