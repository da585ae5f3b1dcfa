from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.domain.spec import JobSpec
from service.domain.training_spec import ConstantSchedule, CosineSchedule, PlateauSchedule, TrainingSpec


def training(**fields: Any) -> TrainingSpec:
    return JobSpec.model_validate({"dataset": "iris", "training": fields}).training


def refusal(**fields: Any) -> tuple[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        training(**fields)
    [error] = caught.value.errors()
    return error["loc"], error["msg"]


def test_what_an_older_version_stored_is_read_with_nothing_new_switched_on() -> None:
    older = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "epochs": 50,
        "batch_size": 32,
        "validation_fraction": 0.2,
        "test_fraction": None,
        "split": "random",
        "split_column": None,
        "early_stopping": {"patience": 30, "min_delta": 0.0},
        "monitor": "val_loss",
        "seed": 0,
    }
    read = training(**older)
    assert read.schedule == ConstantSchedule(kind="constant")
    assert (read.momentum, read.clip_norm, read.l2, read.label_smoothing) == (None, None, 0.0, 0.0)
    assert (read.class_weights, read.sample_weight_column) == (None, None)


@pytest.mark.parametrize(
    ("asked", "schedule"),
    [
        ({"kind": "constant"}, ConstantSchedule(kind="constant", warmup_epochs=0.0)),
        ({"kind": "constant", "warmup_epochs": 0.5}, ConstantSchedule(kind="constant", warmup_epochs=0.5)),
        ({"kind": "cosine"}, CosineSchedule(kind="cosine", warmup_epochs=0.0, final_fraction=0.0)),
        ({"kind": "cosine", "final_fraction": 1}, CosineSchedule(kind="cosine", final_fraction=1.0)),
        (
            {"kind": "plateau", "warmup_epochs": 1000},
            PlateauSchedule(
                kind="plateau", warmup_epochs=1000.0, factor=0.5, patience=10, min_delta=0.0, min_fraction=0.01
            ),
        ),
    ],
)
def test_schedule_is_taken_by_its_kind(asked: dict[str, Any], schedule: object) -> None:
    assert training(schedule=asked).schedule == schedule


@pytest.mark.parametrize("schedule", [{}, {"warmup_epochs": 1}, {"kind": "linear"}, {"kind": 1}, None, "cosine", []])
def test_schedule_without_a_known_kind_is_refused_with_those_there_are(schedule: object) -> None:
    location, message = refusal(schedule=schedule)
    assert location == ("training", "schedule")
    assert message == 'kind must be "constant", "cosine" or "plateau"'


@pytest.mark.parametrize(
    ("schedule", "field", "words"),
    [
        ({"kind": "constant", "warmup_epochs": -1}, "warmup_epochs", "between 0 and 1000; got -1"),
        ({"kind": "constant", "factor": 0.5}, "factor", "not permitted"),
        ({"kind": "cosine", "warmup_epochs": 1001}, "warmup_epochs", "between 0 and 1000"),
        ({"kind": "cosine", "final_fraction": 1.1}, "final_fraction", "between 0 and 1"),
        ({"kind": "plateau", "factor": 1}, "factor", "above 0 and below 1; got 1"),
        ({"kind": "plateau", "factor": 0}, "factor", "above 0 and below 1"),
        ({"kind": "plateau", "patience": 0}, "patience", "between 1 and 100000"),
        ({"kind": "plateau", "min_delta": -0.1}, "min_delta", "between 0"),
        ({"kind": "plateau", "min_fraction": 2}, "min_fraction", "between 0 and 1"),
    ],
)
def test_illegal_schedule_is_refused_by_its_field(schedule: dict[str, Any], field: str, words: str) -> None:
    location, message = refusal(schedule=schedule)
    assert location == ("training", "schedule", schedule["kind"], field)
    assert words in message


