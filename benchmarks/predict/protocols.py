"""How rows are written for each route, and how its answers are read."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.predict.networks import Network

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """A route: its path, and its JSON."""

    name: str
    path: Callable[[Network], str]
    encode: Callable[[Network, Rows], bytes]
    decode: Callable[[Network, bytes], Rows]
    """Answers (rows, width of the network)."""


def _native(network: Network, rows: Rows) -> bytes:
    return json.dumps({"model": network.name, "instances": rows.tolist()}).encode()


def _read_native(network: Network, answer: bytes) -> Rows:
    found = json.loads(answer)
    return np.array(found["probabilities"] if network.classes else found["predictions"]).reshape(-1, network.width)


def _open_inference(_: Network, rows: Rows) -> bytes:
    tensor = {"name": "x", "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _read_open_inference(network: Network, answer: bytes) -> Rows:
    """Read the numbers of an answer; labels that come beside probabilities are left out."""
    outputs = [output for output in json.loads(answer)["outputs"] if output["datatype"] in ("FP32", "FP64")]
    return np.array(outputs[-1]["data"], np.float64).reshape(-1, network.width)


def _tutorial(_: Network, rows: Rows) -> bytes:
    return json.dumps({"instances": rows.tolist()}).encode()


def _read_tutorial(network: Network, answer: bytes) -> Rows:
    return np.array(json.loads(answer)["predictions"]).reshape(-1, network.width)


NATIVE = Protocol("/predict", lambda _: "/predict", _native, _read_native)
OPEN_INFERENCE = Protocol(
    "/v2 .../infer", lambda network: f"/v2/models/{network.name}/infer", _open_inference, _read_open_inference
)
TUTORIAL = Protocol("/predict", lambda network: f"/predict/{network.name}", _tutorial, _read_tutorial)
