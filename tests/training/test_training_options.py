"""What the fields of a training spec do to a network, what a training says on its way, and how it fails."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from service.domain.encoders import encode
from service.domain.jobs import Measure
from service.domain.table import Table
from service.domain.training_errors import (
    NothingToKeep,
    TrainingDiverged,
    UnusableClassWeights,
    UnusableColumn,
    UnusableSampleWeights,
)
from service.inference.sessions import ServedNetwork
from tests.training.support import (
    DROPOUT_AND_CLASS_WEIGHTS,
    FEATURES,
    SMALL,
    SMALL_MLP,
    Case,
    Watched,
    case,
    classes_table,
    described,
    numbers_table,
)
from workers import metrics
from workers.engine.feeds import permutation
from workers.preparation import prepare
from workers.splits import Split
from workers.training import TrainedNetwork, train

TABLE = classes_table(300)
PLAIN: dict[str, Any] = {"epochs": 3, "learning_rate": 0.01, "weight_decay": 0, "split": "random", "test_fraction": 0.2}


@cache
def plain() -> Watched:
    return trained_with()


def trained_with(table: Table = TABLE, **training: Any) -> Watched:
    return Case(table, {"network": {**SMALL, "dropout": 0.0}, "training": PLAIN | training}).run()


def answers(trained: TrainedNetwork, table: Table) -> NDArray[Any]:
    return ServedNetwork(trained.onnx).run(encode(table.columns, trained.inputs.encoders))


def number(measured: Measure) -> float:
    assert isinstance(measured, float)
    return measured


def rare_table(rows: int, seed: int) -> Table:
    """One row in twelve is of the class k1, and lies among the others."""
    rng = np.random.default_rng(seed)
    is_rare = rng.random(rows) < 1 / 12
    columns: dict[str, Any] = {name: rng.normal(size=rows) + (0.8 * is_rare if name < "c" else 0) for name in FEATURES}
    columns["y"] = np.where(is_rare, "k1", "k0").astype(object)
    return Table(columns)


def recall(trained: TrainedNetwork, label: str) -> float:
    unseen = rare_table(2000, seed=1)
    place = trained.outputs.classes.index(label)
    return float((answers(trained, unseen).argmax(axis=1) == place)[unseen.columns["y"] == label].mean())


def test_class_weights_raise_the_recall_of_a_rare_class() -> None:
    table = rare_table(600, seed=0)
    training = {"epochs": 10, "early_stopping": None}
    alike, balanced, named = (
        trained_with(table, **training, class_weights=weights).trained for weights in (None, "balanced", {"k1": 30.0})
    )
    assert recall(alike, "k1") < 0.3
    assert recall(balanced, "k1") > 0.6
    assert recall(named, "k1") > recall(balanced, "k1")
    assert recall(balanced, "k0") < recall(alike, "k0")


def test_class_weights_count_in_the_training_loss_only() -> None:
    """With a learning rate that moves nothing, both networks answer the same."""
    alike, weighted = trained_with(learning_rate=1e-30), trained_with(learning_rate=1e-30, class_weights={"k0": 50.0})
    for (_, one, _), (_, other, _) in zip(alike.measured, weighted.measured, strict=True):
        assert one.pop("loss") != other.pop("loss")
        assert one == other
    assert alike.trained.test_metrics == weighted.trained.test_metrics


def test_class_weights_are_relative() -> None:
    """How much rows count against each other is asked, not a longer step."""
    one, other = (
        trained_with(class_weights=dict.fromkeys(("k0", "k1", "k2"), weight)).trained for weight in (1.0, 1000.0)
    )
    assert one.weights == other.weights == plain().trained.weights


def test_class_weight_of_no_class_is_named_with_the_classes() -> None:
    """The service knows the classes of this table too late to refuse the spec."""
    asked = Case(TABLE, {"network": SMALL, "training": PLAIN})
    with pytest.raises(UnusableClassWeights, match="'k9'; the classes are 'k0', 'k1', 'k2'") as caught:
        run_unchecked(asked, class_weights={"k0": 1.0, "k9": 2.0})
    assert caught.value.classes == ("k0", "k1", "k2")


def run_unchecked(asked: Case, **training: Any) -> None:
    """Train with fields that completion has not seen."""
    spec = asked.spec.model_copy(update={"training": asked.spec.training.model_copy(update=training)})
    train(spec, asked.table, described(asked.table))


def with_columns(table: Table, **columns: Any) -> Table:
    return Table({**table.columns, **columns})


def test_rows_of_weight_zero_have_no_influence() -> None:
    """Another class in such rows changes no bit, in whichever part they are."""
    rng = np.random.default_rng(2)
    is_counted = rng.random(TABLE.rows) < 0.7
    labels = TABLE.columns["y"]
    others = np.where(is_counted, labels, np.array(["k0", "k1", "k2"], object)[rng.integers(0, 3, TABLE.rows)])
    assert (others != labels).sum() > 20
    first, second = (
        trained_with(with_columns(TABLE, weight=is_counted.astype(float), y=target), sample_weight_column="weight")
        for target in (labels, others)
    )
    assert first.trained.onnx == second.trained.onnx
    assert first.trained.test_metrics == second.trained.test_metrics
    assert first.measured == second.measured
    assert first.trained.onnx != plain().trained.onnx


def test_equal_sample_weights_change_nothing() -> None:
    alike = trained_with(with_columns(TABLE, weight=np.full(TABLE.rows, 7.0)), sample_weight_column="weight")
    assert plain().trained.weights == alike.trained.weights
    assert plain().measured == alike.measured


def test_sample_weights_count_in_every_measure() -> None:
    """Validation by the engine, test by scikit-learn: both as scikit-learn weighs the served network's answers."""
    training: dict[str, Any] = {"epochs": 1, "validation_fraction": 0.4, "sample_weight_column": "weight"}
    watched = trained_with(**training)
    split = split_of(Case(TABLE, {"network": {**SMALL, "dropout": 0.0}, "training": PLAIN | training}))
    truth = np.array([watched.trained.outputs.classes.index(label) for label in TABLE.columns["y"]])
    served, weights = answers(watched.trained, TABLE), TABLE.columns["weight"]
    exact = {
        part: metrics.of_classes(truth[rows], served[rows], weights[rows])
        for part, rows in (("validation", split.validation), ("test", split.test))
    }
    assert watched.trained.test_metrics == pytest.approx(exact["test"], rel=1e-4)
    measured = watched.measured[0][1]
    assert measured["val_accuracy"] == pytest.approx(exact["validation"]["accuracy"], rel=1e-4)
    assert measured["val_f1"] == pytest.approx(exact["validation"]["f1"], rel=1e-4)
    assert measured["val_loss"] == pytest.approx(number(exact["validation"]["loss"]), rel=1e-4)


