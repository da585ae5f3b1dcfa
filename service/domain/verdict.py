"""Whether a network normalizes itself while it trains: a fold over what its layers looked like, in words.

``held``: every hidden layer in the box of Theorem 1. ``left``: it was, or should have been, and is no longer.
``stable``: a network that no theorem holds, whose signal lives. ``vanishing``, ``exploding``: the signal dies.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.domain.diagnostics import Diagnosis, LayerDiagnosis
from service.domain.self_normalization import (
    EXPLODING_GRADIENT_RATIO,
    MEAN_DOMAIN,
    THEOREM_1,
    VANISHING_GRADIENT_RATIO,
    VARIANCE_DOMAIN,
    exponential_moments,
    living_variances,
)
from service.domain.spec import NetworkSpec

Status = Literal["held", "left", "stable", "vanishing", "exploding"]

TINY = 1e-12
NO_GRADIENT = 1e-7
"""Layers whose gradients are smaller than this do not learn."""

ADVICE = {
    "held": (),
    "stable": (),
    "left": (
        "it may learn well all the same: the metrics tell",
        "to stay in the domain, try a lower training.learning_rate (1e-4 kept 20 layers near it)",
        "GET /jobs/{id}/diagnostics shows every layer and epoch",
    ),
    "vanishing": (
        'try network {"kind": "snn"}, whose layers keep mean and variance by themselves',
        "or fewer hidden_layers; POST /probe names the depth at which the signal dies",
    ),
    "exploding": (
        "try a lower training.learning_rate, or training.clip_norm 1",
        'or network {"kind": "snn"}, whose start keeps the variance near 1',
    ),
}
"""What to try."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a network now; ``epoch``, ``layer`` and ``cause`` tell when, where and why it was lost."""

    status: Status
    detail: str
    epoch: int | None = None
    layer: int | None = None
    cause: str | None = None
    advice: tuple[str, ...] = ()

    @property
    def is_lost(self) -> bool:
        """Whether the network does not, or no longer, normalize itself, or its signal dies."""
        return self.status in ("left", "vanishing", "exploding")

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Verdict":
        """Undo ``to_dict``."""
        return cls(**{**values, "advice": tuple(values["advice"])})


def judge(before: Verdict | None, now: Diagnosis, network: NetworkSpec) -> Verdict:
    """Return the verdict after another look at a network; ``before`` is the one after the look before, if any."""
    dying = _dying(now, network.activation)
    if dying is not None:
        status, layer, cause = dying
        same = before if before is not None and before.status == status else None
        epoch = now.epoch if same is None else same.epoch
        detail = f"{status} since epoch {epoch}, in layer {layer} of {len(now.layers)}: {cause}"
        return Verdict(status, detail, epoch, layer, cause, ADVICE[status])
    if network.activation != "selu":
        return Verdict("stable", f"the signal lives in all {len(now.layers)} hidden layers. {_ranges(now)}")
    outside = [layer for layer in now.layers if not is_inside(layer)]
    if not outside:
        was_left = before is not None and before.status == "left"
        back = f", after it had left it at epoch {before.epoch}" if before is not None and was_left else ""
        return Verdict("held", f"all {len(now.layers)} hidden layers are in the box of Theorem 1{back}. {_ranges(now)}")
    if before is not None and before.status == "left":
        return _left(now, before.epoch, before.layer, before.cause)
    first = outside[0]
    return _left(now, now.epoch, first.layer, _cause(now, first))


def judge_all(diagnoses: Sequence[Diagnosis], network: NetworkSpec) -> Verdict | None:
    """Return the verdict after several looks, in the order of the epochs; None where there was none."""
    verdict = None
    for diagnosis in diagnoses:
        verdict = judge(verdict, diagnosis, network)
    return verdict


def is_inside(layer: LayerDiagnosis) -> bool:
    """Say whether the moments of a layer lie in the box of Theorem 1."""
    if layer.mean is None or layer.variance is None:
        return False
    low, high = VARIANCE_DOMAIN
    return MEAN_DOMAIN[0] <= layer.mean <= MEAN_DOMAIN[1] and low <= layer.variance <= high


def _left(now: Diagnosis, epoch: int | None, layer: int | None, cause: str | None) -> Verdict:
    inside = sum(map(is_inside, now.layers))
    when = "was not in the domain at the start" if epoch == 0 else f"left the domain at epoch {epoch}"
    state = f"After epoch {now.epoch}, {inside} of {len(now.layers)} hidden layers are in the box of Theorem 1"
    detail = f"{when}, first in layer {layer}, because {cause}. {state}. {_ranges(now)}"
    return Verdict("left", detail, epoch, layer, cause, ADVICE["left"])


