"""Stable Diffusion XL: two text encoders, and a UNet that also sees the prompt as a whole, and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.bundle import Architecture, Dtype, TensorSpec
from inpaintrt.families import sd
from inpaintrt.families.family import Conditions, Defaults, Family, RowInputs, Texts

if TYPE_CHECKING:
    from inpaintrt.options import Options

__all__ = ["SDXL", "per_row", "per_row_inputs", "size_ids"]

_WITH_TARGET_SIZE = 6
"""So many numbers tell of sizes where the target size is among them; refiners have a score in its place."""


def per_row_inputs(architecture: Architecture, dtype: Dtype) -> dict[str, TensorSpec]:
    """What the UNet is conditioned on in each row: Stable Diffusion's, the pooled prompt, and sizes.

    Sizes are float32, since halves have no odd numbers above 2,048.
    """
    pooled, sizes = architecture.pooled_width or 0, architecture.size_ids
    return {
        **sd.per_row_inputs(architecture, dtype),
        "text_embeds": TensorSpec(dtype=dtype, shape=("rows", pooled), kind="per_row"),
        "time_ids": TensorSpec(dtype="float32", shape=("rows", sizes), kind="per_row"),
    }


def per_row(architecture: Architecture, texts: Texts, conditions: Conditions) -> RowInputs:
    """What the UNet is conditioned on for one result."""
    if texts.pooled is None:
        raise AssertionError("prompts come without their pooled embeddings: this is a bug")
    negative, own = size_ids(conditions, with_target_size=architecture.size_ids == _WITH_TARGET_SIZE)
    contexts = len(texts.context)
    return {
        **sd.per_row(architecture, texts, conditions),
        "text_embeds": texts.pooled,
        "time_ids": np.array([negative] * (contexts - 1) + [own], np.float32),
    }


def size_ids(
    conditions: Conditions, *, with_target_size: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the UNet is told of sizes, for the negative prompt and for the prompt.

    Original size, coordinates of the upper left corner, then the target size or, for refiners, the aesthetic
    score (arXiv:2307.01952, section 2.2). What is not given for the negative prompt is that of the prompt.
    With `compat="diffusers"`, two peculiarities of diffusers' `_get_add_time_ids` are kept: with a target
    size, its inpainting and image-to-image take the prompt's corner for both; its text-to-image takes what
    is given for the negative prompt only if both negative sizes are.
    """
    options = conditions.options
    original = options["original_size"] or conditions.size
    target = options["target_size"] or conditions.size
    corner = options["crops_coords_top_left"]
    negative_original = options["negative_original_size"] or original
    negative_target = options["negative_target_size"] or target
    negative_corner = options["negative_crops_coords_top_left"] or corner
    if options["compat"] == "diffusers":
        negative_corner = _corner_of_diffusers(options, conditions.task, with_target_size=with_target_size)
        both = options["negative_original_size"] and options["negative_target_size"]
        if conditions.task == "text-to-image" and not both:
            negative_original, negative_target = original, target
    if with_target_size:
        return (*negative_original, *negative_corner, *negative_target), (*original, *corner, *target)
    return (
        (*negative_original, *negative_corner, options["negative_aesthetic_score"]),
        (*original, *corner, options["aesthetic_score"]),
    )


def _corner_of_diffusers(options: Options, task: str, *, with_target_size: bool) -> tuple[int, int]:
    """The corner that diffusers' pipelines take for the negative prompt."""
    given = options["negative_crops_coords_top_left"] or (0, 0)
    if task == "text-to-image":
        both = options["negative_original_size"] and options["negative_target_size"]
        return given if both else options["crops_coords_top_left"]
    return options["crops_coords_top_left"] if with_target_size else given


SDXL = Family(
    name="sdxl",
    defaults={
        "inpainting": Defaults(guidance_scale=7.5, strength=0.9999),
        "image-to-image": Defaults(guidance_scale=5.0, strength=0.3),
        "text-to-image": Defaults(guidance_scale=5.0),
    },
    options=frozenset(
        {
            "prompt_2",
            "negative_prompt_2",
            "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
            "original_size",
            "crops_coords_top_left",
            "target_size",
            "negative_original_size",
            "negative_crops_coords_top_left",
            "negative_target_size",
            "aesthetic_score",
            "negative_aesthetic_score",
        }
    ),
    per_row_inputs=per_row_inputs,
    per_row=per_row,
    residents=sd.residents,
)
"""Defaults are those of `StableDiffusionXLInpaintPipeline`, `...Img2ImgPipeline` and `...Pipeline`."""
