"""From raw columns to numbers: one encoder per feature, the same code where a network trains and where it answers.

An encoder is a plain value: what was fitted on the training rows, and a pure function of columns. What it gives is not
yet standardized; every encoded column is, with its own mean and scale (``service.domain.models.Inputs``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from service.domain import dates
from service.domain.cells import Category as Category
from service.domain.cells import Coded as Coded
from service.domain.cells import RawColumn as RawColumn

SOFT_CLIP = 3.0
"""Where robust scaling begins to bend: no value leaves -3..3 (RealMLP, Holzmueller et al. 2024, section 3)."""
MICROSECONDS_PER_DAY = 86_400_000_000
DAY_PARTS = ("days", "year", "month_sin", "month_cos", "day", "weekday_sin", "weekday_cos")
TIME_PARTS = ("hour_sin", "hour_cos")


@dataclass(frozen=True, slots=True)
class Robust:
    """Scale by median and quartiles, then bend far values softly into -3..3."""

    center: float
    scale: float
    kind: Literal["robust"] = "robust"

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform (rows,); NaN stays."""
        scaled = (values - self.center) / self.scale
        # For |x| beyond 1e150 the square overflows; hypot does not.
        return np.asarray(scaled / np.hypot(1.0, scaled / SOFT_CLIP), np.float64)


@dataclass(frozen=True, slots=True)
class Quantile:
    """Map values to a normal distribution: straight lines between quantiles of the training rows."""

    values: tuple[float, ...]
    """Strictly increasing."""
    normal: tuple[float, ...]
    """What each of them becomes."""
    kind: Literal["quantile"] = "quantile"

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform (rows,); NaN stays."""
        return np.interp(values, self.values, self.normal)


Transform = Annotated[Robust | Quantile, Field(discriminator="kind")]


class _Encoder(ABC):
    """What every encoder does."""

    __slots__ = ()

    @property
    @abstractmethod
    def width(self) -> int:
        """How many encoded columns there are."""

    @abstractmethod
    def put(self, values: Any, out: NDArray[np.float64]) -> None:
        """Encode raw cells (rows,) into ``out`` (rows, width), which holds nothing but 0."""

    def encode(self, values: Any) -> NDArray[np.float64]:
        """Encode raw cells (rows,) to (rows, width)."""
        encoded = np.zeros((len(values), self.width))
        self.put(values, encoded)
        return encoded


@dataclass(frozen=True, slots=True)
class NumericEncoder(_Encoder):
    """A number as it is, or transformed; with ``gaps`` the mean stands for a gap and a second column marks it."""

    name: str
    gaps: bool = False
    fill: float = 0.0
    """The mean of the training rows, transformed."""
    transform: Transform | None = None
    missing_tokens: tuple[str, ...] = ()
    kind: Literal["numeric"] = "numeric"

    @property
    def is_plain(self) -> bool:
        """Whether a cell goes through unchanged."""
        return not self.gaps and self.transform is None

    @property
    def width(self) -> int:
        """How many encoded columns there are."""
        return 1 + self.gaps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name, f"{self.name}: missing") if self.gaps else (self.name,)

    def put(self, values: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Encode numbers (rows,), NaN where missing."""
        if self.is_plain:
            out[:, 0] = values
        else:
            _put_filled(values, out, self.gaps, self.fill, self.transform)


