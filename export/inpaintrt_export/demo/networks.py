"""The networks of the demo checkpoint: the classes of Stable Diffusion 1.5 inpainting, small."""

from dataclasses import dataclass

from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True)
class Sizes:
    """How large the networks are."""

    picture: int = 128
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
        sample_size=sizes.picture,
    )


def build_unet(sizes: Sizes) -> UNet2DConditionModel:
    """Return an untrained UNet: latents, mask, masked latents in, noise out; text joins at level two."""
    return UNet2DConditionModel(
        sample_size=sizes.picture // 8,
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
