"""DPM-Solver and DPM-Solver++, multistep and singlestep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ParameterError, SchedulerError
from inpaintrt.samplers.ddim import predicted_noise
from inpaintrt.samplers.exponential import Weights, half_log_snr, weights
from inpaintrt.samplers.schedule import alphas_cumprod, sampled_grid
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["FEW_STEPS", "multistep_orders", "multistep_schedule", "singlestep_schedule"]

# Below this many steps the last ones are taken at lower order (lower_order_final).
FEW_STEPS = 15


@dataclass(frozen=True)
class Multistep:
    """DPM-Solver++(2M) and its relatives (arXiv:2211.01095, algorithm 2; DPMSolverMultistepScheduler).

    Args:
        levels: [rows + 1].
        orders: Order of every row, 1 to 3.
        algorithm_type: diffusers' name of what is integrated.
        solver_type: "midpoint" or "heun".
    """

    levels: tuple[NoiseLevel, ...]
    orders: tuple[int, ...]
    algorithm_type: str
    solver_type: str

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        outputs = (_output(self.algorithm_type, x, denoised, self.levels[i]), *history)
        factors = weights(self.algorithm_type, self.levels[i], self.levels[i + 1])
        x_next = factors.x * x + factors.output * outputs[0]
        if self.orders[i] == 2:
            x_next = x_next + self._second(i, outputs, factors)
        if self.orders[i] == 3:
            x_next = x_next + self._third(i, outputs, factors)
        return x_next + factors.noise * noise, outputs[: max(self.orders) - 1]

    def _second(self, i: int, outputs: History, factors: Weights) -> FloatArray:
        h, h0 = self._width(i), self._width(i - 1)
        factor = factors.midpoint if self.solver_type == "midpoint" else factors.heun
        return factor * h / h0 * (outputs[0] - outputs[1])

    def _third(self, i: int, outputs: History, factors: Weights) -> FloatArray:
        h, h0, h1 = self._width(i), self._width(i - 1), self._width(i - 2)
        newer = h / h0 * (outputs[0] - outputs[1])
        older = h / h1 * (outputs[1] - outputs[2])
        first = newer + h0 / (h0 + h1) * (newer - older)
        second = h / (h0 + h1) * (newer - older)
        return factors.heun * first + factors.curvature * second

    def _width(self, i: int) -> float:
        return half_log_snr(self.levels[i + 1]) - half_log_snr(self.levels[i])


@dataclass(frozen=True)
class Singlestep:
    """DPM-Solver++(2S) and its relatives (arXiv:2211.01095, algorithm 1; DPMSolverSinglestepScheduler).

    A row of order 2 or 3 steps again from where its group of rows began.

    Args:
        levels: [rows + 1].
        orders: Order of every row, 1 to 3.
        solver_order: Largest order.
        algorithm_type: diffusers' name of what is integrated.
        solver_type: "midpoint" or "heun".
    """

    levels: tuple[NoiseLevel, ...]
    orders: tuple[int, ...]
    solver_order: int
    algorithm_type: str
    solver_type: str

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        order = self.orders[i]
        outputs = (_output(self.algorithm_type, x, denoised, self.levels[i]), *history[1:])
        group = x if order == 1 else history[0]
        factors = weights(self.algorithm_type, self.levels[i - order + 1], self.levels[i + 1])
        x_next = factors.x * group + factors.output * outputs[order - 1]
        if order == 2:
            x_next = x_next + self._second(i, outputs, factors)
        if order == 3:
            x_next = x_next + self._third(i, outputs, factors)
        return x_next + factors.noise * noise, (group, *outputs[: self.solver_order - 1])

    def _second(self, i: int, outputs: History, factors: Weights) -> FloatArray:
        h, h0 = self._width(i - 1, i + 1), self._width(i - 1, i)
        factor = factors.midpoint if self.solver_type == "midpoint" else factors.heun
        return factor * h / h0 * (outputs[0] - outputs[1])

    def _third(self, i: int, outputs: History, factors: Weights) -> FloatArray:
        h, h0, h1 = self._width(i - 2, i + 1), self._width(i - 2, i), self._width(i - 2, i - 1)
        early = h / h1 * (outputs[1] - outputs[2])
        late = h / h0 * (outputs[0] - outputs[2])
        if self.solver_type == "midpoint":
            return factors.heun * late
        first = (h0 * early - h1 * late) / (h0 - h1)
        second = 2.0 * h / (h0 - h1) * (late - early)
        return factors.heun * first + factors.curvature * second

    def _width(self, i: int, j: int) -> float:
        return half_log_snr(self.levels[j]) - half_log_snr(self.levels[i])


def _output(algorithm_type: str, x: FloatArray, denoised: FloatArray, level: NoiseLevel) -> FloatArray:
    return denoised if algorithm_type.endswith("++") else predicted_noise(x, denoised, level)


def multistep_orders(
    settings: Settings, step_range: StepRange, *, last_is_first_order: bool
) -> tuple[int, ...]:
    """Order of every row: as much as the rows so far allow, less at the end of a short schedule.

    Args:
        settings: Largest order and lower_order_final.
        step_range: The rows.
        last_is_first_order: Whether the schedule's last row is of order 1 however long it is.

    Returns:
        [rows], 1 to 3.
    """
    short = settings.lower_order_final and step_range.steps < FEW_STEPS
    orders = []
    for row, step in enumerate(range(step_range.begin, step_range.end)):
        left = step_range.steps - step
        limit = left if short else settings.solver_order
        if left == 1 and last_is_first_order:
            limit = 1
        orders.append(min(settings.solver_order, row + 1, limit))
    return tuple(orders)


def multistep_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' DPMSolverMultistepScheduler."""
    algorithm_type, solver_type = _checked_types("DPMSolverMultistepScheduler", settings)
    rounded = () if settings.training.beta_schedule == "squaredcos_cap_v2" else ("karras", "lu")
    last = settings.training.num_train_timesteps - _clipped(settings)
    full = sampled_grid(settings, step_range, last=last, rounded_schedules=rounded)
    step_range = _within(step_range, len(full.timesteps))
    grid = full.cut(step_range)
    ends_low = settings.euler_at_final or settings.final_sigmas_type == "zero"
    orders = multistep_orders(settings, step_range, last_is_first_order=ends_low)
    solver = Multistep(grid.levels, orders, algorithm_type, solver_type)
    return SolverSchedule(grid.timesteps, grid.levels[:-1], solver)


