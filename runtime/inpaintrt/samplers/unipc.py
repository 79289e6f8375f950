"""UniPC: a multistep predictor, corrected when the next output of the UNet is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.samplers.ddim import predicted_noise
from inpaintrt.samplers.exponential import half_log_snr
from inpaintrt.samplers.schedule import sampled_grid
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["unipc_schedule"]


@dataclass(frozen=True)
class UniPC:
    """UniP and UniC (arXiv:2302.04867, algorithms 1 and 2; diffusers UniPCMultistepScheduler).

    Args:
        levels: [rows + 1].
        orders: Order of every row, 1 to 3.
        corrects: Whether a row first corrects the x that the row before predicted.
        solver_type: "bh1" or "bh2", the function B(h) of the paper.
        predict_x0: Whether the image is integrated, else the noise.
    """

    levels: tuple[NoiseLevel, ...]
    orders: tuple[int, ...]
    corrects: tuple[bool, ...]
    solver_type: str
    predict_x0: bool

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        newest = denoised if self.predict_x0 else predicted_noise(x, denoised, self.levels[i])
        older = history[1:]
        if self.corrects[i]:
            x = self._update(i - 1, history[0], older, newest)
        outputs = (newest, *older)
        return self._update(i, x, outputs, None), (x, *outputs[: max(self.orders)])

    def _update(self, i: int, x: FloatArray, outputs: History, arrived: FloatArray | None) -> FloatArray:
        """Step from level i to the next; arrived is the output there, which the corrector knows."""
        start, stop = self.levels[i], self.levels[i + 1]
        h = half_log_snr(stop) - half_log_snr(start)
        of_x, factor, signed = stop.alpha / start.alpha, stop.sigma, h
        if self.predict_x0:
            of_x, factor, signed = stop.sigma / start.sigma, stop.alpha, -h
        x_next = of_x * x - factor * math.expm1(signed) * outputs[0]
        nodes, differences = self._differences(i, h, outputs, arrived)
        if not nodes:
            return x_next
        b_of_h = signed if self.solver_type == "bh1" else math.expm1(signed)
        shares = _shares(nodes, signed, b_of_h)
        for share, difference in zip(shares, differences, strict=True):
            x_next = x_next - factor * b_of_h * share * difference
        return x_next

    def _differences(
        self, i: int, h: float, outputs: History, arrived: FloatArray | None
    ) -> tuple[list[float], list[FloatArray]]:
        origin = half_log_snr(self.levels[i])
        nodes = [(half_log_snr(self.levels[i - k]) - origin) / h for k in range(1, self.orders[i])]
        differences = [(outputs[k] - outputs[0]) / node for k, node in enumerate(nodes, start=1)]
        if arrived is not None:
            return [*nodes, 1.0], [*differences, arrived - outputs[0]]
        return nodes, differences


def _shares(nodes: list[float], signed: float, b_of_h: float) -> list[float]:
    """Solve for the paper's rho: powers of the nodes against the phi functions; one node has share 1/2."""
    if len(nodes) == 1:
        return [0.5]
    values = [phi / b_of_h for phi in _phis(signed, len(nodes))]
    if len(nodes) == 2:
        second = (values[1] - nodes[0] * values[0]) / (nodes[1] - nodes[0])
        return [values[0] - second, second]
    powers = np.vander(np.array(nodes), increasing=True).T
    return list(np.linalg.solve(powers, np.array(values)).tolist())


def _phis(signed: float, count: int) -> list[float]:
    """The values k! h phi_{k+1}(h) of the paper, for k from 1."""
    phis = []
    phi = math.expm1(signed) / signed - 1.0
    factorial = 1
    for k in range(1, count + 1):
        phis.append(phi * factorial)
        factorial *= k + 1
        phi = phi / signed - 1.0 / factorial
    return phis


def unipc_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' UniPCMultistepScheduler."""
    grid = sampled_grid(
        settings, step_range, last=settings.training.num_train_timesteps, repeat_last=True
    ).cut(step_range)
    steps = range(step_range.begin, step_range.end)
    solver = UniPC(
        grid.levels,
        tuple(_order(settings, row, step_range.steps - step) for row, step in enumerate(steps)),
        tuple(row > 0 and step - 1 not in settings.disable_corrector for row, step in enumerate(steps)),
        settings.solver_type if settings.solver_type == "bh1" else "bh2",
        settings.predict_x0,
    )
    return SolverSchedule(grid.timesteps, grid.levels[:-1], solver)


def _order(settings: Settings, row: int, left: int) -> int:
    limit = left if settings.lower_order_final else settings.solver_order
    return min(settings.solver_order, row + 1, limit)
