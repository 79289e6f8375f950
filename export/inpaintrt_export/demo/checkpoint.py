"""The checkpoint as a folder that diffusers loads as Stable Diffusion inpainting."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from inpaintrt_export.demo.networks import build_scheduler
from inpaintrt_export.demo.text import save_tokenizer

Part = TypeVar("Part", bound=torch.nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The trained parts."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer


def pipeline_of(checkpoint: Checkpoint) -> StableDiffusionInpaintPipeline:
    """Return diffusers' pipeline on the parts."""
    return StableDiffusionInpaintPipeline(
        vae=checkpoint.vae,
        text_encoder=checkpoint.text_encoder,
        tokenizer=checkpoint.tokenizer,
        unet=checkpoint.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the checkpoint, its weights as float16 safetensors."""
    halved = Checkpoint(
        halve(checkpoint.vae), halve(checkpoint.unet), halve(checkpoint.text_encoder), checkpoint.tokenizer
    )
    pipeline_of(halved).save_pretrained(folder, safe_serialization=True)
    save_tokenizer(checkpoint.tokenizer, folder / "tokenizer")


def halve(part: Part) -> Part:
    """Return a copy in float16 on the CPU."""
    return copy.deepcopy(part).to("cpu", torch.float16)
