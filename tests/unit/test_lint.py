"""What the lint says of specs and data, before anything trains."""

from typing import Any

import pytest

from service.domain.completion import CompletedSpec, complete_spec
from service.domain.datasets import Column
from service.domain.findings import Finding
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from tests.factories import make_dataset, numeric

DESCRIBED: dict[str, Any] = {"mean": 0.0, "std": 1.0, "min": -3.0, "max": 3.0}
RULES = {
    "layer_type",
    "activation",
    "initializer_tau",
    "dropout",
    "standardized_inputs",
    "constant_inputs",
    "heavy_tails",
    "one_hot_inputs",
    "bias_start",
    "fan_in",
    "depth",
    "output_head",
    "learning_rate",
}


def completed(network: dict[str, Any] | None = None, *columns: Column, **fields: Any) -> CompletedSpec:
    """Complete a spec on a table of plain columns, unless others are given."""
    inputs = columns or tuple(numeric(f"x{number}", **DESCRIBED) for number in range(100))
    target = Column("y", "categorical", "text", missing=0, unique=3)
    asked = {"dataset": "d1", "target": "y", "network": network or {"kind": "snn"}, **fields}
    return complete_spec(JobSpec.model_validate(asked), make_dataset(*inputs, target, rows=1000), Limits())


def finding(rule: str, network: dict[str, Any] | None = None, *columns: Column, **fields: Any) -> Finding:
    found = {finding.rule: finding for finding in completed(network, *columns, **fields).findings}
    assert found.keys() == RULES
    return found[rule]


def mlp(**fields: Any) -> dict[str, Any]:
    return {"kind": "mlp", "hidden_layers": 20, "units": 100, **fields}


def test_every_rule_passes_a_self_normalizing_network_on_good_data() -> None:
    made = completed()
    findings = made.findings
    assert {finding.rule for finding in findings} == RULES
    assert {finding.status for finding in findings} == {"pass"}
    assert all(finding.detail and finding.source for finding in findings)
    assert made.suggested is None


def test_sigmoid_is_judged_vanishing_before_training() -> None:
    found = finding("depth", mlp(activation="sigmoid"))
    assert found.status == "fail"
    assert found.detail.startswith("vanishing: ")
    assert found.layer == 15


def test_horizon_of_relu_with_glorot_is_named() -> None:
    found = finding("depth", mlp())
    assert (found.status, found.value, found.layer) == ("fail", 6.0, 7)
    assert "the horizon is 6 hidden layers" in found.detail


def test_depth_within_the_horizon_passes() -> None:
    assert finding("depth", mlp(hidden_layers=6)).status == "pass"
    assert finding("depth", mlp(hidden_layers=7)).status == "fail"


def test_shallow_regular_networks_are_not_called_dead() -> None:
    few = [numeric(f"x{number}", **DESCRIBED) for number in range(4)]
    assert finding("depth", {"kind": "mlp"}, *few).status == "pass"
    assert finding("depth", mlp(activation="sigmoid", hidden_layers=2), *few).status == "pass"


def test_start_of_relu_is_judged_by_what_relu_needs() -> None:
    """The first layer of the article's regular network happens to be near it; the 19 others are not."""
    images = [numeric(f"x{number}", **DESCRIBED) for number in range(784)]
    found = finding("initializer_tau", mlp(), *images)
    assert (found.status, found.value, found.layer) == ("warn", 1.0, 2)
    assert finding("initializer_tau", mlp(initializer="he_normal"), *images).status == "pass"


@pytest.mark.parametrize(
    ("initializer", "units", "status", "tau"),
    [
        ("lecun_normal", 100, "pass", 1.0),
        ("glorot_uniform", 100, "pass", 1.0),
        ("glorot_uniform", 90, "pass", 200 / 190),
        ("glorot_uniform", 75, "warn", 200 / 175),
        ("glorot_uniform", 30, "fail", 200 / 130),
        ("he_normal", 100, "fail", 2.0),
    ],
)
def test_start_is_judged_by_tau_not_by_name(initializer: str, units: int, status: str, tau: float) -> None:
    found = finding("initializer_tau", mlp(activation="selu", initializer=initializer, units=units))
    assert found.status == status
    assert found.value == pytest.approx(tau)


def test_selu_with_a_gain_of_three_quarters_fails() -> None:
    """225 inputs make the variance of N(0, 0.05) a gain of 0.5625."""
    columns = [numeric(f"x{number}", **DESCRIBED) for number in range(225)]
    found = finding("initializer_tau", mlp(activation="selu", initializer="normal", units=225), *columns)
    assert found.status == "fail"
    assert found.value == pytest.approx(0.5625)


def test_ordinary_dropout_fails_with_selu_only() -> None:
    assert finding("dropout", mlp(activation="selu", dropout=0.1)).status == "fail"
    assert finding("dropout", mlp(activation="relu", dropout=0.1)).status == "pass"
    assert finding("dropout", {"kind": "snn", "dropout": 0.1}).status == "pass"
    assert finding("dropout", {"kind": "snn", "dropout": 0.3}).status == "warn"


