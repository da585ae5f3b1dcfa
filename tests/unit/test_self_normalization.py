"""Closed forms against integrals and samples, the theorems against the map, and the published numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain.self_normalization import (
    ALPHA_PRIME,
    DROPOUT_LEVELS,
    SELU_ALPHA,
    SELU_SCALE,
    THEOREM_1,
    THEOREM_2,
    THEOREM_3,
    Box,
    alpha_dropout_affine,
    dropout_threshold,
    exponential_moments,
    fixed_point_variance,
    initial_tau,
    map_moments,
    moment_jacobian,
)


def selu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = SELU_ALPHA * np.expm1(np.minimum(values, 0))
    return np.asarray(SELU_SCALE * np.where(values > 0, values, below))


def inside(bounds: tuple[float, float]) -> st.SearchStrategy[float]:
    return st.floats(*bounds)


def points_of(box: Box) -> st.SearchStrategy[tuple[float, float, float, float]]:
    return st.tuples(inside(box.mean), inside(box.variance), inside(box.omega), inside(box.tau))


def test_constants_are_the_fixed_point_of_the_paper() -> None:
    """Klambauer et al. 2017, equation 14."""
    tail, root = math.erfc(1 / math.sqrt(2)), math.sqrt(math.e)
    alpha = -math.sqrt(2 / math.pi) / (tail * root - 1)
    inner = 2 * math.erfc(math.sqrt(2)) * math.e**2 + math.pi * tail**2 * math.e - 2 * (2 + math.pi) * tail * root
    scale = (1 - tail * root) * math.sqrt(2 * math.pi) * (inner + math.pi + 2) ** -0.5
    assert pytest.approx(alpha, rel=1e-14) == SELU_ALPHA
    assert pytest.approx(scale, rel=1e-14) == SELU_SCALE
    assert pytest.approx(-alpha * scale, rel=1e-14) == ALPHA_PRIME
    assert map_moments(0.0, 1.0, 0.0, 1.0) == pytest.approx((0.0, 1.0), abs=1e-14)


@pytest.mark.parametrize(
    ("mean", "variance"), [(0, 1), (0.3, 2), (-1, 0.01), (2, 50), (-3, 300), (0, 1e4), (-8, 3), (1e-3, 1e-6), (40, 9)]
)
def test_closed_form_is_the_integral(mean: float, variance: float) -> None:
    deviation = math.sqrt(variance)
    z = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 1_000_001)
    weight = np.exp(-((z - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance) * (z[1] - z[0])
    values = selu(z)
    slopes = np.where(z > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * np.exp(np.minimum(z, 0)))
    first = float(values @ weight)
    found = exponential_moments(mean, variance)
    assert found.mean == pytest.approx(first, rel=1e-6, abs=1e-9)
    assert found.variance == pytest.approx(float((values - first) ** 2 @ weight), rel=1e-5, abs=1e-9)
    # The slope jumps at 0, between two points.
    assert found.slope == pytest.approx(float(slopes**2 @ weight), rel=1e-4, abs=1e-9)


def test_closed_form_is_what_samples_give() -> None:
    samples = 1_000_000
    values = selu(np.random.default_rng(0).normal(0.4, math.sqrt(1.7), samples))
    found = exponential_moments(0.4, 1.7)
    error = math.sqrt(found.variance / samples)
    assert found.mean == pytest.approx(values.mean(), abs=4 * error)
    assert found.variance == pytest.approx(values.var(), rel=4 * math.sqrt(10 / samples))


def test_moments_of_huge_and_tiny_spreads_are_finite() -> None:
    for variance in (1e-300, 1e-12, 1e12, 1e150):
        found = exponential_moments(0.0, variance)
        assert math.isfinite(found.mean)
        assert math.isfinite(found.variance)
    grown = exponential_moments(0.0, 1e12)
    assert grown.variance == pytest.approx(SELU_SCALE**2 * 1e12 * (0.5 - 0.5 / math.pi), rel=1e-4)


@given(points_of(Box((-1, 1), (-1, 1), (0.05, 16), (0.5, 2))))
@settings(max_examples=100, deadline=None)
def test_jacobian_is_the_derivative(point: tuple[float, float, float, float]) -> None:
    mu, nu, omega, tau = point
    step = 1e-5
    by_mean, by_variance = (
        [(high - low) / (2 * step) for low, high in zip(below, above, strict=True)]
        for below, above in (
            (map_moments(mu - step, nu, omega, tau), map_moments(mu + step, nu, omega, tau)),
            (map_moments(mu, nu - step, omega, tau), map_moments(mu, nu + step, omega, tau)),
        )
    )
    found = np.array(moment_jacobian(*point))
    np.testing.assert_allclose(found, np.column_stack([by_mean, by_variance]), rtol=1e-5, atol=1e-6)


def test_jacobian_at_the_fixed_point_has_the_numbers_of_the_paper() -> None:
    jacobian = np.array(moment_jacobian(0, 1, 0, 1))
    np.testing.assert_allclose(jacobian, [[0, 0.0888348], [0, 0.782648]], atol=1e-6)
    assert np.linalg.norm(jacobian, 2) == pytest.approx(0.787673, abs=1e-5)


@given(points_of(THEOREM_1))
@settings(max_examples=300, deadline=None)
def test_moments_stay_in_the_box_of_theorem_1(point: tuple[float, float, float, float]) -> None:
    mu, nu = map_moments(*point)
    assert THEOREM_1.mean[0] <= mu <= THEOREM_1.mean[1]
    assert THEOREM_1.variance[0] <= nu <= THEOREM_1.variance[1]


@given(points_of(THEOREM_1))
@settings(max_examples=50, deadline=None)
def test_moments_converge_in_the_box_of_theorem_1(point: tuple[float, float, float, float]) -> None:
    """Two starts with the same weights end in the same place."""
    mu, nu, omega, tau = point
    one, other = (mu, nu), (0.0, 1.0)
    for _ in range(200):
        one, other = map_moments(*one, omega, tau), map_moments(*other, omega, tau)
    assert one == pytest.approx(other, abs=1e-6)


@given(points_of(THEOREM_2))
@settings(max_examples=200, deadline=None)
def test_variance_falls_in_the_box_of_theorem_2(point: tuple[float, float, float, float]) -> None:
    assert map_moments(*point)[1] < point[1]


@given(points_of(THEOREM_3))
@settings(max_examples=200, deadline=None)
def test_variance_rises_in_the_box_of_theorem_3(point: tuple[float, float, float, float]) -> None:
    assert map_moments(*point)[1] > point[1]


@pytest.mark.parametrize(
    ("tau", "variance"), [(0.8, 0.41), (0.95, 0.83), (1, 1.0), (1.1, 1.40), (1.25, 2.18), (1.5, 4.26), (2, 18.46)]
)
def test_tau_decides_where_the_variance_settles(tau: float, variance: float) -> None:
    assert fixed_point_variance(tau) == pytest.approx(variance, abs=0.005)


def test_variance_grows_without_end_where_tau_is_three_and_dies_where_it_is_small() -> None:
    assert fixed_point_variance(3.0) is None
    assert fixed_point_variance(1 / 3) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("gain", "after"), [(1.0, 1.0), (2.0, 16.2), (0.5625, 0.05), (1 / 3, 0.0)], ids=["lecun", "he", "3/4", "1/3"]
)
def test_variance_after_twenty_layers(gain: float, after: float) -> None:
    variance = 1.0
    for _ in range(20):
        variance = map_moments(0.0, variance, 0.0, gain)[1]
    assert variance == pytest.approx(after, abs=0.05)


def test_gradients_grow_by_the_slope() -> None:
    slope = exponential_moments(0.0, 1.0).slope
    assert slope == pytest.approx(1.07157, abs=1e-5)
    assert math.sqrt(slope) ** 20 == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("initializer", "fan_in", "fan_out", "tau"),
    [
        ("lecun_normal", 784, 100, 1.0),
        ("he_normal", 784, 100, 2.0),
        ("glorot_uniform", 100, 100, 1.0),
        ("glorot_uniform", 784, 100, 1.774),
        ("glorot_normal", 3072, 100, 1.937),
        ("glorot_uniform", 13, 100, 0.230),
        ("normal", 225, 100, 0.5625),
    ],
)
def test_tau_of_an_initializer_depends_on_the_shape(initializer: str, fan_in: int, fan_out: int, tau: float) -> None:
    assert initial_tau(initializer, fan_in, fan_out) == pytest.approx(tau, abs=5e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.95])
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    a, b = alpha_dropout_affine(rate)
    mean = rate * ALPHA_PRIME
    variance = (1 - rate) + rate * ALPHA_PRIME**2 - mean**2
    assert a * mean + b == pytest.approx(0, abs=1e-15)
    assert a**2 * variance == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_samples_keep_mean_and_variance_through_alpha_dropout(rate: float) -> None:
    samples = 1_000_000
    rng = np.random.default_rng(1)
    a, b = alpha_dropout_affine(rate)
    values = a * np.where(rng.random(samples) < rate, ALPHA_PRIME, rng.normal(size=samples)) + b
    assert values.mean() == pytest.approx(0, abs=4 / math.sqrt(samples))
    assert values.var() == pytest.approx(1, abs=4 * math.sqrt(3 / samples))


@pytest.mark.parametrize(("rate", "a", "b"), [(0.05, 0.95484448, 0.08393557), (0.1, 0.92128452, 0.16197097)])
def test_affine_has_the_numbers_of_the_paper_s_formula(rate: float, a: float, b: float) -> None:
    assert alpha_dropout_affine(rate) == pytest.approx((a, b), abs=1e-8)


def test_rate_is_rounded_to_levels_and_never_drops_all() -> None:
    assert dropout_threshold(0.5) == DROPOUT_LEVELS // 2
    assert dropout_threshold(0.0) == 0
    assert dropout_threshold(1 - 1e-9) == DROPOUT_LEVELS - 1
