"""How fast trainings run, against plain ``model.fit`` and against the limit of the matrix products alone.

The network is the article's: 20 hidden layers of 100 SELU units, Nadam 7e-4. Both sides train equal networks on equal
rows, in turns within one run; medians are compared. ``python -m benchmarks.training [CASE ...]``; without a case, all.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray

from service.domain.models import Inputs, Outputs
from service.domain.owners import DEFAULT_OWNER
from service.domain.spec import JobSpec
from service.domain.table import Table
from service.storage import leases, schema
from service.storage.database import Database
from service.use_cases.datasets import add_builtin_datasets
from tests.factories import stored_job
from workers import environment
from workers.engine.chunks import Engine
from workers.engine.feeds import Examples, Feed, count_steps, permutation
from workers.epochs import Epochs
from workers.forms import Form, make_engine
from workers.lease import Lease
from workers.preparation import Prepared
from workers.recorder import Recorder
from workers.splits import Split

Hook = Callable[[Any], None]

LAYERS, UNITS, LEARNING_RATE = 20, 100, 7e-4
SAME_LOSS_STEPS = 30
SAME_LOSS = 1e-9


@dataclass(frozen=True)
class Case:
    """One shape of data, and how many times faster than ``fit`` the engine must be on it."""

    name: str
    rows: int
    features: int
    classes: int
    batch_rows: int
    bar: float
    aim: float
    epochs: int = 1
    rounds: int = 5
    dropout: float = 0.0


FASHION = Case("fashion-32", 48_000, 784, 10, 32, bar=3.5, aim=5.5)
CASES = (
    FASHION,
    replace(FASHION, name="fashion-128", batch_rows=128, bar=3.0, aim=4.0),
    replace(FASHION, name="fashion-512", batch_rows=512, bar=2.5, aim=2.5),
    Case("boston-32", 404, 13, 0, 32, bar=6.5, aim=9.0, epochs=50),
    Case("boston-32-alpha-dropout", 404, 13, 0, 32, bar=6.0, aim=6.0, epochs=20, dropout=0.05),
    replace(FASHION, name="fashion-32-alpha-dropout", rows=16_000, bar=6.0, aim=6.0, dropout=0.05, rounds=3),
)


def main() -> int:
    """Run the cases, print a line for each, and return 1 if one misses its bar."""
    environment.configure(None)
    chosen = [case for case in CASES if not sys.argv[1:] or case.name in sys.argv[1:]]
    print(
        f"{'rows/s':25}{'fit':>9}{'bare':>9}{'whole':>9}{'products':>9}"
        f"{'bare/fit':>10}{'whole/fit':>10}{'of limit':>10}"
    )
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/selfnorm.db").owned_by(DEFAULT_OWNER)
        schema.upgrade(database)
        add_builtin_datasets(database)
        missed = sum(not _holds(case, database) for case in chosen)
        database.close()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, plain fit included: {megabytes:.0f} MB")
    return 1 if missed else 0


def _holds(case: Case, database: Database) -> bool:
    same = None if case.dropout else largest_difference(case)
    sides = [fit(case), bare(case), whole(case, database), products(case)]
    for warm_up in sides[:3]:
        warm_up()
    rounds = [[_timed(side) for side in sides] for _ in range(case.rounds)]
    speeds = [case.rows * case.epochs / statistics.median(column) for column in zip(*rounds, strict=True)]
    times_bare, times_whole = (statistics.median(one[0] / one[side] for one in rounds) for side in (1, 2))
    of_limit = statistics.median(one[3] / one[1] for one in rounds)
    holds = times_bare >= case.bar and times_whole >= 0.9 * case.bar and (same is None or same <= SAME_LOSS)
    equal = "" if same is None else f"; losses differ by {same:.0e}"
    print(
        f"{case.name:25}{''.join(f'{speed:9,.0f}' for speed in speeds)}{times_bare:10.2f}{times_whole:10.2f}"
        f"{of_limit:10.2f}   bar {case.bar}, aim {case.aim}{equal}: {'holds' if holds else 'MISSED'}",
        flush=True,
    )
    return holds


def data(case: Case, type_: str = "float32") -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows and targets that can be learned."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(case.rows, case.features)).astype(type_)
    hidden = rows[:, : min(case.features, 20)] @ rng.normal(size=(min(case.features, 20), max(case.classes, 1)))
    if case.classes:
        return rows, hidden.argmax(axis=1).astype(np.int64)
    return rows, (hidden[:, 0] / hidden.std()).astype(type_)


def tutorial(case: Case) -> keras.Model:
    """Write the network as a tutorial does, with the start that the service gives it."""
    layers: list[Any] = [keras.Input((case.features,))]
    for _ in range(LAYERS):
        layers.append(keras.layers.Dense(UNITS, activation="selu", kernel_initializer="lecun_normal"))
        if case.dropout:
            layers.append(keras.layers.AlphaDropout(case.dropout))
    layers.append(keras.layers.Dense(case.classes or 1))
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if case.classes else "mse"
    network.compile(optimizer=keras.optimizers.Nadam(LEARNING_RATE), loss=loss)
    return network


def prepared(case: Case) -> Prepared:
    """Return rows as a training takes them, a fifth more for validation, without a table behind them."""
    rows, targets = data(case)
    validation = case.rows // 4
    more_rows, more_targets = data(replace(case, rows=validation))
    ones = np.ones(case.rows, np.float32)
    order = np.arange(case.rows + validation)
    training = Examples(rows, targets, ones, ones)
    task = "classification" if case.classes else "regression"
    return Prepared(
        inputs=Inputs((), (), ()),
        outputs=Outputs(task, "target", tuple(range(case.classes))),
        rows=case.rows + validation,
        split=Split(order[: case.rows], order[case.rows :], order[:0]),
        training=training,
        validation=Examples(more_rows, more_targets, ones[:validation], ones[:validation]),
        test=training,
        test_table=Table({}),
        probe=rows[:1],
        raw_probe=[],
    )


def spec_of(case: Case) -> JobSpec:
    """Return the completed spec of a case."""
    training = {
        "optimizer": "nadam",
        "learning_rate": LEARNING_RATE,
        "weight_decay": 0.0,
        "epochs": case.epochs,
        "batch_size": case.batch_rows,
        "early_stopping": None,
    }
    network = {"hidden_layers": LAYERS, "units": UNITS, "dropout": case.dropout}
    task = "classification" if case.classes else "regression"
    return JobSpec.model_validate({"dataset": "any", "task": task, "network": network, "training": training})


def fit(case: Case) -> Callable[[], object]:
    """Return what a tutorial would run."""
    rows, targets = data(case)
    network = tutorial(case)
    return lambda: network.fit(rows, targets, batch_size=case.batch_rows, epochs=case.epochs, verbose=0)


def bare(case: Case) -> Callable[[], object]:
    """Return the engine's training alone."""
    complete = prepared(case)
    nothing = replace(complete.validation, rows=complete.validation.rows[:0], targets=complete.validation.targets[:0])
    return lambda: Epochs(spec_of(case), replace(complete, validation=nothing)).run(None)


