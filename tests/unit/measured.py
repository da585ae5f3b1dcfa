"""Made-up measurements of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.comparison_completion import complete_comparison
from service.domain.comparison_results import ComparisonResult, result_of
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparisons import Ground, JobOutcome
from service.domain.datasets import Column
from service.domain.jobs import JobState
from service.domain.limits import Limits
from tests.factories import make_dataset, numeric

GROUND = Ground(training_rows=120, validation_rows=40, test_rows=40, inputs=4, guess=0.1)
CLASSES = make_dataset(numeric("a"), Column("y", "categorical", "text", missing=0, unique=10), target="y")
NUMBERS = make_dataset(numeric("a"), numeric("y"), target="y")
NO_DIFFERENCE = "no significant difference"


def asked(regression: bool = False, **fields: Any) -> ComparisonSpec:
    dataset = NUMBERS if regression else CLASSES
    spec = ComparisonSpec.model_validate({"dataset": "d1", **fields})
    return complete_comparison(spec, dataset, Limits()).spec


def arms(*names: str) -> dict[str, Any]:
    return {name: {"kind": "mlp"} for name in names}


def outcome(arm: str, seed: int, test: float = 0.5, **values: Any) -> JobOutcome:
    """A training that has succeeded: what the test part gave, and ten epochs on the way to it."""
    curve = values.pop("curve", [test * part / 10 for part in range(1, 11)])
    best_epoch = values.pop("best_epoch", len(curve))
    measured = {
        "best_epoch": best_epoch,
        "best": {"loss": 1.0, "val_loss": 1 - test, "val_accuracy": test, "val_r2": test, "val_rmse": 1 / test},
        "test": {"accuracy": test, "f1": test, "rmse": 1 / test, "loss": None, "loss_not_finite": "nan"},
        "curves": {"val_accuracy": curve, "val_r2": curve, "val_loss": [1 - (value or 0) for value in curve]},
        "seconds": 2.0,
        "verdict": {"status": "held"},
    }
    return JobOutcome(arm, seed, values.pop("state", JobState.SUCCEEDED), **(measured | values))


def unfinished(arm: str, seed: int, state: JobState) -> JobOutcome:
    return JobOutcome(arm, seed, state)


def compared(scores: Mapping[str, Sequence[float]], ground: Ground = GROUND, **fields: Any) -> ComparisonResult:
    """The result of arms that measured these scores, seed by seed."""
    seeds = list(range(len(next(iter(scores.values())))))
    spec = asked(arms=arms(*scores), seeds=seeds, **fields)
    return result_of(spec, ground, [outcome(arm, seed, scores[arm][seed]) for arm in scores for seed in seeds])
