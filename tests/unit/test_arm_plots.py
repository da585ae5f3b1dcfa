"""The pictures that show arms, or one training, against each other: curves, ranks, depths."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from service.domain.curves import Curves, stride
from service.plots.critical_difference import alike, critical_difference
from service.plots.depth_sweep import depth_sweep
from service.plots.figures import render
from service.plots.learning_curves import learning_curves
from tests.unit.pictures import curve, labelled, panels, texts


def test_training_is_dashed_and_best_epoch_is_marked_where_it_is() -> None:
    figure = learning_curves({"snn": [curve([3.0, 1.0, 2.0])]})
    [axes] = panels(figure)
    training, validation, mark = axes.get_lines()
    assert training.is_dashed()
    assert not validation.is_dashed()
    assert list(validation.get_ydata()) == [3, 1, 2]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2], [1.0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert "snn, best epoch 2" in texts(figure)


def test_best_epoch_is_the_highest_where_higher_is_better_and_the_one_that_is_given() -> None:
    runs = [curve([0.3, 0.9, 0.5], "accuracy")]
    assert "a, best epoch 2" in texts(learning_curves({"a": runs}, "val_accuracy"))
    assert "a, best epoch 3" in texts(learning_curves({"a": runs}, "accuracy", {"a": 3}))


def test_loss_and_main_metric_stand_side_by_side() -> None:
    measured = {"loss": 1.0, "val_loss": 1.0, "f1": 0.1, "accuracy": 0.5, "val_accuracy": 0.4}
    run = Curves(np.array([1]), {name: np.array([value]) for name, value in measured.items()})
    assert [axes.get_ylabel() for axes in panels(learning_curves({"a": [run]}))] == ["loss", "accuracy"]


def test_seeds_are_a_mean_with_a_band_of_one_standard_deviation() -> None:
    figure = learning_curves({"a": [curve([4.0, 2.0, 0.5]), curve([2.0, 1.0])]}, "loss")
    [axes] = panels(figure)
    [band] = [one for one in axes.collections if isinstance(one, PolyCollection)]
    corners = [tuple(corner) for corner in np.asarray(band.get_paths()[0].vertices).tolist()]
    expected = {(1.0, 3 - math.sqrt(2)), (1.0, 3 + math.sqrt(2)), (2.0, 1.5 - math.sqrt(0.5)), (3.0, 0.5)}
    for x, y in expected:  # of a sample, as tables have it
        assert any(corner == pytest.approx((x, y)) for corner in corners), (x, y)
    validation, mark = axes.get_lines()[1:]
    assert list(validation.get_ydata()) == [3.0, 1.5, 0.5], "a seed that has ended counts no more"
    assert list(mark.get_xdata()) == [2], "of the epochs that both have"
    assert any("standard deviation" in text for text in texts(figure))


def test_thousands_of_epochs_stay_small_and_keep_their_peak() -> None:
    values: list[float | None] = [1 + math.sin(epoch) / 10 for epoch in range(100_000)]
    values[54_321], values[77_777] = 1.9, None
    figure = learning_curves({"a": [curve(values)]})
    drawn = panels(figure)[0].get_lines()[1]
    assert len(drawn.get_xdata()) <= 1000
    assert np.nanmax(drawn.get_ydata()) == 1.9
    assert len(render(figure, "svg")) < 100_000


def test_epochs_that_were_thinned_out_stay_where_they_are() -> None:
    runs = [
        Curves(np.array([1, 11, 21]), {"loss": np.array([3.0, 2.0, 1.0])}),
        Curves(np.array([1]), {"loss": np.ones(1)}),
    ]
    [axes] = panels(learning_curves({"a": runs}, best_epochs={"a": 11}))
    line, mark = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 11, 21], [2.0, 2.0, 1.0])
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([11], [2.0])
    assert axes.get_xlim()[1] > 21


@pytest.mark.parametrize(
    ("lengths", "every"), [([], 1), ([1], 1), ([4000], 1), ([100_000], 25), ([500] * 200, 1), ([100_000] * 200, 200)]
)
def test_very_many_epochs_are_thinned_out(lengths: list[int], every: int) -> None:
    assert stride(lengths) == every


def test_arm_whose_jobs_have_not_succeeded_says_so() -> None:
    figure = learning_curves({"snn": [curve([2.0, 1.0])], "mlp": [curve([2.0])]}, notes={"mlp": "not finished"})
    assert {"snn, best epoch 2", "mlp (not finished), best epoch 1"} <= set(texts(figure))


def test_arms_are_joined_where_they_differ_by_less() -> None:
    assert alike([1.0, 1.5, 2.6, 2.8, 9.0], 1.2) == [(0, 1), (1, 2), (2, 3)]
    assert alike([1.0, 2.0, 3.0], 0.9) == []
    assert alike([1.0, 2.0, 3.0], 2.5) == [(0, 2)]
    assert alike([1.0, 2.0, 3.0], 1.5) == [(0, 1), (1, 2)]
    figure = critical_difference({"snn": 1.2, "he": 1.8, "sigmoid": 3.0}, 1.0, 12)
    [bar] = labelled(panels(figure)[0], "alike")
    assert sorted(bar.get_xdata()) == pytest.approx([1.17, 1.83])
    assert len(labelled(panels(figure)[0], "rank 1.2")) == 1
    low, high = sorted(panels(figure)[0].get_xlim())
    assert low < 1 < 3 < high
    assert {"snn  1.20", "he  1.80", "sigmoid  3.00"} <= set(texts(figure))
    assert any("critical difference 1.00, 12 blocks" in text for text in texts(figure))


def test_depths_have_dots_means_and_horizons() -> None:
    scores: Mapping[str, Mapping[int, Sequence[float | None]]] = {
        "snn": {2: [0.8, 0.9], 16: [0.7, None]},
        "mlp": {2: [0.5], 16: [None]},
    }
    figure = depth_sweep(scores, {"snn": None, "mlp": 6}, "val_accuracy")
    [axes] = panels(figure)
    [means] = labelled(axes, "snn")
    assert list(means.get_xdata()) == [2, 16]
    assert list(means.get_ydata()) == pytest.approx([0.85, 0.7])
    [horizon] = [line for line in axes.get_lines() if list(line.get_xdata()) == [6, 6]]
    assert horizon.get_color() == labelled(axes, "mlp")[0].get_color()
    dots = [line for line in axes.get_lines() if line.get_linestyle() == "None" and line.get_marker() != "x"]
    assert sum(len(line.get_xdata()) for line in dots) == 4
    assert axes.get_xscale() == "log"
    assert {"2", "16", "hidden layers", "predicted horizon", "no score: failed or diverged"} <= set(texts(figure))


def test_horizon_of_0_is_drawn_at_the_left() -> None:
    scores = {"snn": {2: [0.9], 16: [0.7]}, "mlp": {2: [0.5], 16: [0.1]}}
    figure = depth_sweep(scores, {"snn": 8, "mlp": 0}, "val_accuracy")
    [axes] = panels(figure)
    [line] = [line for line in axes.get_lines() if list(line.get_xdata()) == [1.6, 1.6]]
    assert line.get_color() == labelled(axes, "mlp")[0].get_color()
    assert axes.get_xlim()[0] < 1.6
    assert "predicted horizon; at the left: 0" in texts(figure)
