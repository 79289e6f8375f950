"""DDIM, DDPM and PNDM: samplers over the integer timesteps of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.samplers.prediction import raw_weights
from inpaintrt.samplers.schedule import alphas_cumprod, check_range, spaced_timesteps
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["ddim_schedule", "ddpm_schedule", "pndm_schedule", "predicted_noise", "transfer"]

CLEAN = NoiseLevel(1.0, 0.0)
# diffusers keeps DDPM's variance from vanishing, so that its logarithm exists.
SMALLEST_VARIANCE = 1e-20


def predicted_noise(x: FloatArray, denoised: FloatArray, level: NoiseLevel) -> FloatArray:
    """The noise that x holds if denoised is its image."""
    noise: FloatArray = (x - level.alpha * denoised) / level.sigma
    return noise


def transfer(x: FloatArray, denoised: FloatArray, start: NoiseLevel, stop: NoiseLevel) -> FloatArray:
    """Deterministic step from one level to another (DDIM, arXiv:2010.02502, equation 12 with sigma_t = 0)."""
    return stop.alpha * denoised + stop.sigma * predicted_noise(x, denoised, start)


@dataclass(frozen=True)
class DDIM:
    """DDIM (arXiv:2010.02502, equations 12 and 16; diffusers DDIMScheduler).

    Args:
        starts: Level of every row.
        stops: Level at which every row arrives.
        eta: 0 for deterministic steps, 1 for as much fresh noise as DDPM.
    """

    starts: tuple[NoiseLevel, ...]
    stops: tuple[NoiseLevel, ...]
    eta: float

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        start, stop = self.starts[i], self.stops[i]
        fresh = self.eta * math.sqrt(posterior_variance(start, stop))
        kept = math.sqrt(max(stop.sigma**2 - fresh**2, 0.0))
        return stop.alpha * denoised + kept * predicted_noise(x, denoised, start) + fresh * noise, ()


def posterior_variance(start: NoiseLevel, stop: NoiseLevel) -> float:
    """Variance of x at stop given x at start and the image (arXiv:2006.11239, equation 7)."""
    return (stop.sigma / start.sigma) ** 2 * (1.0 - (start.alpha / stop.alpha) ** 2)


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling (arXiv:2006.11239, equations 6 and 7; diffusers DDPMScheduler).

    Args:
        starts: Level of every row.
        stops: Level at which every row arrives.
        variances: Variance of the fresh noise of every row.
    """

    starts: tuple[NoiseLevel, ...]
    stops: tuple[NoiseLevel, ...]
    variances: tuple[float, ...]

    def step(
        self, i: int, x: FloatArray, _history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        start, stop = self.starts[i], self.stops[i]
        ratio = start.alpha / stop.alpha
        of_denoised = stop.alpha * (1.0 - ratio**2) / start.sigma**2
        of_x = ratio * (stop.sigma / start.sigma) ** 2
        return of_denoised * denoised + of_x * x + math.sqrt(self.variances[i]) * noise, ()


@dataclass(frozen=True)
class PNDM:
    """Linear multistep over what the UNet gives (PLMS, arXiv:2202.09778; diffusers PNDMScheduler).

    The average is taken over the UNet's output as it is, whatever it predicts, as diffusers does.

    Args:
        levels: Level of every row.
        starts: Level from which every row steps; row 1 repeats row 0's step.
        stops: Level at which every row arrives.
        prediction_type: What the UNet predicts.
    """

    levels: tuple[NoiseLevel, ...]
    starts: tuple[NoiseLevel, ...]
    stops: tuple[NoiseLevel, ...]
    prediction_type: str

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, _noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i (see Solver)."""
        of_x, of_denoised = raw_weights(self.prediction_type, self.levels[i])
        output = of_x * x + of_denoised * denoised
        if i == 1:
            first_x, first_output = history
            return self._arrive(i, first_x, (output + first_output) / 2.0), (first_output,)
        x_next = self._arrive(i, x, _adams_bashforth(output, history))
        return x_next, (x, output) if i == 0 else (output, *history)[:3]

    def _arrive(self, i: int, x: FloatArray, output: FloatArray) -> FloatArray:
        start = self.starts[i]
        of_x, of_denoised = raw_weights(self.prediction_type, start)
        return transfer(x, (output - of_x * x) / of_denoised, start, self.stops[i])


def _adams_bashforth(newest: FloatArray, older: History) -> FloatArray:
    outputs = (newest, *older)
    weights = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
    total: FloatArray = sum(
        (weight * output for weight, output in zip(weights[len(older)], outputs, strict=True)), 0.0 * newest
    )
    return total


def ddim_schedule(settings: Settings, step_range: StepRange, eta: float) -> SolverSchedule:
    """Rows of diffusers' DDIMScheduler."""
    timesteps = integer_timesteps(settings, step_range)[step_range.begin : step_range.end]
    starts = levels_of(settings, timesteps)
    stops = with_final_level(
        [_level_before(settings, t, step_range.steps) for t in timesteps.tolist()], step_range
    )
    return SolverSchedule(timesteps, starts, DDIM(starts, stops, eta))


def ddpm_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' DDPMScheduler; the last arrives at the clean image."""
    timesteps = integer_timesteps(settings, step_range)[step_range.begin :]
    starts = levels_of(settings, timesteps)
    rows = step_range.end - step_range.begin
    stops = with_final_level([*starts[1:], CLEAN][:rows], step_range)
    variances = tuple(
        _ddpm_variance(settings, t, start, stop)
        for t, start, stop in zip(timesteps.tolist(), starts, stops, strict=False)
    )
    return SolverSchedule(timesteps[:rows], starts[:rows], DDPM(starts[:rows], stops, variances))


def _ddpm_variance(settings: Settings, timestep: float, start: NoiseLevel, stop: NoiseLevel) -> float:
    if timestep == 0.0:
        return 0.0
    if settings.variance_type == "fixed_large":
        return 1.0 - (start.alpha / stop.alpha) ** 2
    return max(posterior_variance(start, stop), SMALLEST_VARIANCE)


def pndm_schedule(settings: Settings, step_range: StepRange, _eta: float) -> SolverSchedule:
    """Rows of diffusers' PNDMScheduler with skip_prk_steps: the second timestep runs twice.

    With strength below 1 diffusers drops rows after the doubling, so that the first two rows that are left
    are taken for the doubled ones although they are not; this is repeated here, since it decides the
    image. After another sampler the doubling happens where PNDM begins.
    """
    full = integer_timesteps(settings, step_range)[: step_range.end]
    timesteps = (
        _doubled(full[step_range.begin :]) if step_range.joined else _doubled(full)[step_range.begin :]
    )
    origins = timesteps.copy()
    origins[1:2] += settings.training.num_train_timesteps // step_range.steps
    stops = with_final_level(
        [_level_before(settings, t, step_range.steps) for t in origins.tolist()], step_range
    )
    levels = levels_of(settings, timesteps)
    solver = PNDM(levels, levels_of(settings, origins), stops, settings.prediction_type)
    step_of_row = tuple(max(row - 1, 0) for row in range(len(timesteps)))
    return SolverSchedule(timesteps, levels, solver, step_of_row=step_of_row)


def _doubled(timesteps: FloatArray) -> FloatArray:
    return np.concatenate([timesteps[:2], timesteps[1:]])


def integer_timesteps(settings: Settings, step_range: StepRange) -> FloatArray:
    """Timesteps of the samplers that look levels up in training's table, [steps]."""
    training = settings.training
    last = training.num_train_timesteps
    timesteps = spaced_timesteps(settings, step_range, points=step_range.steps, last=last).round()
    check_range(timesteps, training)
    return timesteps


def levels_of(settings: Settings, timesteps: FloatArray) -> tuple[NoiseLevel, ...]:
    """Level of training at every timestep."""
    table = alphas_cumprod(settings.training)
    return tuple(
        NoiseLevel.from_alphas_cumprod(value) for value in table[timesteps.astype(np.int64)].tolist()
    )


def level_beyond_training(settings: Settings) -> NoiseLevel:
    """Level that a step beyond timestep 0 arrives at."""
    table = alphas_cumprod(settings.training)
    return CLEAN if settings.set_alpha_to_one else NoiseLevel.from_alphas_cumprod(float(table[0]))


def _level_before(settings: Settings, timestep: float, steps: int) -> NoiseLevel:
    before = int(timestep) - settings.training.num_train_timesteps // steps
    if before < 0:
        return level_beyond_training(settings)
    return NoiseLevel.from_alphas_cumprod(float(alphas_cumprod(settings.training)[before]))


def with_final_level(stops: Sequence[NoiseLevel], step_range: StepRange) -> tuple[NoiseLevel, ...]:
    """The stops with the last one replaced by the final level of the range, if it has one."""
    return tuple(stops) if step_range.final_level is None else (*stops[:-1], step_range.final_level)
