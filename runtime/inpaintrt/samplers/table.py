"""A sampler as a table: one matrix per evaluation of the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import ParameterError
from inpaintrt.samplers.prediction import denoised_weights
from inpaintrt.samplers.solver import FloatArray, History, NoiseLevel, SolverSchedule

__all__ = ["STATE_TENSORS", "Init", "Table", "compile_schedule", "join", "shorten"]

STATE_TENSORS = 6
GUIDED = STATE_TENSORS
NOISE = STATE_TENSORS + 1


@dataclass(frozen=True)
class Init:
    """What the first state holds, in variance-preserving scale.

    The first state is signal * image_latents + noise * first_noise, or latents * passed_latents when a
    caller hands latents in, which diffusers scales so whatever the strength.

    Args:
        signal: Factor of the image's latents; 0 where the first state is pure noise.
        noise: Factor of the first noise.
        latents: Factor of latents that a caller hands in.
        noisy: Factor of latents that are noisy already, in the scale of diffusers' sampler.
    """

    signal: float
    noise: float
    latents: float
    noisy: float = 1.0


@dataclass(frozen=True, eq=False)
class Table:
    """A sampler, ready to run: state' = update[row] @ (state, guided, noise).

    A UNet that does not see the mask inpaints through a gate [h, w], 1 where the image is painted: after a
    row, x' = gate * state'[0] + (1 - gate) * (anchor[row] @ (image_latents, first_noise)). Only x is gated,
    never the rest of the state (diffusers StableDiffusionInpaintPipeline with unet.in_channels == 4).

    state[0] is x, with x = alpha * x0 + sigma * eps and alpha^2 + sigma^2 = 1, as the UNet wants it; after
    the last row it is what diffusers hands to the VAE. state[STATE_TENSORS - 1] is the denoised estimate of
    the row that ran last. The others belong to the sampler; before the first row they may hold anything
    finite.

    Args:
        name: Name of the sampler or hybrid.
        timesteps: Timestep input of the UNet, float32 [rows].
        update: Matrices, float64 [rows, STATE_TENSORS, STATE_TENSORS + 2]; the columns are the state
            tensors, the UNet's output after guidance, and unit Gaussian noise.
        uses_noise: Whether a row needs noise, bool [rows].
        anchor: Noised original after every row, float64 [rows, 2]: the factors of the image's latents and of
            the first noise, in the scale of x; 1 and 0 after the last row (diffusers' add_noise with the
            next timestep).
        step_of_row: Step that every row belongs to, int64 [rows], counted from the first step that is run.
        init: What the first state holds.
        final_scale: What x is multiplied with after the last row, to be in the scale that diffusers leaves
            latents in; 1 but for a table that ends early, of a sampler in variance-exploding scale.
    """

    name: str
    timesteps: NDArray[np.float32]
    update: FloatArray
    uses_noise: NDArray[np.bool_]
    anchor: FloatArray
    step_of_row: NDArray[np.int64]
    init: Init
    final_scale: float = 1.0

    def __post_init__(self) -> None:
        for array in (self.timesteps, self.update, self.uses_noise, self.anchor, self.step_of_row):
            array.setflags(write=False)

    @property
    def rows(self) -> int:
        """Number of evaluations of the UNet."""
        return len(self.timesteps)

    @cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """Value of a soft mask from which on a latent pixel is free after each row.

        A soft mask says how much each pixel may change, from 0 (keep) to 1 (paint): differential diffusion
        (arXiv:2306.00950) opens the gate of a pixel earlier, the larger its value. Before step i of N, for i
        from 1, diffusers' community pipeline pipeline_stable_diffusion_xl_differential_img2img keeps the
        pixels with map > i / N, where map = 1 - mask. What is kept before step i was gated after step
        i - 1, so after step s a pixel is free where 1 - mask <= (s + 1) / N: mask >= (N - 1 - s) / N. Where
        the mask is 1 a pixel is free from the beginning; after the last row every pixel is free.

        N counts the steps that are run; that pipeline counts those that strength cut off, too, and with a
        strength below 1 never frees the darkest pixels.

        Returns:
            Read-only float32 [rows], falling from (N - 1) / N to 0; the rows of one step share its value.
        """
        count = self.step_of_row[-1] + 1
        thresholds: NDArray[np.float32] = ((count - 1 - self.step_of_row) / count).astype(np.float32)
        thresholds.setflags(write=False)
        return thresholds

    @cached_property
    def gated_update(self) -> FloatArray:
        """Matrices with the anchor as their last row.

        Returns:
            Read-only float64 [rows, STATE_TENSORS + 1, STATE_TENSORS + 4]; the columns are the state tensors,
            the UNet's output after guidance, unit Gaussian noise, the image's latents and the first noise.
        """
        gated = np.zeros((self.rows, STATE_TENSORS + 1, STATE_TENSORS + 4))
        gated[:, :STATE_TENSORS, : STATE_TENSORS + 2] = self.update
        gated[:, STATE_TENSORS, STATE_TENSORS + 2 :] = self.anchor
        gated.setflags(write=False)
        return gated


def shorten(table: Table, rows: int, final_scale: float) -> Table:
    """Only the first rows of a table; after the last of them the noised original is the image itself.

    Args:
        table: The table.
        rows: How many rows to keep.
        final_scale: See `Table`.
    """
    anchor = table.anchor[:rows].copy()
    anchor[-1] = (1.0 / final_scale, 0.0)
    return Table(
        table.name,
        table.timesteps[:rows],
        table.update[:rows],
        table.uses_noise[:rows],
        anchor,
        table.step_of_row[:rows],
        table.init,
        final_scale,
    )


def compile_schedule(
    name: str,
    schedule: SolverSchedule,
    prediction_type: str,
    init: Init,
    final_level: NoiseLevel | None = None,
) -> Table:
    """Call a solver with basis vectors in place of latents; what comes back are the rows of the matrices.

    Args:
        name: Name of the table.
        schedule: The solver and its rows.
        prediction_type: What the UNet predicts.
        init: What the first state holds.
        final_level: Level at which another sampler continues after the last row; None where the last row ends
            the schedule.

    Returns:
        The table.

    Raises:
        SchedulerError: The UNet predicts noise where x holds nothing else.
        ParameterError: A step of the schedule is empty, so that the solver divides by zero.
    """
    update = np.zeros((len(schedule.levels), STATE_TENSORS, STATE_TENSORS + 2))
    basis = np.eye(STATE_TENSORS + 2)
    known = 0
    with np.errstate(all="ignore"):
        for i, level in enumerate(schedule.levels):
            of_x, of_output = denoised_weights(prediction_type, level)
            denoised = of_x * basis[0] + of_output * basis[GUIDED]
            x_next, history = _step(schedule, i, basis, known, denoised)
            known = len(history)
            update[i, : known + 1] = (x_next, *history)
            update[i, STATE_TENSORS - 1] = denoised
            if not np.isfinite(update[i]).all():
                raise _empty_step(schedule, i)
    uses_noise = np.any(update[:, :, NOISE] != 0.0, axis=1)
    return Table(
        name,
        schedule.timesteps.astype(np.float32),
        update,
        uses_noise,
        _anchor(schedule, final_level),
        np.array(schedule.steps, dtype=np.int64),
        init,
    )


def _anchor(schedule: SolverSchedule, final_level: NoiseLevel | None) -> FloatArray:
    following = schedule.anchors or tuple((level.alpha, level.sigma) for level in schedule.levels[1:])
    last = (1.0, 0.0) if final_level is None else (final_level.alpha, final_level.sigma)
    return np.array([*following[: len(schedule.levels) - 1], last])


def _step(
    schedule: SolverSchedule, i: int, basis: FloatArray, known: int, denoised: FloatArray
) -> tuple[FloatArray, History]:
    history = tuple(basis[1 : 1 + known])
    try:
        return schedule.solver.step(i, basis[0], history, denoised, basis[NOISE])
    except (ArithmeticError, np.linalg.LinAlgError):
        raise _empty_step(schedule, i) from None


def _empty_step(schedule: SolverSchedule, i: int) -> ParameterError:
    return ParameterError(
        f"row {i} of {len(schedule.levels)} has no finite step: the noise does not fall as the sampler needs",
        received=schedule.timesteps[max(i - 1, 0) : i + 2].tolist(),
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
        np.concatenate([table.anchor for table in tables]),
        _joined_steps(tables),
        tables[0].init,
    )


def _joined_steps(tables: Sequence[Table]) -> NDArray[np.int64]:
    counts = [table.step_of_row[-1] + 1 for table in tables[:-1]]
    firsts = np.cumsum([0, *counts])
    return np.concatenate([first + table.step_of_row for first, table in zip(firsts, tables, strict=True)])
