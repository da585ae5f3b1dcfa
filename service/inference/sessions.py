"""Networks that answer: ONNX Runtime sessions, kept while they are used."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime reads this when it is imported; without it, it reports its use to its makers and writes a device id.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # after the variable above

INPUT_NAME = "x"
OUTPUT_NAME = "y"
CHUNK_ROWS = 4096
"""Rows in one call: more would hold every layer's activations of all of them in memory."""


class ServedNetwork:
    """One graph in memory; safe to call from many threads."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # One thread: for small networks the hand-over costs more than it brings, and the bits stay the same everywhere.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, rows: NDArray[np.float64]) -> NDArray[np.floating]:
        """Answer raw rows, float64 (rows, features).

        Returns probabilities, float32 (rows, classes), or predictions in the target's units, float64 (rows, 1).
        """
        chunks = [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
        return np.concatenate([self._session.run([OUTPUT_NAME], {INPUT_NAME: chunk})[0] for chunk in chunks])


class SessionCache:
    """The networks used last, by the hash of their graph."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._networks: OrderedDict[str, ServedNetwork] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str, load: Callable[[], bytes]) -> ServedNetwork:
        """Return the network with this hash; ``load`` fetches its graph where it is not in memory."""
        with self._lock:
            if network := self._networks.get(sha256):
                self._networks.move_to_end(sha256)
                return network
        network = ServedNetwork(load())
        with self._lock:
            self._networks[sha256] = network
            while len(self._networks) > self._capacity:
                self._networks.popitem(last=False)
        return network


def has_runtime() -> bool:
    """Whether this machine can run networks."""
    return "CPUExecutionProvider" in onnxruntime.get_available_providers()
