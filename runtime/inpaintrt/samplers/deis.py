"""DEIS: exponential integration of the predicted noise over the logarithm of the noise to signal ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inpaintrt.samplers.ddim import predicted_noise
from inpaintrt.samplers.dpmsolver import multistep_orders
from inpaintrt.samplers.schedule import sampled_grid
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["deis_schedule"]


@dataclass(frozen=True)
class DEIS:
    """Log-rho multistep (arXiv:2204.13902; diffusers DEISMultistepScheduler).

    Args:
        levels: [rows + 1].
        orders: Order of every row, 1 to 3.
    """

    levels: tuple[NoiseLevel, ...]
    orders: tuple[int, ...]

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        start, stop = self.levels[i], self.levels[i + 1]
        outputs = (predicted_noise(x, denoised, start), *history)
        nodes = [math.log(self.levels[i - k].ratio) for k in range(self.orders[i])]
        z = x / start.alpha
        for k, weight in enumerate(_weights(nodes, start.ratio, stop.ratio)):
            z = z + weight * outputs[k]
        return stop.alpha * z, outputs[: max(self.orders) - 1]


def _weights(nodes: list[float], start: float, stop: float) -> list[float]:
    """Integrals over rho of the Lagrange polynomials in log rho that belong to the nodes."""
    if len(nodes) == 1:
        return [stop - start]
    return [_integral(nodes, k, stop) - _integral(nodes, k, start) for k in range(len(nodes))]


def _integral(nodes: list[float], k: int, rho: float) -> float:
    """Antiderivative of the k-th Lagrange polynomial over 2 or 3 nodes, by integration by parts."""
    others = nodes[:k] + nodes[k + 1 :]
    scale = math.prod(nodes[k] - other for other in others)
    log_rho = math.log(rho)
    linear = log_rho - 1.0
    if len(others) == 1:
        return rho * (linear - others[0]) / scale
    square = log_rho * log_rho - 2.0 * linear
    return rho * (square - sum(others) * linear + math.prod(others)) / scale


def deis_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' DEISMultistepScheduler; its schedule ends at the smallest sigma of training."""
    ending = replace(settings, final_sigmas_type="sigma_min")
    last = settings.training.num_train_timesteps
    grid = sampled_grid(ending, step_range, last=last, repeat_last=True).cut(step_range)
    orders = multistep_orders(settings, step_range, last_is_first_order=False)
    return SolverSchedule(grid.timesteps, grid.levels[:-1], DEIS(grid.levels, orders))
