"""The form of a spec: every field of the schema is in it, and says what it takes."""

import copy
from typing import Any

import pytest

from service.api.dashboard.pages import duration, number
from service.api.dashboard.spec_fields import REST, SpecField, grouped, groups
from service.domain.spec import JobSpec


@pytest.fixture
def schema() -> dict[str, Any]:
    return copy.deepcopy(JobSpec.model_json_schema())


def field(found: dict[str, list[SpecField]], pointer: str) -> SpecField:
    [one] = [one for fields in found.values() for one in fields if one.pointer == pointer]
    return one


def test_every_field_of_the_schema_is_asked_for_once(schema: dict[str, Any]) -> None:
    pointers = [one.pointer for fields in groups().values() for one in fields]
    assert len(pointers) == len(set(pointers))
    for group in ("TrainingSpec", "PreparationSpec"):
        for name in schema["$defs"][group]["properties"]:
            assert any(f"/{name}" in pointer for pointer in pointers), name
    assert all(len(fields) > 0 for fields in groups().values())


def test_field_that_is_new_comes_under_the_rest_by_itself(schema: dict[str, Any]) -> None:
    new = {
        "properties": {
            "rate": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "description": "How fast."}
        },
        "type": "object",
    }
    schema["$defs"]["TrainingSpec"]["properties"]["warm_restart"] = {"type": "boolean", "default": False}
    schema["$defs"]["SnnSpec"]["properties"]["gain"] = {
        "anyOf": [{"type": "number"}, {"type": "null"}],
        "default": None,
    }
    schema["properties"]["pruning"] = {"anyOf": [new, {"type": "null"}], "default": {"rate": 0.5}}
    rest = {REST: grouped(schema)[REST]}
    restart = field(rest, "/training/warm_restart")
    assert (restart.control, restart.options, restart.default) == ("choice", ("true", "false"), "false")
    gain = field(rest, "/network/gain")
    assert (gain.control, gain.takes, gain.shown_for) == ("text", "number", ("/network/kind", ('"snn"', "")))
    assert field(rest, "/pruning").options == ("null",)
    rate = field(rest, "/pruning/rate")
    assert (rate.label, rate.hint, rate.shown_for) == ("Pruning, rate", "How fast; 0 to 1", ("/pruning", ("",)))


@pytest.mark.parametrize(
    ("pointer", "control", "takes", "options"),
    [
        ("/training/epochs", "text", "integer", ()),
        ("/training/batch_size", "text", "integer", ('"auto"',)),
        ("/network/units", "text", "integer list", ()),
        ("/training/class_weights", "text", "object", ('"balanced"',)),
        ("/training/early_stopping", "choice", "", ("null",)),
        ("/network/normalization", "choice", "", ('"batch"',)),
        ("/network/standardize", "choice", "", ("true", "false")),
        ("/tags", "text", "words", ()),
    ],
)
def test_field_takes_what_the_schema_allows(pointer: str, control: str, takes: str, options: tuple[str, ...]) -> None:
    found = field(groups(), pointer)
    assert (found.control, found.takes, found.options) == (control, takes, options)


def test_fields_of_one_kind_are_there_for_it_only() -> None:
    assert field(groups(), "/network/hidden_layers").shown_for is None
    assert field(groups(), "/network/activation").shown_for == ("/network/kind", ('"mlp"',))
    assert field(groups(), "/training/schedule/warmup_epochs").shown_for is None
    assert field(groups(), "/training/schedule/factor").shown_for == ("/training/schedule/kind", ('"plateau"',))
    assert field(groups(), "/training/schedule/kind").is_needed
    assert not field(groups(), "/network/kind").is_needed


def test_hints_say_bounds_and_speak_of_empty_fields_not_of_null() -> None:
    assert field(groups(), "/training/epochs").hint == "The most passes over the training rows; 1 to 100,000"
    assert field(groups(), "/training/learning_rate").hint.endswith("; above 0 to 10")
    assert field(groups(), "/network/dropout").hint.endswith("empty: chosen by the task; 0 to below 1")
    assert not [one.hint for fields in groups().values() for one in fields if "null" in one.hint.casefold()]


def test_numbers_are_written_as_scripts_write_them() -> None:
    texts = {
        0.0: "0",
        1.0: "1",
        3: "3",
        12345: "12,345",
        0.96666: "0.9667",
        54321.7: "54,320",
        99.9999: "100",
        1e-4: "1.000e-04",
    }
    assert {value: number(value) for value in texts} == texts
    assert (number(None), number(0.5, 3), number(-12.3456)) == ("\N{EN DASH}", "0.5", "-12.35")
    assert [duration(seconds) for seconds in (None, 0.5, 45.26, 91, 7200)] == [
        "\N{EN DASH}",
        "500 ms",
        "45.3 s",
        "2 min",
        "2.0 h",
    ]
