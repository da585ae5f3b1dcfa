"""Rows on their way into the compiled calls: in the order of an epoch, from memory or from a file, always the same."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNKS_AHEAD = 2
"""So many chunks are read from a file while one trains."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one compiled call takes: so many steps of so many rows."""

    steps: int
    rows: int


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows as the network takes them, and what it should answer; ``rows`` may be a memory-mapped file."""

    rows: NDArray[Any]
    """float (rows, features)."""
    targets: NDArray[Any]
    """Class indices, or standardized numbers, (rows,)."""
    loss_weights: NDArray[Any]
    """How much each row counts in the loss, (rows,); the mean over training rows is 1."""
    metric_weights: NDArray[Any]
    """How much each row counts in the metrics, (rows,)."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_resident(self) -> bool:
        """Whether the rows are in memory."""
        return not isinstance(self.rows, np.memmap)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one compiled call is given: arrays of its shape, of which the first ``steps`` steps count."""

    rows: NDArray[Any]
    targets: NDArray[Any]
    loss_weights: NDArray[Any]
    metric_weights: NDArray[Any]
    mask: NDArray[np.bool_]
    """Which rows are there, (steps, rows); the last batch of an epoch may not be full."""
    steps: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays in the order in which a compiled call takes them."""
        return self.rows, self.targets, self.loss_weights, self.metric_weights, self.mask

    def without_last_step(self) -> tuple["Chunk", "Chunk"]:
        """Return a chunk of all steps but the last, and one of the last alone; of at least one step."""
        place = self.steps - 1
        weights, mask = self.metric_weights.copy(), self.mask.copy()
        weights[place:], mask[place:] = 0, False  # the metrics look at a whole chunk at once
        rows, targets, loss_weights, metric_weights, nowhere = map(np.zeros_like, self.arrays)
        last = Chunk(rows, targets, loss_weights, metric_weights, nowhere, steps=1)
        for array, whole in zip(last.arrays, self.arrays, strict=True):
            array[0] = whole[place]
        return replace(self, metric_weights=weights, mask=mask, steps=place), last


def permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """Return the order of the training rows in an epoch, which depends on nothing else."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


def count_steps(rows: int, batch_rows: int) -> int:
    """Return how many batches hold all rows."""
    return -(-rows // batch_rows)


class Feed:
    """Gives examples in chunks, each of which is good until the next is asked for."""

    def __init__(self, examples: Examples, shape: Shape) -> None:
        self.examples = examples
        self.shape = shape
        self._buffers = self._empty()

    def chunks(self, order: NDArray[np.int64], first_step: int = 0) -> Iterator[Chunk]:
        """Give the rows in this order, from a step on that is a multiple of the chunk's steps."""
        starts = range(first_step, count_steps(len(order), self.shape.rows), self.shape.steps)
        if self.examples.is_resident:
            return (self._fill(self._buffers, order, start) for start in starts)
        return self._streamed(order, starts)

    def _streamed(self, order: NDArray[np.int64], starts: range) -> Iterator[Chunk]:
        """Read some chunks ahead in a thread, each into arrays of its own."""
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as reader:
            ahead: deque[Future[Chunk]] = deque()
            try:
                for start in starts:
                    ahead.append(reader.submit(self._read, order, start))
                    if len(ahead) > CHUNKS_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                reader.shutdown(cancel_futures=True)

    def _read(self, order: NDArray[np.int64], start: int) -> Chunk:
        return self._fill(self._empty(), order, start)

    def _fill(self, into: Chunk, order: NDArray[np.int64], first_step: int) -> Chunk:
        batch = self.shape.rows
        picked = order[first_step * batch : (first_step + self.shape.steps) * batch]
        steps = count_steps(len(picked), batch)
        used = steps * batch  # what lies beyond is not looked at
        sources = (self.examples.rows, self.examples.targets, self.examples.loss_weights, self.examples.metric_weights)
        for source, target in zip(sources, into.arrays, strict=False):
            flat = target.reshape(-1, *source.shape[1:])
            np.take(source, picked, axis=0, out=flat[: len(picked)], mode="clip")  # "raise" would copy once more
            flat[len(picked) : used] = 0
        mask = into.mask.reshape(-1)
        mask[: len(picked)], mask[len(picked) :] = True, False
        into.metric_weights.reshape(-1)[used:] = 0  # the metrics look at a whole chunk at once
        return replace(into, steps=steps)

    def _empty(self) -> Chunk:
        examples, shape = self.examples, (self.shape.steps, self.shape.rows)
        return Chunk(
            np.zeros((*shape, examples.rows.shape[1]), examples.rows.dtype),
            np.zeros((*shape, 1), examples.targets.dtype),
            np.zeros(shape, examples.loss_weights.dtype),
            np.zeros(shape, examples.metric_weights.dtype),
            np.zeros(shape, bool),
            steps=0,
        )
