"""What all pictures share: one style, one palette, text that is only text, and bytes that depend on nothing else."""

import functools
import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from service.plots.measures import LABELS, plain

Form = Literal["svg", "png"]
Parameters = ParamSpec("Parameters")
Drawn = TypeVar("Drawn")

ONE_COLUMN = 3.5
"""Inches: the width of a column of a paper."""
TWO_COLUMNS = 7.0
HANDLE_WIDTH, LETTER_WIDTH, ENTRY_HEIGHT = 0.45, 0.06, 0.16
"""Inches that an entry of a legend takes: beside its text, for every letter, and below the entry before."""
MAX_NAME = 24
"""Characters that a name has room for."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which the colour-blind tell apart, without yellow, which is too pale for a line."""
MARKERS = "osD^vP*"
"""A mark for every time that the palette has been used up."""
INK, GREY, SHADE, GRID = "#222222", "#8a8a8a", "#dcecdc", "#e8e8e8"
STYLE: dict[str, Any] = {
    # Text stays text: every viewer has a sans-serif font, a reader can search and copy it, and letters that DejaVu
    # lacks are shown by the viewer's own fonts. As outlines they would be empty boxes, in files twice as large.
    "svg.fonttype": "none",
    "svg.hashsalt": "selfnorm",
    "savefig.dpi": 200,
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}
UNDATED: dict[Form, dict[str, None]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}

_drawing = threading.RLock()
"""Held while anything is drawn: matplotlib keeps its settings and fonts for the whole process."""


@contextmanager
def _styled() -> Iterator[None]:
    with _drawing, matplotlib.rc_context(STYLE):
        # Said of every character that DejaVu lacks. A name may hold any; an SVG still shows it, a PNG has a box there.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def picture(draw: Callable[Parameters, Drawn]) -> Callable[Parameters, Drawn]:
    """Let a function draw in the style of the house, alone in its process."""

    @functools.wraps(draw)
    def drawing(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Drawn:
        with _styled():
            return draw(*args, **kwargs)

    return drawing


def render(figure: Figure, form: Form) -> bytes:
    """Return a figure as a file; equal figures give equal bytes."""
    file = io.BytesIO()
    with _styled():
        figure.savefig(file, format=form, metadata=UNDATED[form])
    return file.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches that gives every text its room."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.04))


def named(name: str) -> str:
    """Return a name that somebody made up as a picture may show it: short, printable, never read as a formula."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    if len(text) > MAX_NAME:
        text = text[: MAX_NAME - 1] + "…"
    # A legend leaves out what begins with an underscore.
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def metric_label(metric: str) -> str:
    """Return how an axis names a metric."""
    return LABELS.get(plain(metric)) or named(plain(metric))


def colour(number: int) -> str:
    """Return the colour of the arm with this number, from 0."""
    return PALETTE[number % len(PALETTE)]


def marker(number: int) -> str:
    """Return the mark of the arm with this number, from 0."""
    return MARKERS[number // len(PALETTE) % len(MARKERS)]


def legend_below(figure: Figure, handles: list[Any]) -> None:
    """Explain lines under all panels, in as many columns as the longest text leaves room for; the figure grows."""
    needed = HANDLE_WIDTH + LETTER_WIDTH * max(len(handle.get_label()) for handle in handles)
    columns = min(max(1, int(figure.get_figwidth() / needed)), len(handles))
    figure.set_figheight(figure.get_figheight() + ENTRY_HEIGHT * math.ceil(len(handles) / columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.8)


def colour_bar(figure: Figure, values: Any, panels: Sequence[Axes], label: str, aspect: float = 30) -> Any:
    """Explain at the right of the panels what the colours of ``values`` mean."""
    bar = figure.colorbar(values, ax=list(panels), aspect=aspect, pad=0.02, spacing="proportional")
    solids: Any = bar.solids
    solids.set_rasterized(True)  # seams show between so many small areas
    bar.outline.set_visible(False)
    bar.set_label(label)
    return bar


def dash(axes: Axes, value: float, label: str) -> None:
    """Draw a thin horizontal line that is named at its right end."""
    axes.axhline(value, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    at = axes.get_yaxis_transform()
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    place: dict[str, Any] = {"xycoords": at, "textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate(label, (1, value), xytext=(-2, 2), color=INK, fontsize=7, bbox=ground, zorder=6, **place)
