"""The network that every server serves: the article's 20 hidden layers of 100 SELU units, in the form that each takes.

``python -m benchmarks.predict.networks`` writes the files. It is a process of its own, for TensorFlow would
stay in the memory of the benchmark.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.encoders import NumericEncoder
from service.domain.models import Inputs, Outputs

LAYERS, UNITS = 20, 100
TUTORIAL_FOLDER = "TUTORIAL_FOLDER"
"""The variable that tells the tutorial service where its models are."""


@dataclass(frozen=True)
class Network:
    """One model: its name, its width, and what it answers."""

    name: str
    features: int
    classes: int = 0
    """0 for a regression."""
    seed: int = 0

    @property
    def inputs(self) -> Inputs:
        """Numeric columns, each with a mean and a scale of its own."""
        random = np.random.default_rng(self.seed)
        names = tuple(NumericEncoder(f"x{number}") for number in range(self.features))
        mean, scale = random.normal(0, 1, self.features), random.uniform(0.5, 2, self.features)
        return Inputs(names, tuple(mean.tolist()), tuple(scale.tolist()))

    @property
    def outputs(self) -> Outputs:
        """Labels, or a number near those of the article's table of houses."""
        if self.classes:
            return Outputs("classification", "label", tuple(f"class {number}" for number in range(self.classes)))
        return Outputs("regression", "price", mean=22.5, scale=9.2)

    @property
    def file(self) -> str:
        """What its files are called."""
        return f"{self.name}-{self.seed}"

    @property
    def width(self) -> int:
        """How many numbers it answers a row with."""
        return self.classes or 1

    def rows(self, count: int, seed: int = 1) -> NDArray[np.float64]:
        """Return raw rows (count, features) with a few decimals, as clients have them."""
        inputs = self.inputs
        drawn = np.random.default_rng(seed).normal(inputs.mean, inputs.scale, (count, self.features))
        return drawn.round(4)

    def weights(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return kernel and bias of every layer; LeCun-normal kernels, as the article's network starts with."""
        random = np.random.default_rng(self.seed + 1)
        widths = [self.features, *[UNITS] * LAYERS, self.width]
        pairs = []
        for before, after in pairwise(widths):
            kernel = random.normal(0, before**-0.5, (before, after)).astype(np.float32)
            pairs.append((kernel, random.normal(0, 0.1, after).astype(np.float32)))
        return pairs


SMALL = Network("houses", 13)
WIDE = Network("pictures", 784, 10)


def write(networks: list[Network], folder: Path, for_peers: bool = False) -> None:
    """Write NAME-SEED.onnx as a training registers it; for peers also .float32.onnx (Triton) and .keras (tutorial)."""
    words = [f"{network.name}:{network.features}:{network.classes}:{network.seed}" for network in networks]
    command = [sys.executable, "-m", "benchmarks.predict.networks", str(folder), str(int(for_peers)), *words]
    subprocess.run(command, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}, stderr=subprocess.DEVNULL)


def _write_one(network: Network, folder: Path, for_peers: bool) -> None:
    import keras  # these load TensorFlow

    from service.domain.spec import JobSpec
    from workers.export import to_onnx
    from workers.network import build

    spec = JobSpec.model_validate({"dataset": "iris", "network": {"hidden_layers": LAYERS, "units": UNITS}})
    built = build(spec.network, network.features, network.width, seed=0)
    built.set_weights([array for pair in network.weights() for array in pair])
    (folder / f"{network.file}.onnx").write_bytes(to_onnx(built, network.inputs, network.outputs))
    if for_peers:
        (folder / f"{network.file}.float32.onnx").write_bytes(_float32_graph(network))
        probabilities = [keras.layers.Softmax()] * bool(network.classes)
        whole = keras.Sequential([keras.Input((network.features,)), *built.layers, *probabilities])
        whole.save(folder / f"{network.file}.keras")


def _float32_graph(network: Network) -> bytes:
    """Return the same network as somebody would export it for Triton: float32 in and out, nothing but its layers.

    Standardization is folded into the first layer, and the target's units into the last: that is the fastest form.
    """
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs, pairs = network.inputs, network.outputs, network.weights()
    kernel, bias = pairs[0]
    folded = kernel / np.array(inputs.scale)[:, None]
    pairs[0] = (folded.astype(np.float32), (bias - np.array(inputs.mean) @ folded).astype(np.float32))
    if not network.classes:
        kernel, bias = pairs[-1]
        pairs[-1] = (kernel * np.float32(outputs.scale), bias * np.float32(outputs.scale) + np.float32(outputs.mean))
    nodes, tensors, last = [], [], "x"
    for number, (kernel, bias) in enumerate(pairs):
        tensors += [numpy_helper.from_array(kernel, f"k{number}"), numpy_helper.from_array(bias, f"b{number}")]
        nodes.append(helper.make_node("Gemm", [last, f"k{number}", f"b{number}"], [f"d{number}"]))
        last = f"d{number}"
        if number < LAYERS:
            nodes.append(helper.make_node("Selu", [last], [f"s{number}"]))
            last = f"s{number}"
    nodes.append(helper.make_node("Softmax" if network.classes else "Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", network.features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", network.width])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    for word in sys.argv[3:]:
        name, *numbers = word.split(":")
        _write_one(Network(name, *map(int, numbers)), Path(sys.argv[1]), bool(int(sys.argv[2])))
