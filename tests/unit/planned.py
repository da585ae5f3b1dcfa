"""Comparisons that are completed from made-up data sets."""

from typing import Any

import pytest

from service.domain.comparison_completion import CompletedComparison, complete_comparison
from service.domain.comparison_spec import ComparisonSpec
from service.domain.datasets import ARTICLE_TABLES, Column, Dataset
from service.domain.errors import InvalidSpec
from service.domain.limits import Limits
from service.domain.spec import NetworkSpec
from tests.factories import make_dataset, numeric

SMALL = make_dataset(numeric("a"), numeric("b"), numeric("y"), rows=200, target="y")
CLASSES = make_dataset(
    numeric("a"), Column("y", "categorical", "text", missing=0, unique=2, top=(("no", 150), ("yes", 50))), target="y"
)


def article(name: str) -> Dataset:
    table = ARTICLE_TABLES[name]
    rows = table.train_rows + table.test_rows
    return make_dataset(*table.columns, rows=rows, official_test_rows=table.test_rows, target=table.target)


def completed(table: Dataset = SMALL, limits: Limits | None = None, **fields: Any) -> CompletedComparison:
    asked = fields if "preset" in fields else {"dataset": "d1", **fields}
    return complete_comparison(ComparisonSpec.model_validate(asked), table, limits or Limits())


def refused(table: Dataset = SMALL, limits: Limits | None = None, **fields: Any) -> dict[str, str]:
    """What is wrong, by pointer; nothing is said twice."""
    with pytest.raises(InvalidSpec) as raised:
        completed(table, limits, **fields)
    found = {violation.pointer: violation.detail for violation in raised.value.violations}
    assert len(found) == len(raised.value.violations)
    return found


def networks(found: CompletedComparison) -> dict[str, NetworkSpec]:
    assert isinstance(found.spec.arms, dict)
    return found.spec.arms
