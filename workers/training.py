"""Train a network: values in, values out; knows nothing of jobs, databases or Celery."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from service import tracing
from service.domain.datasets import Column
from service.domain.diagnostics import HeldOut
from service.domain.jobs import Measure
from service.domain.limits import RESIDENT_BYTES
from service.domain.models import Inputs, Outputs
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.domain.training_errors import NothingToKeep, ParityFailed
from service.domain.verdict import Verdict
from service.inference import layers, rows
from service.inference.layers import PlainNetwork
from service.inference.sessions import ServedNetwork
from workers import calibration, export, metrics
from workers.calibration import Calibration
from workers.engine.feeds import Examples
from workers.environment import Environment, differences
from workers.epochs import ChunkEnd, EpochEnd, Epochs
from workers.held_out import Answered, confusion_or_residuals
from workers.monitor import Look
from workers.preparation import Prepared, prepare
from workers.room import when_there_is_room
from workers.state import TrainingState

PARITY_TOLERANCE = 1e-5
"""How far a served probability, or a prediction in standard deviations of the target, may be from Keras ..."""
MOST_TOLERANCE = 1e-4
ROUNDINGS = 2.0
"""... unless Keras' own float32 answers are farther than that from those that it gives in float64: then so many times
as far, and never farther than the most. Twenty batch-normalized layers round by 1e-5 by themselves."""
CALIBRATION_ROWS = 50_000
"""So many validation rows say how an answer can be believed, where there is no test part."""
CELLS_AT_ONCE = 4_000_000
"""So many encoded cells go through Keras in one call; wide tables have few rows in it."""


@dataclass(frozen=True, slots=True)
class Forms:
    """A trained network in each form that answers somebody."""

    served: ServedNetwork
    """Predictions."""
    plain: PlainNetwork
    """Samples and explanations, from the stored tensors; in float64, so that nothing but the form is compared."""
    keras_file: keras.Model
    """Loaded from its bytes, as by whoever takes the file away."""


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A finished training: the best epoch's network in every form, and what it measured."""

    inputs: Inputs
    outputs: Outputs
    best_epoch: int
    best_metrics: dict[str, Measure]
    test_metrics: dict[str, Measure] | None
    calibration: Calibration | None
    held_out: HeldOut | None
    """How its answers to held-out rows fit, to be drawn."""
    verdict: Verdict | None
    """Whether the network of the best epoch normalizes itself."""
    parity: dict[str, float]
    parameters: int
    environment: Environment
    """Where the training ended."""
    environment_changes: tuple[str, ...]
    """How that differs from where it began; empty where the weights are those of an undisturbed run."""
    weights: bytes
    onnx: bytes
    keras: bytes


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
    on_look: Callable[[Look], None] = lambda _: None,
) -> TrainedNetwork:
    """Train the network of a completed spec on a table whose ``columns`` are described by name.

    ``state`` continues a training: from the state after any chunk it ends with the same bits as one that was never
    interrupted, where the environment is equal. ``missing_words`` stand for a gap wherever the model will answer.
    Encoded rows of more than ``resident_bytes`` are kept in a temporary file.

    ``on_wait`` is called while rows are prepared and code is compiled, ``on_split`` before the first epoch with one
    byte for each row of the table, compressed, ``on_chunk`` several times a second, ``on_epoch`` after every epoch,
    ``on_look`` whenever the layers have been looked at; what they raise ends the training.

    Raises:
        UnusableColumn: values of a column cannot be taken.
        UnusableSplit: the rows cannot be divided as the spec asks.
        UnusableClassWeights, UnusableSampleWeights: they do not fit the rows.
        UnusableState: the state belongs to another training, or is damaged.
        TrainingDiverged: the loss became NaN or infinite.
        NothingToKeep: the monitor was finite in no epoch, so none was the best.
        ParityFailed: one of its forms does not agree with the network.
    """
    keras.config.disable_interactive_logging()
    with tracing.span("preparation"):
        data = prepare(spec, table, columns, official_test_rows, missing_words, on_wait, resident_bytes)
    del table  # the rows are encoded; where nobody else holds the table, its memory is free now
    on_split(data.split.to_bytes(data.rows))
    epochs = Epochs(spec, data, on_wait=on_wait, on_chunk=on_chunk, on_epoch=on_epoch, on_look=on_look)
    with tracing.span("epochs"):
        epochs.run(state)
    with tracing.span("export"):
        return _finish(epochs, on_wait)


def _finish(epochs: Epochs, on_wait: Callable[[], None]) -> TrainedNetwork:
    data, history = epochs.data, epochs.history
    if epochs.best is None:
        raise NothingToKeep(epochs.spec.training.monitor)
    network = epochs.engine.load(epochs.best)
    graph = export.to_onnx(network, data.inputs, data.outputs)
    keras_file = when_there_is_room(lambda: export.to_keras(network, data.inputs, data.outputs), on_wait)
    loaded = when_there_is_room(lambda: export.from_keras(keras_file), on_wait)
    served = ServedNetwork(graph)
    test = _test_answers(served, data, on_wait)
    weights = export.to_safetensors(network)
    plain = layers.read(weights, epochs.spec.network, data.inputs, data.outputs, np.float64)
    forms = Forms(served, plain, loaded)
    answered = _held_out(network, test, data, on_wait)
    changes = [change for one, other in pairwise(epochs.environments) for change in differences(one, other)]
    return TrainedNetwork(
        inputs=data.inputs,
        outputs=data.outputs,
        best_epoch=history.best_epoch,
        best_metrics=history.records[history.best_epoch - 1].metrics,
        test_metrics=None if test is None else _measured(test, data),
        calibration=None if answered is None else _calibration(answered, data.outputs),
        held_out=None if answered is None else confusion_or_residuals(answered, data.outputs),
        verdict=epochs.judge_kept(),
        parity=_check_parity(network, forms, data, on_wait),
        parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_weights),
        environment=epochs.environments[-1],
        environment_changes=tuple(changes),
        weights=weights,
        onnx=graph,
        keras=keras_file,
    )


