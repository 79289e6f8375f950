"""The beta distribution's quantile function, so that the runtime does without scipy."""

from __future__ import annotations

import math

import numpy as np

from inpaintrt.samplers.solver import FloatArray

__all__ = ["beta_quantile"]

# The series below is used for x up to 1/2, where its terms fall at least by half.
TERMS = 60
ITERATIONS = 50


def beta_quantile(probability: FloatArray, a: float, b: float) -> FloatArray:
    """The x below which a beta(a, b) variable falls with the given probability.

    Args:
        probability: Any shape, 0 to 1; 0 and 1 give exactly 0 and 1.
        a: First shape parameter, above 0.
        b: Second shape parameter, above 0.

    Returns:
        Quantiles of probability's shape (scipy.stats.beta.ppf).
    """
    at_half = float(_lower_tail(np.array(0.5), a, b))
    is_lower = probability <= at_half
    lower = _lower_quantile(np.where(is_lower, probability, at_half), a, b)
    upper = _lower_quantile(np.where(is_lower, 1.0 - at_half, 1.0 - probability), b, a)
    return np.where(is_lower, lower, 1.0 - upper)


def _complete_beta(a: float, b: float) -> float:
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))


def _lower_tail(x: FloatArray, a: float, b: float) -> FloatArray:
    """Regularised incomplete beta function for x up to 1/2 (DLMF 8.17.7)."""
    n = np.arange(TERMS)
    coefficients = np.cumprod(np.concatenate([[1.0], (n[1:] - b) / n[1:]])) * a / (a + n)
    series = np.power(x[..., np.newaxis], n) @ coefficients
    return np.asarray(np.power(x, a) / (a * _complete_beta(a, b)) * series, dtype=np.float64)


def _lower_quantile(probability: FloatArray, a: float, b: float) -> FloatArray:
    """Newton's iteration over log x, in which the logarithm of the distribution is nearly a straight line."""
    complete = _complete_beta(a, b)
    wanted = np.log(np.where(probability > 0.0, probability, 1.0))
    log_x = np.minimum((wanted + math.log(a * complete)) / a, math.log(0.5))
    for _ in range(ITERATIONS):
        x = np.exp(log_x)
        cumulative = _lower_tail(x, a, b)
        slope = np.power(x, a) * np.power(1.0 - x, b - 1.0) / (complete * cumulative)
        updated = np.minimum(log_x - (np.log(cumulative) - wanted) / slope, math.log(0.5))
        if np.allclose(updated, log_x, rtol=0.0, atol=1e-15):
            break
        log_x = updated
    return np.where(probability > 0.0, np.exp(log_x), 0.0)
