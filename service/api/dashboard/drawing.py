"""Small pictures that come with a page, as the attributes of SVG elements."""

from collections.abc import Sequence

WIDTH = 120
HEIGHT = 28


def sparkline(values: Sequence[float | None]) -> str:
    """Return the ``points`` of a polyline through some values, in order; gaps are left out."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if not known:
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    across, up = max(1, len(values) - 1), (high - low) or 1.0
    return " ".join(
        f"{place / across * WIDTH:.1f},{HEIGHT - 2 - (value - low) / up * (HEIGHT - 4):.1f}" for place, value in known
    )


def histogram(counts: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """Return x, y, width and height of a bar for every count."""
    highest, width = max(counts, default=0) or 1, WIDTH / max(1, len(counts))
    bars = []
    for place, count in enumerate(counts):
        height = 0.0 if count == 0 else max(1.0, count / highest * HEIGHT)
        bars.append((round(place * width, 2), round(HEIGHT - height, 2), round(max(0.5, width - 0.6), 2), height))
    return bars
