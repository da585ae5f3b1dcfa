"""Made-up networks: random weights as a worker would store them, and answers computed the plain way."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import save

from service.domain.encoders import NumericEncoder
from service.domain.models import Inputs, Outputs
from service.domain.spec import NetworkSpec
from service.inference.layers import PlainNetwork, read

_SPEC: TypeAdapter[NetworkSpec] = TypeAdapter(NetworkSpec)

SNN: dict[str, Any] = {"kind": "snn", "units": [16, 12, 8], "dropout": 0.1}
MLP: dict[str, Any] = {"kind": "mlp", "units": [16, 12, 8], "dropout": 0.3, "normalization": "batch"}
NUMBER = Outputs("regression", "y", mean=40.0, scale=9.0)
CLASSES = Outputs("classification", "y", ("a", "b", "c"))


def spec_of(fields: dict[str, Any]) -> NetworkSpec:
    return _SPEC.validate_python(fields)


def inputs_of(columns: int) -> Inputs:
    """Plain numbers, none of them standard already."""
    rng = np.random.default_rng(7)
    encoders = tuple(NumericEncoder(f"x{number}") for number in range(columns))
    return Inputs(encoders, tuple(rng.normal(5, 2, columns).tolist()), tuple(rng.uniform(0.5, 3, columns).tolist()))


def rows_of(inputs: Inputs, rows: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows as they might be, encoded."""
    values = np.random.default_rng(seed).normal(size=(rows, len(inputs.mean)))
    return np.asarray(values * np.array(inputs.scale) + np.array(inputs.mean))


def tensors_of(spec: NetworkSpec, columns: int, outputs: Outputs, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Draw weights, LeCun normal, with biases and moments of a network that has been trained."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    widths = (columns, *spec.widths, len(outputs.classes) or 1)
    names = [*(f"dense_{number}" for number in range(1, len(widths) - 1)), "head"]
    for name, before, units in zip(names, widths, widths[1:], strict=False):
        tensors[f"{name}/kernel"] = rng.normal(0, before**-0.5, (before, units))
        tensors[f"{name}/bias"] = rng.normal(0, 0.2, units)
        if spec.normalization == "batch" and name != "head":
            path = name.replace("dense", "batch_normalization")
            tensors[f"{path}/gamma"] = rng.uniform(0.5, 1.5, units)
            tensors[f"{path}/beta"] = rng.normal(0, 0.2, units)
            tensors[f"{path}/moving_mean"] = rng.normal(0, 0.2, units)
            tensors[f"{path}/moving_variance"] = rng.uniform(0.5, 2, units)
    return {f"network/{path}": values.astype(np.float32) for path, values in tensors.items()}


def network_of(fields: dict[str, Any], outputs: Outputs, inputs: Inputs | None = None, seed: int = 0) -> PlainNetwork:
    """Read a network with random weights; of five columns where no inputs are given."""
    spec, inputs = spec_of(fields), inputs or inputs_of(5)
    return read(save(tensors_of(spec, len(inputs.mean), outputs, seed)), spec, inputs, outputs)


def shown(network: PlainNetwork, given: NDArray[Any]) -> NDArray[np.float64]:
    """Return what the output layer gave as a client sees it: probabilities, or numbers in the target's units."""
    if network.outputs.task == "regression":
        return np.asarray(given * network.outputs.scale + network.outputs.mean)
    powers = np.exp(given.astype(np.float64))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
