"""What TensorFlow Serving says of a model: the status of its versions, and their signatures."""

from collections.abc import Sequence
from typing import Any

from service.api.protocols.signatures import Tensor, signature_of
from service.api.protocols.tensorflow_requests import CLASSIFY, DEFAULT, PREDICT, REGRESS
from service.domain.encoders import Encoder
from service.use_cases.serving import Served

HELD = {"text": "DT_STRING", "number": "DT_DOUBLE", "boolean": "DT_BOOL"}


def status(versions: Sequence[int]) -> dict[str, Any]:
    """Say of every version that it can be asked."""
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for version in versions
        ]
    }


def metadata(served: Served) -> dict[str, Any]:
    """Describe the signatures of a version."""
    is_regression = served.version.outputs.task == "regression"
    other = {"regression": _regression()} if is_regression else {"classification": _classification()}
    return {
        "model_spec": {
            "name": served.version.name,
            "signature_name": "",
            "version": str(served.version.version),
        },
        "metadata": {"signature_def": {"signature_def": {DEFAULT: _prediction(served), **other}}},
    }


def _prediction(served: Served) -> dict[str, Any]:
    signature, encoders = signature_of(served), served.version.inputs.encoders
    types = ["DT_DOUBLE"] if signature.takes_matrix else list(map(_column_type, encoders))
    answer = signature.outputs[0]
    return _signature(
        {tensor.name: _tensor(tensor, dtype) for tensor, dtype in zip(signature.inputs, types, strict=True)},
        {answer.name: _tensor(answer, "DT_FLOAT" if answer.datatype == "FP32" else "DT_DOUBLE")},
        PREDICT,
    )


def _classification() -> dict[str, Any]:
    outputs = {"classes": _named("classes", "DT_STRING", [-1, -1]), "scores": _named("scores", "DT_FLOAT", [-1, -1])}
    return _signature({"inputs": _named("inputs", "DT_STRING", [-1])}, outputs, CLASSIFY)


def _regression() -> dict[str, Any]:
    outputs = {"outputs": _named("outputs", "DT_FLOAT", [-1, 1])}
    return _signature({"inputs": _named("inputs", "DT_STRING", [-1])}, outputs, REGRESS)


def _signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str) -> dict[str, Any]:
    return {
        "inputs": inputs,
        "outputs": outputs,
        "method_name": f"tensorflow/serving/{method}",
        "defaults": {},
    }


def _column_type(encoder: Encoder) -> str:
    match encoder.kind:
        case "categorical":
            return HELD[encoder.holds]
        case "numeric":
            return "DT_DOUBLE"
        case "boolean":
            return "DT_BOOL"
        case _:
            return "DT_STRING"


def _tensor(tensor: Tensor, dtype: str) -> dict[str, Any]:
    return _named(tensor.name, dtype, [-1, tensor.width])


def _named(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}
