from typing import Any

import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import Cell, Column
from service.domain.errors import InvalidSpec
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.domain.splits import PartSizes, expected_sizes, part_named
from service.domain.training_spec import TrainingSpec
from tests.factories import make_dataset, numeric


def words(name: str, *top: tuple[Cell, int]) -> Column:
    return Column(name, "categorical", "text", missing=0, unique=len(top), top=top)


TABLE = make_dataset(
    numeric("x"),
    numeric("y", missing=10),
    Column("label", "categorical", "text", missing=0, unique=2),
    words("part", ("train", 60), ("Valid", 15), ("TEST", 25)),
    words("fold", (0, 80), (1, 20)),
    words("odd", ("train", 60), ("holdout", 40)),
    Column("customer", "categorical", "text", missing=0, unique=40, top=(("a", 3), ("b", 3))),
    Column("day", "date", "text", missing=0, unique=90, date_format="iso"),
    Column("unlisted", "categorical", "text", missing=0, unique=2),
    Column("gappy", "categorical", "text", missing=2, unique=3),
)


def split(target: str = "y", **training: Any) -> TrainingSpec:
    spec = JobSpec.model_validate({"dataset": "d1", "target": target, "features": ["x"], "training": training})
    return complete_spec(spec, TABLE, Limits()).spec.training


def refusal(target: str = "y", **training: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        split(target, **training)
    return {item.pointer: item.detail for item in caught.value.violations}


@pytest.mark.parametrize(
    ("target", "asked", "method", "column"),
    [
        ("y", {}, "random", None),
        ("label", {}, "stratified", None),
        ("y", {"split_column": "part"}, "column", "part"),
        ("y", {"split_column": "fold"}, "column", "fold"),
        ("y", {"split_column": "customer"}, "group", "customer"),
        ("y", {"split_column": "day"}, "time", "day"),
        ("y", {"split": "time"}, "time", "day"),
        ("y", {"split": "group", "split_column": "part"}, "group", "part"),
        ("y", {"split": "order"}, "order", None),
    ],
)
def test_method_follows_from_what_is_asked(target: str, asked: dict[str, Any], method: str, column: str) -> None:
    completed = split(target, **asked)
    assert (completed.split, completed.split_column) == (method, column)


@pytest.mark.parametrize(
    ("asked", "pointer", "part"),
    [
        ({"split": "column"}, "#/training/split_column", "is needed for the split 'column'"),
        ({"split": "random", "split_column": "part"}, "#/training/split_column", "does not belong"),
        ({"split_column": "nothing"}, "#/training/split_column", "is no column"),
        ({"split_column": "y"}, "#/training/split_column", "is the target"),
        ({"split_column": "gappy"}, "#/training/split_column", "2 missing"),
        ({"split": "column", "split_column": "odd"}, "#/training/split_column", "got 'holdout'"),
        ({"split": "time", "split_column": "part"}, "#/training/split_column", "needs dates or numbers"),
        ({"split": "group", "split_column": "label", "test_fraction": 0.2}, "#/training/split_column", "2 group(s)"),
        ({"split": "stratified"}, "#/training/split", "a regression has none"),
        ({"split_column": "unlisted"}, "#/training/split", "may name parts or groups"),
        ({"split_column": "part", "test_fraction": 0.2}, "#/training/test_fraction", "leave test_fraction out"),
    ],
)
def test_misfit_is_named(asked: dict[str, Any], pointer: str, part: str) -> None:
    assert part in refusal(**asked)[pointer]


def test_split_column_is_no_feature_unless_it_is_time() -> None:
    def features(**training: Any) -> tuple[str, ...]:
        spec = JobSpec.model_validate({"dataset": "d1", "target": "y", "training": training})
        return complete_spec(spec, TABLE, Limits()).spec.features or ()

    assert "customer" in features()
    assert "customer" not in features(split_column="customer")
    assert "part" not in features(split_column="part")
    assert "day" in features(split_column="day")


def test_sizes_are_known_before_the_rows_are_drawn() -> None:
    target = TABLE.column("y")
    assert expected_sizes(TABLE, split(test_fraction=0.2), target) == PartSizes(58, 14, 18), "10 rows have no target"
    assert expected_sizes(TABLE, split(split_column="part"), target) == PartSizes(60, 15, 25)
    assert expected_sizes(TABLE, split(split_column="fold"), target) == PartSizes(64, 16, 20)


@pytest.mark.parametrize(
    ("cell", "part"),
    [("Train", "training"), (" dev ", "validation"), (1, "test"), (0.0, "training"), (True, "test"), ("x", None)],
)
def test_words_for_parts(cell: Any, part: str | None) -> None:
    assert part_named(cell) == part


def test_validation_rows_that_a_column_names_can_stop_early() -> None:
    named = split(split_column="part", validation_fraction=0)
    assert named.early_stopping is not None
    assert split(validation_fraction=0).early_stopping is None
