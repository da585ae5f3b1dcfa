"""What the layers of a network look like at one moment: moments, weights, gradients, histograms; plain values.

How they are measured is in ``service.inference.diagnosis``, what they mean in ``service.domain.verdict``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerDiagnosis:
    """One hidden layer on the probe rows, without dropout; a number that is not finite is None."""

    layer: int
    """From 1, the first hidden layer."""
    units: int
    mean: float | None
    """Of the activations over rows and units."""
    variance: float | None
    """Of the activations over rows and units."""
    predicted_mean: float | None
    """What the moment map gives, iterated from the moments of the input rows."""
    predicted_variance: float | None
    tau: float | None
    """Mean over units of the sum of squared weights."""
    tau_max: float | None
    """The largest of them."""
    omega: float | None
    """Mean over units of the sum of weights."""
    bias: float | None
    """Mean over units of the squared bias."""
    weight_norm: float | None
    """Norm of the kernel."""
    gradient_norm: float | None
    """Norm of the gradient of the mean loss by the kernel."""
    gradient_ratio: float | None
    """Norm of the gradient by this layer's pre-activations against that by the last hidden layer's."""
    update_ratio: float | None
    """Norm of the epoch's last step against that of the kernel; None before the first step."""
    dead: float | None
    """Part of the units that no row moves: 0 or below for ReLU, saturated for the others."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in equal bins from ``low`` to ``high``; the first and the last bin hold what lies beyond, too."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Histograms:
    """The weights and the activations of every hidden layer, first to last; the bins of a layer are always the same."""

    weights: tuple[Histogram, ...]
    activations: tuple[Histogram, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every hidden layer after an epoch; epoch 0 is the untrained network."""

    epoch: int
    layers: tuple[LayerDiagnosis, ...]
    histograms: Histograms

    def layers_to_json(self) -> list[dict[str, Any]]:
        """Return the layers as plain JSON values."""
        return [asdict(layer) for layer in self.layers]

    def histograms_to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return the histograms as plain JSON values."""
        return {name: [asdict(one) for one in getattr(self.histograms, name)] for name in ("weights", "activations")}

    @classmethod
    def from_json(
        cls, epoch: int, layers: Sequence[Mapping[str, Any]], histograms: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> "Diagnosis":
        """Undo ``layers_to_json`` and ``histograms_to_json``."""
        read = {
            name: tuple(Histogram(one["low"], one["high"], tuple(one["counts"])) for one in histograms[name])
            for name in ("weights", "activations")
        }
        return cls(epoch, tuple(LayerDiagnosis(**layer) for layer in layers), Histograms(**read))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How the answers to held-out rows fit what was true; of a classification the one, of a regression the other."""

    part: str
    """The part of the rows: ``test`` or ``validation``."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the matrix."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Rows by true class, columns by answered class."""
    truth: tuple[float, ...] = ()
    """Some rows' targets, in their own units ..."""
    predicted: tuple[float, ...] = ()
    """... and the answers to them."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "HeldOut":
        """Undo ``dataclasses.asdict``."""
        return cls(
            part=values["part"],
            classes=tuple(values["classes"]),
            confusion=tuple(tuple(row) for row in values["confusion"]),
            truth=tuple(values["truth"]),
            predicted=tuple(values["predicted"]),
        )
