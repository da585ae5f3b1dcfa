"""What is drawn on a terminal with rich; imported only where results go to one."""

import sys
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

GAP = 2
NARROW = 16
"""Columns are not cut below this; one that has no room for it is left out, with all behind it."""

STATES = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
}


class Screen(Console):
    """A console that takes every text as it is, for names are not markup."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Let the root end the command in silence; rich would end it with a status that has another meaning."""
        broken = sys.exception()
        assert broken is not None
        raise broken


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of harmless cells; columns without any are left out, and the last ones where there is no room."""
    screen = Screen()
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    places = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    widths = {place: max(cell_len(headings[place]), *(cell_len(row[place]) for row in rows)) for place in places}
    shown = _those_that_fit(widths, screen.width)
    for place in shown:
        table.add_column(
            Text(headings[place], Style(bold=True)),
            justify="right" if all(_is_number(row[place]) for row in rows) else "left",
            # Only wide columns give way; their cells are cut nevertheless, not folded.
            no_wrap=place == 0 or widths[place] <= NARROW,
            min_width=min(widths[place], NARROW),
        )
    for row in rows:
        cells = (Text(row[place], STATES.get(row[place], ""), no_wrap=True, overflow="ellipsis") for place in shown)
        table.add_row(*cells)
    screen.print(table)


def _those_that_fit(widths: Mapping[int, int], width: int) -> list[int]:
    """Return the columns that have room beside each other when each is cut as far as it may be; one at least."""
    shown: list[int] = []
    taken = 0
    for place, wanted in widths.items():
        taken += min(wanted, NARROW) + GAP if shown else wanted + GAP
        if shown and taken - GAP > width:
            break
        shown.append(place)
    return shown


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").partition(" ±")[0] or "0")
    except ValueError:
        return False
    return True
