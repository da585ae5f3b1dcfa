"""The model that Triton's Python backend runs: the graph beside it, in ONNX Runtime, once for all requests at hand."""

import gc
import os
from typing import Any

import numpy
import onnxruntime
import triton_python_backend_utils as backend  # type: ignore[import-not-found]  # in Triton's process alone


class TritonPythonModel:
    """What Triton looks for."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        file = os.path.join(arguments["model_repository"], arguments["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        gc.collect()
        gc.freeze()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton has gathered."""
        tensor, response, find = backend.Tensor, backend.InferenceResponse, backend.get_input_tensor_by_name
        parts = [find(request, "x").as_numpy() for request in requests]
        [answers] = self.session.run(["y"], {"x": parts[0] if len(parts) == 1 else numpy.concatenate(parts)})
        if len(parts) == 1:
            return [response([tensor("y", answers)])]
        responses, start = [], 0
        for part in parts:
            stop = start + len(part)
            responses.append(response([tensor("y", answers[start:stop])]))
            start = stop
        return responses