def test_raw_inputs_fail_and_their_second_moment_is_said() -> None:
    columns = [numeric(f"x{number}", mean=3.0, std=4.0, min=0.0, max=9.0) for number in range(20)]
    found = finding("standardized_inputs", mlp(standardize=False), *columns)
    assert found.status == "fail"
    assert found.value == pytest.approx(25.0)


def test_constant_features_are_named_and_left_out_of_the_suggestion() -> None:
    columns = [numeric(f"x{number}", **DESCRIBED) for number in range(8)]
    columns += [numeric(f"c{number}", mean=1.0, std=0.0, min=1.0, max=1.0, unique=1) for number in range(2)]
    made = completed(None, *columns)
    found = next(finding for finding in made.findings if finding.rule == "constant_inputs")
    assert (found.status, found.value) == ("warn", 2.0)
    assert "c0" in found.detail
    beside_gaps = [*columns[:8], numeric("c0", mean=1.0, std=0.0, min=1.0, max=1.0, unique=1, missing=400)]
    assert finding("constant_inputs", None, *beside_gaps).value == 0.0
    suggested = made.suggested
    assert suggested is not None
    assert suggested.features == tuple(f"x{number}" for number in range(8))


def test_far_values_warn_unless_they_are_bent() -> None:
    columns = [numeric("x", mean=0.0, std=1.0, min=-2.0, max=40.0), numeric("z", **DESCRIBED)]
    found = finding("heavy_tails", None, *columns)
    assert (found.status, found.value, found.fix) == ("warn", 40.0, {"#/preparation/numeric": "quantile"})
    assert "'x'" in found.detail
    assert finding("heavy_tails", None, *columns, preparation={"numeric": "quantile"}).status == "pass"


def test_rare_categories_are_large_once_standardized() -> None:
    rare = Column("city", "categorical", "text", missing=0, unique=2, top=(("Bern", 995), ("Chur", 5)))
    even = Column("city", "categorical", "text", missing=0, unique=2, top=(("Bern", 500), ("Chur", 500)))
    assert finding("one_hot_inputs", None, rare).status == "warn"
    assert finding("one_hot_inputs", None, even).status == "pass"


def test_narrow_layers_warn() -> None:
    assert finding("fan_in", {"kind": "snn", "units": [64, 4, 64]}).layer == 3
    assert finding("fan_in", {"kind": "snn", "units": [2000, 4, 64]}).fix == {"#/network/units": [2000, 32, 64]}
    few = [numeric(f"x{number}", **DESCRIBED) for number in range(4)]
    found = finding("fan_in", None, *few)
    assert (found.status, found.value, found.layer, found.fix) == ("warn", 4.0, 1, None)


def test_learning_rate_is_held_against_what_left_the_domain() -> None:
    def status(rate: float, depth: int, optimizer: str = "nadam") -> str:
        network = {"kind": "snn", "hidden_layers": depth, "units": 100}
        return finding("learning_rate", network, training={"optimizer": optimizer, "learning_rate": rate}).status

    for depth, rate in ((20, 7e-4), (12, 1.8e-4), (12, 2e-4), (8, 2.6e-4)):
        network = {"kind": "snn", "hidden_layers": depth, "units": 100}
        training = {"optimizer": "nadam", "learning_rate": rate}
        fix = finding("learning_rate", network, training=training).fix
        assert fix is not None
        assert 0 < fix["#/training/learning_rate"] < rate
    assert status(7e-4, 20) == "warn"
    assert status(1e-4, 20) == "pass"
    assert status(7e-4, 4) == "pass"
    assert status(1e-2, 20, "sgd") == "pass"


def test_far_targets_of_a_regression_warn() -> None:
    columns = [numeric(f"x{number}", **DESCRIBED) for number in range(20)]
    dataset = make_dataset(*columns, numeric("y", mean=0.0, std=1.0, min=0.0, max=30.0), rows=1000)
    spec = JobSpec.model_validate({"dataset": "d1", "target": "y", "task": "regression"})
    found = {finding.rule: finding for finding in complete_spec(spec, dataset, Limits()).findings}
    assert (found["output_head"].status, found["output_head"].value) == ("warn", 30.0)


@pytest.mark.parametrize(
    "network", [mlp(), mlp(activation="sigmoid", normalization="batch", dropout=0.5, units=[8] * 20)]
)
def test_suggested_spec_passes_what_the_first_one_failed(network: dict[str, Any]) -> None:
    made = completed(network, training={"optimizer": "nadam", "learning_rate": 1e-3})
    assert any(finding.status == "fail" for finding in made.findings)
    suggested = made.suggested
    assert suggested is not None
    columns = [numeric(f"x{number}", **DESCRIBED) for number in range(100)]
    dataset = make_dataset(*columns, Column("y", "categorical", "text", missing=0, unique=3), rows=1000)
    assert {finding.status for finding in complete_spec(suggested, dataset, Limits()).findings} == {"pass"}


def test_what_is_not_described_is_not_guessed() -> None:
    columns = [Column(f"x{number}", "numeric", missing=0) for number in range(20)]
    assert "POST /probe" in finding("heavy_tails", None, *columns).detail
    assert finding("standardized_inputs", mlp(standardize=False), *columns).value is None
