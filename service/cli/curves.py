"""Learning curves as text."""

from collections.abc import Mapping, Sequence
from itertools import count

LOSSES = {"loss": ("cyan", "·"), "val_loss": ("magenta", "•")}
"""The curves that are drawn, with their colours, and what draws them where there are none."""
LEAST_WIDTH = 40
LEAST_HEIGHT = 8
MOST_TICKS = 6

Epoch = Mapping[str, object]


def drawn(epochs: Sequence[Epoch], width: int, height: int, *, colours: bool) -> str | None:
    """Draw the losses over the epochs; None where there is nothing to see yet, or no room.

    Epochs that are not finite leave a gap in the data, which the line goes over. Of more epochs than there is room for,
    the highest and the lowest of those that share a column are drawn, and the last one.
    """
    curves = {name: _thinned(_points(epochs, name), width) for name in LOSSES}
    if width < LEAST_WIDTH or height < LEAST_HEIGHT or not any(len(points) > 1 for points in curves.values()):
        return None
    # It takes a quarter of a second to load.
    from plotext import figure, marker  # type: ignore[import-untyped]  # it ships none

    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    for name, points in curves.items():
        if points:
            colour, symbol = LOSSES[name]
            signal = figure.signal(*zip(*points, strict=True), marker=marker("braille", colour) if colours else symbol)
            figure.draw(signal.lines())
    figure.legend(active=False)
    first, last = int(epochs[0]["epoch"]), int(epochs[-1]["epoch"])  # type: ignore[call-overload]  # JSON
    figure.ruler("x").ticks(_ticks(first, last))
    text: str = figure.build().string()
    return text


def _points(epochs: Sequence[Epoch], name: str) -> list[tuple[float, float]]:
    found = []
    for measured in epochs:
        epoch, value = measured.get("epoch"), measured.get(name)
        if isinstance(epoch, int) and isinstance(value, int | float):
            found.append((float(epoch), float(value)))
    return found


def _thinned(points: list[tuple[float, float]], columns: int) -> list[tuple[float, float]]:
    """Return two points for each column at most, and the last; the time of a picture grows with their number."""
    if len(points) <= 2 * columns:
        return points
    share = -(-len(points) // columns)
    found = []
    for start in range(0, len(points), share):
        together = points[start : start + share]
        found += sorted({min(together, key=_height), max(together, key=_height)})
    return found if found[-1] == points[-1] else [*found, points[-1]]


def _height(point: tuple[float, float]) -> float:
    return point[1]


def _ticks(first: int, last: int) -> list[int]:
    """Return whole epochs, evenly apart, that are easy to read."""
    for power in count():
        for factor in (1, 2, 5):
            step = factor * 10**power
            ticks = [first, *range(first - first % step + step, last + 1, step)]
            if len(ticks) <= MOST_TICKS:
                return ticks
    raise AssertionError(last)
