"""Configurations of Stable Diffusion 1.x and 2.x, and of tiny checkpoints for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["LAYOUTS", "Layout"]

Config = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """The configuration of every part of a checkpoint.

    Attributes:
        parts: The `config.json` of each part.
        scheduler: The `scheduler_config.json`.
        vocabulary: Number of tokens.
        padding: The token that pads a window.
    """

    parts: dict[Part, Config]
    scheduler: Config
    vocabulary: int
    padding: str


_CROSS_DOWN = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
_CROSS_UP = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]

_SCHEDULER: Config = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def _unet(**changes: object) -> Config:
    return {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": _CROSS_DOWN,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 9,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": _CROSS_UP,
        **changes,
    }


def _vae(**changes: object) -> Config:
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        **changes,
    }


def _text_encoder(**changes: object) -> Config:
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 49407,
        "projection_dim": 768,
        "vocab_size": 49408,
        **changes,
    }


_SD15 = Layout(
    parts={"text_encoder": _text_encoder(), "vae": _vae(), "unet": _unet()},
    scheduler=_SCHEDULER,
    vocabulary=49408,
    padding="<|endoftext|>",
)

_SD2 = Layout(
    parts={
        "text_encoder": _text_encoder(
            hidden_act="gelu",
            hidden_size=1024,
            intermediate_size=4096,
            num_attention_heads=16,
            num_hidden_layers=23,
            pad_token_id=0,
            projection_dim=512,
        ),
        "vae": _vae(),
        "unet": _unet(
            attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True
        ),
    },
    scheduler=_SCHEDULER,
    vocabulary=49408,
    padding="!",
)

_TINY_VOCABULARY = 768

_TINY = Layout(
    parts={
        "text_encoder": _text_encoder(
            bos_token_id=_TINY_VOCABULARY - 2,
            eos_token_id=_TINY_VOCABULARY - 1,
            hidden_size=16,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=3,
            pad_token_id=_TINY_VOCABULARY - 1,
            projection_dim=16,
            vocab_size=_TINY_VOCABULARY,
        ),
        "vae": _vae(block_out_channels=[8, 8, 8, 16], layers_per_block=1, norm_num_groups=4, sample_size=64),
        "unet": _unet(
            attention_head_dim=2,
            block_out_channels=[16, 32],
            cross_attention_dim=16,
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=8,
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        ),
    },
    scheduler=_SCHEDULER,
    vocabulary=_TINY_VOCABULARY,
    padding="<|endoftext|>",
)


def _text_to_image(layout: Layout, *, scheduler: Config | None = None, **sizes: int) -> Layout:
    """The same checkpoint without the channels of inpainting."""
    unet = {**layout.parts["unet"], "in_channels": layout.parts["unet"]["out_channels"], **sizes}
    parts: dict[Part, Config] = {**layout.parts, "unet": unet}
    return replace(layout, parts=parts, scheduler=layout.scheduler if scheduler is None else scheduler)


_SD2_V_PREDICTION: Config = {
    **_SCHEDULER,
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "prediction_type": "v_prediction",
}
del _SD2_V_PREDICTION["skip_prk_steps"]


_TINY_SD2 = replace(
    _TINY,
    parts={
        **_TINY.parts,
        "text_encoder": {**_TINY.parts["text_encoder"], "hidden_act": "gelu", "pad_token_id": 0},
        "vae": {
            **_TINY.parts["vae"],
            "block_out_channels": [8, 8, 16],
            "down_block_types": ["DownEncoderBlock2D"] * 3,
            "up_block_types": ["UpDecoderBlock2D"] * 3,
        },
        "unet": {
            **_TINY.parts["unet"],
            "attention_head_dim": [2, 4],
            "sample_size": 16,
            "use_linear_projection": True,
        },
    },
    padding="!",
)
"""As Stable Diffusion 2.x, but for a VAE of factor 4."""

LAYOUTS: dict[str, Layout] = {
    "sd15": _text_to_image(_SD15),
    "sd15-inpaint": _SD15,
    "sd2": _text_to_image(_SD2, scheduler=_SD2_V_PREDICTION, sample_size=96),
    "sd2-base": _text_to_image(_SD2),
    "sd2-inpaint": _SD2,
    "tiny": _TINY,
    "tiny-lcm": _text_to_image(_TINY, time_cond_proj_dim=32),
    "tiny-sd2": _text_to_image(_TINY_SD2, scheduler=_SD2_V_PREDICTION),
    "tiny-text-to-image": _text_to_image(_TINY),
}
