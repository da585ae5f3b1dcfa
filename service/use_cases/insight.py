"""What lies behind an answer: how sure a network is of it, and what every feature contributes to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidInput, InvalidRows, Violation
from service.domain.model_errors import NotTrainedWithDropout
from service.domain.models import ClassLabel, ModelVersion
from service.domain.spec import JobSpec, NetworkSpec
from service.inference import layers
from service.inference.attribution import MOST_STEPS, integrated_gradients
from service.inference.columns import MAX_VIOLATIONS
from service.inference.sampling import sample

MAX_SAMPLES = 1000
MAX_SEED = 2**32 - 1
MAX_PASSES = 200_000
"""How often a request may go through a network of up to 200,000 parameters: about a second or two of one core."""
MAX_MULTIPLICATIONS = 40_000_000_000
"""What bounds the passes through a larger one."""
MAX_CONTRIBUTIONS = 1_000_000
"""More of them in one answer would take hundreds of megabytes on their way."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How the answers of randomly thinned networks spread, in the order of the rows."""

    method: str
    """``alpha_dropout`` or ``dropout``, as the network was trained."""
    samples: int
    seed: int
    mean: list[Any]
    """Numbers in the target's units, or lists of probabilities in the order of the classes."""
    standard_deviation: list[Any]
    """Of the same form."""
    predictive_entropy: list[float] | None
    """In nats, all uncertainty about the class; None for a regression."""
    mutual_information: list[float] | None
    """In nats, the part of it that is the network's own; None for a regression."""


@dataclass(frozen=True, slots=True)
class Explanations:
    """What every raw feature contributes to the answers, in the order of the rows.

    Numbers are in the target's units, or, for a classification, probabilities of ``classes``. The contributions to a
    row and its ``baseline`` add up to its answer, but for ``gap``.
    """

    method: str
    classes: list[ClassLabel] | None
    """The class of every row whose probability is explained; None for a regression."""
    answers: list[float]
    baseline: list[float]
    """The answer to a row in which every encoded column has the mean of the training rows."""
    contributions: list[dict[str, float]]
    gap: list[float]


def uncertainty(
    version: ModelVersion,
    load_weights: Callable[[], bytes],
    encoded: NDArray[np.float64],
    samples: int = 100,
    seed: int = 0,
) -> Uncertainty:
    """Measure how sure a version is of its answers to encoded rows (rows, columns), by Monte-Carlo dropout.

    Raises:
        NotTrainedWithDropout: the network was trained without dropout.
        InvalidInput: the number of samples or the seed is out of bounds, or there are too many rows for it.
        InvalidRows: a row has no finite answer.
    """
    spec = _network_spec(version)
    if not spec.dropout:
        raise NotTrainedWithDropout(version.name, version.version)
    _check_asked(version, len(encoded), samples, seed)
    spread = sample(_read(version, spec, load_weights), encoded, samples, seed)
    _check_finite(np.stack([spread.mean, spread.standard_deviation], axis=1))
    entropy, information = spread.predictive_entropy, spread.mutual_information
    return Uncertainty(
        method="alpha_dropout" if spec.kind == "snn" else "dropout",
        samples=samples,
        seed=seed,
        mean=spread.mean.tolist(),
        standard_deviation=spread.standard_deviation.tolist(),
        predictive_entropy=None if entropy is None else entropy.tolist(),
        mutual_information=None if information is None else information.tolist(),
    )


def explain(
    version: ModelVersion,
    load_weights: Callable[[], bytes],
    encoded: NDArray[np.float64],
    chosen: NDArray[np.intp] | None = None,
) -> Explanations:
    """Explain a version's answers to encoded rows (rows, columns), by integrated gradients.

    ``chosen`` are the indices of the classes whose probabilities are explained, (rows,); None: the most probable ones.

    Raises:
        InvalidRows: there are too many rows, or one has no finite answer.
    """
    # A step goes through the network forward and back.
    most = max(1, min(_most_passes(version) // (2 * MOST_STEPS), MAX_CONTRIBUTIONS // len(version.inputs.encoders)))
    if len(encoded) > most:
        detail = f"has {len(encoded):,} rows; of this model at most {most:,} are explained at once. Send them in parts"
        raise InvalidRows([Violation("#/instances", detail)])
    found = integrated_gradients(_read(version, _network_spec(version), load_weights), encoded, chosen)
    _check_finite(found.contributions)
    classes, features = version.outputs.classes, version.inputs.features
    return Explanations(
        method="integrated_gradients",
        classes=[classes[index] for index in found.chosen.tolist()] if classes else None,
        answers=found.answers.tolist(),
        baseline=found.baseline.tolist(),
        contributions=[dict(zip(features, row, strict=True)) for row in found.contributions.tolist()],
        gap=found.gap.tolist(),
    )


def _network_spec(version: ModelVersion) -> NetworkSpec:
    return JobSpec.model_validate(version.spec).network


def _read(version: ModelVersion, spec: NetworkSpec, load_weights: Callable[[], bytes]) -> layers.PlainNetwork:
    return layers.read(load_weights(), spec, version.inputs, version.outputs)


def _most_passes(version: ModelVersion) -> int:
    return min(MAX_PASSES, MAX_MULTIPLICATIONS // max(1, version.parameters))


def _check_asked(version: ModelVersion, rows: int, samples: int, seed: int) -> None:
    """Refuse what cannot be, or would keep others waiting."""
    found = []
    if not 1 <= samples <= MAX_SAMPLES:
        detail = f"must be between 1 and {MAX_SAMPLES:,}; got {samples}"
        found.append(Violation("#/uncertainty/samples", detail))
    if not 0 <= seed <= MAX_SEED:
        found.append(Violation("#/uncertainty/seed", f"must be between 0 and {MAX_SEED}; got {seed}"))
    most = max(1, _most_passes(version))
    if not found and rows * samples > most:
        detail = (
            f"asks for {samples:,} samples of {rows:,} row(s), {rows * samples:,} answers; of this model at most "
            f"{most:,} are sampled at once. Ask for fewer samples, or send the rows in parts"
        )
        found.append(Violation("#/uncertainty/samples", detail))
    if found:
        raise InvalidInput(found)


def _check_finite(numbers: NDArray[np.float64]) -> None:
    """Refuse rows whose values are so far from the training rows that float32 overflows inside."""
    lost = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))[:MAX_VIOLATIONS]
    if len(lost):
        detail = "row {0} has values too far from those that the model was trained on; there is nothing to say about it"
        raise InvalidRows([Violation(f"#/instances/{row}", detail.format(row)) for row in lost])
