"""Write the served form of a trained network: an ONNX graph that takes encoded rows, and the plain tensors."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_tensors

from service.domain.models import Inputs, Outputs
from service.inference.sessions import INPUT_NAME, OUTPUT_NAME

OPSET = 21
IR_VERSION = 10
ACTIVATIONS = {"relu": "Relu", "elu": "Elu", "tanh": "Tanh", "sigmoid": "Sigmoid", "selu": "Selu"}


class _Graph:
    """An ONNX graph in the making: nodes in order, each taking the one before."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.last = INPUT_NAME

    def add(
        self, operator: str, name: str, constants: Mapping[str, NDArray[np.generic]] | None = None, **attributes: Any
    ) -> None:
        names = []
        for suffix, values in (constants or {}).items():
            names.append(f"{name}/{suffix}")
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), names[-1]))
        self.nodes.append(helper.make_node(operator, [self.last, *names], [name], name=name, **attributes))
        self.last = name


def to_onnx(network: keras.Model, inputs: Inputs, outputs: Outputs) -> bytes:
    """Return the graph: encoded float64 rows in; probabilities, or predictions in the target's units, out.

    Numeric columns without gaps are their own encoding, so a graph of such a table takes raw rows.
    Standardization is done in float64 before the first layer, exactly as in training: folded into float32 weights it
    would lose columns whose mean is large against their spread (a year, a timestamp).
    """
    graph = _Graph()
    graph.add("Sub", "centered", {"mean": np.array(inputs.mean)})
    graph.add("Div", "standardized", {"scale": np.array(inputs.scale)})
    graph.add("Cast", "rows", to=TensorProto.FLOAT)
    for layer in network.layers:
        _add_layer(graph, layer)
    if outputs.task == "classification":
        graph.add("Softmax", OUTPUT_NAME, axis=1)
        kind = TensorProto.FLOAT
    else:
        graph.add("Cast", "prediction", to=TensorProto.DOUBLE)
        graph.add("Mul", "scaled", {"scale": np.array(outputs.scale)})
        graph.add("Add", OUTPUT_NAME, {"mean": np.array(outputs.mean)})
        kind = TensorProto.DOUBLE
    width = len(outputs.classes) or 1
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "selfnorm",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.DOUBLE, ["rows", len(inputs.mean)])],
            [helper.make_tensor_value_info(OUTPUT_NAME, kind, ["rows", width])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="selfnorm",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def to_safetensors(network: keras.Model) -> bytes:
    """Return every weight by its path in the network."""
    return save_tensors({weight.path: np.ascontiguousarray(weight.numpy()) for weight in network.weights})


def _add_layer(graph: _Graph, layer: keras.Layer) -> None:
    match layer:
        case keras.layers.Dense():
            kernel, bias = layer.get_weights()
            graph.add("Gemm", layer.name, {"kernel": kernel, "bias": bias})
        case keras.layers.BatchNormalization():
            gamma, beta, mean, variance = layer.get_weights()
            constants = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
            graph.add("BatchNormalization", layer.name, constants, epsilon=layer.epsilon)
        case keras.layers.Activation():
            graph.add(ACTIVATIONS[layer.activation.__name__], layer.name)
        case keras.layers.AlphaDropout() | keras.layers.Dropout():
            pass  # the identity when a network answers
        case _:
            raise TypeError(f"no ONNX form is known for the layer {type(layer).__name__}")
