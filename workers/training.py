"""Train a network: values in, values out; knows nothing of jobs, databases or Celery."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import keras
import numpy as np

from service.domain.datasets import Column
from service.domain.jobs import Measure
from service.domain.limits import RESIDENT_BYTES
from service.domain.models import Inputs, Outputs
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.training_errors import NothingToKeep, ParityFailed
from service.inference import rows
from service.inference.sessions import ServedNetwork
from workers import export, metrics
from workers.environment import Environment, differences
from workers.epochs import ChunkEnd, EpochEnd, Epochs
from workers.preparation import Prepared, prepare
from workers.state import TrainingState

PARITY_TOLERANCE = 1e-5
"""How far a served probability, or a prediction in standard deviations of the target, may be from Keras."""


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
    environment: Environment
    """Where the training ended."""
    environment_changes: tuple[str, ...]
    """How that differs from where it began; empty where the weights are those of an undisturbed run."""
    weights: bytes
    onnx: bytes


def train(
    spec: JobSpec,
    table: Table,
    columns: Mapping[str, Column],
    state: TrainingState | None = None,
    *,
    official_test_rows: int = 0,
    missing_words: Sequence[str] = (),
    resident_bytes: int = RESIDENT_BYTES,
    on_wait: Callable[[], None] = lambda: None,
    on_split: Callable[[bytes], None] = lambda _: None,
    on_chunk: Callable[[ChunkEnd], None] = lambda _: None,
    on_epoch: Callable[[EpochEnd], None] = lambda _: None,
) -> TrainedNetwork:
    """Train the network of a completed spec on a table whose ``columns`` are described by name.

    ``state`` continues a training: from the state after any chunk it ends with the same bits as one that was never
    interrupted, where the environment is equal. ``missing_words`` stand for a gap wherever the model will answer.
    Encoded rows of more than ``resident_bytes`` are kept in a temporary file.

    ``on_wait`` is called while rows are prepared and code is compiled, ``on_split`` before the first epoch with one
    byte for each row of the table, compressed, ``on_chunk`` several times a second, ``on_epoch`` after every epoch;
    what they raise ends the training.

    Raises:
        UnusableColumn: values of a column cannot be taken.
        UnusableSplit: the rows cannot be divided as the spec asks.
        UnusableClassWeights, UnusableSampleWeights: they do not fit the rows.
        UnusableState: the state belongs to another training, or is damaged.
        TrainingDiverged: the loss became NaN or infinite.
        NothingToKeep: the monitor was finite in no epoch, so none was the best.
        ParityFailed: the served form does not agree with Keras.
    """
    keras.config.disable_interactive_logging()
    data = prepare(spec, table, columns, official_test_rows, missing_words, on_wait, resident_bytes)
    del table  # the rows are encoded; where nobody else holds the table, its memory is free now
    on_split(data.split.to_bytes(data.rows))
    epochs = Epochs(spec, data, on_wait=on_wait, on_chunk=on_chunk, on_epoch=on_epoch)
    epochs.run(state)
    return _finish(epochs, on_wait)


def _finish(epochs: Epochs, on_wait: Callable[[], None]) -> TrainedNetwork:
    data, history = epochs.data, epochs.history
    if epochs.best is None:
        raise NothingToKeep(epochs.spec.training.monitor)
    network = epochs.engine.load(epochs.best)
    graph = export.to_onnx(network, data.inputs, data.outputs)
    served = ServedNetwork(graph)
    changes = [change for one, other in pairwise(epochs.environments) for change in differences(one, other)]
    return TrainedNetwork(
        inputs=data.inputs,
        outputs=data.outputs,
        best_epoch=history.best_epoch,
        best_metrics=history.records[history.best_epoch - 1].metrics,
        test_metrics=_test(served, data, on_wait),
        parity=_check_parity(network, served, data),
        parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_weights),
        environment=epochs.environments[-1],
        environment_changes=tuple(changes),
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


def _test(served: ServedNetwork, data: Prepared, on_wait: Callable[[], None]) -> dict[str, Measure] | None:
    """Measure the test part through the served form."""
    if not len(data.test):
        return None
    chunks = []
    for encoded in data.encoded_test_rows():
        on_wait()
        chunks.append(served.run(encoded))
    answers = np.concatenate(chunks)
    if data.outputs.task == "classification":
        return metrics.of_classes(data.test.targets, answers, data.test.metric_weights)
    truth = data.test.targets.astype(np.float64) * data.outputs.scale + data.outputs.mean
    predicted = answers[:, 0].astype(np.float64)
    return metrics.of_numbers(truth, predicted, data.outputs.scale, data.test.metric_weights)
