"""The pictures show what they say, whatever the values and names are, and equal values make equal files."""

import math
import re
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from matplotlib.figure import Figure

from service.domain.comparison_errors import NothingToDraw
from service.domain.diagnostics import HeldOut, Histogram
from service.domain.self_normalization import SELU_ALPHA, SELU_SCALE
from service.plots import __main__ as explanatory
from service.plots.activations import activations
from service.plots.confusion_matrix import confusion_matrix
from service.plots.critical_difference import critical_difference
from service.plots.depth_sweep import depth_sweep
from service.plots.distributions import activation_histograms, weights
from service.plots.figures import MAX_NAME, named, render
from service.plots.functions import elu_and_selu
from service.plots.gradients import gradients
from service.plots.initial_weights import initial_weights
from service.plots.learning_curves import learning_curves
from service.plots.residuals import residuals
from service.plots.scales import decade, evenly, numbers, outline
from tests.unit.pictures import ODD_NAMES, curve, diagnoses, diagnosis, distributed, labelled, panels, texts

PICTURES: dict[str, Callable[[], Figure]] = {
    "learning_curves": lambda: learning_curves({"a": [curve([3, 2, 1])], "b": [curve([3, 1]), curve([2, 4, 1])]}),
    "activations": lambda: activations(diagnoses(4, 3)),
    "gradients": lambda: gradients(diagnoses(4, 3)),
    "weights": lambda: weights(distributed(diagnoses(4, 3), 3), 3),
    "activation_histograms": lambda: activation_histograms(distributed(diagnoses(4, 3)), 1),
    "confusion_matrix": lambda: confusion_matrix(HeldOut("test", ("a", "b"), ((5, 1), (0, 4)))),
    "residuals": lambda: residuals(HeldOut("test", truth=(1.0, 2.0, 3.0), predicted=(1.5, 2.0, 2.0))),
    "critical_difference": lambda: critical_difference({"a": 1.2, "b": 1.8, "c": 3.0}, 1.0, 10),
    "depth_sweep": lambda: depth_sweep({"a": {2: [0.9, 0.8], 4: [0.7, None]}}, {"a": 3}, "accuracy"),
}


@pytest.mark.parametrize("name", ["learning_curves", "activations", "weights", "confusion_matrix"])
def test_equal_values_make_equal_files_without_a_date(name: str) -> None:
    svg = render(PICTURES[name](), "svg")
    assert svg == render(PICTURES[name](), "svg")
    assert b"<dc:date>" not in svg


def test_equal_values_make_equal_png_files_without_a_date() -> None:
    png = render(PICTURES["activations"](), "png")
    assert png == render(PICTURES["activations"](), "png")
    assert (png[:4], b"tEXt" in png[:200]) == (b"\x89PNG", False)


@pytest.mark.parametrize("name", PICTURES)
def test_picture_fits_a_page_and_names_its_axes(name: str) -> None:
    figure = PICTURES[name]()
    assert 3.4 <= figure.get_figwidth() <= 7
    drawn = [axes for axes in panels(figure) if axes.get_subplotspec() and axes.axison]
    assert all(axes.get_ylabel() for axes in drawn)
    assert all(axes.get_xlabel() for axes in drawn if axes.get_subplotspec().is_last_row())


def test_what_is_not_finite_is_left_out() -> None:
    figure = learning_curves({"a": [curve([None, 2.0, None])], "b": [curve([None])]})
    assert "a, best epoch 2" in texts(figure)
    assert "b, best epoch none" in texts(figure)
    for values in ([None, None], [0.0, None], [1e300, 1e-300]):
        seen = [diagnosis(0, values), diagnosis(1, values)]
        assert "layer" in texts(activations(seen))
        assert "layer" in texts(gradients(seen))


def test_moments_are_drawn_per_layer_against_the_box_of_theorem_1() -> None:
    figure = activations(diagnoses(epochs=5, layers=7))
    means, variances = panels(figure)[:2]
    for axes, box in ((means, (-0.1, 0.1)), (variances, (0.8, 1.5))):
        lines = [line for line in axes.get_lines() if str(line.get_label()).startswith("layer")]
        assert [line.get_label() for line in lines] == [f"layer {number}" for number in range(1, 8)]
        assert len({line.get_color() for line in lines}) == 7
        assert list(lines[6].get_ydata()) == [0.5 + 6 / 7] * 5
        [band] = labelled(axes, "Theorem 1")
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(box)
    assert variances.get_yscale() == "log"
    assert {"vanishing below 0.02", "exploding above 16", "epoch", "layer"} <= set(texts(figure))
    assert variances.get_ylim()[0] <= 0.02 < 16 <= variances.get_ylim()[1]


