"""A job that trains, drawn on a terminal again and again: a bar, the last figures and the learning curves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.cli.curves import LOSSES, drawn
from service.cli.printing import harmless
from service.cli.screen import STATES, Screen
from service.cli.wording import measures

if TYPE_CHECKING:
    from service.cli.following import Story

PICTURES_A_SECOND = 8
WIDEST = 100
HIGHEST = 18
OTHER_LINES = 8
"""Room that the curves leave for the lines around them, and for the prompt."""
WIDEST_BAR = 40


@contextmanager
def moving(story: Story, *, is_stderr: bool) -> Iterator[None]:
    """Draw a story while it goes on, and leave its last picture behind."""
    screen = Screen(stderr=is_stderr)
    with Live(get_renderable=lambda: picture(story, screen), console=screen, refresh_per_second=PICTURES_A_SECOND):
        yield


def picture(story: Story, screen: Screen) -> RenderableType:
    """Draw what is known now."""
    epochs = list(story.epochs)
    lines: list[RenderableType] = [_progress(story, screen)]
    if epochs:
        lines.append(Text(harmless(measures(epochs[-1]))))
    if story.remark:
        lines.append(Text(harmless(story.remark), "yellow"))
    height = min(HIGHEST, screen.height - OTHER_LINES)
    has_colours = screen.color_system is not None and not screen.no_color
    curve = drawn(epochs, min(screen.width, WIDEST), height, colours=has_colours)
    if curve is not None:
        lines += [_legend(has_colours=has_colours), Text.from_ansi(curve)]
    return Group(*lines)


def _progress(story: Story, screen: Screen) -> RenderableType:
    done, most = len(story.epochs), story.most_epochs
    line = Table.grid(padding=(0, 2, 0, 0))
    state = Text(story.state, STATES.get(story.state.partition(",")[0], ""))
    bar = ProgressBar(most, most if story.state == "succeeded" else done, width=min(WIDEST_BAR, screen.width // 3))
    line.add_row(state, bar, Text(f"epoch {done}/{most}"))
    return line


def _legend(*, has_colours: bool) -> Text:
    legend = Text()
    for name, (colour, symbol) in LOSSES.items():
        legend.append(f"  {'─' if has_colours else symbol} ", colour).append(name)
    return legend
