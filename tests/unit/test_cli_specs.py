"""What stands on the command line becomes the spec of a request."""

import io
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from service.cli.specs import assembled, network_of, networks, numbers, read_spec, value_of, whole_number, widths


def test_options_stand_for_fields_and_those_left_out_for_nothing() -> None:
    given_options = {"target": "price", "network.units": 64, "network.dropout": None, "training.epochs": 5, "tags": []}
    assert assembled({}, given_options, None) == {
        "target": "price",
        "network": {"units": 64},
        "training": {"epochs": 5},
    }


def test_options_take_the_place_of_the_file_and_settings_of_both() -> None:
    base = {"dataset": "iris", "training": {"epochs": 1, "seed": 7, "batch_size": 16}}
    spec = assembled(base, {"training.epochs": 2, "training.seed": 8}, ["training.epochs=3"])
    assert spec == {"dataset": "iris", "training": {"epochs": 3, "seed": 8, "batch_size": 16}}
    assert base["training"] == {"epochs": 1, "seed": 7, "batch_size": 16}


def test_zero_and_false_are_said() -> None:
    assert assembled({}, {"training.seed": 0, "network.dropout": 0.0}, ["network.standardize=false"]) == {
        "training": {"seed": 0},
        "network": {"dropout": 0.0, "standardize": False},
    }


def test_setting_goes_into_what_is_null_or_not_there() -> None:
    spec = assembled({"training": None}, {}, ["training.early_stopping.patience=5", "preparation.numeric=robust"])
    assert spec == {"training": {"early_stopping": {"patience": 5}}, "preparation": {"numeric": "robust"}}


@pytest.mark.parametrize("setting", ["training.epochs", "=5", "training..epochs=5", ".epochs=5", "training.=5", ""])
def test_setting_without_a_field_or_a_value_is_refused(setting: str) -> None:
    with pytest.raises(typer.BadParameter, match="say FIELD=VALUE"):
        assembled({}, {}, [setting])


def test_setting_within_something_that_is_no_object_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="no object but 'iris'"):
        assembled({"dataset": "iris"}, {}, ["dataset.name=x"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("5.5", 5.5),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ("[64, 32]", [64, 32]),
        ('{"kind": "cosine"}', {"kind": "cosine"}),
        ("nadam", "nadam"),
        ("", ""),
        ("NaN", "NaN"),
        ("007", "007"),
        ("a=b", "a=b"),
        ('{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
    ],
)
def test_value_is_json_or_else_text(text: str, value: object) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    value_of(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [(None, None), ("128", 128), ("128,64", [128, 64]), (" 8, 4", [8, 4]), ("many", "many"), ("8,x", [8, "x"])],
)
def test_units_are_one_width_or_one_for_each_layer(text: str | None, found: object) -> None:
    assert widths(text) == found


def test_what_is_no_number_is_left_for_the_service_to_judge() -> None:
    assert [whole_number(text) for text in (None, "32", "auto", "-1", "²", "1.5")] == [
        None,
        32,
        "auto",
        "-1",
        "²",
        "1.5",
    ]
    assert numbers("0, 1,x") == [0, 1, "x"]
    assert numbers(None) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("snn", {"kind": "snn"}),
        (
            "mlp,activation=tanh,dropout=0.1,standardize=false",
            {"kind": "mlp", "activation": "tanh", "dropout": 0.1, "standardize": False},
        ),
        ('{"kind": "snn", "units": [64, 32]}', {"kind": "snn", "units": [64, 32]}),
    ],
)
def test_arm_is_a_kind_with_fields_or_json(text: str, network: dict[str, Any]) -> None:
    assert network_of(text) == network
    assert networks([f"a={text}", "b=snn"]) == {"a": network, "b": {"kind": "snn"}}


@pytest.mark.parametrize("arms", [["snn"], ["=snn"], ["a="], ["a=mlp,units"], ["a=snn", "a=mlp"]])
def test_arm_that_cannot_be_read_is_refused(arms: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match=r"got|two arms"):
        networks(arms)


def test_no_arms_are_left_to_the_service() -> None:
    assert networks(None) is None


def test_spec_is_read_from_a_file_or_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spec.json"
    path.write_text('{"dataset": "iris"}')
    assert read_spec(path) == {"dataset": "iris"}
    assert read_spec(None) == {}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"dataset": "wine"}')))
    assert read_spec(Path("-")) == {"dataset": "wine"}


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "\xff"])
def test_file_that_holds_no_spec_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(typer.BadParameter, match="spec"):
        read_spec(path)


def test_spec_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="No such file"):
        read_spec(tmp_path / "none.json")
