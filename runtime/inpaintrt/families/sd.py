"""Stable Diffusion 1.x and 2.x: one text encoder, and a UNet with or without channels for inpainting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inpaintrt.bundle import Architecture, Dtype, TensorSpec
from inpaintrt.families.family import Conditions, Defaults, Family, RowInputs, Start, Texts

__all__ = ["SD", "guidance_embedding", "per_row", "per_row_inputs", "residents"]

Floats = NDArray[np.float32]


def per_row_inputs(architecture: Architecture, dtype: Dtype) -> dict[str, TensorSpec]:
    """What the UNet is conditioned on in each row.

    Args:
        architecture: The bundle's.
        dtype: Element type of `context`: that of the text encoder's output.
    """
    context = TensorSpec(dtype=dtype, shape=("rows", "tokens", architecture.context_width), kind="per_row")
    width = architecture.guidance_embedding_width
    if width is None:
        return {"context": context}
    embedding = TensorSpec(dtype="float32", shape=("rows", width), kind="per_row")
    return {"context": context, "guidance_embedding": embedding}


def per_row(architecture: Architecture, texts: Texts, conditions: Conditions) -> RowInputs:
    """What the UNet is conditioned on for one result."""
    width = architecture.guidance_embedding_width
    if width is None:
        return {"context": texts.context}
    embedding = guidance_embedding(conditions.guidance_scale - 1, width)
    return {"context": texts.context, "guidance_embedding": np.tile(embedding, (len(texts.context), 1))}


def guidance_embedding(scale: float, width: int) -> Floats:
    """The sinusoids `[width]` of a guidance scale: diffusers' `get_guidance_scale_embedding`."""
    half = width // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000.0) / (half - 1)))
    angles = np.float32(scale) * np.float32(1000.0) * frequencies
    embedding = np.concatenate([np.sin(angles), np.cos(angles)])
    return np.pad(embedding, (0, width % 2)).astype(np.float32)


def residents(architecture: Architecture, start: Start) -> Sequence[Mapping[str, Floats]]:
    """What each result's slot holds beside the state.

    A UNet that sees the masked image decides by itself what it keeps; for the others, the mask is a gate.
    """
    conditioned = architecture.condition_channels > 0
    gate = start.soft_mask
    if gate is None:
        gate = np.ones_like(start.mask) if conditioned else start.mask
    tensors = {"mask": gate}
    if start.image is not None and not gate.all():
        tensors |= {"image_latents": start.image, "first_noise": start.first_noise}
    if conditioned and start.masked is not None:
        tensors["condition"] = np.concatenate([start.mask, start.masked], axis=1)
    return [{name: tensor[result] for name, tensor in tensors.items()} for result in range(len(gate))]


SD = Family(
    name="sd",
    defaults={
        "inpainting": Defaults(guidance_scale=7.5, strength=1.0),
        "image-to-image": Defaults(guidance_scale=7.5, strength=0.8),
        "text-to-image": Defaults(guidance_scale=7.5),
    },
    options=frozenset(),
    per_row_inputs=per_row_inputs,
    per_row=per_row,
    residents=residents,
)
"""Defaults are those of `StableDiffusionInpaintPipeline`, `...Img2ImgPipeline` and `...Pipeline`."""
