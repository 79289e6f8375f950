"""What a denoising step takes, as data: the named tensors of the step graph, and how long each is valid.

The family of a checkpoint adds what its denoiser is conditioned on; everything that feeds a step, keeps its
state or builds its graph is derived from these specifications.
"""

from __future__ import annotations

from collections.abc import Mapping

from inpaintrt.bundle import Dtype, TensorKind, TensorSpec
from inpaintrt.samplers import STATE_TENSORS

__all__ = [
    "GATED_COLUMNS",
    "GATED_ROWS",
    "cached_feature",
    "carried",
    "named",
    "resident",
    "row_shape",
    "slot_shape",
    "step_inputs",
    "step_outputs",
]

GATED_ROWS = STATE_TENSORS + 1
"""Rows of a step's matrix: the next state, and the anchor."""
GATED_COLUMNS = STATE_TENSORS + 4
"""Columns of a step's matrix: the state, the guided prediction, noise, the image's latents, first noise."""


def step_inputs(
    latent_channels: int, condition_channels: int, per_row: Mapping[str, TensorSpec]
) -> dict[str, TensorSpec]:
    """The inputs of a step graph, in their order.

    - `state` `[slots, 6, channels, h, w]`: the latents, in variance-preserving scale, and the sampler's
      history.
    - `finite` `[slots]`: 1 until a prediction for the slot was not finite, then 0.
    - `condition` `[slots, condition_channels, h, w]`: what a denoiser sees beside the latents; absent
      without any.
    - `mask` `[slots, 1, h, w]` in [0, 1]: where it is at least `threshold`, a latent pixel may change.
    - `image_latents`, `first_noise` `[slots, channels, h, w]`: what the other latent pixels are made of.
    - `row_slot` `[rows]`: the slot that a row belongs to.
    - `timestep` `[rows]`: when in the noise schedule.
    - the tensors of `per_row`, such as `context` `[rows, tokens, width]`.
    - `guidance` `[slots, rows]`: what a row's prediction counts for in each slot.
    - `prompt_rows` `[slots, rows]`: 1 for the row of a slot's own prompt.
    - `guidance_rescale` `[slots]`: phi of arXiv:2305.08891, section 3.4; 0 for none.
    - `update` `[slots, 7, 10]`: the sampler's matrix, see `GATED_ROWS` and `GATED_COLUMNS`.
    - `threshold` `[slots]`: see `mask`.
    - `noise` `[slots, channels, h, w]`: unit Gaussian.

    Args:
        latent_channels: Channels of the latents.
        condition_channels: Channels of `condition`, 0 for none.
        per_row: What the family's denoiser takes for each row, by name.
    """

    def spec(kind: TensorKind, *shape: int | str, dtype: Dtype = "float32") -> TensorSpec:
        return TensorSpec(dtype=dtype, shape=shape, kind=kind)

    latents = ("slots", latent_channels, "height", "width")
    condition = spec("resident", "slots", condition_channels, "height", "width")
    return {
        "state": spec("resident", "slots", STATE_TENSORS, *latents[1:]),
        "finite": spec("resident", "slots"),
        **({"condition": condition} if condition_channels else {}),
        "mask": spec("resident", "slots", 1, "height", "width"),
        "image_latents": spec("resident", *latents),
        "first_noise": spec("resident", *latents),
        "row_slot": spec("per_step", "rows", dtype="int64"),
        "timestep": spec("per_step", "rows"),
        **per_row,
        "guidance": spec("per_step", "slots", "rows"),
        "prompt_rows": spec("per_step", "slots", "rows"),
        "guidance_rescale": spec("per_step", "slots"),
        "update": spec("per_step", "slots", GATED_ROWS, GATED_COLUMNS),
        "threshold": spec("per_step", "slots"),
        "noise": spec("per_step", *latents),
    }


def step_outputs(latent_channels: int) -> dict[str, TensorSpec]:
    """The outputs of a step graph: the next values of the inputs that a step carries on."""
    state = ("slots", STATE_TENSORS, latent_channels, "height", "width")
    return {
        "next_state": TensorSpec(dtype="float32", shape=state),
        "next_finite": TensorSpec(dtype="float32", shape=("slots",)),
    }


def cached_feature(channels: int, dtype: Dtype) -> TensorSpec:
    """What step caching keeps of a row, `[rows, channels, h, w]`: the input of the last upsampling layers.

    A denoiser with step caching gives it in each evaluation, and its shallow form takes it.

    Args:
        channels: Channels of the deep layers' output where the denoiser was cut.
        dtype: What the denoiser computes in.
    """
    return TensorSpec(dtype=dtype, shape=("rows", channels, "height", "width"), kind="cached")


def resident(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The inputs that are written when a request joins, and stay with its slot."""
    return {name: spec for name, spec in specs.items() if spec.kind == "resident"}


def named(specs: Mapping[str, TensorSpec], kind: str) -> tuple[str, ...]:
    """The names of the inputs of one kind."""
    return tuple(name for name, spec in specs.items() if spec.kind == kind)


def carried(outputs: Mapping[str, object]) -> dict[str, str]:
    """The resident inputs that a step replaces, each with the output that replaces it."""
    return {name.removeprefix("next_"): name for name in outputs if name.startswith("next_")}


def slot_shape(spec: TensorSpec, height: int, width: int) -> tuple[int, ...]:
    """The shape of one slot's part of a resident tensor at a latent size."""
    sizes = {"height": height, "width": width}
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape[1:])


def row_shape(spec: TensorSpec, rows: int, tokens: int) -> tuple[int, ...]:
    """The shape of a tensor with an axis `rows`, for prompts of some length."""
    sizes = {"rows": rows, "tokens": tokens}
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape)
