"""Training on real tables, in this process: TensorFlow is loaded once for the folder."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import Column, Dataset
from service.domain.encoders import NumericEncoder, encode
from service.domain.jobs import Measure
from service.domain.limits import Limits
from service.domain.models import Inputs, Outputs
from service.domain.spec import JobSpec, MlpSpec, NetworkSpec, SnnSpec
from service.domain.table import Table
from service.domain.training_errors import ParityFailed, TrainingDiverged, UnusableColumn
from service.inference import layers
from service.inference.sessions import ServedNetwork
from service.storage import datasets
from service.storage.database import Database
from service.tables import parquet
from workers import export, metrics, training, training_metrics
from workers import network as networks
from workers.epochs import EpochEnd
from workers.preparation import prepare
from workers.training import Forms, TrainedNetwork, train

Runner = Callable[..., tuple[TrainedNetwork, list[EpochEnd]]]


def number(measured: Measure) -> float:
    assert isinstance(measured, float)
    return measured


def load(database: Database, name: str) -> tuple[Dataset, Table]:
    with database.read() as connection:
        dataset = datasets.get(connection, name)
        assert dataset.sha256 is not None
        return dataset, parquet.decode(datasets.content(connection, dataset.sha256))


def described(table: Table) -> dict[str, Column]:
    """Describe a table without gaps."""
    return {
        name: Column(name, "categorical" if values.dtype.kind == "O" else "numeric", missing=0)
        for name, values in table.columns.items()
    }


@pytest.fixture
def run(sqlite_database: Database) -> Runner:
    def train_on(name: str, **fields: Any) -> tuple[TrainedNetwork, list[EpochEnd]]:
        dataset, table = load(sqlite_database, name)
        spec = complete_spec(JobSpec.model_validate({"dataset": name, **fields}), dataset, Limits()).spec
        ends: list[EpochEnd] = []
        columns = {column.name: column for column in dataset.columns}
        trained = train(spec, table, columns, official_test_rows=dataset.official_test_rows, on_epoch=ends.append)
        return trained, ends

    return train_on


SMALL = {"hidden_layers": 2, "units": 16}
SHORT = {"epochs": 3, "test_fraction": 0.2}


def test_classification_measures_every_epoch_and_keeps_the_best(run: Runner) -> None:
    trained, ends = run("breast_cancer", network=SMALL, training={"epochs": 6, "test_fraction": 0.25})
    assert [end.record.epoch for end in ends] == [1, 2, 3, 4, 5, 6]
    names = {"loss", "accuracy", "f1", "auc"}
    assert ends[0].record.metrics.keys() == names | {f"val_{name}" for name in names}
    losses = [end.record.metrics["val_loss"] for end in ends]
    assert trained.best_epoch == 1 + int(np.argmin(np.array(losses, float)))
    assert trained.outputs.classes == ("benign", "malignant")
    assert trained.test_metrics is not None
    assert trained.test_metrics.keys() == names
    assert number(trained.test_metrics["accuracy"]) > 0.85


def test_served_network_is_the_best_epochs(run: Runner) -> None:
    """Training longer without a better epoch must serve the same network."""
    settings = {"test_fraction": 0.25, "learning_rate": 0.01, "seed": 4}
    long, ends = run("iris", network=SMALL, training={"epochs": 40, **settings, "early_stopping": None})
    assert long.best_epoch < len(ends)
    short, _ = run("iris", network=SMALL, training={"epochs": long.best_epoch, **settings, "early_stopping": None})
    assert short.onnx == long.onnx


def test_regression_answers_and_measures_in_the_targets_units(run: Runner, sqlite_database: Database) -> None:
    trained, ends = run("diabetes", network=SMALL, training={"epochs": 30, "test_fraction": 0.25})
    _, table = load(sqlite_database, "diabetes")
    answers = ServedNetwork(trained.onnx).run(encode(table.columns, trained.inputs.encoders))[:, 0]
    truth = table.columns["target"]
    assert 100 < answers.mean() < 200
    assert np.corrcoef(answers, truth)[0, 1] > 0.5
    assert trained.test_metrics is not None
    assert trained.test_metrics.keys() == {"loss", "mae", "rmse", "r2"}
    last = ends[-1].record.metrics
    rmse = number(last["val_rmse"])
    assert 30 < rmse < 120
    assert last["val_loss"] == pytest.approx((rmse / trained.outputs.scale) ** 2, rel=1e-4)


def test_equal_seed_gives_equal_bits_and_another_seed_does_not(run: Runner) -> None:
    first, second, third = (run("wine", network=SMALL, training={**SHORT, "seed": seed})[0] for seed in (1, 1, 2))
    assert first.onnx == second.onnx
    assert first.weights == second.weights
    assert first.onnx != third.onnx


def test_early_stopping_ends_a_training_that_no_longer_improves(run: Runner) -> None:
    trained, ends = run(
        "iris", network=SMALL, training={"epochs": 500, "learning_rate": 0.05, "early_stopping": {"patience": 3}}
    )
    assert len(ends) == trained.best_epoch + 3
    assert trained.test_metrics is None


def test_last_epoch_is_kept_without_validation_rows(run: Runner) -> None:
    trained, ends = run("iris", network=SMALL, training={"epochs": 3, "validation_fraction": 0})
    assert trained.best_epoch == 3
    assert "val_loss" not in ends[0].record.metrics


def test_integer_labels_come_back_as_integers(run: Runner) -> None:
    trained, _ = run("digits", network=SMALL, training=SHORT)
    assert trained.outputs.classes == tuple(range(10))


def test_loss_that_is_not_finite_ends_with_a_diagnosis(run: Runner) -> None:
    with pytest.raises(TrainingDiverged, match="learning rate 10 is probably too high"):
        run(
            "diabetes",
            network={"hidden_layers": 8, "units": 64},
            training={"optimizer": "sgd", "learning_rate": 10.0, "epochs": 20},
        )


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "nadam", "sgd"])
@pytest.mark.parametrize("weight_decay", [0, 0.01])
def test_every_optimizer_takes_every_weight_decay(run: Runner, optimizer: str, weight_decay: float) -> None:
    training = {"optimizer": optimizer, "weight_decay": weight_decay, "epochs": 1}
    assert run("iris", network=SMALL, training=training)[0].best_epoch == 1


def test_outlier_that_overflows_names_its_column() -> None:
    table = Table({"a": np.linspace(0, 1, 50), "far": np.append(np.linspace(0, 1, 49), 3e38), "y": np.arange(50.0)})
    spec = JobSpec.model_validate(
        {"dataset": "d", "target": "y", "features": ["a", "far"], "task": "regression", "training": {"split": "order"}}
    )
    with pytest.raises(UnusableColumn, match="'far'"):
        prepare(spec, table, described(table))


def test_standardization_is_fitted_on_training_rows_only(sqlite_database: Database) -> None:
    dataset, table = load(sqlite_database, "wine")
    spec = complete_spec(
        JobSpec.model_validate({"dataset": "wine", "training": {"test_fraction": 0.25}}), dataset, Limits()
    ).spec
    data = prepare(spec, table, {column.name: column for column in dataset.columns})
    np.testing.assert_allclose(data.training.rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.training.rows.std(axis=0), 1, atol=1e-5)
    assert np.abs(data.validation.rows.mean(axis=0)).max() > 1e-3
    share = np.bincount(data.training.targets) / len(data.training.targets)
    for part in (data.validation, data.test):
        np.testing.assert_allclose(np.bincount(part.targets) / len(part.targets), share, atol=0.03)


def test_official_test_rows_are_the_last_and_parts_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    table = Table({"a": np.arange(50.0), "b": np.full(50, 7.0), "y": rng.normal(size=50)})
    spec = JobSpec.model_validate({"dataset": "d", "target": "y", "features": ["a", "b"], "task": "regression"})
    data = prepare(spec, table, described(table), official_test_rows=10)
    assert np.concatenate(list(data.encoded_test_rows()))[:, 0].tolist() == list(range(40, 50))
    seen = np.concatenate([part.rows[:, 0] for part in (data.training, data.validation, data.test)])
    assert len(np.unique(seen)) == 50
    assert (data.training.rows[:, 1] == 0).all(), "a constant column becomes 0, not NaN"


def test_classes_with_one_row_stay_in_training() -> None:
    labels = np.array(["a"] * 20 + ["b"] * 20 + ["lonely"], object)
    table = Table({"x": np.arange(41.0), "y": labels})
    asked = {"dataset": "d", "target": "y", "features": ["x"], "task": "classification"}
    spec = JobSpec.model_validate({**asked, "training": {"split": "stratified"}})
    data = prepare(spec, table, described(table))
    assert data.outputs.classes == ("a", "b", "lonely")
    assert 2 in data.training.targets
    assert len(data.validation.targets) == 8


NETWORKS: list[NetworkSpec] = [
    SnnSpec(hidden_layers=20, units=100, dropout=0.05),
    *(
        MlpSpec(kind="mlp", hidden_layers=3, units=20, activation=name)
        for name in ("relu", "elu", "tanh", "sigmoid", "selu")
    ),
    MlpSpec(kind="mlp", units=(30, 10), normalization="batch", dropout=0.3, initializer="he_normal", standardize=False),
]


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: f"{spec.kind}-{spec.activation}-{spec.normalization}")
@pytest.mark.parametrize("outputs", [1, 4])
def test_served_form_agrees_with_keras(spec: NetworkSpec, outputs: int) -> None:
    rng = np.random.default_rng(2)
    network = networks.build(spec, 7, outputs, seed=3)
    for weight in network.weights:  # zeros and ones hide mistakes
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))
        elif "head" in weight.path or ("kernel" not in weight.path and "seed" not in weight.path):
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    inputs = Inputs(
        tuple(NumericEncoder(name) for name in "abcdefg"), tuple(rng.normal(1e6, 1, 7)), tuple(rng.uniform(0.1, 10, 7))
    )
    classes = ("p", "q", "r", "s") if outputs == 4 else ()
    answers = Outputs("classification" if classes else "regression", "y", classes, mean=3e5, scale=250.0)
    raw = np.array(inputs.mean) + np.array(inputs.scale) * rng.normal(size=(300, 7))
    rows = ((raw - np.array(inputs.mean)) / np.array(inputs.scale)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(network(rows, training=False)).astype(np.float64)
    answered = ServedNetwork(export.to_onnx(network, inputs, answers)).run(raw)
    if classes:
        expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answered, expected, atol=1e-5)
    else:
        np.testing.assert_allclose((answered - 3e5) / 250.0, expected, atol=1e-5, rtol=1e-5)


def test_network_that_is_served_wrongly_is_not_registered(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PARITY_TOLERANCE", 0.0)
    monkeypatch.setattr(training, "MOST_TOLERANCE", 0.0)
    with pytest.raises(ParityFailed, match="no model was registered"):
        run("iris", network=SMALL, training=SHORT)


@pytest.mark.parametrize("other_form", ["served", "plain", "keras_file"])
def test_form_of_another_network_is_not_registered(sqlite_database: Database, other_form: str) -> None:
    dataset, table = load(sqlite_database, "iris")
    spec = complete_spec(JobSpec.model_validate({"dataset": "iris", "network": SMALL}), dataset, Limits()).spec
    data = prepare(spec, table, {column.name: column for column in dataset.columns})
    network, other = (networks.build(spec.network, 4, 3, seed) for seed in (0, 1))
    right, wrong = (
        Forms(
            served=ServedNetwork(export.to_onnx(found, data.inputs, data.outputs)),
            plain=layers.read(export.to_safetensors(found), spec.network, data.inputs, data.outputs, np.float64),
            keras_file=export.from_keras(export.to_keras(found, data.inputs, data.outputs)),
        )
        for found in (network, other)
    )
    parity = training._check_parity(network, right, data, lambda: None)
    names = {"max_difference", "plain_max_difference", "keras_file_max_difference"}
    assert parity.keys() == {*names, "tolerance", "rows"}
    assert max(parity[name] for name in names) <= parity["tolerance"] == 1e-5
    mixed = replace(right, **{other_form: getattr(wrong, other_form)})
    with pytest.raises(ParityFailed):
        training._check_parity(network, mixed, data, lambda: None)


def test_forms_may_differ_as_much_as_keras_rounds(sqlite_database: Database) -> None:
    """What is large and taken off again leaves its rounding behind: no float32 form can agree within 1e-5."""
    dataset, table = load(sqlite_database, "diabetes")
    network_spec = {"kind": "mlp", "hidden_layers": 3, "units": 50, "normalization": "batch"}
    asked = {"dataset": "diabetes", "task": "regression", "network": network_spec}
    spec = complete_spec(JobSpec.model_validate(asked), dataset, Limits()).spec
    data = prepare(spec, table, {column.name: column for column in dataset.columns})
    network = networks.build(spec.network, len(data.inputs.mean), 1, seed=0)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        match layer:
            case keras.layers.BatchNormalization():
                gamma, beta, mean, variance = layer.get_weights()
                layer.set_weights([gamma, beta, mean + 300, variance])
            case keras.layers.Dense() if layer.name != "head":
                kernel, bias = layer.get_weights()
                layer.set_weights([kernel, bias + 300])
            case keras.layers.Dense():
                kernel, bias = layer.get_weights()
                layer.set_weights([rng.normal(size=kernel.shape) / 7, bias])
    exact, rounded = (
        keras.ops.convert_to_numpy(one(data.probe, training=False)).astype(np.float64)
        for one in (export.in_float64(network), network)
    )
    rounding = training._difference(rounded * data.outputs.scale, exact * data.outputs.scale, data.outputs)
    assert 1e-5 < rounding < 5e-5
    forms = Forms(
        served=ServedNetwork(export.to_onnx(network, data.inputs, data.outputs)),
        plain=layers.read(export.to_safetensors(network), spec.network, data.inputs, data.outputs, np.float64),
        keras_file=export.from_keras(export.to_keras(network, data.inputs, data.outputs)),
    )
    parity = training._check_parity(network, forms, data, lambda: None)
    assert 1e-5 < parity["plain_max_difference"] <= parity["tolerance"] <= 1e-4


@pytest.mark.parametrize(
    ("fractions", "part", "rows"),
    [
        ({"test_fraction": 0.2, "validation_fraction": 0.2}, "test", 30),
        ({"test_fraction": 0.0, "validation_fraction": 0.2}, "validation", 30),
        ({"test_fraction": 0.0, "validation_fraction": 0.0}, None, None),
    ],
)
def test_calibration_is_measured_on_rows_held_out(
    run: Runner, fractions: dict[str, float], part: str | None, rows: int | None
) -> None:
    trained, _ = run("iris", network=SMALL, training={"epochs": 3, **fractions})
    measured = trained.calibration
    assert (measured and measured["part"], measured and measured["rows"]) == (part, rows)
    if part == "test":
        assert measured is not None
        assert trained.test_metrics is not None
        assert measured["log_loss"] == pytest.approx(trained.test_metrics["loss"])
    if part == "validation":
        assert measured is not None
        assert measured["log_loss"] == pytest.approx(trained.best_metrics["val_loss"], rel=1e-4)


def test_residuals_are_in_the_target_s_units(run: Runner) -> None:
    trained, _ = run("diabetes", network=SMALL, training=SHORT)
    assert trained.calibration is not None
    assert trained.test_metrics is not None
    mean, deviation = trained.calibration["mean_residual"], trained.calibration["residual_std"]
    assert np.hypot(mean, deviation) == pytest.approx(trained.test_metrics["rmse"])


def test_self_normalizing_network_keeps_mean_and_variance_through_20_layers() -> None:
    network = networks.build(SnnSpec(hidden_layers=20, units=256, dropout=0.0), 256, 1, seed=0)
    rows = np.random.default_rng(0).normal(size=(512, 256)).astype(np.float32)
    hidden = [layer.output for layer in network.layers if layer.name.startswith("selu")]
    for activations in keras.Model(network.inputs[0], hidden)(rows):
        values = keras.ops.convert_to_numpy(activations)
        assert abs(values.mean()) < 0.15
        assert 0.6 < values.var() < 1.6


def test_hidden_weights_start_as_lecun_normal_with_zero_bias() -> None:
    network = networks.build(SnnSpec(hidden_layers=2, units=400), 300, 3, seed=0)
    for layer, fan_in in zip(network.layers[0::2], (300, 400), strict=False):
        kernel, bias = layer.get_weights()
        assert kernel.var() * fan_in == pytest.approx(1, abs=0.02)
        assert not bias.any()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    network = networks.build(SnnSpec(hidden_layers=1, units=2, dropout=0.1), 2, 1, seed=0)
    dropout = next(layer for layer in network.layers if isinstance(layer, keras.layers.AlphaDropout))
    rows = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    dropped = keras.ops.convert_to_numpy(dropout(rows, training=True))
    tolerance = 5 / np.sqrt(rows.size)
    assert abs(dropped.mean()) < tolerance
    assert abs(dropped.var() - 1) < 3 * tolerance


def test_keras_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, logits = rng.integers(0, 2, 400), rng.normal(size=(400, 2)).astype(np.float32)
    logits[np.arange(400), truth] += 1
    exact = metrics.of_classes(truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    for metric in training_metrics.while_training("classification", 2):
        metric.update_state(truth.reshape(-1, 1), logits)
        assert float(metric.result()) == pytest.approx(exact[metric.name], abs=0.01)


def test_measure_that_is_not_finite_is_null_and_says_which_it_was() -> None:
    assert training_metrics.in_target_units({"loss": 1.0, "rmse": 2.0, "r2": float("-inf")}, 10.0) == {
        "loss": 1.0,
        "rmse": 20.0,
        "r2": None,
        "r2_not_finite": "-inf",
    }


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: f"{spec.kind}-{spec.activation}-{spec.normalization}")
@pytest.mark.parametrize("outputs", [1, 4])
def test_kernels_can_be_drawn_without_building_the_network_again(spec: NetworkSpec, outputs: int) -> None:
    network = networks.build(spec, 7, outputs, seed=3)
    drawn = networks.draw_kernels(networks.build(spec, 7, outputs, seed=0), seed=3)
    expected = {f"{layer.name}/kernel": layer.kernel.numpy() for layer in network.layers if hasattr(layer, "kernel")}
    assert expected.keys() == drawn.keys()
    for name, kernel in expected.items():
        np.testing.assert_array_equal(kernel, drawn[name])
