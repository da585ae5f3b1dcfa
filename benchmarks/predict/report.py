"""Figures with the bars that they are held against, and how they are printed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured thing."""

    name: str
    value: str
    bar: str = ""
    is_held: bool | None = None
    """None: it has no bar, or could not be measured."""

    @property
    def verdict(self) -> str:
        """One word."""
        return {True: "held", False: "MISSED", None: ""}[self.is_held]


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    """Print figures, each beside its bar."""
    print(f"\n{title}")
    print_table(
        ["figure", "measured", "bar", ""], [[one.name, one.value, one.bar, one.verdict] for one in figures], left=1
    )


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """Print columns, the first ``left`` of them flush left."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip(), flush=True)


def machine() -> str:
    """Say what else this machine does: ratios of one run carry over, but not those of a busy one."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} in the last minute"
