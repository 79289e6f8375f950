"""LCM and TCD: samplers for UNets that were distilled to jump to the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ParameterError
from inpaintrt.samplers.ddim import levels_of, transfer, with_final_level
from inpaintrt.samplers.schedule import alphas_cumprod
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["lcm_schedule", "tcd_schedule"]

SIGMA_DATA = 0.5


@dataclass(frozen=True)
class LCM:
    """Multistep consistency sampling (arXiv:2310.04378; diffusers LCMScheduler).

    Args:
        stops: Level at which every row arrives.
        skips: Share of x in the consistency function, one per row.
        outs: Share of the denoised estimate in it, one per row.
        renoises: Whether a row adds fresh noise; the schedule's last one does not.
    """

    stops: tuple[NoiseLevel, ...]
    skips: tuple[float, ...]
    outs: tuple[float, ...]
    renoises: tuple[bool, ...]

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        consistent = self.outs[i] * denoised + self.skips[i] * x
        if not self.renoises[i]:
            return consistent, ()
        return self.stops[i].alpha * consistent + self.stops[i].sigma * noise, ()


@dataclass(frozen=True)
class TCD:
    """Strategic stochastic sampling (arXiv:2402.19159; diffusers TCDScheduler).

    Args:
        starts: Level of every row.
        middles: Level that a row steps to deterministically.
        stops: Level at which every row arrives by adding noise; None where it stays in the middle.
    """

    starts: tuple[NoiseLevel, ...]
    middles: tuple[NoiseLevel, ...]
    stops: tuple[NoiseLevel | None, ...]

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        middle, stop = self.middles[i], self.stops[i]
        x_middle = transfer(x, denoised, self.starts[i], middle)
        if stop is None:
            return x_middle, ()
        kept = stop.alpha / middle.alpha
        return kept * x_middle + math.sqrt(max(1.0 - kept**2, 0.0)) * noise, ()


def lcm_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' LCMScheduler."""
    full = _distilled_timesteps(settings, step_range)
    timesteps = full[step_range.begin : step_range.end]
    starts = levels_of(settings, full[step_range.begin :])
    rows = len(timesteps)
    stops = with_final_level([*starts[1:], starts[-1]][:rows], step_range)
    scaled = settings.timestep_scaling * timesteps
    skips = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    outs = scaled / np.sqrt(scaled**2 + SIGMA_DATA**2)
    renoises = tuple(step != step_range.steps - 1 for step in range(step_range.begin, step_range.end))
    solver = LCM(stops, tuple(skips.tolist()), tuple(outs.tolist()), renoises)
    return SolverSchedule(timesteps, starts[:rows], solver)


def tcd_schedule(settings: Settings, step_range: StepRange, gamma: float) -> SolverSchedule:
    """Rows of diffusers' TCDScheduler; its eta is the paper's gamma."""
    full = _distilled_timesteps(settings, step_range)
    timesteps = full[step_range.begin : step_range.end]
    following = np.append(full, 0.0)[step_range.begin + 1 : step_range.end + 1]
    if step_range.final_level is not None:
        following[-1] = _timestep_within(settings, step_range.final_level)
    middles = levels_of(settings, np.floor((1.0 - gamma) * following))
    stops: list[NoiseLevel | None] = list(with_final_level(levels_of(settings, following), step_range))
    if step_range.end == step_range.steps or (gamma == 0.0 and step_range.final_level is None):
        stops[-1] = None
    if gamma == 0.0:
        stops[:-1] = [None] * (len(stops) - 1)
    starts = levels_of(settings, timesteps)
    return SolverSchedule(timesteps, starts, TCD(starts, middles, tuple(stops)))


def _timestep_within(settings: Settings, level: NoiseLevel) -> float:
    """The noisiest training timestep that has no more noise than level."""
    table = alphas_cumprod(settings.training)
    return max(float(np.count_nonzero(table >= level.alpha**2)) - 1.0, 0.0)


def _distilled_timesteps(settings: Settings, step_range: StepRange) -> FloatArray:
    """An even choice among the timesteps of the distillation, or those that a caller gives, [steps]."""
    steps, custom = step_range.steps, step_range.custom
    if custom is not None and custom.timesteps is not None:
        return np.array(custom.timesteps)
    original = settings.original_inference_steps
    if steps > original:
        raise ParameterError(
            "a distilled sampler takes no more steps than its distillation had",
            received=steps,
            expected=f"at most original_inference_steps = {original}",
            parameter="num_inference_steps",
        )
    stride = settings.training.num_train_timesteps // original
    descending: FloatArray = (np.arange(1.0, original + 1.0) * stride - 1.0)[::-1]
    chosen = np.floor(np.linspace(0, original, num=steps, endpoint=False)).astype(np.int64)
    return descending[chosen]