@pytest.mark.parametrize(
    ("field", "legal"),
    [
        ("momentum", [None, 0, 0.999]),
        ("clip_norm", [None, 1e-9, 1e6]),
        ("l2", [0, 10]),
        ("label_smoothing", [0, 0.99]),
        ("class_weights", [None, "balanced", {"a": 1}, {"": 1e-9, "b": 1e6}]),
        ("sample_weight_column", [None, "w", "w" * 1000]),
        ("batch_size", [1, 65_536, "auto"]),
    ],
)
def test_legal_values_are_taken(field: str, legal: list[object]) -> None:
    assert [getattr(training(**{field: value}), field) for value in legal] == legal


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("momentum", 1, "at least 0 and below 1; got 1"),
        ("momentum", -0.1, "at least 0 and below 1"),
        ("clip_norm", 0, "above 0 and at most 1000000; got 0"),
        ("clip_norm", 1e7, "above 0 and at most 1000000"),
        ("l2", -1, "between 0 and 10"),
        ("l2", None, "valid number"),
        ("label_smoothing", 1, "at least 0 and below 1"),
        ("label_smoothing", float("nan"), "at least 0 and below 1"),
        ("sample_weight_column", "", "at least 1 character"),
        ("sample_weight_column", "w" * 1001, "at most 1000 characters"),
        ("batch_size", 0, 'whole number between 1 and 65536, or "auto"; got 0'),
        ("batch_size", 65_537, '"auto"; got 65537'),
        ("batch_size", True, '"auto"; got true'),
        ("batch_size", 32.0, '"auto"; got 32.0'),
        ("batch_size", "32", "\"auto\"; got '32'"),
        ("batch_size", None, '"auto"; got null'),
        ("class_weights", "even", 'null, "balanced", or an object that gives 1 to 10,000 classes'),
        ("class_weights", {}, "1 to 10,000 classes a weight each; got {}"),
        ("class_weights", {str(name): 1 for name in range(10_001)}, "1 to 10,000 classes"),
        ("class_weights", {1: 1.0}, "1 to 10,000 classes a weight each; got {1: 1.0}"),
        ("class_weights", ["a"], "got ['a']"),
        ("class_weights", {"a": 1, "b": 0}, "the weight of 'b' must be a number above 0 and at most 1,000,000; got 0"),
        ("class_weights", {"a": -1}, "above 0"),
        ("class_weights", {"a": 1e7}, "at most 1,000,000"),
        ("class_weights", {"a": float("nan")}, "above 0"),
        ("class_weights", {"a": True}, "got true"),
        ("class_weights", {"a": "1"}, "got '1'"),
        ("class_weights", {"a": None}, "got null"),
    ],
)
def test_illegal_value_is_refused_with_what_is_allowed(field: str, value: object, words: str) -> None:
    location, message = refusal(**{field: value})
    assert location == ("training", field)
    assert words in message


WARMUP = st.floats(0, 1000)
SCHEDULES = st.one_of(
    st.fixed_dictionaries({"kind": st.just("constant"), "warmup_epochs": WARMUP}),
    st.fixed_dictionaries({"kind": st.just("cosine"), "warmup_epochs": WARMUP, "final_fraction": st.floats(0, 1)}),
    st.fixed_dictionaries(
        {
            "kind": st.just("plateau"),
            "warmup_epochs": WARMUP,
            "factor": st.floats(0.01, 0.99),
            "patience": st.integers(1, 100_000),
            "min_delta": st.floats(0, 1e9),
            "min_fraction": st.floats(0, 1),
        }
    ),
)


@given(
    momentum=st.none() | st.floats(0, 0.999),
    schedule=SCHEDULES,
    clip_norm=st.none() | st.floats(1e-6, 1e6),
    l2=st.floats(0, 10),
    label_smoothing=st.floats(0, 0.999),
    class_weights=st.none()
    | st.just("balanced")
    | st.dictionaries(st.text(), st.floats(1e-6, 1e6) | st.integers(1, 1_000_000), min_size=1, max_size=5),
    sample_weight_column=st.none() | st.text(min_size=1, max_size=10),
    batch_size=st.just("auto") | st.integers(1, 65_536),
)
def test_training_survives_the_database(**fields: Any) -> None:
    spec = JobSpec.model_validate({"dataset": "d", "training": fields})
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_schema_says_what_is_allowed() -> None:
    for mode in ("validation", "serialization"):
        fields = TrainingSpec.model_json_schema(mode=mode)["properties"]
        assert fields["batch_size"]["anyOf"] == [
            {"type": "integer", "minimum": 1, "maximum": 65_536},
            {"type": "string", "const": "auto"},
        ]
        word, weights, nothing = fields["class_weights"]["anyOf"]
        assert (word, nothing) == ({"type": "string", "const": "balanced"}, {"type": "null"})
        assert weights["additionalProperties"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}
        assert (weights["minProperties"], weights["maxProperties"]) == (1, 10_000)
        assert [option["$ref"].split("/")[-1] for option in fields["schedule"]["oneOf"]] == [
            "ConstantSchedule",
            "CosineSchedule",
            "PlateauSchedule",
        ]
        assert fields["momentum"]["anyOf"][0] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
