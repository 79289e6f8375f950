"""Exponential integrators: the weights that DPM-Solver's steps share.

h is the step in half the logarithm of the signal to noise ratio, lambda = log(alpha / sigma).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inpaintrt.samplers.solver import NoiseLevel

__all__ = ["Weights", "half_log_snr", "weights"]


@dataclass(frozen=True)
class Weights:
    """Factors of x, of the model output with its first two differences, and of fresh noise.

    The factors of differences that have no limit, for an empty or an infinite step, are not numbers.

    Args:
        x: Factor of the latent.
        output: Factor of the output.
        midpoint: Factor of the first difference with solver_type "midpoint".
        heun: Factor of the first difference with solver_type "heun", and at third order.
        curvature: Factor of the second difference.
        noise: Factor of unit Gaussian noise.
    """

    x: float
    output: float
    midpoint: float
    heun: float
    curvature: float
    noise: float


def half_log_snr(level: NoiseLevel) -> float:
    """Half the log signal to noise ratio, log(alpha / sigma); infinite for a clean image."""
    return math.log(level.alpha / level.sigma) if level.sigma > 0.0 else math.inf


def weights(algorithm_type: str, start: NoiseLevel, stop: NoiseLevel) -> Weights:
    """Weights of one step.

    Args:
        algorithm_type: diffusers' name: "dpmsolver++" and "sde-dpmsolver++" integrate the image
            (arXiv:2211.01095), "dpmsolver" and "sde-dpmsolver" the noise (arXiv:2206.00927).
        start: Level of x.
        stop: Level to arrive at.

    Returns:
        The weights.
    """
    h = half_log_snr(stop) - half_log_snr(start)
    if algorithm_type == "dpmsolver++":
        return _of_image(stop.sigma / start.sigma, stop.alpha, h, 0.5, 0.0)
    if algorithm_type == "sde-dpmsolver++":
        # diffusers has -0.5 in the second difference where the integral has +0.5.
        noise = stop.sigma * math.sqrt(-math.expm1(-2.0 * h))
        return _of_image(stop.sigma / start.sigma * math.exp(-h), stop.alpha, 2.0 * h, -0.5, noise)
    twice = 2.0 if algorithm_type == "sde-dpmsolver" else 1.0
    noise = stop.sigma * math.sqrt(math.expm1(2.0 * h)) if algorithm_type == "sde-dpmsolver" else 0.0
    return _of_noise(stop.alpha / start.alpha, -twice * stop.sigma, h, noise)


def _of_image(x: float, alpha: float, h: float, half: float, noise: float) -> Weights:
    integral = -math.expm1(-h)
    if h == 0.0 or math.isinf(h):
        return Weights(x, alpha * integral, 0.5 * alpha * integral, math.nan, math.nan, noise)
    heun = 1.0 - integral / h
    curvature = (integral - h) / h**2 + half
    return Weights(x, alpha * integral, 0.5 * alpha * integral, alpha * heun, alpha * curvature, noise)


def _of_noise(x: float, factor: float, h: float, noise: float) -> Weights:
    integral = math.expm1(h)
    if h == 0.0:
        return Weights(x, factor * integral, 0.5 * factor * integral, math.nan, math.nan, noise)
    heun = integral / h - 1.0
    curvature = (integral - h) / h**2 - 0.5
    return Weights(x, factor * integral, 0.5 * factor * integral, factor * heun, factor * curvature, noise)
