"""The theory of self-normalization as numbers: constants, the moment map and where it holds, tau, alpha dropout.

Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NeurIPS 2017. Its letters stand
for: mu and nu, mean and variance of what a unit takes; omega and tau, the sum of its weights and of their squares.
"""

import math
from dataclasses import dataclass
from typing import Literal

SELU_ALPHA = 1.6732632423543772
"""The alpha of SELU (equation 14): with ``SELU_SCALE`` it makes mean 0, variance 1 a fixed point."""
SELU_SCALE = 1.0507009873554805
"""The lambda of SELU (equation 14)."""
ALPHA_PRIME = -1.7580993408473768
"""-lambda alpha: what SELU gives for minus infinity (section "Alpha dropout")."""
Range = tuple[float, float]

MEAN_DOMAIN: Range = (-0.1, 0.1)
VARIANCE_DOMAIN: Range = (0.8, 1.5)
"""Where Theorem 1 has the moments of what a layer takes: in there they stay, and converge."""
VANISHING_VARIANCE = 0.02
EXPLODING_VARIANCE = 16.0
"""Beyond these the theorems no longer promise that the variance comes back.

For networks whose fixed point has variance 1; for others in multiples of what their first layer gives."""
VANISHING_GRADIENT_RATIO = 1e-3
EXPLODING_GRADIENT_RATIO = 1e3
"""How far the gradient may shrink or grow from the last hidden layer to the first."""
NORMAL_DEVIATION = 0.05
"""The standard deviation of the initializer "normal", Keras' RandomNormal."""
MANY_LAYERS = 1000
SMALLEST_CHANGE = 1e-12
SERIES_FROM = 25.0
"""Beyond this the asymptotic series of ``erfcx`` is exact to the last digit, and ``exp`` not far from overflow."""
DROPOUT_LEVELS = 2**16
"""A unit is dropped where its 16 random bits lie below ``rate`` times this."""


def dropout_threshold(rate: float) -> int:
    """Return a dropout rate in levels, rounded; below 1 it never drops all."""
    return min(round(rate * DROPOUT_LEVELS), DROPOUT_LEVELS - 1)


def alpha_dropout_affine(rate: float) -> tuple[float, float]:
    """Return a and b: of ``a x + b``, x set to alpha' at this rate, mean and variance are those of x, where 0 and 1."""
    a = ((1 - rate) * (1 + rate * ALPHA_PRIME**2)) ** -0.5
    return a, -a * rate * ALPHA_PRIME


@dataclass(frozen=True, slots=True)
class Box:
    """A domain of a theorem: closed ranges for the moments of a unit's inputs and for its weights."""

    mean: Range
    omega: Range
    variance: Range
    tau: Range


