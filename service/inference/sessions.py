"""Networks that answer: ONNX Runtime sessions, kept while they are used, with what was last known of their versions."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain.models import ModelVersion

# ONNX Runtime reads this when it is imported; without it, it reports its use to its makers and writes a device id.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # after the variable above

INPUT_NAME = "x"
OUTPUT_NAME = "y"
CHUNK_ROWS = 4096
"""Rows in one call: more would hold every layer's activations of all of them in memory."""


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


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
    """The networks used last, by the hash of their graph; the versions read last, for when they cannot be read."""

    def __init__(self, capacity: int = 64) -> None:
        self._networks: _Recent[str, ServedNetwork] = _Recent(capacity)
        self._versions: _Recent[tuple[str, int | None], ModelVersion] = _Recent(2 * capacity)

    def get(self, sha256: str, load: Callable[[], bytes]) -> ServedNetwork:
        """Return the network with this hash; ``load`` fetches its graph where it is not in memory."""
        network = self._networks.get(sha256)
        if network is None:
            network = ServedNetwork(load())
            self._networks.put(sha256, network)
        return network

    def remember(self, found: ModelVersion, is_newest: bool) -> None:
        """Keep what was read of a version, and whether it was the model's newest."""
        newest = self._versions.get((found.name, None))
        self._versions.put((found.name, found.version), found)
        if is_newest or (newest is not None and newest.version < found.version):
            self._versions.put((found.name, None), found)

    def recall(self, name: str, version: int | None) -> ModelVersion | None:
        """Return what was last known of a version, or of the newest for None; None where nothing is known."""
        return self._versions.get((name, version))


class _Recent(Generic[Key, Value]):
    """The values used last; safe to use from many threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)


def has_runtime() -> bool:
    """Whether this machine can run networks."""
    return "CPUExecutionProvider" in onnxruntime.get_available_providers()