def split_of(asked: Case) -> Split:
    return prepare(asked.spec, asked.table, described(asked.table)).split


@pytest.mark.parametrize("damage", [np.nan, -1.0, np.inf])
def test_sample_weights_that_are_none_end_the_training(damage: float) -> None:
    weights = np.ones(TABLE.rows)
    weights[17] = damage
    with pytest.raises(UnusableSampleWeights, match="a gap, a negative number or one that is not finite"):
        run_unchecked(
            Case(with_columns(TABLE, weight=weights), {"network": SMALL, "training": PLAIN}),
            sample_weight_column="weight",
        )


@pytest.mark.parametrize(
    "training",
    [{"label_smoothing": 0.4}, {"l2": 0.1}, {"clip_norm": 0.01}, {"schedule": {"kind": "cosine"}}],
    ids=str,
)
def test_option_changes_the_network(training: dict[str, Any]) -> None:
    watched = trained_with(**training)
    assert len(watched.epochs) == 3
    assert watched.trained.weights != plain().trained.weights


def test_l2_keeps_weights_small() -> None:
    def size(watched: Watched) -> float:
        return sum(float(np.square(array).sum()) for array in load(watched.trained.weights).values())

    assert size(trained_with(l2=0.1)) < size(plain())


def test_smoothed_answers_are_less_certain() -> None:
    fields: dict[str, Any] = {"epochs": 12, "early_stopping": None, "monitor": "val_accuracy"}
    certain, smoothed = (trained_with(label_smoothing=part, **fields).trained for part in (0.0, 0.4))
    assert answers(smoothed, TABLE).max(axis=1).mean() < answers(certain, TABLE).max(axis=1).mean()


