"""What a comparison's spec takes and refuses, and what state it is in."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.domain.comparison_completion import complete_comparison, dataset_of, model_name
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparisons import state_of
from service.domain.errors import InvalidSpec
from service.domain.jobs import JobState
from service.domain.limits import Limits
from tests.unit.planned import CLASSES, article


def test_no_data_set_is_that_of_the_preset() -> None:
    spec = ComparisonSpec.model_validate({"preset": "article/boston_housing", "dataset": None})
    assert dataset_of(spec) == "boston_housing"
    assert complete_comparison(spec, article("boston_housing"), Limits()).spec.dataset == "boston_housing"


def test_data_set_is_needed_where_there_is_no_preset() -> None:
    with pytest.raises(InvalidSpec, match="#/dataset: is required where no preset is named"):
        dataset_of(ComparisonSpec())


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"training": {"seed": 1}}, ("training", "seed")),
        ({"seeds": []}, ("seeds",)),
        ({"seeds": [1, 1]}, ("seeds",)),
        ({"seeds": [-1]}, ("seeds", 0)),
        ({"seeds": [True]}, ("seeds", 0)),
        ({"seeds": list(range(51))}, ("seeds",)),
        ({"depths": [2, 2]}, ("depths",)),
        ({"depths": [257]}, ("depths", 0)),
        ({"depths": list(range(1, 10))}, ("depths",)),
        ({"levels": [0.1] * 2}, ("levels",)),
        ({"levels": ["0.1"]}, ("levels", 0)),
        ({"arms": {}}, ("arms",)),
        ({"arms": "all"}, ("arms",)),
        ({"arms": {"a b": {}}}, ("arms",)),
        ({"arms": {str(number): {} for number in range(17)}}, ("arms",)),
        ({"arms": {"a": {"kind": "snn", "standardize": False}}}, ("arms", "a", "snn", "standardize")),
        ({"preset": "article/mnist"}, ("preset",)),
        ({"network": {}}, ("network",)),
    ],
)
def test_spec_is_strict(fields: dict[str, Any], place: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        ComparisonSpec.model_validate({"dataset": "d1", **fields})
    assert [error["loc"] for error in raised.value.errors()] == [place]


def test_arms_that_are_wrong_are_all_named() -> None:
    with pytest.raises(ValidationError) as raised:
        ComparisonSpec.model_validate(
            {"arms": {"a": {"units": 0}, "b": {"kind": "mlp", "wide": 1}, "c": {"kind": "x"}}}
        )
    assert [error["loc"] for error in raised.value.errors()] == [
        ("arms", "a", "snn", "units"),
        ("arms", "b", "mlp", "wide"),
        ("arms", "c"),
    ]


@pytest.mark.parametrize(("model", "arm"), [("m", "snn"), ("m" * 100, "snn"), ("m" * 100, "a" * 98), ("m", "a" * 100)])
def test_name_of_a_model_has_at_most_a_hundred_characters(model: str, arm: str) -> None:
    name = model_name(model, arm)
    assert len(name) == min(len(model) + 1 + len(arm), 100)
    assert name.startswith("m")
    assert f"-{arm}"[:99] in name


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"queued": 2}, "running"),
        ({"queued": 1, "paused": 1}, "running"),
        ({"queued": 1, "succeeded": 1}, "running"),
        ({"running": 1}, "running"),
        ({"cancelling": 1, "failed": 1}, "running"),
        ({"succeeded": 2}, "succeeded"),
        ({"succeeded": 1, "cancelled": 1}, "cancelled"),
        ({"succeeded": 1, "cancelled": 1, "failed": 1}, "failed"),
        ({"failed": 1, "succeeded": 9}, "failed"),
        ({"succeeded": 1, "running": 0}, "succeeded"),
    ],
)
def test_state_is_that_of_the_jobs_of_which_one_has_begun(states: dict[str, int], expected: str) -> None:
    assert state_of({JobState(state): count for state, count in states.items()}, has_started=True) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"queued": 2}, "queued"),
        ({"queued": 1, "paused": 1}, "queued"),
        ({"queued": 1, "cancelled": 1}, "queued"),
        ({"cancelled": 2}, "cancelled"),
    ],
)
def test_comparison_is_queued_until_a_job_begins(states: dict[str, int], expected: str) -> None:
    assert state_of({JobState(state): count for state, count in states.items()}, has_started=False) == expected


def test_examples_of_the_documentation_are_specs() -> None:
    text = (Path(__file__).parents[2] / "docs/comparisons.md").read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    examples += [json.loads(body) for body in re.findall(r"-d '(.*?)'", text)]
    assert len(examples) == 5
    tables = {"article/boston_housing": "boston_housing", "article/cifar10": "cifar10"}
    for example in examples:
        spec = ComparisonSpec.model_validate(example)
        table = article(tables[spec.preset]) if spec.preset else CLASSES
        found = complete_comparison(spec, table, Limits())
        assert found.jobs
        assert not any("dropout was left open" in warning for warning in found.warnings), "examples are fair"
