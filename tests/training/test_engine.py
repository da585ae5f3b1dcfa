"""The engine against plain Keras, in float64, where only mistakes are larger than rounding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.spec import JobSpec
from tests.training.support import SMALL, SMALL_MLP
from workers import metrics, training_metrics
from workers import network as networks
from workers.engine.chunks import Engine, Evaluated
from workers.engine.feeds import Examples, Feed, Shape, count_steps, permutation
from workers.engine.layout import Vectors, values_of

ROWS, FEATURES, CLASSES = 150, 5, 3
BATCH = 32
EPOCHS = 8
STEPS = count_steps(ROWS, BATCH)
CHUNK = Shape(4, BATCH)  # the last chunk of an epoch has one step, whose batch has 22 rows
EVALUATION = Shape(2, 40)
SEED = 9
EXACT = 1e-9
MASKED_MEAN = 1e-6
"""Keras' batch normalization divides a masked sum by the count of rows plus 1e-7."""


@pytest.fixture(scope="module", autouse=True)
def float64() -> Iterator[None]:
    """Make this file's networks of doubles; both settings belong to the process."""
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(policy)
    trained.cache_clear()


@dataclass(frozen=True)
class Setting:
    """What is trained, and how far Keras may be."""

    training: dict[str, Any]
    network: dict[str, Any]
    task: str = "classification"
    is_weighted: bool = False
    tolerance: float = EXACT

    @property
    def spec(self) -> JobSpec:
        network = {"dropout": 0.0, **self.network}
        training = {"learning_rate": 0.01, "weight_decay": 0.0, **self.training}
        fields = {"dataset": "d", "task": self.task, "network": network, "training": training}
        return JobSpec.model_validate(fields)

    @property
    def outputs(self) -> int:
        return CLASSES if self.task == "classification" else 1

    @property
    def examples(self) -> Examples:
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(ROWS, FEATURES))
        answers = rows @ rng.normal(size=(FEATURES, CLASSES)) + rng.normal(size=(ROWS, CLASSES))
        weights = rng.uniform(0, 2, ROWS) if self.is_weighted else np.ones(ROWS)
        targets = answers.argmax(axis=1) if self.task == "classification" else answers[:, 0]
        return Examples(rows, targets, weights, rng.uniform(0, 2, ROWS) if self.is_weighted else np.ones(ROWS))


SETTINGS = {
    "adamw, decay, clipped, weighted": Setting(
        {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.3}, SMALL, is_weighted=True
    ),
    "adam, decay, L2": Setting({"optimizer": "adam", "weight_decay": 0.1, "l2": 0.01}, SMALL),
    "nadam, smoothed, clipped": Setting({"optimizer": "nadam", "label_smoothing": 0.2, "clip_norm": 0.3}, SMALL),
    "nadam, decay, smoothed, weighted": Setting(
        {"optimizer": "nadam", "weight_decay": 0.1, "label_smoothing": 0.2}, SMALL, is_weighted=True
    ),
    "sgd, momentum, decay, L2, regression, weighted": Setting(
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1, "l2": 0.01, "clip_norm": 5.0},
        SMALL,
        task="regression",
        is_weighted=True,
    ),
    "sgd without momentum": Setting({"optimizer": "sgd", "momentum": 0.0}, SMALL),
    # With adam and its kin the biases before a normalization, which change nothing, follow the rounding.
    "batch normalization, sgd": Setting(
        {"optimizer": "sgd", "momentum": 0.9}, {**SMALL_MLP, "normalization": "batch"}, tolerance=MASKED_MEAN
    ),
}
WEIGHTED = SETTINGS["adamw, decay, clipped, weighted"]


def rates() -> NDArray[np.float64]:
    """A learning rate of its own for every step."""
    return 0.01 * np.cos(np.arange(EPOCHS * STEPS) / 30)


def plain_optimizer(spec: JobSpec) -> keras.optimizers.Optimizer:
    training = spec.training
    options: dict[str, Any] = {"weight_decay": training.weight_decay or None, "global_clipnorm": training.clip_norm}
    if training.optimizer == "adamw":
        options["weight_decay"] = training.weight_decay
    if training.optimizer == "sgd":
        options["momentum"] = training.momentum
    return networks.OPTIMIZERS[training.optimizer](**options)


