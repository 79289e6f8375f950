"""What a solver is, what a row of a schedule is, and what the compiler takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CustomSchedule", "FloatArray", "History", "NoiseLevel", "Solver", "SolverSchedule", "StepRange"]

FloatArray: TypeAlias = NDArray[np.float64]
History: TypeAlias = tuple[FloatArray, ...]


@dataclass(frozen=True)
class NoiseLevel:
    """How much of the image and how much noise a latent holds: x = alpha * x0 + sigma * eps.

    Args:
        alpha: Share of the image, 0 to 1.
        sigma: Share of unit Gaussian noise, with alpha^2 + sigma^2 = 1.
    """

    alpha: float
    sigma: float

    @classmethod
    def from_ratio(cls, ratio: float) -> NoiseLevel:
        """The level with sigma / alpha = ratio, which diffusers calls sigma in its sigma-based schedulers."""
        alpha = 1.0 / math.sqrt(ratio * ratio + 1.0)
        return cls(alpha, ratio * alpha)

    @classmethod
    def from_alphas_cumprod(cls, value: float) -> NoiseLevel:
        """The level with alpha^2 = value, which diffusers calls alphas_cumprod."""
        return cls(math.sqrt(value), math.sqrt(1.0 - value))

    @property
    def ratio(self) -> float:
        """Noise to signal, sigma / alpha; infinite for pure noise."""
        return self.sigma / self.alpha if self.alpha > 0.0 else math.inf


class Solver(Protocol):
    """One step of a sampler, as plain maths over arrays of any shape; it keeps nothing between calls."""

    def step(
        self, i: int, x: FloatArray, history: History, denoised: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, History]:
        """Run row i.

        Args:
            i: Row, counted from the first row that is run.
            x: Latent at the level of row i, in variance-preserving scale.
            history: What row i - 1 returned; empty for row 0. At most STATE_TENSORS - 2 arrays.
            denoised: Estimate of the finished latent, made of x and the UNet's output.
            noise: Unit Gaussian.

        Returns:
            The latent for row i + 1, and the history for it.
        """
        ...


@dataclass(frozen=True)
class CustomSchedule:
    """Timesteps or sigmas in place of a scheduler's own; one of the two.

    Args:
        timesteps: Timestep of every step, [steps].
        sigmas: Noise to signal ratio at every step, and the one that the last step arrives at, [steps + 1].
    """

    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.sigmas) - 1 if self.sigmas is not None else len(self.timesteps or ())


@dataclass(frozen=True)
class StepRange:
    """Which steps of a schedule are run.

    Args:
        steps: Number of steps of the full schedule.
        begin: First step that is run.
        end: Step before which to stop.
        final_level: Level at which the last row must arrive; None for the schedule's own next level.
        joined: Whether another sampler ran the steps before begin.
        custom: Timesteps or sigmas of the full schedule, where the caller gives them.
    """

    steps: int
    begin: int
    end: int
    final_level: NoiseLevel | None = None
    joined: bool = False
    custom: CustomSchedule | None = None


@dataclass(frozen=True)
class SolverSchedule:
    """A solver with the rows that it runs, ready to be compiled.

    Args:
        timesteps: Timestep input of the UNet, [rows].
        levels: Level of x when the UNet sees it, one per row.
        solver: The solver.
        first_noise: Factor of pure first noise, and of latents that a caller hands in.
        step_of_row: Step that a row belongs to, from 0, one per row; None where every step has one row.
        anchors: Factors of the image's latents and of the first noise in the noised original that belongs
            to the latent after a row, one pair per row; None where the original is at the level of the next
            row, as it is for every sampler but KDPM2.
    """

    timesteps: FloatArray
    levels: tuple[NoiseLevel, ...]
    solver: Solver
    first_noise: float = 1.0
    step_of_row: tuple[int, ...] | None = None
    anchors: tuple[tuple[float, float], ...] | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """Step that every row belongs to, from 0, [rows]."""
        return self.step_of_row if self.step_of_row is not None else tuple(range(len(self.levels)))

    @property
    def last_step_level(self) -> NoiseLevel:
        """Level at which the last step begins."""
        return self.levels[self.steps.index(self.steps[-1])]