THEOREM_1 = Box(mean=MEAN_DOMAIN, omega=(-0.1, 0.1), variance=VARIANCE_DOMAIN, tau=(0.95, 1.1))
"""Moments stay inside and converge to the fixed point (Theorem 1, stable and attracting fixed points)."""
THEOREM_2 = Box(mean=(-1.0, 1.0), omega=(-0.1, 0.1), variance=(3.0, 16.0), tau=(0.8, 1.25))
"""The variance falls: nothing explodes (Theorem 2)."""
THEOREM_3 = Box(mean=(-0.1, 0.1), omega=(-0.1, 0.1), variance=(0.02, 0.16), tau=(0.8, 1.25))
"""The variance rises: nothing vanishes (Theorem 3)."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What an activation makes of a normal pre-activation."""

    mean: float
    variance: float
    slope: float
    """The mean of the squared derivative: by so much, times tau, the squared gradient grows going back."""


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Partial expectations of z, normal with this mean and variance."""

    above: float
    """P(z > 0)."""
    density: float
    """Density at 0, times the standard deviation."""
    linear: float
    """E[z; z > 0]."""
    exponential: float
    """E[e^z; z <= 0]."""
    squared: float
    """E[e^2z; z <= 0]."""

    @classmethod
    def of(cls, mean: float, variance: float) -> "_Pieces":
        deviation = math.sqrt(variance)
        at = mean / deviation
        density = math.exp(-at * at / 2) / math.sqrt(2 * math.pi)
        above = math.erfc(-at / math.sqrt(2)) / 2
        linear = mean * above + deviation * density
        return cls(above, density, linear, _tail(mean, variance, 1), _tail(mean, variance, 2))


def _tail(mean: float, variance: float, power: int) -> float:
    """Return E[e^(power z); z <= 0] of a normal z, without overflow."""
    deviation = math.sqrt(variance)
    x = (mean + power * variance) / (deviation * math.sqrt(2))
    if x < 0:
        return math.exp(power * mean + power * power * variance / 2) * math.erfc(x) / 2
    return math.exp(-mean * mean / (2 * variance)) * _erfcx(x) / 2


def _erfcx(x: float) -> float:
    """Return e^(x^2) erfc(x) for x of 0 or more."""
    if x < SERIES_FROM:
        return math.exp(x * x) * math.erfc(x)
    square = 1 / (2 * x * x)
    return (1 - square + 3 * square**2 - 15 * square**3) / (x * math.sqrt(math.pi))


def exponential_moments(mean: float, variance: float, scale: float = SELU_SCALE, alpha: float = SELU_ALPHA) -> Moments:
    """Return the moments of SELU of a normal variable, in closed form (paper, equations 4 and 5).

    With scale and alpha 1 they are those of ELU. ``variance`` must be positive.
    """
    z = _Pieces.of(mean, variance)
    below = 1 - z.above
    first = scale * (z.linear + alpha * (z.exponential - below))
    positive = (mean * mean + variance) * z.above + mean * math.sqrt(variance) * z.density
    second = scale**2 * (positive + alpha**2 * (z.squared - 2 * z.exponential + below))
    return Moments(first, second - first * first, scale**2 * (z.above + alpha**2 * z.squared))


def map_moments(mu: float, nu: float, omega: float, tau: float) -> tuple[float, float]:
    """Return g: mean and variance of what a SELU unit gives, whose inputs have mean mu and variance nu (equation 3)."""
    moments = exponential_moments(mu * omega, nu * tau)
    return moments.mean, moments.variance


def moment_jacobian(mu: float, nu: float, omega: float, tau: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the derivatives of g by mu and nu: of the mean, then of the variance (paper, section A3.4).

    For normal z with mean m and variance v, dE[f]/dm = E[f'] and dE[f]/dv = E[f''] / 2, where f'' has a jump at 0.
    """
    mean, variance = mu * omega, nu * tau
    z = _Pieces.of(mean, variance)
    scale, alpha = SELU_SCALE, SELU_ALPHA
    first = scale * (z.linear + alpha * (z.exponential - (1 - z.above)))
    first_by_mean = scale * (z.above + alpha * z.exponential)
    jump = (1 - alpha) * z.density / math.sqrt(variance)
    first_by_variance = scale * (alpha * z.exponential + jump) / 2
    second_by_mean = 2 * scale**2 * (z.linear + alpha**2 * (z.squared - z.exponential))
    second_by_variance = scale**2 * (z.above + alpha**2 * (2 * z.squared - z.exponential))
    return (
        (omega * first_by_mean, tau * first_by_variance),
        (
            omega * (second_by_mean - 2 * first * first_by_mean),
            tau * (second_by_variance - 2 * first * first_by_variance),
        ),
    )


def fixed_point_variance(tau: float) -> float | None:
    """Return the variance to which SELU layers with this tau and omega 0 converge; None where it grows without end."""
    variance = 1.0
    for _ in range(MANY_LAYERS):
        _, after = map_moments(0.0, variance, 0.0, tau)
        if abs(after - variance) <= SMALLEST_CHANGE * variance or after < SMALLEST_CHANGE:
            return after
        variance = after
    return None


def living_variances(activation: str, first: float) -> Range:
    """Return between which variances the activations of an untrained network live; ``first`` is the first layer's.

    SELU has a scale of its own. Others have that of their inputs: ReLU does the same with numbers a thousand times as
    small, so only what is lost or gained on the way counts.
    """
    scale = 1.0 if activation == "selu" else first
    return VANISHING_VARIANCE * scale, EXPLODING_VARIANCE * scale


Initializer = Literal["glorot_uniform", "glorot_normal", "he_normal", "lecun_normal", "normal"]
"""What the weights start from, by Keras' names; ``normal`` is N(0, 0.05), Keras' RandomNormal."""


def initial_tau(initializer: Initializer, fan_in: int, fan_out: int) -> float:
    """Return the tau with which a layer starts: fan_in times the variance of a weight.

    Names mislead: Glorot's is that of LeCun normal where a layer is as wide as the one before, and no other.
    """
    match initializer:
        case "lecun_normal":
            return 1.0
        case "he_normal":
            return 2.0
        case "normal":
            return fan_in * NORMAL_DEVIATION**2
        case _:
            return 2.0 * fan_in / (fan_in + fan_out)
