"""Which jobs share compiled functions: compiling takes seconds, so a warm worker keeps what it has compiled."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from service.domain.limits import CHUNK_BYTES, VALIDATION_BATCH_ROWS, count_parameters
from service.domain.spec import JobSpec, MlpSpec
from workers import network as networks
from workers import training_metrics
from workers.background import in_background
from workers.engine.chunks import Engine
from workers.engine.feeds import Shape
from workers.environment import release_memory

KEPT = 8
"""So many compiled forms are kept; one of 20 layers holds about 100 MB."""
COMPILED = {"optimizer", "momentum", "weight_decay", "clip_norm", "l2", "label_smoothing"}
"""Fields of the training spec that are constants in the code."""
CHUNK_SECONDS = 0.5
FLOPS_PER_SECOND = 4e10
"""What a core sustains, so that a chunk stays below a second on most machines."""
MOST_STEPS = 64
"""More steps in a chunk cost nothing measurable less per step."""

_COMPILER = ThreadPoolExecutor(1, thread_name_prefix="compiler")


@dataclass(frozen=True, slots=True)
class Form:
    """What must be equal for two trainings to run the same compiled code; seeds and learning rates need not."""

    spec: str
    """The part of the job spec that is compiled into the code, as JSON."""
    features: int
    outputs: int
    batch_rows: int
    is_evaluated: bool

    @classmethod
    def of(cls, spec: JobSpec, *, features: int, outputs: int, training_rows: int, validation_rows: int = 0) -> "Form":
        """Return the form of a completed spec."""
        assert isinstance(spec.training.batch_size, int)
        compiled = spec.model_dump(mode="json", include={"task": True, "network": True, "training": COMPILED})
        # Every spec names a data set; the code does not depend on which.
        document = {**compiled, "dataset": "any"}
        batch_rows = min(spec.training.batch_size, training_rows)
        return cls(json.dumps(document), features, outputs, batch_rows, validation_rows > 0)


def chunk_shape(rows: int, *, parameters: int, bytes_per_row: int, passes: int) -> Shape:
    """Return how many steps of so many rows make a chunk: a power of two, well below a second, of bounded size.

    ``passes`` is how often a step goes through the network: once forward, twice backward.
    """
    seconds = 2.0 * passes * parameters * rows / FLOPS_PER_SECOND
    most = min(MOST_STEPS, CHUNK_SECONDS / seconds, CHUNK_BYTES / (rows * bytes_per_row))
    return Shape(2 ** max(0, int(most).bit_length() - 1), rows)


def engine_for(form: Form, on_wait: Callable[[], None]) -> Engine:
    """Return the compiled functions of a form, compiled now or for an earlier job.

    A network of a hundred layers compiles for half a minute, and nothing can interrupt that; so it is done in the
    background, one network at a time, while ``on_wait`` is called again and again.
    """
    compiling = _COMPILER.submit(_compiled, form)
    try:
        return in_background(compiling.result, on_wait)
    finally:
        compiling.cancel()  # where nobody waits any more and it has not begun


@lru_cache(maxsize=KEPT)
def _compiled(form: Form) -> Engine:
    engine = make_engine(form)
    engine.compile(evaluation=form.is_evaluated)
    release_memory()
    return engine


def make_engine(form: Form) -> Engine:
    """Make the functions of a form; each is compiled when it is first called."""
    spec = JobSpec.model_validate_json(form.spec)
    assert spec.task is not None
    network = networks.build(spec.network, form.features, form.outputs, seed=0, l2=spec.training.l2)
    network.compile(optimizer=networks.optimizer(spec.training), loss=networks.loss(spec))
    widths = spec.network.widths
    normalized = isinstance(spec.network, MlpSpec) and spec.network.normalization == "batch"
    parameters = count_parameters(widths, form.features, form.outputs, batch_normalization=normalized)
    row, noise = 4 * (form.features + form.outputs), 2 * sum(widths) if spec.network.dropout else 0
    return Engine(
        network,
        training_metrics.while_training(spec.task, form.outputs),
        targets="int64" if spec.task == "classification" else network.compute_dtype,
        training=chunk_shape(form.batch_rows, parameters=parameters, bytes_per_row=row + noise, passes=3),
        evaluation=chunk_shape(VALIDATION_BATCH_ROWS, parameters=parameters, bytes_per_row=row, passes=1),
    )
