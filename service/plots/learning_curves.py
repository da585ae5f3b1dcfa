"""A metric over the epochs, on training and on validation rows: of one training, or of arms with several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from service.domain.comparison_errors import NothingToDraw
from service.domain.comparison_verdicts import is_higher_better
from service.domain.curves import Curves
from service.plots.figures import (
    GREY,
    INK,
    TWO_COLUMNS,
    colour,
    legend_below,
    marker,
    metric_label,
    named,
    new_figure,
    picture,
)
from service.plots.measures import chosen_metrics, known_metrics
from service.plots.scales import Numbers, decade_axis, epoch_axis, finite, outline

Runs = Sequence[Curves]

ONE_PANEL = 6.0
"""Inches, for the names of arms below take more room than a column."""
STEEP = 100.0
"""From this ratio of the highest to the lowest on, an error is drawn on a logarithmic axis."""
USUAL_PERCENT = 98
SPIKE = 3.0
"""A value so many times as large as all but the largest two in a hundred is a spike ..."""
CUT = 1.25
"""... and the axis ends at so many times of what those are."""
LOWEST_R2 = -1.0
"""R² below it says nothing more, and would press the rest of the curve flat."""


@dataclass(frozen=True, slots=True)
class _Curve:
    """A metric of one arm, epoch by epoch; NaN where no seed has it."""

    epochs: NDArray[np.int64]
    mean: Numbers
    deviation: Numbers
    """Of a sample, as tables have it, over the seeds that have the epoch; 0 where that is one."""
    common: int
    """How many of the epochs every seed has."""


@picture
def learning_curves(
    arms: Mapping[str, Runs],
    metric: str | None = None,
    best_epochs: Mapping[str, int] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw arms by name, each a list of seeds, of which some may have fewer epochs than others.

    ``metric`` is a name such as ``loss`` or ``val_accuracy``, None for the loss and what tells most beside it.
    ``best_epochs`` are marked; for an arm that has none there, the best epoch of the mean over its seeds is,
    among those epochs that every seed has. ``notes`` are said beside the names of arms.

    Raises:
        NothingToDraw: no arm has an epoch with this metric.
    """
    kept = {arm: [run for run in runs if run.epochs.size] for arm, runs in arms.items()}
    kept = {arm: runs for arm, runs in kept.items() if runs}
    names = known_metrics(name for runs in kept.values() for run in runs for name in run.values)
    chosen = chosen_metrics(names, metric)
    if not chosen:
        missing = "no epoch has ended" if metric is None or not names else f"no epoch has {named(metric)}"
        raise NothingToDraw(missing, "curves begin with the first epoch")
    figure = new_figure(TWO_COLUMNS if len(chosen) > 1 else ONE_PANEL, 2.7)
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    best = [_draw_metric(axes, kept, name, best_epochs or {}) for axes, name in zip(panels, chosen, strict=True)]
    legend_below(figure, _legend(kept, best, notes or {}))
    return figure


def _draw_metric(axes: Axes, arms: Mapping[str, Runs], name: str, best_epochs: Mapping[str, int]) -> list[int | None]:
    """Draw one panel; return the best epoch of every arm."""
    best, drawn = [], []
    for number, (arm, runs) in enumerate(arms.items()):
        training, validation = _curve(runs, name), _curve(runs, f"val_{name}")
        main = validation if np.isfinite(validation.mean).any() else training
        _draw_line(axes, training, colour(number), linewidth=0.8, linestyle=(0, (3, 1.5)), alpha=0.8)
        _draw_line(axes, validation, colour(number))
        if len(runs) > 1:
            _draw_band(axes, main, colour(number))
        best.append(best_epochs.get(arm) or _best(main, name))
        _mark(axes, main, best[-1], number)
        drawn += [training.mean, validation.mean]
    _scale(axes, name, np.concatenate(drawn))
    epoch_axis(axes, [1, *(int(run.epochs[-1]) for runs in arms.values() for run in runs)])
    return best