def test_many_layers_are_some_lines_and_a_shade() -> None:
    figure = activations(diagnoses(epochs=3, layers=256))
    lines = [str(line.get_label()) for line in panels(figure)[0].get_lines()]
    assert len(lines) == 24
    assert (lines[0], lines[-1]) == ("layer 1", "layer 256")
    [shade] = labelled(panels(figure)[0], "all layers")
    assert shade.get_paths()[0].vertices[:, 1].max() == 0.5 + 255 / 256
    assert "layer (24 of 256 drawn; shade: all)" in texts(figure)


def test_far_means_are_drawn_on_another_scale() -> None:
    assert panels(activations([diagnosis(0, [0.5]), diagnosis(1, [1e9])]))[0].get_yscale() == "symlog"


def test_gradient_ratios_are_of_the_first_a_middle_and_the_last_epoch() -> None:
    norms, ratios, *_ = panels(gradients(diagnoses(epochs=9, layers=3)))
    lines = [line for line in ratios.get_lines() if str(line.get_label()).startswith("epoch")]
    assert [line.get_label() for line in lines] == ["epoch 0", "epoch 4", "epoch 8"]
    assert list(lines[0].get_xdata()) == [1, 2, 3]
    assert norms.get_yscale() == ratios.get_yscale() == "log"
    assert ratios.get_ylim()[0] < 1e-3 < 1e3 < ratios.get_ylim()[1]


@pytest.mark.parametrize(("epochs", "ridges"), [(1, 1), (2, 2), (25, 25), (26, 25), (300, 25)])
def test_ridges_are_at_most_25_with_the_first_and_the_last_epoch(epochs: int, ridges: int) -> None:
    [axes] = panels(weights(distributed(diagnoses(epochs, 2)), 2))
    assert len(axes.get_lines()) == ridges
    named_epochs = [label.get_text() for label in axes.get_yticklabels()]
    assert (named_epochs[0], named_epochs[-1]) == ("0", str(epochs - 1))
    depths = [line.get_zorder() for line in axes.get_lines()]
    assert depths == sorted(depths), "later ones stand before earlier ones"


def test_ridge_is_the_density_of_its_layer() -> None:
    seen = [*distributed([diagnosis(0, [1.0])]), (1, Histogram(-1, 1, (0, 0, 4, 0, 0)))]
    first, second = panels(weights(seen, 1))[0].get_lines()
    assert max(second.get_ydata()) - min(second.get_ydata()) == pytest.approx(4)
    assert max(first.get_ydata()) - 1 == pytest.approx(4 * 9 / 17)


def test_edges_that_hold_more_say_so() -> None:
    assert (
        "outermost"
        in panels(activation_histograms(distributed([diagnosis(0, [1.0], (5, 0, 0, 1, 0))]), 1))[0].get_xlabel()
    )
    assert panels(weights(distributed([diagnosis(0, [1.0], (0, 1, 5, 1, 0))]), 1))[0].get_xlabel() == "weight"


def test_confusion_matrix_is_coloured_by_the_true_class_and_counted() -> None:
    figure = confusion_matrix(HeldOut("validation", ("cat", "dog", "cow"), ((30, 10, 0), (1, 0, 0), (0, 0, 0))))
    axes = panels(figure)[0]
    assert axes.collections[0].get_array().ravel().tolist() == [0.75, 0.25, 0, 1, 0, 0, 0, 0, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "cow"]
    assert {"30", "10", "validation rows: 41", "true class", "answered class"} <= set(texts(figure))


def test_large_confusion_matrix_is_an_image_and_has_a_limit() -> None:
    def held_out(classes: int) -> HeldOut:
        matrix = np.eye(classes, dtype=int)
        return HeldOut("test", tuple(f"class {one}" for one in range(classes)), tuple(map(tuple, matrix.tolist())))

    figure = confusion_matrix(held_out(100))
    assert len(panels(figure)[0].get_images()) == 1
    assert len(render(figure, "svg")) < 150_000
    assert {"class 0", "class 99"} <= set(texts(figure))
    with pytest.raises(NothingToDraw, match="up to 100 classes"):
        confusion_matrix(held_out(101))


