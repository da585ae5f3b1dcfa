"""The article's claims, held against made-up measurements."""

from collections.abc import Mapping
from typing import Any

import pytest

from service.domain.comparison_claims import Claim
from service.domain.comparison_completion import complete_comparison
from service.domain.comparison_results import result_of
from service.domain.comparison_spec import ComparisonSpec
from service.domain.datasets import ARTICLE_TABLES
from service.domain.jobs import JobState
from service.domain.limits import Limits
from tests.factories import make_dataset
from tests.unit.measured import compared, outcome


def of_preset(name: str, snn: Mapping[str, Any], regular: Mapping[str, Any]) -> list[Claim]:
    table = ARTICLE_TABLES[name]
    dataset = make_dataset(*table.columns, rows=70_000, official_test_rows=table.test_rows, target=table.target)
    asked_for = ComparisonSpec.model_validate({"preset": f"article/{name}", "seeds": [0, 1]})
    completed = complete_comparison(asked_for, dataset, Limits())
    twins = {"snn": snn, "regular": regular, "relu_he": {}, "relu_he_batchnorm": {}}
    jobs = [outcome(arm, seed, **values) for arm, values in twins.items() for seed in (0, 1)]
    claims = result_of(completed.spec, completed.ground, jobs).claims
    assert claims is not None
    return claims


def test_fashion_mnist_claims_fewer_iterations_to_the_best_accuracy() -> None:
    [claim] = of_preset("fashion_mnist", {"curve": [0.1, 0.9, 0.8, 0.9]}, {"curve": [0.1, 0.2, 0.3, 0.9]})
    assert (claim.claimed, claim.measured, claim.holds) == (0.28, 0.5, True)
    assert "2 against 4" in claim.detail
    [claim] = of_preset("fashion_mnist", {"curve": [0.1, 0.2, 0.3, 0.9, 0]}, {"curve": [0.1, 0.2, 0.3, 0.4, 0.9]})
    assert claim.measured == pytest.approx(0.2)
    assert claim.holds is False


def test_cifar10_claims_better_curves_and_a_higher_f1() -> None:
    better, worse = {"test": 0.6, "curve": [0.3, 0.6]}, {"test": 0.5, "curve": [0.2, 0.5]}
    throughout, f1 = of_preset("cifar10", better, worse)
    assert (throughout.measured, throughout.holds) == (1.0, True)
    assert f1.measured == pytest.approx(0.2)
    assert f1.holds is True
    throughout, f1 = of_preset("cifar10", {**better, "curve": [0.3, 0.4]}, {**worse, "test": 0.59})
    assert (throughout.measured, throughout.holds) == (0.5, False)
    assert f1.measured == pytest.approx(0.6 / 0.59 - 1)
    assert f1.holds is False


def test_boston_claims_an_earlier_best_epoch() -> None:
    [claim] = of_preset("boston_housing", {"best_epoch": 4}, {"best_epoch": 8})
    assert (claim.claimed, claim.measured, claim.holds) == (0.32, 0.5, True)
    [claim] = of_preset("boston_housing", {"best_epoch": 8}, {"best_epoch": 4})
    assert (claim.measured, claim.holds) == (-1.0, False)


@pytest.mark.parametrize("name", ["fashion_mnist", "boston_housing"])
def test_claims_of_epochs_leave_out_what_has_learned_nothing(name: str) -> None:
    dead = {"curve": [0.11, 0.1, 0.1, 0.1], "best_epoch": 1}
    [claim] = of_preset(name, dead, {"curve": [0.2, 0.4, 0.6, 0.9], "best_epoch": 4})
    assert (claim.measured, claim.holds) == (None, None)
    assert claim.detail == "with no seed both have learned: in 2, one has learned nothing"


def test_comparison_that_is_not_the_articles_has_no_claims() -> None:
    scores = {"snn": [0.9, 0.8], "regular": [0.4, 0.6]}
    assert compared(scores, preset="article/cifar10").claims is None


def test_claims_that_nothing_was_measured_for_are_open() -> None:
    claims = of_preset("cifar10", {"state": JobState.FAILED}, {})
    assert [(claim.measured, claim.holds) for claim in claims] == [(None, None)] * 2
