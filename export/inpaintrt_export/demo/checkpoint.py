"""The checkpoint as a folder that diffusers loads as Stable Diffusion inpainting."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from inpaintrt_export.demo.networks import build_scheduler
from inpaintrt_export.demo.text import save_tokenizer


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
    """Write the checkpoint as safetensors: the autoencoder and the UNet in float16.

    The text encoder stays in float32: transformers loads weights as they are stored, diffusers as float32,
    and a pipeline loaded without a dtype is to run.
    """
    vae, unet = copy.deepcopy(checkpoint.vae).half(), copy.deepcopy(checkpoint.unet).half()
    pipeline = pipeline_of(replace(checkpoint, vae=vae, unet=unet))
    pipeline.save_pretrained(folder, safe_serialization=True)
    save_tokenizer(checkpoint.tokenizer, folder / "tokenizer")
