"""Train a network: values in, values out; knows nothing of jobs, databases or Celery."""

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from service.domain.datasets import Column
from service.domain.errors import ParityFailed, TrainingDiverged
from service.domain.jobs import EpochRecord, Measure
from service.domain.limits import VALIDATION_BATCH_ROWS
from service.domain.models import Inputs, Outputs
from service.domain.spec import JobSpec, Monitor
from service.domain.table import Table
from service.inference import rows
from service.inference.sessions import ServedNetwork
from workers import export, metrics
from workers import network as networks
from workers.preparation import Prepared, prepare
from workers.splits import Split

PARITY_TOLERANCE = 1e-5
"""How far a served probability, or a prediction in standard deviations of the target, may be from Keras."""
HIGHER_IS_BETTER = frozenset({"val_accuracy", "val_f1", "val_auc", "val_r2"})


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """What is known when an epoch has ended."""

    record: EpochRecord
    best_epoch: int
    rows_per_second: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A finished training: the best epoch's network in both forms, and what it measured."""

    inputs: Inputs
    outputs: Outputs
    best_epoch: int
    best_metrics: dict[str, Measure]
    test_metrics: dict[str, Measure] | None
    parity: dict[str, float]
    parameters: int
    environment: dict[str, str]
    weights: bytes
    onnx: bytes


@dataclass(slots=True)
class BestEpoch:
    """Follows one metric over the epochs: which was best, and whether it is time to stop."""

    monitor: Monitor
    patience: int | None
    min_delta: float
    epoch: int = 0
    value: float = math.inf
    _waited_since: int = field(default=0, init=False)
    _level: float = field(default=math.inf, init=False)

    def update(self, epoch: int, measured: dict[str, Measure]) -> bool:
        """Take an epoch's metrics in; return whether it is the best so far. Without validation rows the last one is."""
        if self.monitor not in measured:
            self.epoch = epoch
            return True
        value = measured[self.monitor]
        if not isinstance(value, float):  # not finite
            return False
        value = -value if self.monitor in HIGHER_IS_BETTER else value
        if value < self._level - self.min_delta:
            self._level, self._waited_since = value, epoch
        if value < self.value:
            self.epoch, self.value = epoch, value
            return True
        return False

    def should_stop(self, epoch: int) -> bool:
        """Whether ``patience`` epochs have gone without an improvement by more than ``min_delta``."""
        return self.patience is not None and epoch - self._waited_since >= self.patience


def train(
    spec: JobSpec,
    table: Table,
    columns: Mapping[str, Column],
    *,
    official_test_rows: int = 0,
    missing_words: Sequence[str] = (),
    on_split: Callable[[Split], None] = lambda _: None,
    on_epoch: Callable[[EpochEnd], None],
    on_step: Callable[[], None],
) -> TrainedNetwork:
    """Train the network of a completed spec on a table whose ``columns`` are described by name.

    ``on_split`` is called before the first epoch, ``on_step`` after every step and while the rows are prepared; what
    they raise ends the training. ``missing_words`` stand for a gap wherever the model will answer.

    Raises:
        UnusableColumn: values of a column cannot be taken.
        UnusableSplit: the rows cannot be divided as the spec asks.
        TrainingDiverged: the loss became NaN or infinite.
        ParityFailed: the served form does not agree with Keras.
    """
    keras.utils.set_random_seed(spec.training.seed)
    keras.config.disable_interactive_logging()
    data = prepare(spec, table, columns, official_test_rows, missing_words, on_step)
    on_split(data.split)
    outputs = len(data.outputs.classes) or 1
    network = networks.build(spec.network, len(data.inputs.mean), outputs, spec.training.seed)
    assert spec.task is not None
    network.compile(
        optimizer=networks.optimizer(spec.training),
        loss=networks.loss(spec),
        metrics=metrics.while_training(spec.task, outputs),
        jit_compile=False,
    )
    follower = _Follower(spec, data, on_epoch, on_step)
    network.fit(
        data.training.rows,
        _column(data.training.target),
        batch_size=min(spec.training.batch_size, len(data.training.rows)),
        epochs=spec.training.epochs,
        validation_data=(data.validation.rows, _column(data.validation.target)) if len(data.validation.rows) else None,
        validation_batch_size=VALIDATION_BATCH_ROWS,
        callbacks=[follower],
        verbose=0,
    )
    network.set_weights(follower.best_weights)
    return _finish(network, data, follower)


