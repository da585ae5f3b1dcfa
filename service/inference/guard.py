"""What a model is asked, held against the rows that it was trained on.

A network answers anything. Rows far from the training rows get answers that mean little, and rows whose moments have
moved leave the domain in which a self-normalizing network keeps its signal: both are said with the answer.
"""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.cells import FLOAT32_MAX
from service.domain.counts import subtract
from service.domain.encoders import DateEncoder, NumericEncoder
from service.domain.models import NEVER_CHANGED, Inputs
from service.domain.self_normalization import MEAN_DOMAIN, VARIANCE_DOMAIN
from service.domain.wording import shown

FAR = 8.0
"""A value so many standard deviations from the mean of the training rows is far outside."""
FLOAT64_MAX = float(np.finfo(np.float64).max)
"""Stands for what is infinite, which JSON does not have."""
RECENT_ROWS = 1000
BLOCK_ROWS = 50
MAX_UNSEEN_SHARE = 0.05
FEWEST_ROWS = 100
"""With fewer recent rows, nothing is said of their moments and shares."""
MAX_WARNINGS = 20
DATE_COLUMNS = 2
"""Days and year grow without end; the other parts of a date come round again."""


@dataclass(slots=True)
class _Block:
    """Sums over some rows, by standardized column; the rows themselves would take megabytes for each model."""

    rows: int
    sum: NDArray[np.float64]
    squares: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recent:
    """The last rows, about 1,000, standardized as in training; columns that training saw constant are left out."""

    rows: int
    columns: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    unseen_share: Mapping[str, float] | None = None
    """By categorical column: the share of cells whose category training did not see."""

    @property
    def overall(self) -> tuple[float, float]:
        """Mean and variance over rows and columns: what the first layer takes."""
        with np.errstate(over="ignore", invalid="ignore"):
            moments = np.mean(self.mean), np.mean(self.variance) + np.var(self.mean)
        mean, variance = np.nan_to_num(moments, nan=FLOAT64_MAX).tolist()
        return mean, variance

    def to_dict(self) -> dict[str, Any]:
        """Return the moments as plain JSON values."""
        return {
            "rows": self.rows,
            "columns": list(self.columns),
            "mean": list(self.mean),
            "variance": list(self.variance),
            "unseen_share": dict(self.unseen_share or {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recent":
        """Read what ``to_dict`` wrote; nothing where there is nothing."""
        if not values:
            return cls(0)
        columns, mean, variance = (tuple(values[name]) for name in ("columns", "mean", "variance"))
        return cls(values["rows"], columns, mean, variance, values["unseen_share"])


class InputGuard:
    """Counts and remembers what one version was asked in this process; safe to use from many threads."""

    def __init__(self, inputs: Inputs, *, is_standardized: bool, is_self_normalizing: bool) -> None:
        """Without standardization nothing is known of the training rows' moments, so nothing is far from them."""
        self._inputs = inputs
        self._mean = np.array(inputs.mean)
        self._scale = np.array(inputs.scale)
        self._varies = self._scale < NEVER_CHANGED
        self._is_standardized = is_standardized
        self._is_self_normalizing = is_self_normalizing
        self.has_categories = any(encoder.kind == "categorical" for encoder in inputs.encoders)
        self.low, self.high = self._bounds()
        """What lies between them, (encoded columns,) each, is neither far nor beyond float32."""
        self.rows = 0
        self.far_rows = 0
        self.far: Counter[str] = Counter()
        """Far values by encoded column."""
        self.unseen: Counter[str] = Counter()
        """Cells whose category training did not see, by column."""
        self.recent = Recent(0)
        self.warnings: tuple[str, ...] = ()
        """What is odd about the recent rows as a whole; part of every answer until they are as in training again."""
        self._lock = threading.Lock()
        self._digesting = threading.Lock()
        self._fresh: deque[NDArray[np.float64]] = deque()
        self._fresh_rows = 0
        self._blocks: deque[_Block] = deque()
        self._unseen_lately: deque[tuple[int, Mapping[str, int]]] = deque()
        self._unseen_rows = 0
        self.is_changed = False
        """Whether something was taken since ``news`` was last asked for."""
        self._told: dict[str, Any] = {}

    def are_near(self, encoded: NDArray[np.float64]) -> bool:
        """Whether no value of (rows, encoded columns) is far outside, NaN or beyond float32."""
        return bool(((encoded >= self.low) & (encoded <= self.high)).all())

    def take(self, encoded: NDArray[np.float64]) -> None:
        """Remember rows, (rows, encoded columns), that were answered."""
        count = len(encoded)
        piece = _on_its_own(encoded[-RECENT_ROWS:])
        with self._lock:
            self.rows += count
            self.is_changed = True
            self._fresh.append(piece)
            self._fresh_rows += len(piece)
            while self._fresh_rows - len(self._fresh[0]) >= RECENT_ROWS:
                self._fresh_rows -= len(self._fresh.popleft())

    def take_unseen(self, rows: int, unseen: Mapping[str, int]) -> None:
        """Remember how many cells of so many rows hold a category that training did not see, by column."""
        with self._lock:
            self.unseen.update(unseen)
            self._unseen_lately.append((rows, unseen))
            self._unseen_rows += rows
            while self._unseen_rows - self._unseen_lately[0][0] >= RECENT_ROWS:
                self._unseen_rows -= self._unseen_lately.popleft()[0]

    def look_at(self, encoded: NDArray[np.float64], first_row: int = 0) -> list[str]:
        """Count what is far outside in (rows, encoded columns), and say it, row by row, in at most 20 sentences."""
        is_far = (encoded < self.low) | (encoded > self.high)
        rows, columns = np.nonzero(is_far)
        if not len(rows):
            return []
        names = self._inputs.encoded
        with self._lock:
            self.far_rows += int(is_far.any(axis=1).sum())
            self.far.update(names[column] for column in columns.tolist())
        first = zip(rows[:MAX_WARNINGS].tolist(), columns[:MAX_WARNINGS].tolist(), strict=True)
        return [
            f"row {first_row + row}, column {shown(names[column])}: {self._how_far(encoded[row, column], column)}"
            for row, column in first
        ]

    def digest(self) -> None:
        """Bring ``recent`` and ``warnings`` up to date; takes milliseconds, so not where somebody waits."""
        with self._digesting:
            with self._lock:
                fresh, self._fresh, self._fresh_rows = self._fresh, deque(), 0
                shares = self._unseen_shares()
            if not fresh:
                return
            self._add(np.concatenate(fresh))  # most are single rows, each of which would take as long as a hundred
            self.recent = self._moments(shares)
            self.warnings = tuple(drift(self.recent, is_self_normalizing=self._is_self_normalizing))

    def counts(self) -> dict[str, Any]:
        """Return what was counted since the version was loaded, as plain JSON values."""
        with self._lock:
            return self._counts()

    def news(self) -> dict[str, Any]:
        """Return what was counted since this was last asked."""
        with self._lock:
            before, self._told = self._told, self._counts()
            self.is_changed = False
            return subtract(self._told, before)

    def _counts(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "far_rows": self.far_rows,
            "far": dict(self.far),
            "unseen": {name: count for name, count in self.unseen.items() if count},
        }

    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        high = np.full(len(self._mean), FLOAT32_MAX)
        low = -high
        if self._is_standardized:
            start = 0
            for encoder in self._inputs.encoders:
                watched = _watched(encoder)
                part = slice(start, start + watched)
                if watched:
                    low[part] = np.maximum(low[part], self._mean[part] - FAR * self._scale[part])
                    high[part] = np.minimum(high[part], self._mean[part] + FAR * self._scale[part])
                start += len(encoder.columns)
        return low, high

    def _how_far(self, value: float, column: int) -> str:
        distance = (float(value) - float(self._mean[column])) / float(self._scale[column])
        side = "above" if distance > 0 else "below"
        return (
            f"lies {abs(distance):.3g} standard deviations {side} the mean of the training rows; "
            "the answer may mean little"
        )

    def _unseen_shares(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for _, unseen in self._unseen_lately:
            total.update(unseen)
        return {name: count / self._unseen_rows for name, count in total.items()} if self._unseen_rows else {}

    def _add(self, rows: NDArray[np.float64]) -> None:
        """Add rows to the sums of the last ones; the sums of the oldest go, a block at a time."""
        # A single value may be as far away as float64 goes; its square is then infinite.
        mean, scale = self._mean[self._varies], self._scale[self._varies]
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(rows), BLOCK_ROWS):
                piece = (rows[start : start + BLOCK_ROWS, self._varies] - mean) / scale
                if not self._blocks or self._blocks[-1].rows >= BLOCK_ROWS:
                    self._blocks.append(_Block(0, np.zeros(piece.shape[1]), np.zeros(piece.shape[1])))
                block = self._blocks[-1]
                block.rows += len(piece)
                block.sum += piece.sum(axis=0)
                block.squares += np.einsum("ij,ij->j", piece, piece)
        while sum(block.rows for block in self._blocks) - self._blocks[0].rows >= RECENT_ROWS:
            self._blocks.popleft()

    def _moments(self, shares: Mapping[str, float]) -> Recent:
        rows = sum(block.rows for block in self._blocks)
        if not self._is_standardized or not self._varies.any():
            return Recent(rows, unseen_share=shares)
        names = [name for name, varies in zip(self._inputs.encoded, self._varies.tolist(), strict=True) if varies]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = sum(block.sum for block in self._blocks) / rows
            variance = sum(block.squares for block in self._blocks) / rows - mean**2
        mean, variance = np.nan_to_num(mean), np.nan_to_num(np.maximum(variance, 0.0), nan=FLOAT64_MAX)
        return Recent(rows, tuple(names), tuple(mean.tolist()), tuple(variance.tolist()), shares)


def drift(recent: Recent, *, is_self_normalizing: bool) -> list[str]:
    """Say what is odd about the last rows as a whole; nothing where there are few."""
    if recent.rows < FEWEST_ROWS:
        return []
    found = [
        f"column {shown(name)}: {share:.0%} of the last {recent.rows:,} rows hold categories unknown to training"
        for name, share in (recent.unseen_share or {}).items()
        if share > MAX_UNSEEN_SHARE
    ]
    if is_self_normalizing and recent.mean:
        mean, variance = recent.overall
        if not (_lies_in(mean, MEAN_DOMAIN) and _lies_in(variance, VARIANCE_DOMAIN)):
            found.append(
                f"the last {recent.rows:,} rows, standardized as in training, have mean {mean:.3g} and variance "
                f"{variance:.3g}; self-normalization assumes a mean in -0.1..0.1 and a variance in 0.8..1.5"
            )
    return found[:MAX_WARNINGS]


def _on_its_own(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows that hold no more memory than they show, such as all the others of a large request."""
    base = rows.base
    return rows.copy() if isinstance(base, np.ndarray) and base.nbytes > rows.nbytes else rows


def _lies_in(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _watched(encoder: object) -> int:
    """Return how many of an encoder's first columns can lie far outside.

    The columns of categories, booleans and gaps are 0 or 1: where they are rare, one of them is as far as it can be.
    """
    match encoder:
        case NumericEncoder():
            return 1
        case DateEncoder():
            return DATE_COLUMNS
        case _:
            return 0