def build(setting: Setting) -> keras.Model:
    return networks.build(setting.spec.network, FEATURES, setting.outputs, seed=SEED, l2=setting.spec.training.l2)


def weights_of(network: keras.Model) -> dict[str, NDArray[Any]]:
    return {f"{layer.name}/{own.name}": own.numpy() for layer in network.layers for own in layer.variables}


def plain_network(setting: Setting) -> keras.Model:
    """The same network with Keras' own optimizer and loss, ready for ``train_on_batch``."""
    network = build(setting)
    smoothing = setting.spec.training.label_smoothing
    loss: keras.losses.Loss = keras.losses.MeanSquaredError()
    if setting.task == "classification":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    network.compile(optimizer=plain_optimizer(setting.spec), loss=loss, jit_compile=False)
    return network


def plain_targets(setting: Setting, targets: NDArray[Any]) -> NDArray[Any]:
    return np.eye(CLASSES)[targets] if setting.task == "classification" else targets.reshape(-1, 1)


def make_engine(setting: Setting) -> Engine:
    network = build(setting)
    network.compile(optimizer=networks.optimizer(setting.spec.training), loss=networks.loss(setting.spec))
    return Engine(
        network,
        training_metrics.while_training(setting.spec.task or "classification", setting.outputs),
        targets="int64" if setting.task == "classification" else "float64",
        training=CHUNK,
        evaluation=EVALUATION,
    )


def variables_of(network: keras.Model) -> dict[str, keras.Variable]:
    return {f"network/{layer.name}/{own.name}": own for layer in network.layers for own in layer.variables}


def with_weights(network: keras.Model, weights: dict[str, NDArray[Any]]) -> keras.Model:
    for path, variable in variables_of(network).items():
        variable.assign(weights[path])
    return network


@dataclass
class Trained:
    engine: Engine
    losses: NDArray[Any]
    start: Vectors
    state: Vectors
    variables_before: Sequence[NDArray[Any]]

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        return self.engine.network_layout.split(self.engine.network_of(self.state))


@cache
def trained(name: str) -> Trained:
    """Train by the engine: every epoch in its own order, chunk by chunk."""
    setting = SETTINGS[name]
    engine = make_engine(setting)
    feed = Feed(setting.examples, CHUNK)
    before = [variable.numpy().copy() for variable in engine.network.variables]
    start = state = engine.start(weights_of(build(setting)))
    losses = []
    for epoch in range(EPOCHS):
        totals, step = engine.fresh_totals, epoch * STEPS
        for chunk in feed.chunks(permutation(SEED, epoch + 1, ROWS)):
            end = engine.train(state, totals, chunk, rates()[step : step + chunk.steps], (SEED, step))
            state, totals, step = end.state, end.totals, step + chunk.steps
            losses.append(end.losses)
    return Trained(engine, np.concatenate(losses), start, state, before)


def evaluate(engine: Engine, setting: Setting, network: Vectors) -> Evaluated:
    totals, found = engine.fresh_totals, None
    for chunk in Feed(setting.examples, EVALUATION).chunks(np.arange(ROWS)):
        found = engine.evaluate(network, totals, chunk)
        totals = found.totals
    assert found is not None
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_is_the_step_of_keras(name: str) -> None:
    setting = SETTINGS[name]
    examples, network, losses = setting.examples, plain_network(setting), []
    for epoch in range(EPOCHS):
        order = permutation(SEED, epoch + 1, ROWS)
        for step in range(STEPS):
            picked = order[step * BATCH : (step + 1) * BATCH]
            network.optimizer.learning_rate = rates()[epoch * STEPS + step]
            targets = plain_targets(setting, examples.targets[picked])
            weights = examples.loss_weights[picked] if setting.is_weighted else None
            losses.append(float(network.train_on_batch(examples.rows[picked], targets, sample_weight=weights)))
    found = trained(name)
    assert len(losses) == len(found.losses) == 40
    assert np.mean(losses[:STEPS]) > 1.05 * np.mean(losses[-STEPS:]), "nothing was learned, so nothing was compared"
    np.testing.assert_allclose(found.losses, losses, rtol=0, atol=setting.tolerance)
    expected = variables_of(network)
    assert expected.keys() == found.weights.keys()
    for path, variable in expected.items():
        np.testing.assert_allclose(found.weights[path], variable.numpy(), rtol=0, atol=setting.tolerance, err_msg=path)


