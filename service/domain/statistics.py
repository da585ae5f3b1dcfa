"""What repeated measurements say about a mean, and whether two sets of them differ; knows nothing of networks.

SciPy would be a fourth of what an API installs, for two functions of Student's t: they are written out at the end, and
the tests hold them against SciPy's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
"""A difference is called significant below this."""
MOST_TERMS = 10_000
"""Of a continued fraction; a thousand repetitions take about twenty."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A mean and how sure it is; what takes two values or more is None where there are fewer."""

    mean: float | None
    standard_deviation: float | None
    """Of the sample: divided by n - 1."""
    confidence_interval: tuple[float, float] | None
    """Of the mean, 95 %, by Student's t."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How two sets of paired values differ: the first minus the second."""

    difference: float
    interval: tuple[float, float] | None
    """95 % confidence; None where the differences do not vary, or so few pairs could not be sure of any."""
    p: float
    pairs: int


def summarize(values: Sequence[float]) -> Summary:
    """Summarize values, none of which is NaN."""
    count = len(values)
    if count == 0:
        return Summary(None, None, None)
    scaled, scale = _scaled(np.asarray(values, float))
    mean = float(scaled.mean()) * scale
    if count == 1:
        return Summary(mean, None, None)
    deviation = float(np.std(scaled, ddof=1)) * scale
    return Summary(mean, deviation, _around(mean, t_quantile(count - 1) * deviation / math.sqrt(count)))


def paired_test(
    first: Sequence[float], second: Sequence[float], measured_to_training: float = 0.0
) -> PairedTest | None:
    """Test whether paired values have the same mean: Student's t with corrected variance; None for fewer than 2 pairs.

    Each pair is one repetition that draws its rows anew from the same table. The repetitions share most of their rows,
    so they say less than as many independent ones would: the variance of the mean difference is taken as
    s^2 (1/n + measured / training), with the numbers of rows measured and trained on (Nadeau and Bengio, "Inference
    for the Generalization Error", Machine Learning 52, 2003, section 3.3). With ``measured_to_training`` 0 it is the
    plain paired t-test, but that p is never below ``least_p``.

    Where all differences are the same there is no variation to hold them against: all 0 have p = 1, others ``least_p``,
    and there is no interval. Neither is there for so few pairs that p cannot be below 5 %: it might leave 0 out, and p
    says that it must not.
    """
    count = len(first)
    if count < 2:
        return None
    scaled, scale = _scaled(np.asarray([first, second], float))
    differences = scaled[0] - scaled[1]
    mean = float(differences.mean())
    # What rounding leaves of equal differences is no variation.
    varies = np.ptp(differences) > 1e-12 * np.abs(differences).max()
    if not varies:
        return PairedTest(mean * scale, None, 1.0 if mean == 0 else least_p(count), count)
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / count + measured_to_training))
    p = max(two_sided(mean / error, count - 1), least_p(count))
    is_sure = least_p(count) < SIGNIFICANCE
    interval = _around(mean * scale, t_quantile(count - 1) * error * scale) if is_sure else None
    return PairedTest(mean * scale, interval, p, count)


def least_p(pairs: int) -> float:
    """Return the smallest p that so many pairs may claim: 2 / 4^n.

    Student's t takes differences as normal, and trainings that either work or die are not. If each dies with a chance
    of one half, one side works and the other dies in every one of n pairs with a chance of 2 (1/4)^n, whatever the
    sizes: the differences are then all alike, and t would be sure of a difference that is none.
    """
    return float(min(1.0, 2 / 4**pairs))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for how many there are, so that all of them together hold with 95 %.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    corrected: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(values, key=lambda name: values[name])):
        least = max(least, min(1.0, values[name] * (len(values) - place)))
        corrected[name] = least
    return {name: corrected[name] for name in values}


def average_ranks(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return each column's mean rank over the rows: 1 is the highest score, and ties share the ranks they take."""
    values = np.asarray(scores, float)
    above = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    same = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    ranks: list[float] = (above + (same + 1) / 2).mean(axis=0).tolist()
    return ranks


def critical_difference(arms: int, blocks: int) -> float | None:
    """Return by how much mean ranks must differ to be significant at 5 % (Nemenyi); None where nothing can be said.

    q_0.05(k) sqrt(k (k + 1) / (6 N)), where q is the studentized range for infinite degrees of freedom, divided by
    sqrt 2 (Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section 3.2.2).
    """
    if arms < 2 or blocks < 2:
        return None
    q = studentized_range(arms, 1 - SIGNIFICANCE) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * blocks))


def studentized_range(count: int, probability: float) -> float:
    """Return the quantile of the range of so many independent N(0,1) values, by bisection.

    P(range < q) = k integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1) dz.
    """
    z = np.linspace(-9.0, 9.0, 3601)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = _normal(z)
    low, high = 0.0, 40.0
    while high - low > 1e-9:
        q = (low + high) / 2
        inside = count * np.trapezoid(density * (below - _normal(z - q)) ** (count - 1), z)
        low, high = (q, high) if inside < probability else (low, q)
    return (low + high) / 2


def _scaled(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return values brought near 1, and what to multiply by: squares of values around 1e200 are no numbers."""
    scale = float(np.abs(values).max())
    exact = 2.0 ** math.floor(math.log2(scale)) if 0 < scale < math.inf else 1.0  # a power of two changes no digit
    return values / exact, exact


def _around(middle: float, reach: float) -> tuple[float, float] | None:
    """Return an interval; None where it has no end that is a number."""
    low, high = middle - reach, middle + reach
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _normal(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of N(0,1) below each value, exact in the lower tail as well."""
    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in z.tolist()])


@cache
def t_quantile(freedom: int) -> float:
    """Return how many standard errors a 95 % interval reaches to either side: 1.96 for many, 12.71 for one degree."""
    low, high = 1.9, 12.8
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if two_sided(middle, freedom) > 1 - CONFIDENCE else (low, middle)
    return middle


def two_sided(t: float, freedom: int) -> float:
    """Return the chance that Student's t lies as far from 0 on either side, small ones with all their digits."""
    inner, outer = freedom / (freedom + t * t), t * t / (freedom + t * t)
    if inner < (freedom + 2) / (freedom + 5):  # where the fraction converges fast
        return _beta_share(freedom / 2, 0.5, inner, outer)
    return 1 - _beta_share(0.5, freedom / 2, outer, inner)


def _beta_share(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), where ``rest`` is 1 - x.

    The continued fraction of Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5.8, by Lentz's method
    (Press et al., "Numerical Recipes", section 6.4).
    """
    if x == 0:
        return 0.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)) / a
    above, below = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = below
    for place in range(1, MOST_TERMS):
        at = a + 2 * place
        even = place * (b - place) * x / ((at - 1) * at)
        odd = -(a + place) * (a + b + place) * x / (at * (at + 1))
        before = fraction
        for term in (even, odd):
            below = 1 / (1 + term * below)
            above = 1 + term / above
            fraction *= above * below
        if fraction == before:
            break
    return front * fraction
