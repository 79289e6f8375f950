"""Training schedules, timesteps and sigma schedules, with the numbers that diffusers gets.

Where diffusers stores a table in float32, the table here is rounded to float32, too, and then used in
float64: close to a finished image 1 - alphas_cumprod is so small that its rounding is visible in the
timesteps of a sigma schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import ParameterError
from inpaintrt.samplers.beta_distribution import beta_quantile
from inpaintrt.samplers.solver import FloatArray, NoiseLevel, StepRange

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings, Training

__all__ = [
    "SigmaGrid",
    "alphas_cumprod",
    "interpolated_grid",
    "sampled_grid",
    "spaced_timesteps",
    "training_sigmas",
]

# What the sigma-based schedulers of diffusers put for a terminal alphas_cumprod of zero, so that sigma
# stays finite.
ALMOST_ZERO = 2.0**-24
KARRAS_RHO = 7.0
BETA_SHAPE = 0.6

Float32Array = NDArray[np.float32]


@lru_cache(maxsize=32)
def alphas_cumprod(training: Training) -> FloatArray:
    """Squared share of the image at every training timestep.

    Args:
        training: The noise schedule that the UNet was trained with.

    Returns:
        Read-only [num_train_timesteps], falling from nearly 1 to nearly 0 (to 0 with rescale_betas_zero_snr).
    """
    betas = _betas(training)
    if training.rescale_betas_zero_snr:
        betas = _zero_terminal_snr(betas)
    return _read_only(_cumulative_product(np.float32(1.0) - betas).astype(np.float64))


@lru_cache(maxsize=32)
def training_sigmas(training: Training) -> Float32Array:
    """Noise to signal ratio at every training timestep.

    Args:
        training: The noise schedule that the UNet was trained with.

    Returns:
        Read-only float32 [num_train_timesteps], rising.
    """
    alphas = alphas_cumprod(training).astype(np.float32)
    if training.rescale_betas_zero_snr:
        alphas[-1] = ALMOST_ZERO
    sigmas: Float32Array = np.sqrt((np.float32(1.0) - alphas) / alphas)
    sigmas.setflags(write=False)
    return sigmas


def _read_only(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array


def _betas(training: Training) -> Float32Array:
    if training.trained_betas is not None:
        return np.array(training.trained_betas, dtype=np.float32)
    count = training.num_train_timesteps
    if training.beta_schedule == "squaredcos_cap_v2":
        return _cosine_betas(count)
    if training.beta_schedule == "scaled_linear":
        root = _linspace_float32(training.beta_start**0.5, training.beta_end**0.5, count)
        return root * root
    return _linspace_float32(training.beta_start, training.beta_end, count)


def _linspace_float32(start: float, end: float, count: int) -> Float32Array:
    """torch.linspace: float32 throughout, counted from the nearer end."""
    first, last = np.float32(start), np.float32(end)
    step = (last - first) / np.float32(max(count - 1, 1))
    index = np.arange(count, dtype=np.float32)
    upwards = first + step * index
    downwards = last - step * (np.float32(count - 1) - index)
    return np.where(np.arange(count) < count // 2, upwards, downwards).astype(np.float32)


def _cosine_betas(count: int, maximum: float = 0.999) -> Float32Array:
    """Squared cosine schedule (arXiv:2102.09672, equation 17)."""
    time = np.arange(count + 1) / count
    alpha_bar = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    betas: Float32Array = np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], maximum).astype(np.float32)
    return betas


def _cumulative_product(alphas: Float32Array) -> Float32Array:
    """torch.cumprod of float32: accumulated in float64, every element rounded."""
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


def _zero_terminal_snr(betas: Float32Array) -> Float32Array:
    """Shift and scale so that the last timestep holds no image (arXiv:2305.08891, algorithm 1)."""
    root = np.sqrt(_cumulative_product(np.float32(1.0) - betas))
    first, last = root[0], root[-1]
    root = (root - last) * (first / (first - last))
    squared = np.square(root)
    alphas = np.concatenate([squared[:1], squared[1:] / squared[:-1]])
    return (np.float32(1.0) - alphas).astype(np.float32)


def spaced_timesteps(settings: Settings, step_range: StepRange, *, points: int, last: int) -> FloatArray:
    """Timesteps of a schedule, from noise to image (arXiv:2305.08891, table 2).

    For some numbers of steps (61 of 1000, for one) diffusers' "trailing" adds a timestep of -1, which would
    undo the image; here it is left out.

    Args:
        settings: Spacing, offset and number of training timesteps.
        step_range: The number of steps, or the timesteps that a caller gives, which are returned as they are.
        points: Number of points that "linspace" and "leading" divide the range into: steps, or one more.
        last: One above the largest timestep.

    Returns:
        [steps], falling; fractions for "linspace".
    """
    steps, custom = step_range.steps, step_range.custom
    if custom is not None and custom.timesteps is not None:
        return np.array(custom.timesteps)
    if settings.timestep_spacing == "trailing":
        stride = settings.training.num_train_timesteps / steps
        return (np.arange(last, 0, -stride).round() - 1.0)[:steps]
    if settings.timestep_spacing == "leading":
        ascending = np.arange(points, dtype=np.float64) * (last // points) + settings.steps_offset
    else:
        ascending = np.linspace(0.0, last - 1.0, points, dtype=np.float64)
    return ascending[::-1][:steps]


@dataclass(frozen=True)
class SigmaGrid:
    """Timesteps with the noise to signal ratio at each of them.

    Args:
        timesteps: [rows].
        sigmas: [rows + 1], rounded to float32; the last is where the last row arrives.
    """

    timesteps: FloatArray
    sigmas: FloatArray

    def cut(self, step_range: StepRange) -> SigmaGrid:
        """The rows of a step_range, arriving at its final_level."""
        sigmas = self.sigmas[step_range.begin : step_range.end + 1].copy()
        if step_range.final_level is not None:
            sigmas[-1] = step_range.final_level.ratio
        return SigmaGrid(self.timesteps[step_range.begin : step_range.end], sigmas)

    @property
    def levels(self) -> tuple[NoiseLevel, ...]:
        """Level of every sigma."""
        return tuple(NoiseLevel.from_ratio(ratio) for ratio in self.sigmas.tolist())


def interpolated_grid(settings: Settings, step_range: StepRange, *, round_karras: bool = False) -> SigmaGrid:
    """Grid of the schedulers that follow k-diffusion: timesteps may be fractions, sigmas keep their range.

    Args:
        settings: Spacing, sigma schedule and training schedule.
        step_range: The number of steps, or timesteps or sigmas that a caller gives.
        round_karras: Whether the timesteps of the Karras schedule are rounded (the KDPM2 family).

    Returns:
        The grid; its last sigma is 0, or the smallest of training with final_sigmas_type "sigma_min".
    """
    train = training_sigmas(settings.training)
    steps, custom = step_range.steps, step_range.custom
    if custom is not None and custom.sigmas is not None:
        given = np.array(custom.sigmas, dtype=np.float32).astype(np.float64)
        return SigmaGrid(timesteps_of(given[:-1], train), given)
    spaced = spaced_timesteps(settings, step_range, points=steps, last=len(train))
    timesteps = spaced.astype(np.float32).astype(np.float64)
    sigmas = np.interp(timesteps, np.arange(len(train)), train)
    if settings.sigma_schedule:
        sigmas = _scheduled_sigmas(settings, float(sigmas[-1]), float(sigmas[0]), steps)
        timesteps = timesteps_of(sigmas, train)
        if round_karras and settings.sigma_schedule == "karras":
            timesteps = timesteps.round()
    return _finished(timesteps, sigmas, float(train[0]) if settings.final_sigmas_type == "sigma_min" else 0.0)


def sampled_grid(
    settings: Settings,
    step_range: StepRange,
    *,
    last: int,
    rounded_schedules: tuple[str, ...] = ("karras",),
    repeat_last: bool = False,
) -> SigmaGrid:
    """Grid of the DPM-Solver, DEIS and UniPC schedulers: integer timesteps, sigmas that span all of training.

    Args:
        settings: Spacing, sigma schedule and training schedule.
        step_range: The number of steps, or timesteps or sigmas that a caller gives.
        last: One above the largest timestep.
        rounded_schedules: Sigma schedules whose timesteps are rounded; those of the others are cut off.
        repeat_last: Whether "sigma_min" means the last sigma of the sigma schedule again (DEIS and UniPC).

    Returns:
        The grid; its last sigma is 0, or the smallest of training with final_sigmas_type "sigma_min".
    """
    train = training_sigmas(settings.training)
    final = float(train[0]) if settings.final_sigmas_type == "sigma_min" else 0.0
    steps = step_range.steps
    if not settings.sigma_schedule:
        timesteps = spaced_timesteps(settings, step_range, points=steps + 1, last=last).round()
        return _finished(timesteps, np.interp(timesteps, np.arange(len(train)), train), final)
    sigmas = _scheduled_sigmas(settings, float(train[0]), float(train[-1]), steps)
    timesteps = timesteps_of(sigmas, train)
    if settings.sigma_schedule in rounded_schedules:
        timesteps = timesteps.round()
    if repeat_last and final > 0.0:
        final = float(sigmas[-1])
    return _finished(np.trunc(timesteps), sigmas, final)


def _finished(timesteps: FloatArray, sigmas: FloatArray, final: float) -> SigmaGrid:
    rounded = np.append(sigmas, final).astype(np.float32).astype(np.float64)
    return SigmaGrid(timesteps.astype(np.float64), rounded)


def _scheduled_sigmas(settings: Settings, smallest: float, largest: float, steps: int) -> FloatArray:
    low = smallest if settings.sigma_min is None else settings.sigma_min
    high = largest if settings.sigma_max is None else settings.sigma_max
    if settings.sigma_schedule == "karras":
        return _karras(low, high, steps)
    if settings.sigma_schedule == "beta":
        return low + _beta_fractions(steps) * (high - low)
    return np.exp(np.linspace(math.log(high), math.log(low), steps))


@lru_cache(maxsize=32)
def _beta_fractions(steps: int) -> FloatArray:
    """Even probabilities of the beta distribution, from 1 to 0 (arXiv:2407.12173)."""
    return _read_only(beta_quantile(1.0 - np.linspace(0.0, 1.0, steps), BETA_SHAPE, BETA_SHAPE))


def _karras(low: float, high: float, steps: int) -> FloatArray:
    """Even steps of the seventh root (arXiv:2206.00364, equation 5)."""
    first, last = high ** (1.0 / KARRAS_RHO), low ** (1.0 / KARRAS_RHO)
    sigmas: FloatArray = (first + np.linspace(0.0, 1.0, steps) * (last - first)) ** KARRAS_RHO
    return sigmas


def timesteps_of(sigmas: FloatArray, train: Float32Array) -> FloatArray:
    """Timestep at which training has each sigma, by interpolation of log sigma."""
    table = np.log(train)
    wanted = np.log(np.maximum(sigmas, 1e-10))
    low = np.clip(np.searchsorted(table, wanted, side="right") - 1, 0, len(table) - 2)
    weight = np.clip((table[low] - wanted) / (table[low] - table[low + 1]), 0.0, 1.0)
    return np.asarray((1.0 - weight) * low + weight * (low + 1), dtype=np.float64)


def check_range(timesteps: FloatArray, training: Training) -> None:
    """Raise ParameterError where a timestep is not one of training's."""
    if timesteps.max() >= training.num_train_timesteps:
        raise ParameterError(
            "the schedule begins at a timestep that training does not have",
            received=int(timesteps.max()),
            expected=f"at most {training.num_train_timesteps - 1}",
            hint="take fewer steps, a smaller steps_offset, or another timestep_spacing",
        )