@pytest.mark.parametrize("name", SETTINGS)
def test_training_leaves_the_variables_of_the_network_alone(name: str) -> None:
    found = trained(name)
    for before, variable in zip(found.variables_before, found.engine.network.variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy(), err_msg=variable.path)


def test_equal_chunks_give_equal_bits() -> None:
    """Nothing is left behind in the engine: a training begun again from its start is the same."""
    found = trained("adamw, decay, clipped, weighted")
    chunk = next(iter(Feed(WEIGHTED.examples, CHUNK).chunks(permutation(SEED, 1, ROWS))))
    once, again = (
        found.engine.train(found.start, found.engine.fresh_totals, chunk, rates()[:4], (SEED, 0)) for _ in range(2)
    )
    np.testing.assert_array_equal(once.losses, again.losses)
    np.testing.assert_array_equal(found.losses[:4], once.losses)


def test_loading_puts_the_trained_weights_into_the_network() -> None:
    engine = make_engine(SETTINGS["batch normalization, sgd"])
    layout = engine.network_layout
    numbers = np.random.default_rng(0)
    weights = {slot.name: numbers.uniform(0.5, 1, slot.shape).astype(slot.type) for slot in layout.slots}
    network = engine.load(layout.join(weights))
    assert weights.keys() == variables_of(network).keys()
    for path, variable in variables_of(network).items():
        np.testing.assert_array_equal(weights[path], variable.numpy(), err_msg=path)


@pytest.mark.parametrize("name", SETTINGS)
def test_evaluation_is_that_of_keras(name: str) -> None:
    setting, found = SETTINGS[name], trained(name)
    examples, network = setting.examples, with_weights(plain_network(setting), found.weights)
    weights = examples.loss_weights if setting.is_weighted else None
    targets = plain_targets(setting, examples.targets)
    expected = network.evaluate(examples.rows, targets, sample_weight=weights, batch_size=40, verbose=0)
    measured = evaluate(found.engine, setting, found.engine.network_of(found.state)).measured
    assert measured[0] == pytest.approx(expected, abs=EXACT)


