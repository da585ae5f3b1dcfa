"""The constants of self-normalization and the arithmetic of dropout, the same in training and in answers.

Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NeurIPS 2017.
"""

SELU_ALPHA = 1.6732632423543772
"""The alpha of SELU (equation 14): with ``SELU_SCALE`` it makes mean 0, variance 1 a fixed point."""
SELU_SCALE = 1.0507009873554805
"""The lambda of SELU (equation 14)."""
ALPHA_PRIME = -1.7580993408473768
"""-lambda alpha: what SELU gives for minus infinity (section "Alpha dropout")."""
MEAN_DOMAIN = (-0.1, 0.1)
VARIANCE_DOMAIN = (0.8, 1.5)
"""Where Theorem 1 has the moments of what a layer takes: in there they stay, and converge."""
DROPOUT_LEVELS = 2**16
"""A unit is dropped where its 16 random bits lie below ``rate`` times this."""


def dropout_threshold(rate: float) -> int:
    """Return a dropout rate in levels, rounded; below 1 it never drops all."""
    return min(round(rate * DROPOUT_LEVELS), DROPOUT_LEVELS - 1)


def alpha_dropout_affine(rate: float) -> tuple[float, float]:
    """Return a and b: of ``a x + b``, x set to alpha' at this rate, mean and variance are those of x, where 0 and 1."""
    a = ((1 - rate) * (1 + rate * ALPHA_PRIME**2)) ** -0.5
    return a, -a * rate * ALPHA_PRIME