def _curve(runs: Runs, name: str) -> _Curve:
    epochs = np.unique(np.concatenate([run.epochs for run in runs]))
    table = np.full((len(runs), len(epochs)), np.nan)
    for row, run in zip(table, runs, strict=True):
        if name in run.values:
            row[np.searchsorted(epochs, run.epochs)] = finite(run.values[name])
    known = np.isfinite(table).any(axis=0)
    mean, deviation = np.full(len(epochs), np.nan), np.full(len(epochs), np.nan)
    mean[known] = np.nanmean(table[:, known], axis=0)
    seeds = np.isfinite(table[:, known]).sum(axis=0)
    # With n - 1 for n; numpy's own ddof would warn of an epoch that one seed has.
    deviation[known] = np.nanstd(table[:, known], axis=0) * np.sqrt(seeds / np.maximum(1, seeds - 1))
    common = int(np.searchsorted(epochs, min(run.epochs[-1] for run in runs), side="right"))
    return _Curve(epochs, mean, deviation, common)


def _best(curve: _Curve, name: str) -> int | None:
    values = curve.mean[: curve.common]
    if not np.isfinite(values).any():
        return None
    return int(curve.epochs[np.nanargmax(values) if is_higher_better(name) else np.nanargmin(values)])


def _draw_line(axes: Axes, curve: _Curve, shade: str, **style: Any) -> None:
    if np.isfinite(curve.mean).any():
        kept = outline(curve.mean)
        mark = "o" if len(curve.epochs) == 1 else None
        axes.plot(curve.epochs[kept], curve.mean[kept], color=shade, marker=mark, markersize=2.5, **style)


def _draw_band(axes: Axes, curve: _Curve, shade: str) -> None:
    low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
    kept = np.union1d(outline(low), outline(high))
    axes.fill_between(curve.epochs[kept], low[kept], high[kept], color=shade, alpha=0.18, linewidth=0)


def _mark(axes: Axes, curve: _Curve, epoch: int | None, number: int) -> None:
    places = np.flatnonzero(curve.epochs == epoch)
    if epoch is not None and places.size:
        axes.plot(
            [epoch],
            [curve.mean[places[0]]],
            marker=marker(number),
            markersize=5,
            color=colour(number),
            markeredgecolor="white",
            linestyle="",
            zorder=4,
            label="best epoch",
        )


def _scale(axes: Axes, name: str, values: Numbers) -> None:
    axes.set_ylabel(metric_label(name))
    known = values[np.isfinite(values)]
    if not known.size:
        return
    if name == "r2" and known.min() < LOWEST_R2:
        axes.set_ylim(LOWEST_R2, max(0.0, float(known.max())) + 0.05)
        axes.set_ylabel(f"{metric_label(name)} (cut at {LOWEST_R2:g})")
        return
    if is_higher_better(name):
        return
    usual = float(np.percentile(known, USUAL_PERCENT))
    if known.min() > 0 and usual > STEEP * known.min():
        decade_axis(axes, known)
    elif known.max() > SPIKE * usual > 0:
        # One epoch in which a training stumbled would press all others into a line.
        margin = 0.05 * (usual - float(known.min()))
        axes.set_ylim(float(known.min()) - margin, usual * CUT + margin)
        axes.set_ylabel(f"{metric_label(name)} (cut at {usual * CUT:.3g})")


def _legend(arms: Mapping[str, Runs], best: Sequence[Sequence[int | None]], notes: Mapping[str, str]) -> list[Any]:
    """Name arms with their best epochs, then what the kinds of lines mean."""
    handles: list[Any] = []
    for number, arm in enumerate(arms):
        epochs = dict.fromkeys(found[number] for found in best)
        text = " / ".join("none" if epoch is None else f"{epoch:,}" for epoch in epochs)
        note = f" ({notes[arm]})" if arm in notes else ""
        mark: dict[str, Any] = {"marker": marker(number), "markeredgecolor": "white", "markersize": 5}
        handles.append(Line2D([], [], color=colour(number), label=f"{named(arm)}{note}, best epoch {text}", **mark))
    handles.append(Line2D([], [], color=INK, label="validation"))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (3, 1.5)), label="training"))
    if any(len(runs) > 1 for runs in arms.values()):
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="± 1 standard deviation of seeds"))
    return handles
