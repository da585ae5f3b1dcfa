"""Networks that answer: one ONNX Runtime session for each graph."""

import os

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime reads this when it is imported; without it, it reports its use to its makers and writes a device id.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # after the variable above

INPUT_NAME = "x"
OUTPUT_NAME = "y"
CHUNK_ROWS = 1024
"""Rows in one call: more are not faster, and would hold every layer's activations of all of them in memory."""
SESSION_BYTES = 300_000
"""What a session takes at most beside its graph's weights, which it keeps twice, as they are and packed (measured)."""


class ServedNetwork:
    """One graph in memory; safe to call from many threads."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # One thread: for small networks the hand-over costs more than it brings, and the bits stay the same everywhere.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # What a large request needed would stay with the session; without the arena, calls take as long (measured).
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        # It keeps the graph's bytes for a change of providers, which never comes: a third of what it takes in all.
        self._session._model_bytes = None
        self.memory_bytes = 2 * len(graph) + SESSION_BYTES
        """About what it takes."""

    def run(self, rows: NDArray[np.float64]) -> NDArray[np.floating]:
        """Answer encoded rows, float64 (rows, encoded columns); what a row is answered depends on no other row.

        Returns probabilities, float32 (rows, classes), or predictions in the target's units, float64 (rows, 1).
        """
        if len(rows) <= CHUNK_ROWS:
            answer: NDArray[np.floating] = self._session.run([OUTPUT_NAME], {INPUT_NAME: rows})[0]
            return answer
        chunks = [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
        return np.concatenate([self._session.run([OUTPUT_NAME], {INPUT_NAME: chunk})[0] for chunk in chunks])


def has_runtime() -> bool:
    """Whether this machine can run networks."""
    return "CPUExecutionProvider" in onnxruntime.get_available_providers()
