"""What a comparison is on, and what is said of it before it begins."""

from typing import Any

import pytest

from service.domain.datasets import Column
from tests.factories import make_dataset, numeric
from tests.unit.planned import CLASSES, SMALL, article, completed, refused


def test_guessing_is_as_good_as_the_largest_class() -> None:
    assert completed(CLASSES).ground.guess == 0.75
    assert completed(SMALL).ground.guess == 0.0
    assert completed(article("cifar10"), preset="article/cifar10").ground.guess == 0.1


def test_sizes_are_those_of_the_parts() -> None:
    ground = completed(training={"test_fraction": 0.25, "validation_fraction": 0.2}).ground
    assert (ground.training_rows, ground.validation_rows, ground.test_rows, ground.inputs) == (120, 30, 50, 2)


def test_models_of_two_arms_never_have_the_same_name() -> None:
    names: dict[str, Any] = {"a" * 99 + end: {} for end in "xyz"}
    found = refused(arms=names, model="m")
    assert found.keys() == {f"#/arms/{'a' * 64}"}
    assert "take a shorter one" in found[f"#/arms/{'a' * 64}"]
    assert "of another arm" in refused(arms={"x": {}, "m--x": {}}, model="m-" * 50)["#/arms/m--x"]
    assert completed(arms={"a" * 98: {}, "a" * 97 + "b": {}}, model="m").jobs


@pytest.mark.parametrize(
    ("training", "test_rows", "said"),
    [
        ({"split": "order"}, 0, "split 'order' takes the same rows for every part"),
        ({"split": "time", "split_column": "a"}, 0, "split 'time' takes the same rows for every part"),
        ({"split": "column", "split_column": "named"}, 0, "column 'named' names the same rows for every part"),
        ({"split": "column", "split_column": "half"}, 0, "column 'half' names the same rows for the test part"),
        ({}, 20, "measured on the same test rows, the data set's own"),
        ({"split": "group", "split_column": "a"}, 20, "measured on the same test rows, the data set's own"),
        ({"test_fraction": 0.2}, 20, None),
        ({"test_fraction": 0.2}, 0, None),
    ],
)
def test_rows_that_no_seed_changes_are_named(training: dict[str, Any], test_rows: int, said: str | None) -> None:
    def words(name: str, **counts: int) -> Column:
        return Column(name, "categorical", "text", missing=0, unique=len(counts), top=tuple(counts.items()))

    columns = (
        numeric("a"),
        words("named", train=140, val=30, test=30),
        words("half", train=160, test=40),
        numeric("y"),
    )
    table = make_dataset(*columns, rows=200, official_test_rows=test_rows, target="y")
    warnings = [warning for warning in completed(table, training=training).warnings if "every seed" in warning]
    assert len(warnings) == (said is not None)
    assert all((said or "") in warning and "not that of other rows" in warning for warning in warnings)


def test_dropout_that_nobody_asked_for_is_warned_of_where_it_differs() -> None:
    arms = {"snn": {}, "twin": {}, "regular": {"kind": "mlp"}, "said": {"kind": "mlp", "dropout": 0.5}}
    [warning] = [warning for warning in completed(CLASSES, arms=arms).warnings if "dropout" in warning]
    assert "became 0.05 in 'snn', 'twin', but 0 in 'regular': " in warning
    equal: tuple[dict[str, Any], ...] = ({"a": {}, "b": {}}, {"a": {"dropout": 0.0}, "b": {"kind": "mlp"}})
    for fair in equal:
        assert not [warning for warning in completed(CLASSES, arms=fair).warnings if "dropout" in warning]
    assert not [warning for warning in completed(SMALL, arms=arms).warnings if "dropout" in warning]


def test_moments_of_raw_inputs_are_kept_with_the_ground() -> None:
    columns = [numeric(name, mean=mean, std=2.0) for name, mean in (("a", 1.0), ("b", 5.0))]
    table = make_dataset(*columns, numeric("y"), rows=200, target="y")
    assert completed(table, depths=[2, 4]).ground.moments == {"snn": (0.0, 1.0), "regular": (3.0, 8.0)}
    assert completed(SMALL).ground.moments.keys() == {"snn", "relu_he", "relu_he_batchnorm"}


SAME = {"preset": "article/boston_housing"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (SAME, True),
        ({**SAME, "seeds": [7, 8], "levels": [0.5], "tags": ["x"], "model": "m", "reference": "snn"}, True),
        ({**SAME, "training": {"epochs": 50}}, True),
        ({**SAME, "training": {"epochs": 49}}, False),
        ({**SAME, "training": {"learning_rate": 0.001}}, False),
        ({**SAME, "dataset": "d1"}, False),
        ({**SAME, "features": ["RM"]}, False),
        ({**SAME, "preparation": {"numeric": "robust"}}, False),
        ({**SAME, "depths": [20]}, False),
        ({**SAME, "hidden_layers": 10}, False),
        ({**SAME, "dropout": 0.1}, False),
        ({**SAME, "arms": "ablations"}, False),
        ({**SAME, "arms": {"snn": {"kind": "mlp"}, "regular": {"kind": "mlp"}}}, False),
        ({"dataset": "boston_housing"}, False),
    ],
)
def test_only_the_articles_experiment_has_its_claims(fields: dict[str, Any], expected: bool) -> None:
    first = completed(article("boston_housing"), **fields)
    assert first.ground.is_articles is expected
    again = first.spec.model_dump(mode="json")
    assert completed(article("boston_housing"), **again).ground == first.ground
