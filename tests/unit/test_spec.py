from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.domain.spec import CONDITIONS, JobSpec, MlpSpec, SnnSpec
from service.domain.training_spec import EarlyStopping


def errors(**fields: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({"dataset": "iris", **fields})
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_smallest_spec_is_a_self_normalizing_network() -> None:
    spec = JobSpec.model_validate({"dataset": "iris"})
    assert isinstance(spec.network, SnnSpec)
    assert spec.network.widths == (128,) * 4
    assert spec.training.early_stopping == EarlyStopping()


def test_null_early_stopping_means_never() -> None:
    assert (
        JobSpec.model_validate({"dataset": "iris", "training": {"early_stopping": None}}).training.early_stopping
        is None
    )


@pytest.mark.parametrize(
    ("field", "value", "condition"),
    [
        ("activation", "relu", "selu_activation"),
        ("activation", "__import__('os')", "selu_activation"),
        ("initializer", "glorot_uniform", "lecun_normal_start"),
        ("normalization", "batch", "dense_layers"),
        ("standardize", False, "standardized_inputs"),
        ("standardize", 1, "standardized_inputs"),
        ("dropout_kind", "standard", "alpha_dropout"),
    ],
)
def test_snn_refuses_what_breaks_a_condition_by_its_name(field: str, value: object, condition: str) -> None:
    [(location, message)] = errors(network={"kind": "snn", field: value})
    assert location[-1] == field
    assert condition in message
    assert CONDITIONS[condition] in message


def test_snn_accepts_what_keeps_the_conditions() -> None:
    kept = {"activation": "selu", "initializer": "lecun_normal", "normalization": None, "standardize": True}
    assert JobSpec.model_validate({"dataset": "iris", "network": {"kind": "snn", **kept}}).network == SnnSpec()


def test_mlp_takes_what_a_snn_refuses() -> None:
    network = {
        "kind": "mlp",
        "activation": "tanh",
        "initializer": "he_normal",
        "normalization": "batch",
        "standardize": False,
    }
    assert isinstance(JobSpec.model_validate({"dataset": "iris", "network": network}).network, MlpSpec)


def test_units_may_be_a_list_with_one_entry_per_layer() -> None:
    spec = JobSpec.model_validate({"dataset": "iris", "network": {"units": [30, 20, 10]}})
    assert spec.network.widths == (30, 20, 10)
    [(_, message)] = errors(network={"units": [30, 20], "hidden_layers": 3})
    assert "units lists 2 layers but hidden_layers says 3" in message


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"network": {"units": 0}}, "units", "between 1 and 65536; got 0"),
        ({"network": {"units": 10**9}}, "units", "between 1 and 65536"),
        ({"network": {"units": True}}, "units", "whole number"),
        ({"network": {"units": "12"}}, "units", "whole number"),
        ({"network": {"units": []}}, "units", "1 to 256 entries"),
        ({"network": {"hidden_layers": 10_000}}, "hidden_layers", "between 1 and 256"),
        ({"network": {"hidden_layers": 12.0}}, "hidden_layers", "integer"),
        ({"network": {"dropout": 1.0}}, "dropout", "at least 0 and below 1"),
        ({"network": {"kind": "cnn"}}, "network", 'kind must be "snn" or "mlp"'),
        ({"training": {"epochs": 10**6}}, "epochs", "between 1 and 100000"),
        ({"training": {"batch_size": 0}}, "batch_size", "between 1"),
        ({"training": {"learning_rate": 0}}, "learning_rate", "above 0 and at most 10"),
        ({"training": {"learning_rate": 1e308}}, "learning_rate", "above 0 and at most 10"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate", "above 0 and at most 10"),
        ({"training": {"seed": -1}}, "seed", "between 0 and 4294967295"),
        ({"training": {"seed": 2**63}}, "seed", "between 0 and 4294967295"),
        ({"training": {"optimizer": "lbfgs"}}, "optimizer", "nadam"),
        ({"model": "a b"}, "model", "letters, digits"),
        ({"model": "name\n"}, "model", "letters, digits"),
        ({"state": "succeeded"}, "state", "not permitted"),
    ],
)
def test_illegal_field_is_refused_with_what_is_allowed(fields: dict[str, Any], pointer: str, words: str) -> None:
    [(location, message)] = errors(**fields)
    assert location[-1] == pointer
    assert words in message


def test_all_violations_are_named_at_once() -> None:
    found = errors(network={"units": 0, "dropout": 2}, training={"seed": -1})
    assert [location[-1] for location, _ in found] == ["units", "dropout", "seed"]


def test_values_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({"dataset": "iris"}).dataset = "wine"  # type: ignore[misc]


@given(
    units=st.one_of(st.integers(1, 65_536), st.lists(st.integers(1, 65_536), min_size=1, max_size=5)),
    dropout=st.none() | st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
    features=st.none() | st.lists(st.text(min_size=1), min_size=1, max_size=5),
)
def test_spec_survives_the_database(units: Any, dropout: float | None, seed: int, features: list[str] | None) -> None:
    spec = JobSpec.model_validate(
        {
            "dataset": "d",
            "features": features,
            "network": {"units": units, "dropout": dropout},
            "training": {"seed": seed},
        }
    )
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