def _within(step_range: StepRange, steps: int) -> StepRange:
    """The steps to run of a schedule that is shorter than asked for: "trailing" with lambda_min_clipped."""
    if step_range.begin >= steps:
        raise ParameterError(
            "the schedule has no step at which to begin",
            received=f"{steps} steps with lambda_min_clipped, beginning at {step_range.begin}",
            expected="a step within the schedule",
            hint="raise the strength, or take another timestep_spacing",
        )
    return replace(step_range, steps=steps, end=min(step_range.end, steps))


def singlestep_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' DPMSolverSinglestepScheduler."""
    algorithm_type, solver_type = _checked_types("DPMSolverSinglestepScheduler", settings)
    last = settings.training.num_train_timesteps - _clipped(settings)
    grid = sampled_grid(settings, step_range, last=last).cut(step_range)
    orders = _singlestep_orders(settings, step_range)
    solver = Singlestep(grid.levels, orders, settings.solver_order, algorithm_type, solver_type)
    return SolverSchedule(grid.timesteps, grid.levels[:-1], solver)


def _singlestep_orders(settings: Settings, step_range: StepRange) -> tuple[int, ...]:
    """Groups of rows of rising order; a group whose first rows are not run has less order."""
    largest, steps = settings.solver_order, step_range.steps
    orders = [1 + step % largest for step in range(steps)]
    if settings.final_sigmas_type == "zero" or (settings.lower_order_final and steps % largest == 0):
        orders[-1] = 1
    return tuple(min(order, row + 1) for row, order in enumerate(orders[step_range.begin : step_range.end]))


def _checked_types(class_name: str, settings: Settings) -> tuple[str, str]:
    """The algorithm and solver types; those of other schedulers become the default, as in diffusers."""
    algorithm_type = "dpmsolver++" if settings.algorithm_type == "deis" else settings.algorithm_type
    solver_type = settings.solver_type if settings.solver_type in ("midpoint", "heun") else "midpoint"
    if not algorithm_type.endswith("++") and settings.final_sigmas_type == "zero":
        raise SchedulerError(
            f"{class_name} with algorithm_type {algorithm_type!r} cannot step to a clean image",
            received={"algorithm_type": algorithm_type, "final_sigmas_type": "zero"},
            expected='final_sigmas_type "sigma_min", or algorithm_type "dpmsolver++" or "sde-dpmsolver++"',
        )
    if algorithm_type == "sde-dpmsolver" and settings.solver_order == 3:
        raise SchedulerError(
            f"{class_name} has no third order for algorithm_type {algorithm_type!r}",
            received={"algorithm_type": algorithm_type, "solver_order": 3},
            expected="solver_order 1 or 2",
        )
    return algorithm_type, solver_type


def _clipped(settings: Settings) -> int:
    """How many of the noisiest training timesteps lambda_min_clipped leaves out."""
    table = alphas_cumprod(settings.training)[::-1]
    with np.errstate(divide="ignore"):
        half_log_snrs = 0.5 * (np.log(table) - np.log1p(-table))
    return int(np.searchsorted(half_log_snrs, settings.lambda_min_clipped))