def test_no_two_chunks_of_a_training_drop_the_same_units() -> None:
    """All training rows are equal and nothing is learned: only the noise can make the losses of two chunks differ."""
    columns: dict[str, Any] = {name: np.zeros(1200) for name in FEATURES}
    columns["y"] = np.where(np.arange(1200) < 1024, "k0", "k1").astype(object)
    training = {"learning_rate": 1e-30, "weight_decay": 0, "batch_size": 8, "epochs": 2, "split": "order"}
    fields = {"network": {**SMALL, "dropout": 0.1}, "training": {**training, "validation_fraction": 176 / 1200}}
    watched = Case(Table(columns), fields).run()
    sums: dict[int, list[float]] = {1: [0.0], 2: [0.0]}
    for end in watched.chunks[:-1]:  # the last is the end of the training, with nothing summed
        sums[end.state.epoch].append(float(end.state.totals.arrays()["metrics/loss/0"]))
    losses = np.unique(np.concatenate([np.diff(sums[1]), np.diff(sums[2])]))
    losses = losses[losses > 0]  # validation adds nothing
    assert len(losses) == 4
    assert (np.diff(losses) > 1e-4 * losses[1:]).all()


def test_progress_rises_from_nothing_to_all() -> None:
    asked = case(DROPOUT_AND_CLASS_WEIGHTS)
    asked.fields["training"] |= {"epochs": 4, "early_stopping": None}
    watched = asked.run()
    fractions = [end.progress.fraction for end in watched.chunks]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.25
    assert watched.epochs[-1].progress.fraction == 1.0
    assert [end.progress.epoch for end in watched.epochs] == [1, 2, 3, 4]
    assert [end.progress.fraction for end in watched.epochs] == [0.25, 0.5, 0.75, 1.0]
    assert {end.state.epoch for end in watched.chunks[:-1]} == {1, 2, 3, 4}
    assert (watched.chunks[-1].state.epoch, watched.chunks[-1].state.step) == (5, 0)


def test_time_left_is_known_after_some_epochs_and_never_negative() -> None:
    asked = case(DROPOUT_AND_CLASS_WEIGHTS)
    asked.fields["training"] |= {"epochs": 6, "early_stopping": None}
    watched = asked.run()
    said = [*(end.progress for end in watched.chunks), *(end.progress for end in watched.epochs)]
    assert all(each.eta_seconds is None or each.eta_seconds >= 0 for each in said)
    assert all(each.rows_per_second is None or each.rows_per_second > 0 for each in said)
    for end in watched.epochs[2:]:
        assert end.progress.eta_seconds is not None
        assert end.progress.rows_per_second is not None
    assert watched.epochs[-1].progress.eta_seconds == 0


def test_training_is_heard_of_in_every_epoch_before_it_ends() -> None:
    """Even where an epoch is one step; a worker's lease lives by it."""
    watched = plain()
    assert [end.record.epoch for end in watched.epochs] == [1, 2, 3]
    for epoch in (1, 2, 3):
        assert [end.state.epoch for end in watched.chunks].count(epoch) >= 1


def test_learning_rate_of_an_epoch_is_the_one_of_its_last_step() -> None:
    watched = trained_with(schedule={"kind": "cosine"})
    assert watched.measured[-1][2] == pytest.approx(0, abs=1e-12)
    assert watched.measured[0][2] > watched.measured[1][2]


def diverge(table: Table, network: dict[str, Any], **training: Any) -> TrainingDiverged:
    settings = {"epochs": 3, "split": "order", "optimizer": "sgd", "learning_rate": 1e-3, **training}
    with pytest.raises(TrainingDiverged) as caught:
        Case(table, {"task": "regression", "network": network, "training": settings}).run()
    return caught.value


RAW = {**SMALL_MLP, "standardize": False}
LAYERS = {"dense_1", "dense_2", "selu_1", "selu_2", "head"}


def test_learning_rate_that_is_too_high_is_named() -> None:
    found = diverge(numbers_table(300), SMALL, learning_rate=10.0, epochs=20)
    assert found.epoch == 1
    assert found.step is not None
    assert 1 < found.step <= 8
    assert found.layer in LAYERS
    assert "The learning rate 10 is probably too high for this network: try 1, clip_norm 1" in str(found)
    assert f"epoch 1, step {found.step}: " in str(found)


