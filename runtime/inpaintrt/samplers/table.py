"""A sampler as a table: one matrix per evaluation of the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import ParameterError
from inpaintrt.samplers.prediction import denoised_weights
from inpaintrt.samplers.solver import FloatArray, History, Level, Plan

__all__ = ["STATE_TENSORS", "Init", "Table", "compile_plan", "join"]

STATE_TENSORS = 6
GUIDED = STATE_TENSORS
NOISE = STATE_TENSORS + 1


@dataclass(frozen=True)
class Init:
    """What the first state holds, in variance-preserving scale.

    The first state is signal * image_latents + noise * first_noise, or latents * passed_latents when a
    caller hands latents in, which diffusers scales so whatever the strength.

    Args:
        signal: Factor of the image's latents; 0 at strength 1.
        noise: Factor of the first noise.
        latents: Factor of latents that a caller hands in.
    """

    signal: float
    noise: float
    latents: float


@dataclass(frozen=True, eq=False)
class Table:
    """A sampler, ready to run: state' = update[row] @ (state, guided, noise).

    state[0] is x, with x = alpha * x0 + sigma * eps and alpha^2 + sigma^2 = 1, as the UNet wants it; after
    the last row it is what diffusers hands to the VAE. state[STATE_TENSORS - 1] is the denoised estimate of
    the row that ran last. The others belong to the sampler; before the first row they may hold anything
    finite.

    Args:
        name: What was asked for.
        timesteps: What the UNet is told, float32 [rows].
        update: Matrices, float64 [rows, STATE_TENSORS, STATE_TENSORS + 2]; the columns are the state
            tensors, the UNet's output after guidance, and unit Gaussian noise.
        uses_noise: Whether a row needs noise, bool [rows].
        init: What the first state holds.
        anchor: float64 [rows, 2]: the factors of an image's latents and of the first noise that give the
            image as noisy as x is after a row, which is what inpainting without a mask in the UNet's input
            keeps; the last row is (1, 0). diffusers: `scheduler.add_noise(image_latents, noise, timesteps[i
            + 1])`.
    """

    name: str
    timesteps: NDArray[np.float32]
    update: FloatArray
    uses_noise: NDArray[np.bool_]
    init: Init
    anchor: FloatArray

    def __post_init__(self) -> None:
        for array in (self.timesteps, self.update, self.uses_noise, self.anchor):
            array.setflags(write=False)

    @cached_property
    def gated_update(self) -> NDArray[np.float32]:
        """The matrices with the anchor, float32 [rows, STATE_TENSORS + 1, STATE_TENSORS + 4].

        The columns are those of `update`, the image's latents and the first noise; the last row is the
        anchor.
        """
        gated = np.zeros((self.rows, STATE_TENSORS + 1, STATE_TENSORS + 4), np.float32)
        gated[:, :STATE_TENSORS, : STATE_TENSORS + 2] = self.update
        gated[:, STATE_TENSORS, STATE_TENSORS + 2 :] = self.anchor
        gated.setflags(write=False)
        return gated

    @property
    def rows(self) -> int:
        """Number of evaluations of the UNet."""
        return len(self.timesteps)


def compile_plan(
    name: str, plan: Plan, prediction_type: str, init: Init, landing: Level | None = None
) -> Table:
    """Call a solver with basis vectors in place of latents; what comes back are the rows of the matrices.

    Args:
        name: Name of the table.
        plan: The solver and its rows.
        prediction_type: What the UNet predicts.
        init: What the first state holds.
        landing: Level at which the last row arrives; None for the finished image.

    Returns:
        The table.

    Raises:
        SchedulerError: The UNet predicts noise where x holds nothing else.
        ParameterError: A step of the schedule is empty, so that the solver divides by zero.
    """
    update = np.zeros((len(plan.levels), STATE_TENSORS, STATE_TENSORS + 2))
    basis = np.eye(STATE_TENSORS + 2)
    history: History = ()
    for i, level in enumerate(plan.levels):
        of_x, of_output = denoised_weights(prediction_type, level)
        denoised = of_x * basis[0] + of_output * basis[GUIDED]
        x_next, history = _checked_step(plan, i, basis, len(history), denoised)
        update[i, 0] = x_next
        update[i, STATE_TENSORS - 1] = denoised
        for slot, tensor in enumerate(history, start=1):
            update[i, slot] = tensor
    uses_noise = np.any(update[:, :, NOISE] != 0.0, axis=1)
    anchor = _anchor(plan, Level(1.0, 0.0) if landing is None else landing)
    return Table(name, plan.timesteps.astype(np.float32), update, uses_noise, init, anchor)


def _anchor(plan: Plan, last: Level) -> FloatArray:
    nexts = [(level.alpha, level.sigma) for level in (*plan.levels[1:], last)]
    return np.array(nexts if plan.anchors is None else [*plan.anchors[:-1], nexts[-1]])


def _checked_step(
    plan: Plan, i: int, basis: FloatArray, known: int, denoised: FloatArray
) -> tuple[FloatArray, History]:
    try:
        with np.errstate(all="ignore"):
            x_next, history = plan.solver.step(
                i, basis[0], tuple(basis[1 : 1 + known]), denoised, basis[NOISE]
            )
    except (ArithmeticError, np.linalg.LinAlgError):
        raise _empty_step(plan, i) from None
    if not all(np.isfinite(tensor).all() for tensor in (x_next, *history)):
        raise _empty_step(plan, i)
    return x_next, history


def _empty_step(plan: Plan, i: int) -> ParameterError:
    return ParameterError(
        f"row {i} of {len(plan.levels)} has no finite step: the noise does not fall as the sampler needs",
        received=plan.timesteps[max(i - 1, 0) : i + 2].tolist(),
        expected="timesteps with different amounts of noise, and a last one that the sampler can step from",
        hint="take fewer steps, another timestep_spacing, or another final_sigmas_type",
    )


def join(name: str, tables: Sequence[Table]) -> Table:
    """Run tables one after the other; each begins without history on the x that the one before left.

    Args:
        name: Name of the joined table.
        tables: At least one; every one but the first begins at the level at which the one before ends.

    Returns:
        The joined table, with the first one's init.
    """
    return Table(
        name,
        np.concatenate([table.timesteps for table in tables]),
        np.concatenate([table.update for table in tables]),
        np.concatenate([table.uses_noise for table in tables]),
        tables[0].init,
        np.concatenate([table.anchor for table in tables]),
    )
