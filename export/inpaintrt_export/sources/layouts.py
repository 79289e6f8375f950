"""Configurations of Stable Diffusion 1.x, 2.x and XL, of TAESD, and of tiny checkpoints for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["LAYOUTS", "TINY_VAES", "Layout"]

Config = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """The configuration of every part of a checkpoint.

    Attributes:
        parts: The `config.json` of each part.
        scheduler: The `scheduler_config.json`.
        vocabulary: Number of tokens.
        padding: The token that pads a window, for each text encoder.
        pipeline: What the `model_index.json` says beside the classes.
    """

    parts: dict[Part, Config]
    scheduler: Config
    vocabulary: int
    padding: dict[Part, str]
    pipeline: Config = field(default_factory=dict)


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


def _tiny_vae(channels: int, *blocks: int) -> Config:
    """An `AutoencoderTiny` with so many channels everywhere, and so many blocks at each size."""
    return {
        "_class_name": "AutoencoderTiny",
        "act_fn": "relu",
        "decoder_block_out_channels": [channels] * len(blocks),
        "encoder_block_out_channels": [channels] * len(blocks),
        "force_upcast": False,
        "in_channels": 3,
        "latent_channels": 4,
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "num_decoder_blocks": list(reversed(blocks)),
        "num_encoder_blocks": list(blocks),
        "out_channels": 3,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
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
    padding={"text_encoder": "<|endoftext|>"},
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
    padding={"text_encoder": "!"},
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
    padding={"text_encoder": "<|endoftext|>"},
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
    padding={"text_encoder": "!"},
)
"""As Stable Diffusion 2.x, but for a VAE of factor 4."""

_SDXL_SCHEDULER: Config = {
    **{name: value for name, value in _SCHEDULER.items() if name != "trained_betas"},
    "_class_name": "EulerDiscreteScheduler",
    "clip_sample": False,
    "interpolation_type": "linear",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}


def _text_encoder_2(**changes: object) -> Config:
    """SDXL's text encoder with a projection; as published, its `eos_token_id` is none of the tokenizer's."""
    return _text_encoder(
        architectures=["CLIPTextModelWithProjection"],
        bos_token_id=0,
        eos_token_id=2,
        hidden_act="gelu",
        model_type="clip_text_model",
        pad_token_id=1,
        **changes,
    )


_SDXL = Layout(
    parts={
        "text_encoder": _text_encoder(bos_token_id=0, eos_token_id=2, pad_token_id=1),
        "text_encoder_2": _text_encoder_2(
            hidden_size=1280,
            intermediate_size=5120,
            num_attention_heads=20,
            num_hidden_layers=32,
            projection_dim=1280,
        ),
        "vae": _vae(force_upcast=True, sample_size=1024, scaling_factor=0.13025),
        "unet": _unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            attention_head_dim=[5, 10, 20],
            block_out_channels=[320, 640, 1280],
            cross_attention_dim=2048,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            projection_class_embeddings_input_dim=2816,
            sample_size=128,
            transformer_layers_per_block=[1, 2, 10],
            up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            use_linear_projection=True,
        ),
    },
    scheduler=_SDXL_SCHEDULER,
    vocabulary=49408,
    padding={"text_encoder": "<|endoftext|>", "text_encoder_2": "!"},
    pipeline={"force_zeros_for_empty_prompt": True},
)


def _refiner(layout: Layout, **unet: object) -> Layout:
    """SDXL's refiner: no first text encoder, and an aesthetic score in the place of the target size."""
    parts = dict(layout.parts)
    del parts["text_encoder"]
    width = parts["text_encoder_2"]["hidden_size"]
    pooled = parts["text_encoder_2"]["projection_dim"]
    latents = layout.parts["unet"]["out_channels"]
    parts["unet"] = {
        **layout.parts["unet"],
        "cross_attention_dim": width,
        "in_channels": latents,
        "projection_class_embeddings_input_dim": pooled + 5 * layout.parts["unet"]["addition_time_embed_dim"],
        **unet,
    }
    pipeline = {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True}
    return replace(layout, parts=parts, padding={"text_encoder_2": "!"}, pipeline=pipeline)


_SDXL_REFINER = _refiner(
    _SDXL,
    attention_head_dim=[6, 12, 24, 24],
    block_out_channels=[384, 768, 1536, 1536],
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    transformer_layers_per_block=4,
    up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
)

_TINY_SDXL = Layout(
    parts={
        "text_encoder": {
            **_TINY.parts["text_encoder"],
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        },
        "text_encoder_2": _text_encoder_2(
            hidden_size=24,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=4,
            projection_dim=20,
            vocab_size=_TINY_VOCABULARY,
        ),
        "vae": {**_TINY.parts["vae"], "force_upcast": True, "scaling_factor": 0.13025},
        "unet": {
            **_TINY.parts["unet"],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "attention_head_dim": [2, 4],
            "cross_attention_dim": 40,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
            "transformer_layers_per_block": [1, 2],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "use_linear_projection": True,
        },
    },
    scheduler=_SDXL_SCHEDULER,
    vocabulary=_TINY_VOCABULARY,
    padding={"text_encoder": "<|endoftext|>", "text_encoder_2": "!"},
    pipeline={"force_zeros_for_empty_prompt": True},
)


TINY_VAES: dict[str, Config] = {
    "taesd": _tiny_vae(64, 1, 3, 3, 3),
    "tiny-taesd": _tiny_vae(8, 1, 1, 1, 1),
}
"""Tiny VAEs, which are no checkpoints by themselves."""

_TINY_LCM = _text_to_image(_TINY, time_cond_proj_dim=32)

LAYOUTS: dict[str, Layout] = {
    "sd15": _text_to_image(_SD15),
    "sd15-inpaint": _SD15,
    "sd2": _text_to_image(_SD2, scheduler=_SD2_V_PREDICTION, sample_size=96),
    "sd2-base": _text_to_image(_SD2),
    "sd2-inpaint": _SD2,
    "sdxl": _text_to_image(_SDXL),
    "sdxl-inpaint": _SDXL,
    "sdxl-refiner": _SDXL_REFINER,
    "tiny": _TINY,
    "tiny-lcm": replace(_TINY_LCM, parts={**_TINY_LCM.parts, "vae": TINY_VAES["tiny-taesd"]}),
    "tiny-sdxl": _text_to_image(_TINY_SDXL),
    "tiny-sdxl-inpaint": _TINY_SDXL,
    "tiny-sdxl-refiner": _refiner(_TINY_SDXL),
    "tiny-sd2": _text_to_image(_TINY_SD2, scheduler=_SD2_V_PREDICTION),
    "tiny-text-to-image": _text_to_image(_TINY),
}