def whole(case: Case, database: Database, through: Callable[[Hook], Hook] = lambda hook: hook) -> Callable[[], object]:
    """Return a training as the service runs it: validated, measured, recorded, with checkpoints.

    Whatever it calls after a chunk or an epoch goes ``through`` a function that may measure it.
    """
    complete = prepared(case)

    def run() -> None:
        job = stored_job(database, f"{case.name}-{time.monotonic_ns()}", training={"epochs": case.epochs})
        with database.write() as connection:
            claim = leases.claim(connection, job, "benchmark")
        assert claim is not None
        with Lease(database, claim) as lease:
            recorder = Recorder(database, lease)
            on_chunk, on_epoch = through(recorder.take_chunk), through(recorder.take_epoch)
            Epochs(spec_of(case), complete, on_chunk=on_chunk, on_epoch=on_epoch).run(None)
        with database.write() as connection:
            recorder.store_rest(connection)

    return run


def products(case: Case) -> Callable[[], object]:
    """Return the matrix products of one epoch alone: forward, and backward to weights and to inputs."""
    widths = [case.features, *[UNITS] * LAYERS, case.classes or 1]
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(case.batch_rows, width)).astype(np.float32) for width in widths]
    weights = [rng.normal(size=shape).astype(np.float32) for shape in pairwise(widths)]

    def run() -> None:
        for _ in range(count_steps(case.rows, case.batch_rows) * case.epochs):
            for number, weight in enumerate(weights):
                inputs[number] @ weight
                inputs[number].T @ inputs[number + 1]
                if number:
                    inputs[number + 1] @ weight.T

    return run


def largest_difference(case: Case) -> float:
    """Compare the loss of each of the first steps in float64 with Keras' own training step."""
    _use("float64")
    try:
        rows, targets = data(case, "float64")
        batches = min(SAME_LOSS_STEPS, count_steps(case.rows, case.batch_rows)) if case.classes else None
        spec, network = spec_of(case), tutorial(case)
        ones = np.ones(case.rows)
        engine = make_engine(Form.of(spec, features=case.features, outputs=case.classes or 1, training_rows=case.rows))
        feed = Feed(Examples(rows, targets, ones, ones), engine.shape)
        state = engine.start(_kernels(network, engine))
        difference = 0.0
        for epoch in range(1, 2 if batches else 4):  # Boston: three epochs
            order = permutation(0, epoch, case.rows)[: batches and batches * case.batch_rows]
            for chunk in feed.chunks(order):
                rates = np.full(chunk.steps, LEARNING_RATE)
                trained = engine.train(state, engine.fresh_totals, chunk, rates, (0, 0))
                state = trained.state
                for step, loss in enumerate(trained.losses):
                    there = chunk.mask[step]
                    expected = network.train_on_batch(chunk.rows[step][there], chunk.targets[step][there])
                    network.reset_metrics()
                    difference = max(difference, abs(float(loss) - float(expected)))
    finally:
        _use("float32")
    return difference


def _use(type_: str) -> None:
    keras.config.set_floatx(type_)
    keras.config.set_dtype_policy(type_)


def _kernels(network: keras.Model, engine: Engine) -> dict[str, NDArray[Any]]:
    """Return the kernels of a tutorial's network under the names of ours; biases start at 0 in both."""
    names = [layer.name for layer in engine.network.layers if isinstance(layer, keras.layers.Dense)]
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    return {f"{name}/kernel": layer.get_weights()[0] for name, layer in zip(names, dense, strict=True)}


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
