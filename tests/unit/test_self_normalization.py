"""The constants against their closed forms, and what alpha dropout is for."""

import math

import pytest

from service.domain.self_normalization import (
    ALPHA_PRIME,
    DROPOUT_LEVELS,
    SELU_ALPHA,
    SELU_SCALE,
    alpha_dropout_affine,
    dropout_threshold,
)


def test_constants_are_the_fixed_point_of_the_paper() -> None:
    """Klambauer et al. 2017, equation 14."""
    tail, root = math.erfc(1 / math.sqrt(2)), math.sqrt(math.e)
    alpha = -math.sqrt(2 / math.pi) / (tail * root - 1)
    inner = 2 * math.erfc(math.sqrt(2)) * math.e**2 + math.pi * tail**2 * math.e - 2 * (2 + math.pi) * tail * root
    scale = (1 - tail * root) * math.sqrt(2 * math.pi) * (inner + math.pi + 2) ** -0.5
    assert pytest.approx(alpha, rel=1e-14) == SELU_ALPHA
    assert pytest.approx(scale, rel=1e-14) == SELU_SCALE
    assert pytest.approx(-alpha * scale, rel=1e-14) == ALPHA_PRIME


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.95])
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    a, b = alpha_dropout_affine(rate)
    mean = rate * ALPHA_PRIME
    variance = (1 - rate) + rate * ALPHA_PRIME**2 - mean**2
    assert a * mean + b == pytest.approx(0, abs=1e-15)
    assert a**2 * variance == pytest.approx(1)


@pytest.mark.parametrize(("rate", "a", "b"), [(0.05, 0.95484448, 0.08393557), (0.1, 0.92128452, 0.16197097)])
def test_affine_has_the_numbers_of_the_paper_s_formula(rate: float, a: float, b: float) -> None:
    assert alpha_dropout_affine(rate) == pytest.approx((a, b), abs=1e-8)


def test_rate_is_rounded_to_levels_and_never_drops_all() -> None:
    assert dropout_threshold(0.5) == DROPOUT_LEVELS // 2
    assert dropout_threshold(0.0) == 0
    assert dropout_threshold(1 - 1e-9) == DROPOUT_LEVELS - 1
