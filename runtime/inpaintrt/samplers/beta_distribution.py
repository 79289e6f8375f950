"""The beta distribution's quantile function, so that the runtime does without scipy."""

from __future__ import annotations

import math

import numpy as np

from inpaintrt.samplers.solver import FloatArray

__all__ = ["beta_quantile", "regularized_incomplete_beta"]

TINY = 1e-300


def regularized_incomplete_beta(x: FloatArray, a: float, b: float) -> FloatArray:
    """Probability that a beta(a, b) variable is at most x, by Lentz's continued fraction.

    Args:
        x: Any shape, 0 to 1.
        a: First shape parameter, above 0.
        b: Second shape parameter, above 0.

    Returns:
        I_x(a, b), of x's shape (DLMF 8.17.22).
    """
    mirrored = x > (a + 1.0) / (a + b + 2.0)
    lower = _lower_tail(np.where(mirrored, 0.0, x), a, b)
    upper = _lower_tail(np.where(mirrored, 1.0 - x, 0.0), b, a)
    return np.where(mirrored, 1.0 - upper, lower)


def beta_quantile(probability: FloatArray, a: float, b: float) -> FloatArray:
    """The x below which a beta(a, b) variable falls with the given probability.

    Args:
        probability: Any shape, 0 to 1; 0 and 1 give exactly 0 and 1.
        a: First shape parameter, above 0.
        b: Second shape parameter, above 0.

    Returns:
        Quantiles of probability's shape (scipy.stats.beta.ppf).
    """
    upper_half = probability > 0.5
    below = _lower_quantile(np.where(upper_half, 0.5, probability), a, b)
    above = _lower_quantile(np.where(upper_half, 1.0 - probability, 0.5), b, a)
    return np.where(upper_half, 1.0 - above, below)


def _lower_tail(x: FloatArray, a: float, b: float) -> FloatArray:
    front = np.power(x, a) * np.power(1.0 - x, b) / (a * _complete_beta(a, b))
    return front * _continued_fraction(x, a, b)


def _complete_beta(a: float, b: float) -> float:
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))


def _continued_fraction(x: FloatArray, a: float, b: float, terms: int = 60) -> FloatArray:
    c = np.ones_like(x)
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0) + TINY)
    fraction = d
    for m in range(1, terms):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / (1.0 + numerator * d + TINY)
            c = 1.0 + numerator / c + TINY
            change = c * d
            fraction = fraction * change
        if np.all(np.abs(change - 1.0) < 1e-16):
            break
    return fraction


def _lower_quantile(probability: FloatArray, a: float, b: float) -> FloatArray:
    """Newton's iteration on log I_x(a, b) over log x, where the distribution is nearly a power of x."""
    with np.errstate(divide="ignore"):
        target = np.log(probability)
    wanted = np.where(probability > 0.0, target, 0.0)
    log_x = np.minimum((wanted + math.log(a * _complete_beta(a, b))) / a, math.log(0.9))
    for _ in range(40):
        x = np.exp(log_x)
        cumulative = regularized_incomplete_beta(x, a, b)
        density = np.power(x, a) * np.power(1.0 - x, b - 1.0) / _complete_beta(a, b)
        correction = (np.log(cumulative) - wanted) * cumulative / density
        log_x = np.minimum(log_x - correction, math.log(1.0 - 1e-12))
        if np.all(np.abs(correction) < 1e-15):
            break
    return np.where(probability > 0.0, np.exp(log_x), 0.0)
