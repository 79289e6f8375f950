"""Euler, Euler ancestral and LMS: the first samplers of k-diffusion.

Inside a step the latent is in variance-exploding scale, z = x / alpha = x0 + ratio * eps, as in
arXiv:2206.00364.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.samplers.schedule import SigmaGrid, interpolated_grid
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = [
    "ancestral_split",
    "euler_ancestral_schedule",
    "euler_schedule",
    "first_noise",
    "lms_schedule",
    "scales",
]

LMS_ORDER = 4


@dataclass(frozen=True)
class Euler:
    """Euler's method (arXiv:2206.00364, algorithm 1; diffusers EulerDiscreteScheduler).

    Args:
        sigmas: Noise to signal ratio, [rows + 1].
        scales: x / z, [rows + 1].
    """

    sigmas: tuple[float, ...]
    scales: tuple[float, ...]

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        z = x / self.scales[i]
        z_next = denoised + (z - denoised) * (self.sigmas[i + 1] / self.sigmas[i])
        return self.scales[i + 1] * z_next, ()


@dataclass(frozen=True)
class EulerAncestral:
    """Euler's method with fresh noise after every step (diffusers EulerAncestralDiscreteScheduler).

    Args:
        sigmas: Noise to signal ratio, [rows + 1].
        scales: x / z, [rows + 1].
    """

    sigmas: tuple[float, ...]
    scales: tuple[float, ...]

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        down, up = ancestral_split(self.sigmas[i], self.sigmas[i + 1])
        z = x / self.scales[i]
        z_next = denoised + (z - denoised) * (down / self.sigmas[i]) + up * noise
        return self.scales[i + 1] * z_next, ()


def ancestral_split(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Where to step to deterministically, and how much noise to add there, to arrive at sigma_next.

    Args:
        sigma: Noise to signal ratio before the step.
        sigma_next: After it.

    Returns:
        sigma_down and sigma_up, with sigma_down^2 + sigma_up^2 = sigma_next^2.
    """
    return sigma_next**2 / sigma, sigma_next * math.sqrt(max(1.0 - (sigma_next / sigma) ** 2, 0.0))


@dataclass(frozen=True)
class LMS:
    """Linear multistep on sigmas that are not evenly spaced (diffusers LMSDiscreteScheduler, order 4).

    Args:
        sigmas: Noise to signal ratio of the full schedule, [steps + 1].
        scales: x / z of the rows that are run, [rows + 1].
        begin: First step that is run.
    """

    sigmas: tuple[float, ...]
    scales: tuple[float, ...]
    begin: int

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        z = x / self.scales[i]
        derivatives = ((z - denoised) / self.sigmas[self.begin + i], *history)[:LMS_ORDER]
        # diffusers takes the order from the place in the full schedule: after a strength below 1 the
        # weights are those of order 4 although only one derivative is known, and the weights of the missing
        # ones are lost.
        weights = lms_weights(self.sigmas, self.begin + i)
        for weight, derivative in zip(weights, derivatives, strict=False):
            z = z + weight * derivative
        return self.scales[i + 1] * z, derivatives[: LMS_ORDER - 1]


def lms_weights(sigmas: tuple[float, ...], step: int) -> list[float]:
    """Integrals of the Lagrange polynomials over one step, exact by Gauss-Legendre with two points."""
    order = min(step + 1, LMS_ORDER)
    start, stop = sigmas[step], sigmas[step + 1]
    middle, half = (start + stop) / 2.0, (stop - start) / 2.0
    points = (middle - half / math.sqrt(3.0), middle + half / math.sqrt(3.0))
    known = [sigmas[step - k] for k in range(order)]
    return [half * sum(_lagrange(point, known, k) for point in points) for k in range(order)]


def _lagrange(point: float, known: list[float], k: int) -> float:
    return math.prod((point - other) / (known[k] - other) for j, other in enumerate(known) if j != k)


def scales(grid: SigmaGrid, step_range: StepRange) -> tuple[float, ...]:
    """X / z of every row; at the end of the schedule the latent stays as diffusers leaves it, in scale z."""
    alphas = [level.alpha for level in grid.levels]
    last = alphas[-1] if step_range.final_level is not None else 1.0
    return (*alphas[:-1], last)


def first_noise(settings: Settings, full: SigmaGrid, begin: int) -> float:
    """Diffusers' init_noise_sigma, in variance-preserving scale at step begin."""
    largest = float(np.max(full.sigmas))
    sigma = largest if settings.timestep_spacing in ("linspace", "trailing") else math.sqrt(largest**2 + 1.0)
    return sigma * NoiseLevel.from_ratio(float(full.sigmas[begin])).alpha


def euler_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' EulerDiscreteScheduler."""
    full = interpolated_grid(settings, step_range)
    grid = full.cut(step_range)
    solver = Euler(tuple(grid.sigmas.tolist()), scales(grid, step_range))
    return SolverSchedule(
        grid.timesteps, grid.levels[:-1], solver, first_noise(settings, full, step_range.begin)
    )


def euler_ancestral_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' EulerAncestralDiscreteScheduler."""
    full = interpolated_grid(settings, step_range)
    grid = full.cut(step_range)
    solver = EulerAncestral(tuple(grid.sigmas.tolist()), scales(grid, step_range))
    return SolverSchedule(
        grid.timesteps, grid.levels[:-1], solver, first_noise(settings, full, step_range.begin)
    )


def lms_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' LMSDiscreteScheduler; with Karras sigmas it ignores sigma_min and sigma_max."""
    if settings.sigma_schedule == "karras":
        settings = replace(settings, sigma_min=None, sigma_max=None)
    full = interpolated_grid(settings, step_range)
    grid = full.cut(step_range)
    if step_range.joined:
        solver = LMS(tuple(grid.sigmas.tolist()), scales(grid, step_range), 0)
    else:
        solver = LMS(
            (*full.sigmas[: step_range.begin].tolist(), *grid.sigmas.tolist()),
            scales(grid, step_range),
            step_range.begin,
        )
    return SolverSchedule(
        grid.timesteps, grid.levels[:-1], solver, first_noise(settings, full, step_range.begin)
    )