@pytest.mark.parametrize(
    ("outlier", "layer", "words"),
    [(3e38, "dense_1", "dense_1 gave"), (1e30, "head", "answers up to")],
    ids=["overflows in the first layer", "overflows in the loss"],
)
def test_row_that_overflows_deep_in_an_epoch_is_found(outlier: float, layer: str, words: str) -> None:
    """One row of 1,000 cannot be computed; the step it comes in follows from the order of the epoch."""
    seed, batch_size, place = 3, 7, 900
    table = numbers_table(1250)
    columns = {name: table.columns[name].copy() for name in FEATURES}
    for cells in columns.values():
        cells[permutation(seed, 1, 1000)[place]] = outlier
    found = diverge(with_columns(table, **columns), RAW, batch_size=batch_size, seed=seed)
    assert found.epoch == 1
    assert found.step == place // batch_size + 1 == 129
    assert layer == found.layer
    assert words in str(found)
    assert f"A value is {outlier:.3g} once it is prepared" in str(found)


def test_steps_are_counted_from_the_beginning_of_their_epoch() -> None:
    """The learning rate rises until it is too high."""
    schedule = {"kind": "constant", "warmup_epochs": 20}
    found = diverge(numbers_table(300), SMALL, learning_rate=1.0, epochs=20, schedule=schedule)
    assert found.epoch > 1
    assert found.step is not None
    assert 1 <= found.step <= 8
    assert found.layer in LAYERS


def test_weights_that_an_update_made_infinite_name_their_layer() -> None:
    """The head starts at 0 and answers 0, so the first loss is finite; the gradient of its kernel is not."""
    table = numbers_table(40)
    columns = {name: np.full(40, 1e38) for name in FEATURES}
    network = {**RAW, "hidden_layers": 1}
    found = diverge(with_columns(table, **columns), network, learning_rate=10.0, batch_size=1)
    assert (found.epoch, found.step, found.layer) == (1, 2, "head")
    assert "the update before it left no finite numbers in head" in str(found)


def test_validation_that_overflows_names_no_step() -> None:
    """The last rows, which validate, hold a number that only overflows in the loss."""
    table = numbers_table(300)
    columns = {name: table.columns[name].copy() for name in FEATURES}
    columns["a"][290] = 1e30
    found = diverge(with_columns(table, **columns), SMALL)
    assert (found.epoch, found.step, found.layer) == (1, None, None)
    assert "val_loss came to inf" in str(found)
    assert "where most lie within a few units of 0" in str(found)


def test_monitor_that_is_never_finite_ends_with_its_reason() -> None:
    """Where training and validation rows share one number, and the network answers it exactly, R2 is 0/0."""
    table = numbers_table(100)
    target = np.where(np.arange(100) < 80, 5.0, 7.0)
    training = {"epochs": 2, "split": "order", "test_fraction": 0.2, "monitor": "val_r2"}
    case = Case(with_columns(table, y=target), {"task": "regression", "network": SMALL, "training": training})
    with pytest.raises(NothingToKeep, match="val_r2 was finite in no epoch"):
        case.run()


@pytest.mark.parametrize("scale", [1e-320, 1e-60, 1.0, 1e200, 1e307])
def test_only_the_proportions_of_sample_weights_count(scale: float) -> None:
    expected = trained_with(epochs=1, sample_weight_column="weight").trained.test_metrics
    weights = np.maximum(TABLE.columns["weight"] * scale, 0.0)
    if scale == 1e-320:  # too coarse for proportions, but numbers all the same
        weights, expected = np.full(TABLE.rows, scale), trained_with(epochs=1).trained.test_metrics
    found = trained_with(with_columns(TABLE, weight=weights), epochs=1, sample_weight_column="weight")
    assert found.trained.test_metrics == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("row", [0, 70, 90], ids=["training", "validation", "test"])
def test_target_that_cannot_be_held_names_its_column(row: int) -> None:
    table = numbers_table(100)
    target = table.columns["y"].copy()
    target[row] = 1e300
    training = {"epochs": 1, "split": "order", "test_fraction": 0.2}
    case = Case(with_columns(table, y=target), {"task": "regression", "network": SMALL, "training": training})
    with pytest.raises(UnusableColumn, match="'y'"):
        case.run()


def test_r2_of_targets_that_do_not_vary_is_said_to_be_no_number() -> None:
    training = {"epochs": 1, "split": "order", "validation_fraction": 0.02, "test_fraction": 0.2}
    measured = Case(numbers_table(80), {"task": "regression", "network": SMALL, "training": training}).run().measured
    assert (measured[0][1]["val_r2"], measured[0][1]["val_r2_not_finite"]) == (None, "nan")