def test_residuals_have_the_diagonal_and_every_finite_row() -> None:
    figure = residuals(HeldOut("test", truth=(1.0, 2.0, 4.0, math.nan), predicted=(2.0, 2.0, 1.0, 1.0)))
    answers, differences = panels(figure)
    [diagonal] = labelled(answers, "exact")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert answers.collections[0].get_offsets().tolist() == [[1, 2], [2, 2], [4, 1]]
    assert sum(bar.get_height() for bar in differences.patches) == 3
    assert "mean -0.667, standard deviation 1.7" in texts(figure)
    assert render(residuals(HeldOut("test", truth=(3.0,), predicted=(3.0,))), "png")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: learning_curves({}),
        lambda: learning_curves({"a": [curve([])]}),
        lambda: learning_curves({"a": [curve([1.0])]}, "f1"),
        lambda: activations([]),
        lambda: gradients([]),
        lambda: weights([], 1),
        lambda: activation_histograms(distributed([diagnosis(0, [1.0], (0, 0))]), 1),
        lambda: confusion_matrix(HeldOut("test")),
        lambda: residuals(HeldOut("test")),
        lambda: residuals(HeldOut("test", truth=(math.nan,), predicted=(1.0,))),
        lambda: critical_difference({"a": 1.0}, 1.0, 5),
        lambda: depth_sweep({}, {}, "loss"),
        lambda: depth_sweep({"a": {2: [None]}}, {}, "loss"),
    ],
)
def test_without_values_it_says_what_is_missing_and_when_it_comes(draw: Callable[[], Figure]) -> None:
    with pytest.raises(NothingToDraw, match=r"there is nothing to draw: .+; .+") as caught:
        draw()
    assert caught.value.code == "nothing_to_draw"


@pytest.mark.parametrize("form", ["svg", "png"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda: learning_curves({name: [curve([2.0, 1.0])] for name in ODD_NAMES}),
        lambda: depth_sweep({name: {2: [0.5]} for name in ODD_NAMES}, dict.fromkeys(ODD_NAMES, 3), "loss"),
        lambda: critical_difference({name: float(rank) for rank, name in enumerate(ODD_NAMES, 1)}, 1.5, 3),
        lambda: confusion_matrix(HeldOut("test", ODD_NAMES, ((1,) * len(ODD_NAMES),) * len(ODD_NAMES))),
    ],
)
def test_odd_names_are_shown_as_they_are(draw: Callable[[], Figure], form: Literal["svg", "png"]) -> None:
    if form == "png":
        assert render(draw(), "png").startswith(b"\x89PNG")
        return
    # Read as XML: a tag in a name would be an element, or break the file.
    shown = texts(draw())
    for name in ODD_NAMES:
        assert any(as_shown(name) in text for text in shown), (name, shown)


def as_shown(name: str) -> str:
    text = re.sub(r"[\0\n\ud800]", " ", name)
    return text if len(text) <= 24 else text[:23] + "…"


def test_name_has_at_most_so_many_characters() -> None:
    assert len(named("x" * 300)) == len(named("x" * 25)) == MAX_NAME
    assert named("x" * 24) == "x" * 24


def test_numbers_along_axes() -> None:
    assert [decade(value) for value in (1e-7, 0.001, 1, 1000, 1e4, 0)] == ["10⁻⁷", "0.001", "1", "1000", "10⁴", ""]
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert [evenly(count, 5) for count in (0, 1, 2)] == [[], [0], [0, 1]]
    kept = outline(numbers([0.0] * 500 + [7.0] + [0.0] * 500 + [None, math.inf]), 100)
    assert {0, 500, 1002} <= set(kept)
    assert len(kept) <= 101


def test_selu_is_drawn_with_the_constants_of_the_domain() -> None:
    _, selu = panels(elu_and_selu())
    function, slope = selu.get_lines()[2:]
    at = dict(zip(function.get_xdata(), zip(function.get_ydata(), slope.get_ydata(), strict=True), strict=True))
    assert at[0.0] == pytest.approx((0.0, SELU_SCALE * SELU_ALPHA))
    assert at[6.0] == pytest.approx((6 * SELU_SCALE, SELU_SCALE))


def test_lecun_weights_have_the_variance_that_keeps_a_layers() -> None:
    figure = initial_weights()
    normal, lecun = (axes.get_images()[0].get_array() for axes in panels(figure)[2:4])
    assert normal.var() == pytest.approx(1, rel=0.05)
    assert lecun.var() * 100 == pytest.approx(1, rel=0.05)
    assert abs(lecun).max() <= 2 / 0.8796 / 10


def test_figures_of_the_documentation_are_those_of_the_code(tmp_path: Any, pytestconfig: pytest.Config) -> None:
    explanatory.main(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"logistic.svg", "elu_and_selu.svg", "initial_weights.svg", "moment_map.svg"}
    for name in names:
        stored = pytestconfig.rootpath / "docs" / "figures" / name
        assert stored.stat().st_size < 150_000
        if sys.platform == "linux":  # other systems may have other fonts
            assert stored.read_bytes() == (tmp_path / name).read_bytes(), "make figures"
