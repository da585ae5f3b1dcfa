"""What the article claims of its three experiments, beside what a comparison measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.domain.comparison_spec import PresetName
from service.domain.comparisons import JobOutcome

SNN, REGULAR = "snn", "regular"
"""The arms that the article has."""


@dataclass(frozen=True, slots=True)
class Twins:
    """The SNN and the regular network that were trained with the same seed, and succeeded."""

    all: Sequence[tuple[JobOutcome, JobOutcome]]
    learned: Sequence[tuple[JobOutcome, JobOutcome]]
    """Those of which both have: one that has learned nothing is fastest at its best."""


Measurement = tuple[float | None, str]
"""A number that can be held against the claimed one, and how it came about."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One of the article's claims.

    It holds where what was measured is at least as much as the article claims; a smaller effect in the same direction
    does not count, and ``detail`` shows it. Null where nothing was measured.
    """

    claim: str
    claimed: float
    measured: float | None
    detail: str
    holds: bool | None


def claims_of(
    preset: PresetName,
    outcomes: Mapping[str, Mapping[int, JobOutcome]],
    has_learned: Callable[[JobOutcome], bool],
) -> list[Claim]:
    """Hold the article's claims against outcomes by arm and seed, of which all have succeeded.

    ``has_learned`` says whether one came far enough from guessing for its epochs to mean something.
    """
    snn, regular = outcomes.get(SNN, {}), outcomes.get(REGULAR, {})
    pairs = [(snn[seed], regular[seed]) for seed in snn if seed in regular]
    twins = Twins(pairs, [pair for pair in pairs if all(map(has_learned, pair))])
    return [_held(claim, claimed, measure(twins)) for claim, claimed, measure in _CLAIMS[preset]]


def _held(claim: str, claimed: float, found: Measurement) -> Claim:
    measured, detail = found
    return Claim(claim, claimed, measured, detail, None if measured is None else measured >= claimed)


def _faster_to_accuracy(twins: Twins) -> Measurement:
    """Compare the epochs of the highest validation accuracy."""
    epochs = [(_epoch_of_highest(snn), _epoch_of_highest(regular)) for snn, regular in twins.learned]
    return _saved(epochs, "highest val_accuracy", twins)


def _faster_to_best(twins: Twins) -> Measurement:
    """Compare the best epochs, which have the lowest validation loss unless the spec names another monitor."""
    return _saved([(snn.best_epoch, regular.best_epoch) for snn, regular in twins.learned], "best epoch", twins)


def _saved(epochs: Iterable[tuple[int | None, int | None]], what: str, twins: Twins) -> Measurement:
    known = [(one, other) for one, other in epochs if one is not None and other is not None]
    dead = len(twins.all) - len(twins.learned)
    if not known:
        return _NOTHING if not dead else (None, f"with no seed both have learned: in {dead}, one has learned nothing")
    said = ", ".join(f"{one} against {other}" for one, other in known)
    more = f"; {dead} seed(s) left out in which one of the two has learned nothing" if dead else ""
    saved = _mean(1 - one / other for one, other in known)
    return saved, f"{what} of the SNN against that of the regular network, seed by seed: {said}{more}"


def _better_throughout(twins: Twins) -> Measurement:
    """Count the epochs, of those that both have, with lower validation loss and higher validation accuracy."""
    better = [verdict for snn, regular in twins.all for verdict in _better_epochs(snn, regular)]
    if not better:
        return _NOTHING
    return sum(better) / len(better), f"both are better in {sum(better)} of {len(better)} epochs"


def _better_epochs(snn: JobOutcome, regular: JobOutcome) -> Iterator[bool]:
    """Say of each epoch that both have, for one may have stopped early, whether loss and accuracy are better."""
    losses = zip(_curve(snn, "val_loss"), _curve(regular, "val_loss"), strict=False)
    accuracies = zip(_curve(snn, "val_accuracy"), _curve(regular, "val_accuracy"), strict=False)
    for (loss, other_loss), (accuracy, other_accuracy) in zip(losses, accuracies, strict=False):
        if loss is None or other_loss is None or accuracy is None or other_accuracy is None:
            yield False  # a loss that is not finite is no better
        else:
            yield loss < other_loss and accuracy > other_accuracy


def _better_f1(twins: Twins) -> Measurement:
    """Compare the mean macro F1 on the test part, relative to the regular network's."""
    known = [(one, other) for snn, regular in twins.all if (one := _f1(snn)) is not None and (other := _f1(regular))]
    if not known:
        return _NOTHING
    ours, theirs = _mean(one for one, _ in known), _mean(other for _, other in known)
    return ours / theirs - 1, f"macro F1 on the test part {ours:.3f} against {theirs:.3f}"


_NOTHING: Measurement = (None, f"no seed has succeeded with both {SNN} and {REGULAR}")

_CLAIMS: dict[PresetName, tuple[tuple[str, float, Callable[[Twins], Measurement]], ...]] = {
    "article/fashion_mnist": (
        ("the best validation accuracy is reached in 28 % fewer iterations", 0.28, _faster_to_accuracy),
    ),
    "article/cifar10": (
        ("validation loss and accuracy are better throughout: in every epoch", 1.0, _better_throughout),
        ("the F1 score on the test part is 12 % higher", 0.12, _better_f1),
    ),
    "article/boston_housing": (
        ("the best validation metric is reached after 34 epochs against 50: 32 % fewer", 0.32, _faster_to_best),
    ),
}


def _curve(outcome: JobOutcome, metric: str) -> Sequence[float | None]:
    return (outcome.curves or {}).get(metric, ())


def _epoch_of_highest(outcome: JobOutcome) -> int | None:
    curve = [(value, -epoch) for epoch, value in enumerate(_curve(outcome, "val_accuracy"), 1) if value is not None]
    return -max(curve)[1] if curve else None


def _f1(outcome: JobOutcome) -> float | None:
    value = (outcome.test or {}).get("f1")
    return value if isinstance(value, float) else None


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