def _dying(now: Diagnosis, activation: str) -> tuple[Status, int, str] | None:
    """Name the first layer whose signal dies.

    What a network has learned may make variances large, or small where there is no scale of its own, without harm: then
    only its gradients tell.
    """
    first = now.layers[0].variance
    low, high = living_variances(activation, first or 0.0)
    for layer in now.layers:
        if layer.mean is None or layer.variance is None:
            return "exploding", layer.layer, "its activations are not finite"
        if layer.variance < low and (now.epoch == 0 or activation == "selu"):
            return "vanishing", layer.layer, f"its variance is {layer.variance:.2g}, below {low:.2g}"
        if layer.variance > high and now.epoch == 0:
            return "exploding", layer.layer, f"its variance is {layer.variance:.3g}, above {high:.3g}"
    for layer in reversed(now.layers):
        ratio = layer.gradient_ratio
        if ratio is not None and not VANISHING_GRADIENT_RATIO <= ratio <= EXPLODING_GRADIENT_RATIO:
            shrinks = ratio < VANISHING_GRADIENT_RATIO
            how = f"its gradient is {ratio:.1e} of the last hidden layer's"
            return "vanishing" if shrinks else "exploding", layer.layer, how
    return _not_learning(now)


def _not_learning(now: Diagnosis) -> tuple[Status, int, str] | None:
    """Find a lower half without gradients under a last layer that has some: after the end of learning none has any."""
    norms = [layer.gradient_norm for layer in now.layers]
    lower = norms[: len(norms) // 2]
    if not lower or None in norms or (norms[-1] or 0.0) < NO_GRADIENT * 10:
        return None
    if max(norm or 0.0 for norm in lower) < NO_GRADIENT:
        return (
            "vanishing",
            len(lower),
            f"the weights of the lower {len(lower)} layers have gradients below {NO_GRADIENT:g}",
        )
    return None


def _cause(now: Diagnosis, layer: LayerDiagnosis) -> str:
    """Say why a layer is outside: its inputs, its own weights, its biases, or inputs that are no longer independent."""
    if None in (layer.tau, layer.omega, layer.bias, layer.mean, layer.variance, layer.predicted_variance):
        return "its numbers are not finite"
    if now.epoch == 0:
        return _cause_at_the_start(layer)
    mean, variance = layer.mean or 0.0, layer.variance or 0.0
    is_mean_inside = MEAN_DOMAIN[0] <= mean <= MEAN_DOMAIN[1]
    if is_mean_inside or variance > VARIANCE_DOMAIN[1]:
        return _cause_of_variance(now, layer)
    bias, omega = layer.bias or 0.0, layer.omega or 0.0
    if bias > omega**2:
        return f"its biases moved to {math.sqrt(bias):.2g} (root mean square), and its mean to {mean:.2g}"
    return f"omega moved to {omega:.2g}, and its mean to {mean:.2g}"


def _cause_at_the_start(layer: LayerDiagnosis) -> str:
    """Say why a layer that has not trained is outside, the first one of which that is so."""
    tau, predicted = layer.tau or 0.0, layer.predicted_variance or 0.0
    if not THEOREM_1.tau[0] <= tau <= THEOREM_1.tau[1]:
        return f"its weights start with tau {tau:.3g}, where Theorem 1 wants 0.95 to 1.1"
    if layer.layer == 1 and not VARIANCE_DOMAIN[0] <= predicted <= VARIANCE_DOMAIN[1]:
        return (
            "what it takes has not mean 0 and variance 1: inputs that are not standardized, or many that never change"
        )
    return (
        f"its {layer.units} units, or what they sum up, are so few that chance moves their mean to "
        f"{layer.mean or 0.0:.2g} and their variance to {layer.variance or 0.0:.2g}"
    )


def _cause_of_variance(now: Diagnosis, layer: LayerDiagnosis) -> str:
    """Name what moved the variance most: tau, biases, or what the moment map does not see."""
    tau, variance, bias = max(layer.tau or 0.0, TINY), max(layer.variance or 0.0, TINY), layer.bias or 0.0
    expected = max(_expected(now, layer), TINY)
    by_rest, by_tau = math.log(variance / expected), math.log(tau)
    by_bias = math.log1p(bias / tau)
    largest = max(abs(by_rest), abs(by_tau), by_bias)
    if largest == abs(by_tau):
        return f"tau {'rose' if by_tau > 0 else 'fell'} to {tau:.3g}"
    if largest == by_bias:
        return f"its biases moved to {math.sqrt(bias):.2g} (root mean square), and its variance to {variance:.3g}"
    turned = "towards" if by_rest > 0 else "away from"
    return (
        f"its weights have turned {turned} what its inputs have in common: the variance is {variance:.3g} where "
        f"tau {tau:.3g} alone would make it {expected:.3g}"
    )


def _expected(now: Diagnosis, layer: LayerDiagnosis) -> float:
    """Return the variance that the moment map gives from what the layer before was measured to be."""
    if layer.layer == 1:
        return layer.predicted_variance or 0.0
    before = now.layers[layer.layer - 2]
    mean, variance = before.mean or 0.0, before.variance or 0.0
    spread = (variance + mean**2) * (layer.tau or 0.0) + (layer.bias or 0.0)
    return exponential_moments(mean * (layer.omega or 0.0), max(spread, TINY)).variance


def _ranges(now: Diagnosis) -> str:
    variances = [layer.variance for layer in now.layers if layer.variance is not None]
    means = [layer.mean for layer in now.layers if layer.mean is not None]
    taus = [layer.tau for layer in now.layers if layer.tau is not None]
    if not (variances and means and taus):
        return "Their numbers are not finite"
    return (
        f"Means run from {min(means):.2g} to {max(means):.2g}, variances from {min(variances):.3g} to "
        f"{max(variances):.3g}, tau from {min(taus):.3g} to {max(taus):.3g}"
    )
