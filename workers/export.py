"""Write the forms of a trained network that are kept: an ONNX graph and a Keras file, and the plain tensors.

Graph and file take encoded rows, float64, and answer probabilities or numbers in the target's units. Numeric columns
without gaps are their own encoding, so for a table of such they take raw rows.
"""

import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_tensors

from service.domain.models import Inputs, Outputs
from service.domain.self_normalization import SELU_ALPHA, SELU_SCALE
from service.inference.sessions import INPUT_NAME, OUTPUT_NAME

KERAS_FILE = "model.keras"
OPSET = 21
IR_VERSION = 10
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
EXPONENTIAL = {"selu": (SELU_ALPHA, SELU_SCALE), "elu": (1.0, 1.0)}
"""Activations that are scale * x above 0 and scale * alpha * (e^x - 1) below."""


class _Graph:
    """An ONNX graph in the making: nodes in order, each taking the one before."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.last = INPUT_NAME
        self.scale = 1.0
        """By what the last values are still to be multiplied, which the next product of matrices does."""

    def add(
        self, operator: str, name: str, constants: Mapping[str, NDArray[np.generic]] | None = None, **attributes: Any
    ) -> None:
        names = []
        for suffix, values in (constants or {}).items():
            names.append(f"{name}/{suffix}")
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), names[-1]))
        self.nodes.append(helper.make_node(operator, [self.last, *names], [name], name=name, **attributes))
        self.last = name

    def add_product(self, name: str, constants: Mapping[str, NDArray[np.generic]]) -> None:
        """Multiply by a kernel and add a bias."""
        self.add("Gemm", name, constants, **({} if self.scale == 1.0 else {"alpha": self.scale}))
        self.scale = 1.0

    def add_exponential(self, name: str, alpha: float, scale: float) -> None:
        """Write SELU or ELU out: ONNX Runtime computes Exp with vectors, and its own Selu and Elu ten times slower."""
        above = self.last
        self.add("Min", f"{name}/below", {"zero": np.array([0], np.float32)})
        self.add("Exp", f"{name}/exponential")
        self.add("Sub", f"{name}/shifted", {"one": np.array([1], np.float32)})
        if alpha != 1.0:
            self.add("Mul", f"{name}/scaled", {"alpha": np.array([alpha], np.float32)})
        below, self.last = self.last, above
        self.add("Relu", f"{name}/above")
        self.nodes.append(helper.make_node("Add", [below, self.last], [name], name=name))
        self.last, self.scale = name, scale


def to_onnx(network: keras.Model, inputs: Inputs, outputs: Outputs) -> bytes:
    """Return the graph that serves.

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


def to_keras(network: keras.Model, inputs: Inputs, outputs: Outputs) -> bytes:
    """Return a ``.keras`` file of Keras' own layers, which loads where nothing of this project is installed.

    Equal networks give equal bytes.
    """
    rows = keras.Input((len(inputs.mean),), dtype="float64", name=INPUT_NAME)
    # Two steps in float64, for Keras' Normalization divides by no less than 1e-7 and squares scales as large as 1e300.
    # A number that is no array would become float32 on its way.
    ones, zeros = np.ones(len(inputs.mean)), np.zeros(len(inputs.mean))
    answer = keras.layers.Rescaling(ones, -np.array(inputs.mean), dtype="float64", name="centered")(rows)
    answer = keras.layers.Rescaling(1.0 / np.array(inputs.scale), zeros, dtype="float64", name="standardized")(answer)
    # Copies, for the network serves the next job too, and every call of a layer leaves something behind in it.
    layers = [_copied(layer) for layer in network.layers]
    for layer in layers:
        answer = layer(answer)
    if outputs.task == "classification":
        answer = keras.layers.Softmax(name=OUTPUT_NAME)(answer)
    else:
        scale, mean = np.array([outputs.scale]), np.array([outputs.mean])
        answer = keras.layers.Rescaling(scale, mean, dtype="float64", name=OUTPUT_NAME)(answer)
    # A Sequential would be built anew with each layer that is loaded: a minute for 256 of them instead of seconds.
    model = keras.Model(rows, answer, name="selfnorm")
    for layer, trained in zip(layers, network.layers, strict=True):
        layer.set_weights(trained.get_weights())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Keras 3.15 asks its variables for arrays in a way of which NumPy 2 says that it is going out of use.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / KERAS_FILE
        model.save(path)
        return _without_times(path)


def in_float64(network: keras.Model) -> keras.Model:
    """Return a copy that computes in float64: what the network would answer if nothing were rounded on the way."""

    def widened(layer: keras.Layer) -> keras.Layer:
        copy = _copied(layer)
        return type(copy).from_config({**copy.get_config(), "dtype": "float64"})

    copy = keras.Sequential([keras.Input(network.inputs[0].shape[1:], dtype="float64"), *map(widened, network.layers)])
    copy.set_weights([weights.astype(np.float64) for weights in network.get_weights()])
    return copy


def from_keras(content: bytes) -> keras.Model:
    """Load what ``to_keras`` returned, as anybody else would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / KERAS_FILE
        path.write_bytes(content)
        return keras.saving.load_model(path)


def to_safetensors(network: keras.Model) -> bytes:
    """Return every weight by its path in the network."""
    return save_tensors({weight.path: np.ascontiguousarray(weight.numpy()) for weight in network.weights})


def _add_layer(graph: _Graph, layer: keras.Layer) -> None:
    match layer:
        case keras.layers.Dense():
            kernel, bias = layer.get_weights()
            graph.add_product(layer.name, {"kernel": kernel, "bias": bias})
        case keras.layers.BatchNormalization():
            gamma, beta, mean, variance = layer.get_weights()
            constants = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
            graph.add("BatchNormalization", layer.name, constants, epsilon=layer.epsilon)
        case keras.layers.Activation() if (name := layer.activation.__name__) in EXPONENTIAL:
            graph.add_exponential(layer.name, *EXPONENTIAL[name])
        case keras.layers.Activation():
            graph.add(ACTIVATIONS[layer.activation.__name__], layer.name)
        case keras.layers.AlphaDropout() | keras.layers.Dropout():
            pass  # the identity when a network answers
        case _:
            raise TypeError(f"no ONNX form is known for the layer {type(layer).__name__}")


def _copied(layer: keras.Layer) -> keras.Layer:
    """Return a layer without its weights; Keras' own where this one takes its noise from outside.

    Seeds are left behind: a network that is kept for many jobs has those of the first one.
    """
    config = layer.get_config()
    if "kernel_initializer" in config:
        config["kernel_initializer"]["config"].pop("seed", None)
    if "seed" in config:
        config["seed"] = 0
    own = (kind for kind in (keras.layers.AlphaDropout, keras.layers.Dropout) if isinstance(layer, kind))
    return next(own, type(layer)).from_config(config)


def _without_times(path: Path) -> bytes:
    """Return a Keras file without the moment at which it was written."""
    written = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(written, "w") as copy:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                about = {key: value for key, value in json.loads(content).items() if key != "date_saved"}
                content = json.dumps(about).encode()
            copy.writestr(zipfile.ZipInfo(name), content)
    return written.getvalue()
