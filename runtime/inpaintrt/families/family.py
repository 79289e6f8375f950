"""What a family of checkpoints is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from inpaintrt.bundle import Architecture, Dtype, TensorSpec
    from inpaintrt.options import Options, Task

__all__ = ["Defaults", "Family", "RowInputs", "Start", "Texts"]

Floats: TypeAlias = NDArray[np.float32]
RowInputs: TypeAlias = dict[str, NDArray[np.floating]]


class Texts(NamedTuple):
    """The prompts of one result, encoded: first those that guidance adds, the prompt itself last.

    Attributes:
        context: `[contexts, tokens, width]`.
        pooled: `[contexts, width]`, each prompt as a whole; None where the text encoders give none.
    """

    context: NDArray[np.floating]
    pooled: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Start:
    """Where the denoising of some results starts, all in the latent space; the first axis counts results.

    Attributes:
        latents: `[results, channels, h, w]`, the first state.
        first_noise: `[results, channels, h, w]`.
        image: `[results, channels, h, w]`, the scaled latents of the image; None where nothing is made of it.
        masked: `[results, channels, h, w]`, those of the masked image; None where the UNet does not see it.
        mask: `[results, 1, h, w]` in {0, 1}; 1 is repainted.
        soft_mask: `[results, 1, h, w]` in [0, 1]; None for a mask with a hard edge.
    """

    latents: Floats
    first_noise: Floats
    image: Floats | None
    masked: Floats | None
    mask: Floats
    soft_mask: Floats | None = None


class Defaults(NamedTuple):
    """What holds for a task where the caller gives nothing, as in diffusers' pipeline for it."""

    guidance_scale: float
    strength: float = 1.0


@dataclass(frozen=True)
class Family:
    """What the runtime must know of a family.

    Attributes:
        name: As the manifest has it.
        defaults: For each task.
        options: Options that only this family has.
        per_row_inputs: What its UNet is conditioned on in each row; takes the dtype of the text encoders'
            outputs.
        per_row: Their values for one result.
        residents: What each result's slot holds beside the state.
    """

    name: str
    defaults: Mapping[Task, Defaults]
    options: frozenset[str]
    per_row_inputs: Callable[[Architecture, Dtype], dict[str, TensorSpec]]
    per_row: Callable[[Architecture, Texts, Conditions], RowInputs]
    residents: Callable[[Architecture, Start], Sequence[Mapping[str, Floats]]]


class Conditions(NamedTuple):
    """What a result is conditioned on beside its prompts.

    Attributes:
        task: What is asked for.
        guidance_scale: As the caller gave it.
        size: Height and width of the run in pixels.
        options: All options of the request.
    """

    task: Task
    guidance_scale: float
    size: tuple[int, int]
    options: Options
