from typing import Any

import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import Column, Dataset, Related, TableReport
from service.domain.errors import InvalidSpec
from service.domain.features import encoded_width
from service.domain.limits import Limits, count_parameters
from service.domain.spec import JobSpec, PreparationSpec
from service.domain.splits import divide
from service.domain.training_spec import TrainingSpec
from tests.factories import make_dataset, numeric

TABLE = make_dataset(
    numeric("a"),
    numeric("b"),
    Column("flag", "boolean", "boolean", missing=0, unique=2),
    Column("color", "categorical", "text", missing=0, unique=3),
    numeric("gappy", missing=4),
    numeric("count", is_integer=True, unique=7),
    numeric("price", unique=90),
    numeric("same", unique=1),
    Column("empty", "text", "text", missing=100, unique=0),
    Column("day", "date", "text", missing=0, unique=60, date_format="iso"),
)


def complete(dataset: Dataset = TABLE, limits: Limits | None = None, **fields: Any) -> JobSpec:
    spec = JobSpec.model_validate({"dataset": "d1", **fields})
    return complete_spec(spec, dataset, limits or Limits()).spec


def violations(dataset: Dataset = TABLE, limits: Limits | None = None, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        complete(dataset, limits, **fields)
    return {item.pointer: item.detail for item in caught.value.violations}


def warnings(dataset: Dataset, **fields: Any) -> list[str]:
    spec = JobSpec.model_validate({"dataset": "d1", **fields})
    return list(complete_spec(spec, dataset, Limits()).warnings)


MESSY = make_dataset(
    numeric("a", missing=3),
    Column("flag", "boolean", "boolean", missing=0),
    Column("city", "categorical", "text", missing=1, unique=9),
    Column("day", "date", "text", missing=0, date_format="iso"),
    Column("number", "id", "number", is_integer=True, missing=0, unique=100),
    Column("name", "text", "text", missing=0, unique=100),
    numeric("same", unique=1),
    numeric("double"),
    numeric("y", missing=2),
    report=TableReport(related=(Related("y", "double", "correlated", 1.0),)),
)


def test_features_default_to_every_trainable_column_but_the_target() -> None:
    spec = complete(MESSY, target="y")
    assert spec.features == ("a", "flag", "city", "day", "same", "double")


def test_what_is_left_out_or_looks_wrong_is_said() -> None:
    said = warnings(MESSY, target="y")
    assert said[0].startswith("left out of the features: 'number' (id), 'name' (text); to take one, set its kind")
    assert said[1] == "2 row(s) have no target and are left out"
    assert said[2] == "always the same, so nothing can be learned from: 'same'"
    assert "feature 'double' correlates by 1.0000 with the target 'y'" in said[3]
    assert warnings(MESSY, target="y", features=["a"]) == [said[1]]


def test_number_that_looks_like_an_id_is_taken_where_it_is_named() -> None:
    assert complete(MESSY, target="y", features=["number"]).features == ("number",)
    assert "is a text column" in violations(MESSY, target="y", features=["name"])["#/features/0"]


def test_width_counts_categories_parts_of_dates_and_gaps() -> None:
    features = [column for column in MESSY.columns if column.name in ("a", "flag", "city", "day")]
    assert encoded_width(features, PreparationSpec()) == 2 + 1 + 9 + 1 + 9
    assert encoded_width(features, PreparationSpec(max_categories=4)) == 2 + 1 + 5 + 1 + 9


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
        ({"target": "empty", "features": ["a"]}, "#/target", "no cells at all"),
        ({"target": "day", "features": ["a"]}, "#/target", "holds dates"),
        ({"target": "price", "features": ["empty"]}, "#/features/0", "text column"),
        ({"target": "price", "features": ["a", "a"]}, "#/features/1", "listed twice"),
        ({"target": "price", "features": ["price"]}, "#/features/0", "is the target"),
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
    official = divide(506, TrainingSpec(), 102)
    assert (official.training, official.validation, official.test) == (323, 81, 102)
    assert divide(506, TrainingSpec(test_fraction=0.25), 102).test == 126
    assert divide(506, TrainingSpec(test_fraction=0.0), 102).test == 0


def test_model_name_is_made_of_the_data_sets_name() -> None:
    dataset = make_dataset(numeric("a"), numeric("y"))
    named = Dataset(**{**{name: getattr(dataset, name) for name in dataset.__slots__}, "name": "Häuser & Preise.csv"})
    assert complete(named, target="y").model == "H-user-Preise.csv"


def test_parameters_are_counted_layer_by_layer() -> None:
    assert count_parameters((100, 50), 13, 1, batch_normalization=False) == 14 * 100 + 101 * 50 + 51
    assert count_parameters((100,), 13, 3, batch_normalization=True) == 14 * 100 + 101 * 3 + 200
