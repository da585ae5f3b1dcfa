"""What a spec costs before it runs, and what this service accepts."""

from dataclasses import dataclass
from itertools import pairwise

from service.domain.errors import Violation
from service.domain.spec import JobSpec, MlpSpec

BYTES_PER_PARAMETER = 96
"""Measured: weights and two optimizer slots as variables, as packed vectors in and out, and in the loop between; the
gradients, the best epoch's copy and the exported tensors."""
BYTES_PER_ANSWER = 16
"""A float32 answer and what the metrics make of it, for every row of a chunk."""
BYTES_PER_ACTIVATION = 16
"""A float32 before and after the activation function, and the gradients of both."""
VALIDATION_BATCH_ROWS = 128
"""Rows in one step of validation."""
BYTES_PER_CELL = 12
"""A float32 cell as read, standardized, and on the way into the training step."""
RESIDENT_BYTES = 2**30
"""Encoded rows beyond this are streamed from a temporary file."""
FLOPS_PER_SECOND = 5e10
"""What two plain cores were measured to sustain on small Dense layers; the estimate is for orientation."""
SECONDS_PER_STEP = 1e-4
SECONDS_PER_STEP_AND_LAYER = 2.5e-5
"""Overhead of one compiled training step: a constant, and a part per layer."""
CHUNK_BYTES = 32 * 2**20
"""What the rows, the answers and the noise of one compiled call may take, unless a single step takes more."""
MAX_STEP_SECONDS = 5.0
"""A cancel is heard between two steps, never within one."""
COMPILE_SECONDS_PER_LAYER = 0.2
COMPILE_BYTES_PER_LAYER = 5 * 2**20
"""What a worker needs once to compile the steps of a network."""


@dataclass(frozen=True)
class Limits:
    """Bounds on products of fields; a single field may be legal and the whole still too much."""

    max_parameters: int = 50_000_000
    max_cells: int = 500_000_000
    max_memory_bytes: int = 16 * 2**30
    max_training_seconds: float = 14 * 86_400.0


@dataclass(frozen=True)
class TableLimits:
    """Bounds on an uploaded table, and on the process that reads it."""

    max_rows: int = 50_000_000
    max_columns: int = 10_000
    max_cells: int = 500_000_000
    max_decoded_bytes: int = 4 * 2**30
    max_categories: int = 1_000
    import_memory_bytes: int = 6 * 2**30
    import_seconds: float = 300.0


@dataclass(frozen=True)
class ConnectionBounds:
    """What a connection may take of an API process, and how slow its client may be; each is a setting of that name."""

    max_connections: int = 2_000
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_url_bytes: int = 8 * 1024
    header_seconds: float = 10.0
    keep_alive_seconds: int = 30
    body_seconds: float = 60.0
    answer_seconds: float = 300.0
    reader_seconds: float = 30.0
    min_bytes_per_second: int = 1_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training will take: weights and biases, bytes of memory, seconds on two plain cores."""

    parameters: int
    cells: int
    memory_bytes: int
    training_seconds: float
    step_seconds: float = 0.0
    """Of one training step, which nothing interrupts."""


def count_parameters(widths: tuple[int, ...], features: int, outputs: int, *, batch_normalization: bool) -> int:
    """Count trainable weights and biases of a Dense network, batch normalization's scale and shift included."""
    dense = sum((fan_in + 1) * units for fan_in, units in pairwise((features, *widths, outputs)))
    return dense + (2 * sum(widths) if batch_normalization else 0)


def estimate(spec: JobSpec, *, inputs: int, rows: int, training_rows: int, outputs: int) -> Estimate:
    """Estimate a completed spec; ``inputs`` is how many numbers a row has once it is encoded."""
    widths = spec.network.widths
    normalized = isinstance(spec.network, MlpSpec) and spec.network.normalization == "batch"
    parameters = count_parameters(widths, inputs, outputs, batch_normalization=normalized)
    cells = rows * (inputs + 1)
    batch_size = spec.training.batch_size
    assert batch_size != "auto", "a completed spec has a number"
    steps = spec.training.epochs * -(-training_rows // batch_size)
    flops = 6.0 * parameters * training_rows * spec.training.epochs
    seconds = steps * (SECONDS_PER_STEP + SECONDS_PER_STEP_AND_LAYER * len(widths)) + flops / FLOPS_PER_SECOND
    batch = max(min(batch_size, training_rows), min(VALIDATION_BATCH_ROWS, rows))
    activations = batch * (sum(widths) + outputs)
    seconds += len(widths) * COMPILE_SECONDS_PER_LAYER
    memory = len(widths) * COMPILE_BYTES_PER_LAYER + 2 * CHUNK_BYTES + batch * outputs * BYTES_PER_ANSWER
    memory += parameters * BYTES_PER_PARAMETER + cells * BYTES_PER_CELL + activations * BYTES_PER_ACTIVATION
    step_seconds = 6.0 * parameters * min(batch_size, training_rows) / FLOPS_PER_SECOND
    return Estimate(parameters, cells, memory, seconds, step_seconds)


def violations(cost: Estimate, limits: Limits) -> list[Violation]:
    """Name every limit that a spec exceeds."""
    found = []
    if cost.parameters > limits.max_parameters:
        found.append(
            Violation(
                "#/network",
                f"has {cost.parameters:,} parameters; at most {limits.max_parameters:,} are allowed. "
                "Take fewer units or hidden_layers",
            )
        )
    if cost.cells > limits.max_cells:
        found.append(
            Violation(
                "#/features",
                f"the table has {cost.cells:,} cells; at most {limits.max_cells:,} are allowed. Name fewer features",
            )
        )
    if cost.memory_bytes > limits.max_memory_bytes:
        found.append(
            Violation(
                "#/training/batch_size",
                f"the training would need about {cost.memory_bytes / 2**30:,.1f} GiB of memory; at most "
                f"{limits.max_memory_bytes / 2**30:,.1f} GiB are allowed. Take a smaller batch_size, network or table",
            )
        )
    if cost.step_seconds > MAX_STEP_SECONDS:
        found.append(
            Violation(
                "#/training/batch_size",
                f"one step would take about {cost.step_seconds:,.0f} s; {MAX_STEP_SECONDS:g} s are allowed, for a "
                "cancel is heard between two steps. Take a smaller batch_size or network",
            )
        )
    if cost.training_seconds > limits.max_training_seconds:
        found.append(
            Violation(
                "#/training/epochs",
                f"the training would take about {cost.training_seconds:,.0f} s; at most "
                f"{limits.max_training_seconds:,.0f} s are allowed. Take fewer epochs, "
                "a larger batch_size or a smaller network",
            )
        )
    return found
