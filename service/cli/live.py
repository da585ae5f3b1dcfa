"""A job that trains, drawn on a terminal again and again: a bar, the last figures and the learning curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.cli.curves import LOSSES, Epoch, drawn
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
    picture = Picture(story, Screen(stderr=is_stderr))
    with Live(get_renderable=picture.now, console=picture.screen, refresh_per_second=PICTURES_A_SECOND):
        yield


class Picture:
    """A story as a screen shows it; its curves are drawn anew when an epoch has come, or the screen another size."""

    def __init__(self, story: Story, screen: Screen) -> None:
        self.story = story
        self.screen = screen
        self._curves: list[RenderableType] = []
        self._drawn_for: tuple[int, int, int] | None = None

    def now(self) -> RenderableType:
        """Draw what is known now."""
        story = self.story
        epochs = list(story.epochs)
        lines: list[RenderableType] = [_progress(story, self.screen)]
        if epochs:
            lines.append(Text(harmless(measures(epochs[-1]))))
        if story.remark:
            lines.append(Text(harmless(story.remark), "yellow"))
        room = (len(epochs), min(self.screen.width, WIDEST), min(HIGHEST, self.screen.height - OTHER_LINES))
        if room != self._drawn_for:
            self._curves, self._drawn_for = list(_curves(epochs, *room[1:], self.screen)), room
        return Group(*lines, *self._curves)


def _curves(epochs: Sequence[Epoch], width: int, height: int, screen: Screen) -> Iterator[RenderableType]:
    has_colours = screen.color_system is not None and not screen.no_color
    curve = drawn(epochs, width, height, colours=has_colours)
    if curve is not None:
        yield _legend(has_colours=has_colours)
        yield Text.from_ansi(curve)


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