def exact_measures(setting: Setting, answers: NDArray[Any]) -> dict[str, Any]:
    """What scikit-learn makes of a network's answers."""
    examples = setting.examples
    if setting.task == "regression":
        return metrics.of_numbers(examples.targets, answers[:, 0], 1.0, examples.metric_weights)
    shares = np.exp(answers - answers.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return metrics.of_classes(examples.targets, shares, examples.metric_weights)


@pytest.mark.parametrize("name", ["adamw, decay, clipped, weighted", "sgd, momentum, decay, L2, regression, weighted"])
def test_measures_of_an_epoch_agree_with_scikit_learn(name: str) -> None:
    """With a learning rate of 0 the network answers the same in every step of the epoch."""
    setting, found = SETTINGS[name], trained(name)
    network = with_weights(build(setting), found.weights)
    engine, totals, state = found.engine, found.engine.fresh_totals, found.engine.start(weights_of(network))
    measured: NDArray[Any] = np.zeros(0)
    for chunk in Feed(setting.examples, CHUNK).chunks(permutation(SEED, 1, ROWS)):
        end = engine.train(state, totals, chunk, np.zeros(chunk.steps), (SEED, 0))
        state, totals, measured = end.state, end.totals, end.measured
    evaluated = evaluate(engine, setting, engine.network_of(state)).measured
    exact = exact_measures(setting, network(setting.examples.rows, training=False).numpy())
    names = engine.metric_names
    assert names[0] == "loss"
    assert set(names) == exact.keys()
    for place, metric in enumerate(names[1:], 1):
        assert measured[place] == pytest.approx(exact[metric], abs=1e-6), metric
        assert evaluated[place] == pytest.approx(exact[metric], abs=1e-6), metric


def test_loss_of_an_epoch_is_the_mean_over_its_rows() -> None:
    name = "sgd without momentum"
    setting, found = SETTINGS[name], trained(name)
    totals, state, losses = found.engine.fresh_totals, found.start, []
    measured = 0.0
    for chunk in Feed(setting.examples, CHUNK).chunks(permutation(SEED, 1, ROWS)):
        end = found.engine.train(state, totals, chunk, rates()[: chunk.steps], (SEED, 0))
        state, totals, measured = end.state, end.totals, float(end.measured[0])
        losses += end.losses.tolist()
    assert np.average(losses, weights=[32, 32, 32, 32, 22]) == pytest.approx(measured, abs=EXACT)


def test_rows_that_are_not_there_have_no_influence() -> None:
    """The last batch is not full: whatever lies beyond it changes no bit."""
    found = trained("adamw, decay, clipped, weighted")
    engine, feed = found.engine, Feed(WEIGHTED.examples, CHUNK)
    *_, tail = feed.chunks(permutation(SEED, 1, ROWS))
    assert (tail.steps, int(tail.mask.sum())) == (1, 22)
    clean = engine.train(found.start, engine.fresh_totals, tail, rates()[:1], (SEED, 0))
    tail.rows[0, 22:] = 1e6
    tail.rows[1:] = np.nan
    tail.targets[0, 22:] = 2
    soiled = engine.train(found.start, engine.fresh_totals, tail, rates()[:1], (SEED, 0))
    np.testing.assert_array_equal(clean.losses, soiled.losses)
    np.testing.assert_array_equal(clean.measured, soiled.measured)
    for once, again in zip(clean.state, soiled.state, strict=True):
        np.testing.assert_array_equal(once, again)


def test_chunk_without_a_step_changes_nothing() -> None:
    found = trained("adamw, decay, clipped, weighted")
    engine, feed = found.engine, Feed(WEIGHTED.examples, CHUNK)
    chunk = next(iter(feed.chunks(np.arange(ROWS))))
    end = engine.train(found.start, engine.fresh_totals, chunk, rates()[:4], (SEED, 0))
    nothing = engine.train(end.state, end.totals, engine.nothing(CHUNK), rates()[:0], (SEED, 4))
    np.testing.assert_array_equal(end.measured, nothing.measured)
    assert len(nothing.losses) == 0
    for once, again in zip(end.state, nothing.state, strict=True):
        np.testing.assert_array_equal(once, again)


def test_noise_of_a_step_depends_on_its_number_and_not_on_its_chunk() -> None:
    """Four steps of the same batch, with a learning rate of 0: only the noise can make their losses differ."""
    setting = Setting({"optimizer": "sgd", "momentum": 0.0}, {**SMALL, "dropout": 0.3})
    engine = make_engine(setting)
    chunk = next(iter(Feed(setting.examples, CHUNK).chunks(np.tile(np.arange(BATCH), CHUNK.steps))))
    start, still = engine.start(weights_of(build(setting))), np.zeros(CHUNK.steps)
    losses = engine.train(start, engine.fresh_totals, chunk, still, (SEED, 10)).losses
    assert len(set(losses.tolist())) == CHUNK.steps
    later = engine.train(start, engine.fresh_totals, chunk, still, (SEED, 12)).losses
    np.testing.assert_array_equal(losses[2:], later[:2])
    assert not set(losses.tolist()) & set(later[2:].tolist())
    other = engine.train(start, engine.fresh_totals, chunk, still, (SEED + 1, 10)).losses
    assert not set(losses.tolist()) & set(other.tolist())


def test_start_is_the_given_network_and_an_optimizer_at_rest() -> None:
    found = trained("nadam, smoothed, clipped")
    arrays = found.engine.layout.split(found.start)
    network = build(SETTINGS["nadam, smoothed, clipped"])
    for path, value in values_of(variables_of(network)).items():
        np.testing.assert_array_equal(value, arrays.pop(path))
    moments = {path: array for path, array in arrays.items() if "momentum" in path or "velocity" in path}
    assert moments
    assert not any(array.any() for array in moments.values())