@dataclass(frozen=True, slots=True)
class BooleanEncoder(_Encoder):
    """True as 1, false as 0; gaps as in a numeric column."""

    name: str
    gaps: bool = False
    fill: float = 0.0
    missing_tokens: tuple[str, ...] = ()
    kind: Literal["boolean"] = "boolean"
    transform: ClassVar[None] = None
    is_plain: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """How many encoded columns there are."""
        return 1 + self.gaps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name, f"{self.name}: missing") if self.gaps else (self.name,)

    def put(self, values: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Encode booleans or 0 and 1 (rows,), None or NaN where missing."""
        _put_filled(values, out, self.gaps, self.fill, None)


@dataclass(frozen=True, slots=True)
class CategoricalEncoder(_Encoder):
    """One column per category of the training rows, 1 where it is the cell's.

    With ``other`` a further column stands for rare categories and for those that training did not see; without it an
    unseen one is 0 everywhere. With ``gaps`` the last column marks missing cells.
    """

    name: str
    categories: tuple[Category, ...]
    other: bool = False
    gaps: bool = False
    rare: tuple[Category, ...] = ()
    """Categories that training saw too seldom for a column of their own."""
    holds: Literal["text", "number", "boolean"] = "text"
    """What the cells are."""
    missing_tokens: tuple[str, ...] = ()
    kind: Literal["categorical"] = "categorical"
    is_plain: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """How many encoded columns there are."""
        return len(self.categories) + self.other + self.gaps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        names = [f"{self.name} = {category}" for category in self.categories]
        return (*names, *([f"{self.name}: other"] * self.other), *([f"{self.name}: missing"] * self.gaps))

    def put(self, values: RawColumn, out: NDArray[np.float64]) -> None:
        """Encode categories (rows,), None or NaN where missing."""
        unseen = len(self.categories) if self.other else -1
        gap = self.width - 1 if self.gaps else -1
        known: dict[Any, int] = {category: place for place, category in enumerate(self.categories)}
        if isinstance(values, Coded):
            places = np.array([*(known.get(cell, unseen) for cell in values.cells), gap], np.int64)
            codes = values.spread(places)
        else:
            known[None] = gap
            codes = np.fromiter(map(known.get, values.tolist(), repeat(unseen)), np.int64, len(values))
            if values.dtype.kind == "f":
                codes[np.isnan(values)] = gap
        given = np.flatnonzero(codes >= 0)
        out[given, codes[given]] = 1.0


@dataclass(frozen=True, slots=True)
class DateEncoder(_Encoder):
    """A moment as days since 1970, year, and the places in month, week and day that come round again."""

    name: str
    written: str
    """How the dates are written (``service.domain.dates``)."""
    has_time: bool = False
    gaps: bool = False
    fill: tuple[float, ...] = ()
    """The parts' means on the training rows."""
    missing_tokens: tuple[str, ...] = ()
    kind: Literal["date"] = "date"
    is_plain: ClassVar[bool] = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, without the mark of gaps."""
        return DAY_PARTS + TIME_PARTS if self.has_time else DAY_PARTS

    @property
    def width(self) -> int:
        """How many encoded columns there are."""
        return len(self.parts) + self.gaps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        names = tuple(f"{self.name}: {part}" for part in self.parts)
        return (*names, f"{self.name}: missing") if self.gaps else names

    def put(self, values: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Encode texts (rows,), None where missing, or moments; what is no date counts as missing."""
        moments = values if values.dtype.kind == "M" else dates.parse(values, self.written)[0]
        missing = np.isnat(moments)
        parts = out[:, : len(self.parts)]
        parts[:] = date_parts(moments, has_time=self.has_time)
        parts[missing] = self.fill or 0.0
        if self.gaps:
            out[:, -1] = missing


Encoder = NumericEncoder | BooleanEncoder | CategoricalEncoder | DateEncoder

_ENCODERS: TypeAdapter[tuple[Encoder, ...]] = TypeAdapter(tuple[Annotated[Encoder, Field(discriminator="kind")], ...])


def encode(columns: Mapping[str, Any], encoders: Sequence[Encoder]) -> NDArray[np.float64]:
    """Encode raw columns, (rows,) each, side by side: (rows, encoded columns), not yet standardized."""
    widths = [encoder.width for encoder in encoders]
    encoded = np.zeros((len(columns[encoders[0].name]), sum(widths)))
    start = 0
    for encoder, width in zip(encoders, widths, strict=True):
        encoder.put(columns[encoder.name], encoded[:, start : start + width])
        start += width
    return encoded


def to_json(encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """Return encoders as plain JSON values."""
    return [asdict(encoder) for encoder in encoders]


def from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Encoder, ...]:
    """Read what ``to_json`` wrote."""
    return _ENCODERS.validate_python(list(values))


def date_parts(moments: NDArray[np.datetime64], *, has_time: bool) -> NDArray[np.float64]:
    """Take moments, datetime64[us] (rows,), apart: (rows, parts) in the order of ``DAY_PARTS`` and ``TIME_PARTS``.

    Rows of NaT hold numbers without meaning.
    """
    present = np.where(np.isnat(moments), np.datetime64(0, "us"), moments)
    months = present.astype("datetime64[M]").astype(np.int64)
    whole_days = present.astype("datetime64[D]")
    days = present.astype(np.int64) / MICROSECONDS_PER_DAY
    day_of_month = (whole_days - present.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    weekday = (whole_days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    parts = [days, 1970 + months // 12, *_around(months % 12 / 12), day_of_month, *_around(weekday / 7)]
    if has_time:
        parts += _around(days % 1.0)
    return np.column_stack(parts).astype(np.float64)


def _around(phase: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sine and cosine of a phase in 0..1, so that the end lies beside the beginning."""
    angle = 2.0 * np.pi * phase
    # The sine of pi is 1e-16 in floating point; standardized, such noise would become anything.
    return np.sin(angle).round(12), np.cos(angle).round(12)


def _put_filled(
    values: NDArray[Any], out: NDArray[np.float64], gaps: bool, fill: float, transform: Robust | Quantile | None
) -> None:
    numbers = values.astype(np.float64)
    missing = np.isnan(numbers)
    if transform is not None:
        numbers = transform.apply(numbers)
    if gaps:
        numbers[missing] = fill
        out[:, 1] = missing
    out[:, 0] = numbers
