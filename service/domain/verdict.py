"""Whether a network normalizes itself while it trains: a fold over what its layers looked like, in words.

``held``: every hidden layer in the box of Theorem 1. ``left``: it was, or should have been, and is no longer.
``stable``: a network that no theorem holds, whose signal lives. ``vanishing``, ``exploding``: the signal dies.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.domain.diagnostics import Diagnosis, LayerDiagnosis
from service.domain.self_normalization import (
    EXPLODING_GRADIENT_RATIO,
    EXPLODING_VARIANCE,
    MEAN_DOMAIN,
    VANISHING_GRADIENT_RATIO,
    VANISHING_VARIANCE,
    VARIANCE_DOMAIN,
    exponential_moments,
)
from service.domain.spec import NetworkSpec

Status = Literal["held", "left", "stable", "vanishing", "exploding"]

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
    dying = _dying(now, was_inside=before is not None and before.status in ("held", "left"))
    if dying is not None:
        status, layer, cause = dying
        same = before if before is not None and before.status == status else None
        epoch = now.epoch if same is None else same.epoch
        detail = f"{status} since epoch {epoch}, in layer {layer} of {len(now.layers)}: {cause}"
        return Verdict(status, detail, epoch, layer, cause, ADVICE[status])
    if network.activation != "selu":
        return Verdict("stable", f"the signal lives in all {len(now.layers)} hidden layers. {_ranges(now)}")
    outside = [layer for layer in now.layers if not is_inside(layer)]
    if before is not None and before.status == "left":
        return _left(now, before.epoch, before.layer, before.cause)
    if not outside:
        return Verdict("held", f"all {len(now.layers)} hidden layers are in the box of Theorem 1. {_ranges(now)}")
    first = outside[0]
    return _left(now, now.epoch, first.layer, _cause(now, first))


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


def _dying(now: Diagnosis, *, was_inside: bool) -> tuple[Status, int, str] | None:
    """Name the first layer whose signal dies.

    A network that learns may leave every box and have a large variance without harm, where it began inside: then only
    its gradients tell.
    """
    for layer in now.layers:
        if layer.mean is None or layer.variance is None:
            return "exploding", layer.layer, "its activations are not finite"
        if layer.variance < VANISHING_VARIANCE:
            return "vanishing", layer.layer, f"its variance is {layer.variance:.2g}, below {VANISHING_VARIANCE:g}"
        if layer.variance > EXPLODING_VARIANCE and not was_inside:
            return "exploding", layer.layer, f"its variance is {layer.variance:.3g}, above {EXPLODING_VARIANCE:g}"
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
    """Say why a layer left: its own weights, its biases, or inputs that are no longer independent."""
    if layer.tau is None or layer.omega is None or layer.bias is None or layer.mean is None or layer.variance is None:
        return "its numbers are not finite"
    expected = _expected(now, layer)
    by_tau, by_rest = math.log(max(layer.tau, 1e-12)), math.log(max(layer.variance, 1e-12) / max(expected, 1e-12))
    if MEAN_DOMAIN[0] <= layer.mean <= MEAN_DOMAIN[1] or layer.variance > VARIANCE_DOMAIN[1]:
        if abs(by_tau) >= abs(by_rest):
            return f"tau {'rose' if by_tau > 0 else 'fell'} to {layer.tau:.3g}"
        return (
            f"its weights have turned towards inputs that vary together: the variance is {layer.variance:.3g} where "
            f"tau {layer.tau:.3g} alone would make it {expected:.3g}"
        )
    if layer.bias > layer.omega**2:
        return f"its biases moved to {math.sqrt(layer.bias):.2g} (root mean square), and its mean to {layer.mean:.2g}"
    return f"omega moved to {layer.omega:.2g}, and its mean to {layer.mean:.2g}"


def _expected(now: Diagnosis, layer: LayerDiagnosis) -> float:
    """Return the variance that the moment map gives from what the layer before was measured to be."""
    if layer.layer == 1:
        return layer.predicted_variance or 0.0
    before = now.layers[layer.layer - 2]
    assert None not in (before.mean, before.variance, layer.tau, layer.omega)
    mean, variance = before.mean or 0.0, before.variance or 0.0
    return exponential_moments(mean * (layer.omega or 0.0), max(variance * (layer.tau or 0.0), 1e-12)).variance


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
