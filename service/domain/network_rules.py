"""Rules about the network and its training alone: layers, activation, start, dropout, depth, learning rate."""

import math
from itertools import pairwise
from typing import Any

from service.domain.findings import PAPER, Finding, Status
from service.domain.self_normalization import THEOREM_1, THEOREM_2, initial_tau
from service.domain.signal import Signal, is_in
from service.domain.spec import NetworkSpec, SnnSpec
from service.domain.training_spec import TrainingSpec

MEASURED = "measured: 20 x 100 SELU units, Nadam, Fashion-MNIST (docs/self-normalization.md)"

ALPHA_DROPOUT_RATES = (0.05, 0.1)
"""Rates that work well (paper, section "New dropout technique")."""
FEW_INPUTS = 16
"""A sum of fewer inputs is not yet normal, whatever they are."""
KEPT_STEPS = 0.002
"""Learning rate times hidden layers: Nadam 1e-4 on 20 layers kept the variance below 3.6 ..."""
LOST_STEPS = 0.014
"""... and 7e-4 left the domain within the first epoch."""
DEEP = 8
"""Fewer hidden layers than this do not amplify a change much."""
KEEPING_TAU = {"relu": 2.0, "tanh": 1.0, "elu": 1.5}
"""The tau that roughly keeps an activation's second moment."""


def _as_snn(network: NetworkSpec) -> dict[str, Any]:
    """Return the fix that makes a network keep every condition."""
    alpha = min(network.dropout or 0.0, ALPHA_DROPOUT_RATES[1])
    whole = SnnSpec(hidden_layers=len(network.widths), units=network.units, dropout=alpha)
    return {"#/network": whole.model_dump(mode="json")}


def layer_type(network: NetworkSpec) -> Finding:
    """Look for anything beside Dense layers."""
    if network.normalization is None:
        return Finding("layer_type", "pass", "the network is a plain sequence of Dense layers")
    detail = (
        "batch normalization makes the moments of a layer depend on the batch: the network is normalized from outside"
    )
    return Finding("layer_type", "fail", detail, fix=_as_snn(network))


def activation(network: NetworkSpec) -> Finding:
    """Only SELU has the fixed point."""
    if network.activation == "selu":
        return Finding("activation", "pass", "SELU has an attracting fixed point at mean 0 and variance 1")
    detail = (
        f"{network.activation} has no fixed point at mean 0 and variance 1, to which layers would come back; SELU has"
    )
    return Finding("activation", "fail", detail, fix=_as_snn(network))


def initializer(network: NetworkSpec, inputs: int) -> Finding:
    """Go by tau, for names mislead: Glorot's is LeCun's wherever a layer is as wide as the one before."""
    taus = [initial_tau(network.initializer, *pair) for pair in pairwise((inputs, *network.widths))]
    keeps = KEEPING_TAU.get(network.activation)
    wanted_tau = keeps or 1.0
    worst = max(range(len(taus)), key=lambda number: abs(taus[number] - wanted_tau))
    tau, layer = taus[worst], worst + 1
    said = f"{network.initializer} starts with tau {tau:.3g} in layer {layer}, the farthest from {wanted_tau:g}"
    if network.activation != "selu":
        wanted = f"; {network.activation} keeps its second moment near tau {keeps:g}" if keeps else ""
        status: Status = "pass" if keeps is not None and abs(tau - keeps) <= 0.25 * keeps else "warn"
        return Finding("initializer_tau", status, f"{said}{wanted}", tau, layer=layer)
    if is_in(tau, THEOREM_1.tau):
        return Finding("initializer_tau", "pass", f"{said}; Theorem 1 holds from 0.95 to 1.1", tau, layer=layer)
    is_near = is_in(tau, THEOREM_2.tau)
    holds = "Theorem 1 holds from 0.95 to 1.1" + ("" if is_near else ", and nothing is promised beyond 0.8 to 1.25")
    return Finding(
        "initializer_tau",
        "warn" if is_near else "fail",
        f"{said}; {holds}",
        tau,
        f"{PAPER}, Theorems 1 to 3",
        layer,
        _as_snn(network),
    )


