"""The networks of the demo checkpoint: the classes of Stable Diffusion 1.5 inpainting, small."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from inpaintrt_demo.tokenizer import save_tokenizer


@dataclass(frozen=True)
class Sizes:
    """How large the networks are."""

    image: int = 128
    vae_channels: tuple[int, int, int, int] = (16, 32, 64, 64)
    unet_channels: tuple[int, int] = (64, 96)
    heads: int = 4
    text_width: int = 64
    text_layers: int = 2
    norm_groups: int = 16


def build_vae(sizes: Sizes) -> AutoencoderKL:
    """Return an untrained autoencoder: factor 8, 4 latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=sizes.vae_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=sizes.image,
    )


def build_unet(sizes: Sizes) -> UNet2DConditionModel:
    """Return an untrained UNet: latents, mask, masked latents in, noise out; text joins at level two."""
    return UNet2DConditionModel(
        sample_size=sizes.image // 8,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=sizes.unet_channels,
        layers_per_block=1,
        cross_attention_dim=sizes.text_width,
        attention_head_dim=sizes.heads,
        norm_num_groups=sizes.norm_groups,
    )


def build_text_encoder(sizes: Sizes, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder for the tokenizer's vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.heads,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> PNDMScheduler:
    """Return the noise schedule of Stable Diffusion 1.5."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


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
