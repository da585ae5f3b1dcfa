"""Looking at the layers between epochs: what is seen, when, and that it changes nothing."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from service.domain.diagnostics import LayerDiagnosis
from service.domain.jobs import EventKind
from service.storage import diagnostics, jobs
from service.storage.database import Database
from service.storage.tables import model_versions
from tests.factories import stored_job
from tests.training.attempts import read, run, told
from tests.training.support import SMALL, Case, Watched, classes_table, completed, described
from workers import network as networks
from workers.engine.feeds import Examples
from workers.epochs import Epochs
from workers.monitor import FIRST_EPOCHS, Monitor
from workers.preparation import prepare

TABLE = classes_table(400)
TRAINING: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.01, "epochs": 3, "seed": 2}


@cache
def watched() -> Watched:
    return Case(TABLE, {"network": {**SMALL, "dropout": 0.1}, "training": TRAINING}).run()


def epochs_of(spec_fields: dict[str, Any], looks: list[Any] | None) -> Epochs:
    spec = completed(TABLE, **spec_fields)
    data = prepare(spec, TABLE, described(TABLE))
    return Epochs(spec, data, on_look=None if looks is None else looks.append)


@pytest.mark.parametrize(
    "fields",
    [
        {"network": {**SMALL, "dropout": 0.1}, "training": {**TRAINING, "batch_size": 7}},
        {"network": {**SMALL, "kind": "mlp", "normalization": "batch"}, "training": {"epochs": 3}},
    ],
    ids=["dropout", "batch normalization"],
)
def test_looking_changes_no_bit(fields: dict[str, Any]) -> None:
    states = []
    nobody: list[Any] | None = None
    for looks in (nobody, []):
        epochs = epochs_of(fields, looks)
        epochs.run(None)
        states.append(epochs.state())
        assert looks is None or [look.diagnosis.epoch for look in looks] == [0, 1, 2, 3]
    one, other = states
    for name, array in one.now.arrays().items():
        np.testing.assert_array_equal(array, other.now.arrays()[name])
    for before, after in zip(one.history, other.history, strict=True):
        # Metrics of training are summed up in other pieces where the last step is taken by itself.
        assert before.metrics == pytest.approx(after.metrics, rel=1e-5)
        assert before.metrics["val_loss"] == after.metrics["val_loss"]


def test_every_epoch_is_looked_at_before_the_first_too() -> None:
    assert [look.diagnosis.epoch for look in watched().looks] == [0, 1, 2, 3]
    assert watched().trained.verdict == watched().looks[-1].verdict


def test_untrained_network_is_what_its_initializer_made() -> None:
    spec = completed(TABLE, network={**SMALL, "dropout": 0.1}, training=TRAINING)
    built = networks.build(spec.network, 5, 3, seed=spec.training.seed)
    kernels = networks.draw_kernels(built, spec.training.seed)
    for layer in watched().looks[0].diagnosis.layers:
        squares = np.square(kernels[f"dense_{layer.layer}/kernel"]).sum(axis=0)
        assert layer.tau == pytest.approx(squares.mean(), rel=1e-5)
        assert layer.update_ratio is None


def test_update_ratio_is_that_of_the_last_step() -> None:
    """Plain gradient descent steps by the learning rate times a gradient."""
    rows: list[LayerDiagnosis] = [layer for look in watched().looks[1:] for layer in look.diagnosis.layers]
    for layer in rows:
        assert layer.update_ratio is not None
        assert layer.gradient_norm is not None
        assert layer.weight_norm is not None
        # The last step saw other rows than the probe, so that the two agree in size only.
        expected = TRAINING["learning_rate"] * layer.gradient_norm / layer.weight_norm
        assert 0.1 < layer.update_ratio / expected < 20


def test_update_ratio_is_exact_where_an_epoch_is_one_step() -> None:
    looks: list[Any] = []
    training = {**TRAINING, "batch_size": 400, "epochs": 2}
    epochs = epochs_of({"network": SMALL, "training": training}, looks)
    epochs.run(None)
    by_hand = epochs_of({"network": SMALL, "training": {**training, "epochs": 1}}, None)
    by_hand.run(None)
    before, after = (one.state().now.arrays()["network/dense_1/kernel"] for one in (by_hand, epochs))
    expected = np.linalg.norm(after - before) / np.linalg.norm(after)
    assert looks[2].diagnosis.layers[0].update_ratio == pytest.approx(expected, rel=1e-4)


def test_network_that_is_kept_is_judged_without_what_came_after() -> None:
    """Trained far beyond its best epoch, with a learning rate that leaves the domain late."""
    training = {"optimizer": "nadam", "learning_rate": 0.003, "epochs": 8, "seed": 1}
    seen = Case(TABLE, {"network": {"kind": "snn", "hidden_layers": 4, "units": 96}, "training": training}).run()
    by_epoch = {look.diagnosis.epoch: look.verdict for look in seen.looks}
    best = seen.trained.best_epoch
    assert seen.trained.verdict is not None
    assert seen.trained.verdict.status == by_epoch[best].status
    assert seen.trained.verdict.epoch == by_epoch[best].epoch
    assert seen.trained.verdict.layer == by_epoch[best].layer


def monitor_of(rows: int, epochs: int) -> Monitor:
    spec = completed(TABLE, network=SMALL, training={"epochs": epochs})
    nothing = np.zeros(rows, np.float32)
    return Monitor(spec, Examples(np.zeros((rows, 5), np.float32), nothing.astype(np.int64), nothing, nothing), 3)


def test_small_tables_are_looked_at_less_often_after_the_first_epochs() -> None:
    def due(rows: int, epochs: int) -> list[int]:
        monitor = monitor_of(rows, epochs)
        return [epoch for epoch in range(1, epochs + 1) if monitor.is_due(epoch)]

    assert due(20_000, 60) == list(range(1, 61))
    few = due(400, 60)
    assert few[:FIRST_EPOCHS] == list(range(1, FIRST_EPOCHS + 1))
    assert few[FIRST_EPOCHS:] == [30, 50]
    assert len(due(20_000, 100_000)) < 300


def test_last_epoch_is_looked_at_whatever_the_interval() -> None:
    training = {**TRAINING, "epochs": 13}
    looks = Case(TABLE, {"network": SMALL, "training": training}).run().looks
    assert [look.diagnosis.epoch for look in looks] == [*range(11), 13]


def test_attempt_stores_what_was_seen(database: Database) -> None:
    """A learning rate far too high for twelve layers."""
    network = {"kind": "snn", "hidden_layers": 12, "units": 96, "dropout": 0.0}
    training = {"optimizer": "nadam", "learning_rate": 0.01, "epochs": 4, "test_fraction": 0.2}
    run(database, stored_job(database, network=network, training=training))
    job = read(database)
    assert job.state == "succeeded", job.error_detail
    assert job.verdict is not None
    assert job.verdict["status"] == "left"
    lost = told(database, EventKind.SELF_NORMALIZATION_LOST)
    assert [event["epoch"] for event in lost] == [job.verdict["epoch"]]
    with database.read() as connection:
        seen = diagnostics.read(connection, "job-1")
        held_out = diagnostics.held_out(connection, "job-1")
        verdict = connection.execute(select(model_versions.c.verdict)).scalar_one()
        records = jobs.epoch_records(connection, "job-1")
    assert [diagnosis.epoch for diagnosis in seen] == [0, *(record.epoch for record in records)]
    assert job.best_epoch is not None
    kept = next(diagnosis for diagnosis in seen if diagnosis.epoch == job.best_epoch)
    # The version's verdict is about the best epoch's network, the job's about the last one's.
    assert f"After epoch {kept.epoch}," in verdict["detail"]
    assert verdict["epoch"] == job.verdict["epoch"]
    assert held_out is not None
    assert held_out.part == "test"
    assert sum(map(sum, held_out.confusion)) == 30
    right = sum(held_out.confusion[place][place] for place in range(3))
    assert job.test_metrics is not None
    assert right / 30 == pytest.approx(job.test_metrics["accuracy"])