def forget() -> None:
    """Free what Keras keeps of trainings that have ended; takes a quarter of a second, so not while a job waits."""
    keras.backend.clear_session()


class _Follower(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Measures epochs, keeps the best one's weights, and stops when it should."""

    def __init__(
        self, spec: JobSpec, data: Prepared, on_epoch: Callable[[EpochEnd], None], on_step: Callable[[], None]
    ) -> None:
        super().__init__()
        early = spec.training.early_stopping
        self.best = BestEpoch(
            spec.training.monitor, early.patience if early else None, early.min_delta if early else 0.0
        )
        self.best_weights: list[NDArray[Any]] = []
        self.best_metrics: dict[str, Measure] = {}
        self._spec = spec
        self._data = data
        self._on_epoch = on_epoch
        self._on_step = on_step
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002  # Keras' signature
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002  # Keras' signature
        """Let the owner of the training look in."""
        self._on_step()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure; ``epoch`` counts from 0 here and from 1 everywhere else."""
        number = epoch + 1
        seconds = time.perf_counter() - self._started
        measured = metrics.in_target_units(logs or {}, self._data.outputs.scale)
        learning_rate = float(self.model.optimizer.learning_rate)
        if measured["loss"] is None or ("val_loss" in measured and measured["val_loss"] is None):
            raise TrainingDiverged(number, learning_rate)
        if self.best.update(number, measured):
            self.best_weights, self.best_metrics = self.model.get_weights(), measured
        epochs = self._spec.training.epochs
        self._on_epoch(
            EpochEnd(
                EpochRecord(number, measured, learning_rate, seconds),
                best_epoch=self.best.epoch,
                rows_per_second=len(self._data.training.rows) / seconds,
                eta_seconds=(epochs - number) * seconds,
            )
        )
        if self.best.should_stop(number):
            self.model.stop_training = True


def _finish(network: keras.Model, data: Prepared, follower: _Follower) -> TrainedNetwork:
    graph = export.to_onnx(network, data.inputs, data.outputs)
    served = ServedNetwork(graph)
    parity = _check_parity(network, served, data)
    return TrainedNetwork(
        inputs=data.inputs,
        outputs=data.outputs,
        best_epoch=follower.best.epoch,
        best_metrics=follower.best_metrics,
        test_metrics=_test(served, data),
        parity=parity,
        parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_weights),
        environment=environment(),
        weights=export.to_safetensors(network),
        onnx=graph,
    )


def _check_parity(network: keras.Model, served: ServedNetwork, data: Prepared) -> dict[str, float]:
    """Compare the answer to rows as a client sends them with Keras on rows of every part as it was trained on them.

    Raises:
        ParityFailed: they differ by more than the tolerance.
    """
    answers = served.run(rows.check(data.raw_probe, data.inputs).encoded())
    expected = keras.ops.convert_to_numpy(network(data.probe, training=False)).astype(np.float64)
    if data.outputs.task == "classification":
        expected = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
        difference = np.abs(answers - expected)
    else:
        answers = (answers - data.outputs.mean) / data.outputs.scale
        difference = np.abs(answers - expected) / np.maximum(1.0, np.abs(expected))
    largest = float(difference.max())
    if not largest <= PARITY_TOLERANCE:  # a NaN fails too
        raise ParityFailed(largest, PARITY_TOLERANCE)
    return {"max_difference": largest, "tolerance": PARITY_TOLERANCE, "rows": float(len(expected))}


def _test(served: ServedNetwork, data: Prepared) -> dict[str, Measure] | None:
    """Measure the test part through the served form."""
    if not len(data.split.test):
        return None
    answers = np.concatenate([served.run(encoded) for encoded in data.encoded_test_rows()])
    if data.outputs.task == "classification":
        return metrics.of_classes(data.test.target, answers)
    truth = data.test.target.astype(np.float64) * data.outputs.scale + data.outputs.mean
    return metrics.of_numbers(truth, answers[:, 0].astype(np.float64), data.outputs.scale)


def environment() -> dict[str, str]:
    """Return what the bits of a training depend on."""
    from importlib.metadata import version

    tensorflow = "tensorflow-cpu" if platform.system() == "Linux" and platform.machine() == "x86_64" else "tensorflow"
    packages = {"keras": "keras", "tensorflow": tensorflow, "numpy": "numpy", "onnxruntime": "onnxruntime"}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(package) for name, package in packages.items()},
    }


def _column(target: NDArray[Any]) -> NDArray[Any]:
    return target.reshape(-1, 1)
