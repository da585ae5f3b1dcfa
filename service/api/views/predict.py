"""What HTTP shows of the answers to rows."""

from typing import Literal

from service.api.views.base import View
from service.domain.models import ClassLabel


class UncertaintyView(View):
    """How the answers of randomly thinned networks spread, in the order of the rows."""

    method: Literal["alpha_dropout", "dropout"]
    samples: int
    seed: int
    mean: list[float] | list[list[float]]
    """In the target's units, or probabilities in the order of the classes."""
    standard_deviation: list[float] | list[list[float]]
    predictive_entropy: list[float] | None
    """In nats; null for a regression."""
    mutual_information: list[float] | None
    """In nats, the part of it that is the network's own; null for a regression."""


class ExplanationsView(View):
    """What each feature contributes; baseline and contributions of a row add up to its answer, but for the gap."""

    method: Literal["integrated_gradients"]
    classes: list[ClassLabel] | None
    """The class of each row whose probability is explained; null for a regression."""
    answers: list[float]
    baseline: list[float]
    contributions: list[dict[str, float]]
    gap: list[float]


class PredictionView(View):
    """Answers in the order of the rows."""

    model: str
    version: int
    predictions: list[ClassLabel]
    classes: list[ClassLabel] | None = None
    probabilities: list[list[float]] | None = None
    warnings: list[str] | None = None
    uncertainty: UncertaintyView | None = None
    explanations: ExplanationsView | None = None
