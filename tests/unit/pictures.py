"""What pictures are drawn of, and what is found in them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.curves import Curves
from service.domain.diagnostics import Diagnosis, Histogram, Histograms, LayerDiagnosis
from service.plots.figures import render

SVG = "{http://www.w3.org/2000/svg}"
ODD_NAMES = ("$x_$", "$", r"a\$b$", "<script>alert(1)</script>", "🧪 鸡 عربى", "_hidden", "a\nb\0c\ud800", "n" * 300)


def curve(values: Sequence[float | None], name: str = "loss") -> Curves:
    """Epochs with these values of a metric on validation rows, and half of them on training rows."""
    found = np.array(values, dtype=np.float64)
    return Curves(np.arange(1, len(values) + 1), {name: found / 2, f"val_{name}": found})


def distributed(diagnoses: Sequence[Diagnosis], layer: int = 1) -> list[tuple[int, Histogram]]:
    """How the weights of a layer were distributed, by epoch."""
    return [(one.epoch, one.histograms.weights[layer - 1]) for one in diagnoses if layer <= len(one.layers)]


def layer(number: int, value: float | None) -> LayerDiagnosis:
    return LayerDiagnosis(number, 100, *[value] * (len(fields(LayerDiagnosis)) - 2))


def diagnosis(epoch: int, values: Sequence[float | None], bins: Sequence[int] = (1, 3, 9, 3, 1)) -> Diagnosis:
    """What was seen of layers all of whose numbers are these."""
    histogram = Histogram(-1.0, 1.0, tuple(bins))
    layers = tuple(layer(number, value) for number, value in enumerate(values, 1))
    return Diagnosis(epoch, layers, Histograms((histogram,) * len(layers), (histogram,) * len(layers)))


def diagnoses(epochs: int, layers: int) -> list[Diagnosis]:
    return [diagnosis(epoch, [0.5 + number / layers for number in range(layers)]) for epoch in range(epochs)]


def panels(figure: Figure) -> list[Any]:
    """The axes of a figure, as Any: matplotlib's types allow everything that it takes."""
    return list(figure.axes)


def labelled(axes: Axes, label: str) -> list[Any]:
    return [one for one in axes.get_children() if one.get_label() == label]


def texts(figure: Figure) -> list[str]:
    """Every text of a figure as its SVG shows it."""
    root = ElementTree.fromstring(render(figure, "svg"))  # noqa: S314  # our own
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