def dropout(network: NetworkSpec) -> Finding:
    """Look at its kind and its rate."""
    rate = network.dropout or 0.0
    if not rate:
        return Finding("dropout", "pass", "there is no dropout", 0.0)
    if network.dropout_kind != "alpha":
        status: Status = "fail" if network.activation == "selu" else "pass"
        said = (
            "moves the fixed point of SELU: take alpha dropout"
            if status == "fail"
            else f"goes with {network.activation}"
        )
        return Finding(
            "dropout", status, f"ordinary dropout {said}", rate, fix=_as_snn(network) if status == "fail" else None
        )
    if rate <= ALPHA_DROPOUT_RATES[1]:
        return Finding("dropout", "pass", "alpha dropout keeps mean 0 and variance 1; rates up to 0.1 work well", rate)
    detail = (
        f"alpha dropout keeps mean 0 and variance 1, but rates from 0.05 to 0.1 are what works well; this is {rate:g}"
    )
    return Finding("dropout", "warn", detail, rate, fix={"#/network/dropout": ALPHA_DROPOUT_RATES[1]})


def bias_start() -> Finding:
    """Biases are always zeros here."""
    return Finding("bias_start", "pass", "biases start at 0, as the paper asks", 0.0)


def narrow_layers(network: NetworkSpec, inputs: int) -> Finding:
    """Look for units that sum up too few inputs (paper, section "SNNs", central limit theorem)."""
    fan_ins = (inputs, *network.widths)[:-1]
    narrow = [(number, fan_in) for number, fan_in in enumerate(fan_ins, start=1) if fan_in < FEW_INPUTS]
    if not narrow:
        return Finding(
            "fan_in",
            "pass",
            f"every unit sums up at least {min(fan_ins)} inputs, so that the sum is about normal",
            float(min(fan_ins)),
        )
    layer, fan_in = min(narrow, key=lambda pair: pair[1])
    others = f", and {len(narrow) - 1} other layer(s) fewer than {FEW_INPUTS}" if len(narrow) > 1 else ""
    detail = (
        f"units of layer {layer} sum up {fan_in} inputs{others}: such a sum is not normal yet, and its moments scatter"
    )
    wider = [max(units, FEW_INPUTS * 2) if units < FEW_INPUTS else units for units in network.widths[:-1]]
    units = [*wider, network.widths[-1]]
    fix = {"#/network/units": units} if units != list(network.widths) else None
    return Finding("fan_in", "warn", detail, float(fan_in), layer=layer, fix=fix)


def depth(network: NetworkSpec, signal: Signal) -> Finding:
    """Hold the depth against the predicted signal."""
    horizon = "beyond 256 hidden layers" if signal.horizon is None else f"{signal.horizon} hidden layers"
    detail = f"{signal.detail}; the horizon is {horizon}"
    source = f"{PAPER}; Schoenholz et al. 2017 (depth scales)"
    number = None if signal.horizon is None else float(signal.horizon)
    fix = None if isinstance(network, SnnSpec) else _as_snn(network)
    if signal.status in ("vanishing", "exploding"):
        said = f"{signal.status}: {detail}"
        return Finding("depth", "fail", said, number, source, signal.layer, fix)
    return Finding("depth", "pass", detail, number, source)


def learning_rate(network: NetworkSpec, training: TrainingSpec) -> Finding:
    """Hold the learning rate against what is known to leave the domain."""
    rate, depth = training.learning_rate or 0.0, len(network.widths)
    if network.activation != "selu":
        return Finding("learning_rate", "pass", f"nothing is known for {network.activation}", rate, MEASURED)
    if training.optimizer == "sgd":
        return Finding("learning_rate", "pass", "nothing is known for sgd", rate, MEASURED)
    if depth < DEEP or rate * depth <= KEPT_STEPS:
        return Finding(
            "learning_rate",
            "pass",
            f"{rate:g} on {depth} hidden layers is not known to leave the domain",
            rate,
            MEASURED,
        )
    slower = _one_digit(KEPT_STEPS / depth)
    known = "is known to leave the domain within an epoch, though it may learn well"
    between = "lies between what is known to stay (1e-4 on 20 layers) and to leave the domain (7e-4)"
    said = known if rate * depth >= LOST_STEPS * 0.999 else between
    detail = f"{training.optimizer} {rate:g} on {depth} hidden layers {said}; {slower:g} stays near it"
    return Finding("learning_rate", "warn", detail, rate, MEASURED, fix={"#/training/learning_rate": slower})


def _one_digit(value: float) -> float:
    """Return the largest number with one digit that is not above a positive one."""
    size = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / size * (1 + 1e-9)) * size:.1g}")
