"""What HTTP shows of what was said of a network: its verdict, and the findings of the lint."""

from typing import Any, Literal

from service.api.views.base import View
from service.domain.findings import Finding


class VerdictView(View):
    """Whether a network normalizes itself, as far as it has been looked at."""

    status: Literal["held", "left", "stable", "vanishing", "exploding"]
    """In the box of Theorem 1; outside of it; outside, of a network that no theorem holds, but alive; dead."""
    detail: str
    epoch: int | None
    """After which it was lost; 0 before the first."""
    layer: int | None
    """The first hidden layer that was lost, from 1."""
    cause: str | None
    advice: list[str]

    @classmethod
    def of(cls, verdict: dict[str, Any] | None) -> "VerdictView | None":
        """Show a stored verdict."""
        return None if verdict is None else cls(**verdict)


class FindingView(View):
    """What one rule of the lint found."""

    rule: str
    status: Literal["pass", "warn", "fail"]
    detail: str
    value: float | None
    """The number that it went by."""
    source: str
    layer: int | None
    """The hidden layer, from 1, where it is about one."""
    fix: dict[str, Any] | None
    """Fields of the spec, by JSON pointer, and what to set them to."""

    @classmethod
    def of(cls, finding: Finding) -> "FindingView":
        """Show a finding."""
        return cls(**finding.to_dict())
