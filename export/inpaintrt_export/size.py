"""How much room a bundle takes, known before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from inpaintrt.bundle import number_format

if TYPE_CHECKING:
    from torch import nn

    from inpaintrt.bundle import Precision
    from inpaintrt_export.sources.checkpoint import CheckpointSource, Part

__all__ = ["bundle_bytes"]


def bundle_bytes(source: CheckpointSource, precision: Precision) -> int:
    """Bytes of all weights; the VAE is counted in float32, since it may have to stay so."""
    width, full = number_format(precision).weight_bytes, number_format("fp32").weight_bytes
    return sum(
        _count_weights(part, source.config(part)) * (full if part == "vae" else width)
        for part in ("text_encoder", "vae", "unet")
    )


def _count_weights(part: Part, config: dict[str, Any]) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in _make(part, config).parameters())


def _make(part: Part, config: dict[str, Any]) -> nn.Module:
    made: nn.Module
    match part:
        case "text_encoder":
            made = CLIPTextModel(CLIPTextConfig(**config))
        case "vae":
            made = AutoencoderKL.from_config(config)
        case "unet":
            made = UNet2DConditionModel.from_config(config)
    return made
