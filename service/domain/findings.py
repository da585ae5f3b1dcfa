"""What the rules of the lint go by and what they say: plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["pass", "warn", "fail"]

PAPER = "Klambauer et al. 2017"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found."""

    rule: str
    status: Status
    detail: str
    value: float | None = None
    """The number that it went by."""
    source: str = PAPER
    layer: int | None = None
    """The hidden layer, from 1, where it is about one."""
    fix: dict[str, Any] | None = None
    """Fields of the spec, by JSON pointer, and what to set them to."""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What is known of the encoded inputs before standardization."""

    width: int
    """How many numbers a row has once it is encoded."""
    source: Literal["profile", "rows"]
    """Whether they come from the data set's description or from its rows."""
    one_hot: int = 0
    """How many of the numbers are 0 or 1 and stand for categories."""
    rarest: float | None = None
    """The smallest share of rows that has a category with a number of its own."""
    constants: tuple[str, ...] = ()
    """Features with one value only."""
    farthest: float | None = None
    """The largest distance of a number from its mean, in standard deviations ..."""
    farthest_feature: str | None = None
    """... and where it is."""
    mean: float | None = None
    """Mean over rows and encoded columns of what the first layer takes; None where it is not known."""
    variance: float | None = None
    """Variance over rows and encoded columns of what the first layer takes."""
    target_farthest: float | None = None
    """The largest distance of a regression's target from its mean, in standard deviations."""
