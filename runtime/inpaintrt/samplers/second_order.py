"""Heun, KDPM2 and KDPM2 ancestral: two evaluations of the UNet, hence two rows, per step.

The last step has one row, since it arrives at the clean image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.samplers.euler import ancestral_split, first_noise
from inpaintrt.samplers.schedule import SigmaGrid, interpolated_grid, timesteps_of, training_sigmas
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, Solver, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["heun_schedule", "kdpm2_ancestral_schedule", "kdpm2_schedule"]


@dataclass(frozen=True)
class Stage:
    """One row of a method with two stages; sigmas are noise to signal ratios.

    Args:
        start: sigma where the step begins.
        here: sigma at which the UNet is evaluated.
        target: sigma that the derivative is followed to.
        arrival: sigma of the next row: target, and the fresh noise.
        up: Fresh noise that is added at the target.
        finishes: Whether this is the second row of its step.
    """

    start: float
    here: float
    target: float
    arrival: float
    up: float
    finishes: bool

    def enter(self, x: FloatArray) -> FloatArray:
        """The latent in variance-exploding scale."""
        return x / NoiseLevel.from_ratio(self.here).alpha

    def leave(self, z: FloatArray, derivative: FloatArray) -> FloatArray:
        """Follow the derivative from the beginning of the step; the next row's latent without fresh noise."""
        return NoiseLevel.from_ratio(self.arrival).alpha * (z + (self.target - self.start) * derivative)

    @property
    def fresh_noise(self) -> float:
        """Factor of unit noise in the next row's latent."""
        return NoiseLevel.from_ratio(self.arrival).alpha * self.up


@dataclass(frozen=True)
class Heun:
    """Heun's method (arXiv:2206.00364, algorithm 1; diffusers HeunDiscreteScheduler).

    Args:
        stages: One per row.
    """

    stages: tuple[Stage, ...]

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        stage = self.stages[i]
        z = stage.enter(x)
        derivative = (z - denoised) / stage.here
        if stage.finishes:
            z, first = history
            derivative = (derivative + first) / 2.0
        return stage.leave(z, derivative), () if stage.finishes else (z, derivative)


@dataclass(frozen=True)
class Midpoint:
    """DPM-Solver-2 of k-diffusion (diffusers KDPM2DiscreteScheduler and KDPM2AncestralDiscreteScheduler).

    Args:
        stages: One per row.
    """

    stages: tuple[Stage, ...]

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        stage = self.stages[i]
        z = stage.enter(x)
        derivative = (z - denoised) / stage.here
        if stage.finishes:
            (z,) = history
        x_next = stage.leave(z, derivative) + stage.fresh_noise * noise
        return x_next, () if stage.finishes else (z,)


def heun_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' HeunDiscreteScheduler."""
    full = interpolated_grid(settings, step_range)
    grid = full.cut(step_range)
    steps = [_step(start, stop, stop, stop, 0.0) for start, stop in pairwise(grid.sigmas.tolist())]
    arrival = timesteps_of(grid.sigmas[-1:], training_sigmas(settings.training))
    middles = np.concatenate([grid.timesteps[1:], arrival])
    stages, timesteps = _rows(steps, grid.timesteps, middles)
    return _schedule(timesteps, steps, Heun(stages), first_noise(settings, full, step_range.begin))


def kdpm2_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' KDPM2DiscreteScheduler."""
    full = interpolated_grid(settings, step_range, round_karras=True)
    grid = full.cut(step_range)
    steps = [
        _step(start, math.sqrt(start * stop), stop, stop, 0.0)
        for start, stop in pairwise(grid.sigmas.tolist())
    ]
    return _midpoint_schedule(settings, grid, steps, first_noise(settings, full, step_range.begin))


def kdpm2_ancestral_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' KDPM2AncestralDiscreteScheduler."""
    full = interpolated_grid(settings, step_range, round_karras=True)
    grid = full.cut(step_range)
    steps = []
    for start, stop in pairwise(grid.sigmas.tolist()):
        down, up = ancestral_split(start, stop)
        # Half way to down, in log sigma, is stop itself.
        steps.append(_step(start, stop, down, stop, up))
    return _midpoint_schedule(settings, grid, steps, first_noise(settings, full, step_range.begin))


def _step(start: float, middle: float, target: float, arrival: float, up: float) -> tuple[Stage, ...]:
    """The two rows of a step, or the one of a step to the clean image."""
    first = Stage(start, start, middle, middle, 0.0, finishes=False)
    return (first, Stage(start, middle, target, arrival, up, finishes=True)) if middle > 0.0 else (first,)


def _midpoint_schedule(
    settings: Settings, grid: SigmaGrid, steps: list[tuple[Stage, ...]], noise: float
) -> SolverSchedule:
    middles = timesteps_of(np.array([step[-1].here for step in steps]), training_sigmas(settings.training))
    stages, timesteps = _rows(steps, grid.timesteps, middles)
    return _schedule(timesteps, steps, Midpoint(stages), noise)


def _rows(
    steps: list[tuple[Stage, ...]], firsts: FloatArray, seconds: FloatArray
) -> tuple[tuple[Stage, ...], FloatArray]:
    stages = tuple(stage for step in steps for stage in step)
    pairs = zip(firsts.tolist(), seconds.tolist(), strict=True)
    timesteps = [timestep for step, pair in zip(steps, pairs, strict=True) for timestep in pair[: len(step)]]
    return stages, np.array(timesteps)


def _schedule(
    timesteps: FloatArray, steps: list[tuple[Stage, ...]], solver: Solver, noise: float
) -> SolverSchedule:
    levels = tuple(NoiseLevel.from_ratio(stage.here) for step in steps for stage in step)
    step_of_row = tuple(number for number, step in enumerate(steps) for _ in step)
    anchors = tuple(_anchor(stage, step) for step in steps for stage in step)
    return SolverSchedule(timesteps, levels, solver, noise, step_of_row, anchors)


def _anchor(stage: Stage, step: tuple[Stage, ...]) -> tuple[float, float]:
    """Where the step ends: between KDPM2's two rows diffusers' noised original has less noise than x."""
    alpha = NoiseLevel.from_ratio(stage.arrival).alpha
    return alpha, alpha * step[-1].arrival
