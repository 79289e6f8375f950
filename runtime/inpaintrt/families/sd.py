"""Stable Diffusion 1.x and 2.x: one text encoder, and a UNet with or without channels for inpainting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt.bundle import Architecture, Dtype, TensorSpec
from inpaintrt.conditioning import step_inputs

__all__ = ["Start", "guidance_embedding", "per_row", "per_row_inputs", "residents", "step_specs"]

Floats = NDArray[np.float32]


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


def per_row_inputs(
    context_width: int, guidance_embedding_width: int | None, dtype: Dtype
) -> dict[str, TensorSpec]:
    """What the UNet is conditioned on in each row.

    Args:
        context_width: Width of one token's embedding.
        guidance_embedding_width: diffusers' `time_cond_proj_dim`; None for a UNet that takes no guidance
            scale.
        dtype: Element type of `context`: that of the text encoder's output.
    """
    context = TensorSpec(dtype=dtype, shape=("rows", "tokens", context_width), kind="per_row")
    if guidance_embedding_width is None:
        return {"context": context}
    embedding = TensorSpec(dtype="float32", shape=("rows", guidance_embedding_width), kind="per_row")
    return {"context": context, "guidance_embedding": embedding}


def step_specs(architecture: Architecture, dtype: Dtype = "float32") -> dict[str, TensorSpec]:
    """The inputs of a step."""
    rows = per_row_inputs(architecture.context_width, architecture.guidance_embedding_width, dtype)
    return step_inputs(architecture.latent_channels, architecture.condition_channels, rows)


def per_row(
    architecture: Architecture, contexts: NDArray[np.floating], guidance_scale: float
) -> dict[str, NDArray[np.floating]]:
    """What the UNet is conditioned on for one result.

    Args:
        architecture: The bundle's.
        contexts: `[contexts, tokens, width]`: the embeddings of its prompts.
        guidance_scale: As the caller gave it.
    """
    width = architecture.guidance_embedding_width
    if width is None:
        return {"context": contexts}
    embedding = guidance_embedding(guidance_scale - 1, width)
    return {"context": contexts, "guidance_embedding": np.tile(embedding, (len(contexts), 1))}


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
