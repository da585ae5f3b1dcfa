"""What TensorFlow Serving's own messages make of the service's documents; runs with its package on the path."""

import json
import sys
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2


def read(document: Any, message: Any) -> Any:
    """Parse strictly: a field that the message does not have is an error."""
    return json_format.ParseDict(document, message)


def main() -> None:
    asked = json.load(sys.stdin)
    statuses = [read(document, get_model_status_pb2.GetModelStatusResponse()) for document in asked["status"]]
    found: dict[str, Any] = {
        "status": [
            [(item.version, item.state, item.status.error_code) for item in status.model_version_status]
            for status in statuses
        ],
        "available": get_model_status_pb2.ModelVersionStatus.AVAILABLE,
        "metadata": [],
    }
    for document in asked["metadata"]:
        spec = read(document["model_spec"], model_pb2.ModelSpec())
        signatures = read(document["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
        whole = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
        whole.metadata["signature_def"].Pack(signatures)
        found["metadata"].append(
            {
                "spec": [whole.model_spec.name, whole.model_spec.version.value],
                "signatures": {
                    name: {
                        "method": signature.method_name,
                        "inputs": {key: shape(value) for key, value in signature.inputs.items()},
                        "outputs": {key: shape(value) for key, value in signature.outputs.items()},
                    }
                    for name, signature in signatures.signature_def.items()
                },
            }
        )
    json.dump(found, sys.stdout)


def shape(tensor: Any) -> list[Any]:
    return [tensor.dtype, [dimension.size for dimension in tensor.tensor_shape.dim]]


if __name__ == "__main__":
    main()
