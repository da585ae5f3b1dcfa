"""What the Open Inference Protocol and Triton say of a model: its metadata and its configuration."""

from collections.abc import Sequence
from typing import Any

import orjson

from service.api.protocols.signatures import Tensor, signature_of
from service.use_cases.serving import Served

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"


def metadata(served: Served, versions: Sequence[int]) -> dict[str, Any]:
    """Describe a model; ``versions`` are all that it has."""
    signature = signature_of(served)
    return {
        "name": served.version.name,
        "versions": [str(version) for version in sorted(versions)],
        "platform": PLATFORM,
        "inputs": [_shown(tensor) for tensor in signature.inputs],
        "outputs": [_shown(tensor) for tensor in signature.outputs],
    }


def configuration(served: Served) -> dict[str, Any]:
    """Describe a model as Triton's configuration does; its parameters name the columns and the classes."""
    signature, version = signature_of(served), served.version
    parameters = {"columns": list(version.inputs.features), "classes": list(version.outputs.classes)}
    return {
        "name": version.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"all": {}},
        "max_batch_size": signature.most_rows,
        "input": [_input(tensor) for tensor in signature.inputs],
        "output": [_output(tensor) for tensor in signature.outputs],
        "instance_group": [{"name": version.name, "kind": "KIND_CPU", "count": 1, "gpus": [], "profile": []}],
        "default_model_filename": "model.onnx",
        "parameters": {
            name: {"string_value": orjson.dumps(value).decode()} for name, value in parameters.items() if value
        },
    }


def _shown(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, tensor.width]}


def _input(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": _config_type(tensor),
        "format": "FORMAT_NONE",
        "dims": [tensor.width],
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": tensor.is_optional,
    }


def _output(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": _config_type(tensor),
        "dims": [tensor.width],
        "label_filename": "",
        "is_shape_tensor": False,
    }


def _config_type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