def _check_parity(network: keras.Model, forms: Forms, data: Prepared, on_wait: Callable[[], None]) -> dict[str, float]:
    """Compare the answer to rows as a client sends them with Keras on rows of every part as it was trained on them.

    All forms are held against the same.

    Raises:
        ParityFailed: they differ by more than the tolerance.
    """
    encoded = rows.check(data.raw_probe, data.inputs).encoded()
    expected = _answers(network, data.probe, data.outputs, on_wait)
    answered = {
        "max_difference": ("the served network", forms.served.run(encoded)),
        "plain_max_difference": ("the network that samples and explains", forms.plain.run(encoded)),
        "keras_file_max_difference": ("the Keras file", _in_pieces(forms.keras_file, encoded, on_wait)),
    }
    found = {name: _difference(answers, expected, data.outputs) for name, (_, answers) in answered.items()}
    tolerance = PARITY_TOLERANCE
    if not max(found.values()) <= tolerance:  # a NaN is too far, too
        exact = _answers(export.in_float64(network), data.probe, data.outputs, on_wait)
        tolerance = max(tolerance, min(MOST_TOLERANCE, ROUNDINGS * _difference(expected, exact, data.outputs)))
    for name, (form, _) in answered.items():
        if not found[name] <= tolerance:
            raise ParityFailed(form, found[name], tolerance)
    return {
        **found,
        "tolerance": tolerance,
        "rows": float(len(expected)),
    }


def _difference(answers: NDArray[np.floating], expected: NDArray[np.float64], outputs: Outputs) -> float:
    """Return the largest difference: of probabilities, or in standard deviations of the target or parts of them."""
    one, other = ((values - outputs.mean) / outputs.scale for values in (answers, expected))
    return float((np.abs(one - other) / np.maximum(1.0, np.abs(other))).max())


def _answers(
    network: keras.Model, standardized: NDArray[Any], outputs: Outputs, on_wait: Callable[[], None]
) -> NDArray[np.float64]:
    """Return what a trained network answers, as the served form does, (rows, classes) or (rows, 1)."""
    answers = _in_pieces(network, standardized, on_wait).astype(np.float64)
    if outputs.task != "classification":
        return answers * outputs.scale + outputs.mean
    answers = np.exp(answers - answers.max(axis=1, keepdims=True))
    return np.asarray(answers / answers.sum(axis=1, keepdims=True))


def _in_pieces(network: keras.Model, values: NDArray[Any], on_wait: Callable[[], None]) -> NDArray[np.floating]:
    """Call a network with some rows at a time."""
    step = max(1, CELLS_AT_ONCE // values.shape[1])
    pieces = []
    for start in range(0, len(values), step):
        on_wait()
        pieces.append(keras.ops.convert_to_numpy(network(values[start : start + step], training=False)))
    return np.concatenate(pieces)


def _test_answers(served: ServedNetwork, data: Prepared, on_wait: Callable[[], None]) -> NDArray[np.floating] | None:
    """Answer the test part with the served form; None where there is none."""
    if not len(data.test):
        return None
    chunks = []
    for encoded in data.encoded_test_rows():
        on_wait()
        chunks.append(served.run(encoded))
    return np.concatenate(chunks)


def _measured(answers: NDArray[np.floating], data: Prepared) -> dict[str, Measure]:
    """Measure the test part."""
    if data.outputs.task == "classification":
        return metrics.of_classes(data.test.targets, answers, data.test.metric_weights)
    truth, predicted = _numbers(data.test, data.outputs), answers[:, 0].astype(np.float64)
    return metrics.of_numbers(truth, predicted, data.outputs.scale, data.test.metric_weights)


def _held_out(
    network: keras.Model, test: NDArray[np.floating] | None, data: Prepared, on_wait: Callable[[], None]
) -> Answered | None:
    """Return the answers to the test part or, without one, to validation rows, which chose the epoch.

    None where there is neither, or where rows have no answer, for they are too far from all others.
    """
    part: Literal["test", "validation"] = "test"
    examples, answers = data.test, test
    if answers is None and len(data.validation):
        part, examples = "validation", _every_nth(data.validation, -(-len(data.validation) // CALIBRATION_ROWS))
        answers = _answers(network, examples.rows, data.outputs, on_wait)
    if answers is None or not np.isfinite(answers).all() or not examples.metric_weights.sum() > 0:
        return None
    truth = examples.targets if data.outputs.task == "classification" else _numbers(examples, data.outputs)
    return Answered(part, truth, answers, examples.metric_weights)


def _calibration(answered: Answered, outputs: Outputs) -> Calibration:
    """Hold answers against the truth."""
    if outputs.task == "classification":
        measured = calibration.of_classes(answered.truth, answered.answers, answered.weights)
    else:
        predicted = answered.answers[:, 0].astype(np.float64)
        measured = calibration.of_numbers(answered.truth, predicted, outputs.scale, answered.weights)
    return {"part": answered.part, **measured}


def _every_nth(examples: Examples, step: int) -> Examples:
    """Return some of the examples, without a copy."""
    return Examples(
        examples.rows[::step], examples.targets[::step], examples.loss_weights[::step], examples.metric_weights[::step]
    )


def _numbers(examples: Examples, outputs: Outputs) -> NDArray[np.float64]:
    """Return the targets of a regression in their own units."""
    return examples.targets.astype(np.float64) * outputs.scale + outputs.mean
