"""What a spec costs before it runs, and what this service accepts."""

from dataclasses import dataclass
from itertools import pairwise

from service.domain.errors import Violation
from service.domain.spec import JobSpec, MlpSpec

BYTES_PER_PARAMETER = 24
"""float32 weights, gradients, two optimizer slots, the best epoch's copy and the exported tensors."""
BYTES_PER_ACTIVATION = 16
"""A float32 before and after the activation function, and the gradients of both."""
VALIDATION_BATCH_ROWS = 2048
"""Rows in one step of validation."""
BYTES_PER_CELL = 12
"""A float32 cell as read, standardized, and on the way into the training step."""
FLOPS_PER_SECOND = 2e10
"""What two plain cores were measured to sustain on small Dense layers; the estimate is for orientation."""
SECONDS_PER_STEP = 1.0e-3
SECONDS_PER_STEP_AND_LAYER = 1.5e-4
"""Overhead of one Keras training step: a constant, and a part per layer."""


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training will take: weights and biases, bytes of memory, seconds on two plain cores."""

    parameters: int
    cells: int
    memory_bytes: int
    training_seconds: float


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
    steps = spec.training.epochs * -(-training_rows // spec.training.batch_size)
    flops = 6.0 * parameters * training_rows * spec.training.epochs
    seconds = steps * (SECONDS_PER_STEP + SECONDS_PER_STEP_AND_LAYER * len(widths)) + flops / FLOPS_PER_SECOND
    batch = max(min(spec.training.batch_size, training_rows), min(VALIDATION_BATCH_ROWS, rows))
    activations = batch * (sum(widths) + outputs)
    memory = parameters * BYTES_PER_PARAMETER + cells * BYTES_PER_CELL + activations * BYTES_PER_ACTIVATION
    return Estimate(parameters, cells, memory, seconds)


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
