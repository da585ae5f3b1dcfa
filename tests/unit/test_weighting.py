from typing import Any

import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import MAX_CELL_LENGTH, Cell, Column
from service.domain.errors import InvalidSpec
from service.domain.features import HOW
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.domain.weighting import class_label_text, known_classes
from service.tables import measures
from tests.factories import make_dataset, numeric


def labels(name: str, *cells: Cell, unique: int | None = None, **values: Any) -> Column:
    """A target whose most frequent values are these."""
    top = tuple((cell, 10) for cell in cells)
    unique = len(cells) if unique is None else unique
    return Column(name, "categorical", **{"stored": "text", "missing": 0, "unique": unique, "top": top, **values})


TABLE = make_dataset(
    numeric("x"),
    numeric("y"),
    labels("species", "setosa", "a/b~c"),
    labels("digit", 0, 1, 2, stored="number", is_integer=True),
    labels("bought", True, False, stored="boolean"),
    labels("city", "Bern", "Basel", unique=3),
    labels("unseen", unique=2),
    labels("long", "x" * MAX_CELL_LENGTH, "short"),
    numeric("weight", min=0.0, max=2.0),
    numeric("unmeasured", min=None, max=None),
    numeric("negative", min=-0.5, max=1.0),
    numeric("gappy", min=0.0, missing=3),
    numeric("nothing", min=0, max=0, unique=1),
    numeric("fold", min=0, max=1, unique=2, is_integer=True, top=((0, 80), (1, 20))),
    Column("day", "date", "text", missing=0, unique=60, min="2020-01-01", date_format="iso"),
)


def complete(target: str = "species", features: list[str] | None = None, **training: Any) -> JobSpec:
    spec = {"dataset": "d1", "target": target, "features": features, "training": training}
    return complete_spec(JobSpec.model_validate(spec), TABLE, Limits()).spec


def refusal(target: str = "species", features: list[str] | None = None, **training: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        complete(target, features, **training)
    return {item.pointer: item.detail for item in caught.value.violations}


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("setosa", "setosa"),
        ("1.0", "1.0"),
        ("", ""),
        (1, "1"),
        (-3, "-3"),
        (1.0, "1"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_label_reads_as_json_writes_it(label: str | int | float | bool, text: str) -> None:
    assert class_label_text(label) == text


def test_classes_are_known_where_all_are_listed_whole() -> None:
    columns = {column.name: known_classes(column) for column in TABLE.columns}
    assert columns["species"] == ("setosa", "a/b~c")
    assert columns["digit"] == ("0", "1", "2")
    assert columns["bought"] == ("true", "false")
    assert [columns[name] for name in ("city", "unseen", "long")] == [None, None, None]
    assert measures.MAX_CELL_LENGTH == MAX_CELL_LENGTH


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        ("species", "balanced"),
        ("species", {"setosa": 2.0}),
        ("species", {"setosa": 2.0, "a/b~c": 0.5}),
        ("digit", {"0": 1.0, "2": 3.0}),
        ("bought", {"true": 10.0}),
        ("city", {"Zug": 2.0}),
        ("unseen", {"anything": 2.0}),
        ("long", {"x" * 100: 2.0}),
    ],
)
def test_weights_of_classes_that_are_or_may_be_there_are_taken(target: str, weights: object) -> None:
    assert complete(target, ["x"], class_weights=weights).training.class_weights == weights


@pytest.mark.parametrize(
    ("target", "name", "step", "classes"),
    [
        ("species", "Setosa", "Setosa", "'setosa', 'a/b~c'"),
        ("species", "b/~", "b~1~0", "'setosa', 'a/b~c'"),
        ("digit", "3", "3", "'0', '1', '2'"),
        ("digit", "1.0", "1.0", "'0', '1', '2'"),
        ("bought", "True", "True", "'true', 'false'"),
    ],
)
def test_weight_of_a_class_that_is_not_there_is_refused(target: str, name: str, step: str, classes: str) -> None:
    found = refusal(target, ["x"], class_weights={name: 2})
    assert found == {
        f"#/training/class_weights/{step}": f"{name!r} is no class of {target!r}; its classes are {classes}"
    }


def test_only_the_first_of_many_unknown_classes_are_named() -> None:
    assert len(refusal(class_weights={str(name): 1 for name in range(10_000)})) == 20


@pytest.mark.parametrize("name", ["weight", "unmeasured"])
def test_sample_weights_are_no_feature(name: str) -> None:
    completed = complete(sample_weight_column=name)
    assert completed.training.sample_weight_column == name
    assert completed.features is not None
    assert name not in completed.features
    assert "weight" in (complete().features or ())
    found = refusal("y", ["x", name], sample_weight_column=name)
    assert found == {"#/features/1": f"{name!r} is the sample weight column and cannot be a feature too"}


def test_sample_weights_are_not_said_to_be_left_out() -> None:
    spec = {"dataset": "d1", "target": "species", "training": {"sample_weight_column": "weight"}}
    assert not any(HOW in said for said in complete_spec(JobSpec.model_validate(spec), TABLE, Limits()).warnings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sample_weight_column": "z"}, "'z' is no column of table; its columns are 'x', 'y'"),
        ({"sample_weight_column": "species"}, "'species' is the target"),
        ({"sample_weight_column": "city"}, "'city' is stored as text; weights must be numbers"),
        ({"sample_weight_column": "bought"}, "'bought' is stored as boolean"),
        ({"sample_weight_column": "day"}, "'day' is stored as text"),
        ({"sample_weight_column": "gappy"}, "'gappy' has 3 missing cell(s)"),
        ({"sample_weight_column": "negative"}, "'negative' has negative cells, down to -0.5"),
        ({"sample_weight_column": "nothing"}, "'nothing' is 0 in every row"),
        ({"sample_weight_column": "fold", "split_column": "fold"}, "'fold' is the split column"),
        ({"sample_weight_column": "y", "split": "time", "split_column": "y"}, "'y' is the split column"),
    ],
)
def test_column_that_cannot_weigh_rows_is_refused(fields: dict[str, Any], words: str) -> None:
    found = refusal("species", ["x"], **fields)
    assert found.keys() == {"#/training/sample_weight_column"}
    assert words in found["#/training/sample_weight_column"]
