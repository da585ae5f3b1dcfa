from typing import Any

import pytest

from service.domain.completion import complete_spec, part_sizes
from service.domain.datasets import Column, Dataset
from service.domain.errors import InvalidSpec
from service.domain.limits import Limits, count_parameters
from service.domain.spec import JobSpec, TrainingSpec
from tests.factories import make_dataset, numeric

TABLE = make_dataset(
    numeric("a"),
    numeric("b"),
    Column("flag", "boolean", missing=0, unique=2),
    Column("color", "categorical", missing=0, unique=3),
    numeric("gappy", missing=4),
    numeric("count", is_integer=True, unique=7),
    numeric("price", unique=90),
    numeric("same", unique=1),
)


def complete(dataset: Dataset = TABLE, limits: Limits | None = None, **fields: Any) -> JobSpec:
    spec = JobSpec.model_validate({"dataset": "d1", **fields})
    return complete_spec(spec, dataset, limits or Limits()).spec


def violations(dataset: Dataset = TABLE, limits: Limits | None = None, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        complete(dataset, limits, **fields)
    return {item.pointer: item.detail for item in caught.value.violations}


def test_features_default_to_every_numeric_column_but_the_target() -> None:
    dataset = make_dataset(numeric("a"), Column("flag", "boolean", missing=0), Column("name", "text"), numeric("y"))
    assert complete(dataset, target="y").features == ("a", "flag")


@pytest.mark.parametrize(
    ("target", "task"),
    [("color", "classification"), ("flag", "classification"), ("count", "classification"), ("price", "regression")],
)
def test_task_follows_from_the_target(target: str, task: str) -> None:
    assert complete(target=target, features=["a", "b"]).task == task


def test_integer_target_with_many_values_is_a_quantity() -> None:
    dataset = make_dataset(numeric("a"), numeric("age", is_integer=True, unique=21))
    assert complete(dataset, target="age").task == "regression"


def test_defaults_are_written_out() -> None:
    spec = complete(target="price", features=["a"])
    assert spec.network.hidden_layers == 4
    assert spec.network.dropout == 0.0
    assert spec.training.learning_rate is not None
    assert spec.training.weight_decay is not None
    assert spec.model == "table"


def test_builtin_target_is_known() -> None:
    dataset = make_dataset(numeric("a"), numeric("y"), target="y")
    assert complete(dataset).target == "y"


def test_nothing_stops_early_without_validation_rows() -> None:
    assert complete(target="price", features=["a"], training={"validation_fraction": 0}).training.early_stopping is None


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({}, "#/target", "is needed"),
        ({"target": "nothing"}, "#/target", "is no column"),
        ({"target": "same", "features": ["a"]}, "#/target", "one value only"),
        ({"target": "gappy", "features": ["a"]}, "#/target", "4 missing"),
        ({"target": "price"}, "#/features", "'gappy' has 4 missing"),
        ({"target": "price", "features": ["a", "a"]}, "#/features/1", "listed twice"),
        ({"target": "price", "features": ["price"]}, "#/features/0", "is the target"),
        ({"target": "price", "features": ["color"]}, "#/features/0", "categorical"),
        ({"target": "price", "features": ["z"]}, "#/features/0", "is no column"),
        ({"target": "color", "features": ["a"], "task": "regression"}, "#/task", "numeric target"),
        (
            {"target": "color", "features": ["a"], "training": {"monitor": "val_r2"}},
            "#/training/monitor",
            "val_accuracy",
        ),
        (
            {"target": "color", "features": ["a"], "training": {"monitor": "val_auc"}},
            "#/training/monitor",
            "two classes",
        ),
        (
            {"target": "price", "features": ["a"], "training": {"validation_fraction": 0.001}},
            "#/training/validation_fraction",
            "no row",
        ),
        (
            {"target": "price", "features": ["a"], "training": {"test_fraction": 0.001}},
            "#/training/test_fraction",
            "no row",
        ),
    ],
)
def test_misfit_is_named(fields: dict[str, Any], pointer: str, words: str) -> None:
    assert words in violations(**fields)[pointer]


def test_too_few_training_rows_are_refused() -> None:
    tiny = make_dataset(numeric("a"), numeric("y"), rows=2)
    assert "at least 2" in violations(tiny, target="y", training={"validation_fraction": 0.5})["#/training"]


def test_legal_fields_with_too_large_a_product_are_refused() -> None:
    large = violations(target="price", features=["a"], network={"units": 65_536, "hidden_layers": 200})
    assert "parameters" in large["#/network"]
    long = violations(
        make_dataset(numeric("a"), numeric("y"), rows=10**7), target="y", training={"epochs": 100_000, "batch_size": 1}
    )
    assert "Take fewer epochs" in long["#/training/epochs"]
    wide = make_dataset(*(numeric(f"f{i}") for i in range(10)), numeric("y"), rows=60_000)
    memory = violations(
        wide, target="y", network={"units": 60_000, "hidden_layers": 1}, training={"batch_size": 65_536}
    )
    assert "GiB of memory" in memory["#/training/batch_size"]
    cells = violations(limits=Limits(max_cells=150), target="price", features=["a"])
    assert "200 cells" in cells["#/features"]


def test_thousands_of_epochs_on_a_small_table_are_fine() -> None:
    assert complete(target="price", features=["a"], training={"epochs": 20_000}).training.epochs == 20_000


def test_official_test_rows_are_the_test_part_unless_a_fraction_is_asked() -> None:
    dataset = make_dataset(numeric("a"), numeric("y"), rows=506, official_test_rows=102)
    official = part_sizes(dataset, TrainingSpec())
    assert (official.training, official.validation, official.test) == (323, 81, 102)
    assert part_sizes(dataset, TrainingSpec(test_fraction=0.25)).test == 126
    assert part_sizes(dataset, TrainingSpec(test_fraction=0.0)).test == 0


def test_model_name_is_made_of_the_data_sets_name() -> None:
    dataset = make_dataset(numeric("a"), numeric("y"))
    named = Dataset(**{**{name: getattr(dataset, name) for name in dataset.__slots__}, "name": "Häuser & Preise.csv"})
    assert complete(named, target="y").model == "H-user-Preise.csv"


def test_parameters_are_counted_layer_by_layer() -> None:
    assert count_parameters((100, 50), 13, 1, batch_normalization=False) == 14 * 100 + 101 * 50 + 51
    assert count_parameters((100,), 13, 3, batch_normalization=True) == 14 * 100 + 101 * 3 + 200
