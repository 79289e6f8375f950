"""Stable Diffusion 1.x and 2.x: classes of its parts, channels of its UNet, rules of its pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from inpaintrt.bundle import Architecture
from inpaintrt.errors import SourceError
from inpaintrt.samplers import compile_table

if TYPE_CHECKING:
    from torch import nn

    from inpaintrt_export.sources.checkpoint import CheckpointConfigs, Part

__all__ = [
    "FAMILY",
    "UNET_INPUTS",
    "check_architecture",
    "condition_channels",
    "inpaints",
    "make_part",
    "pipeline_class",
    "rewrite_scheduler_config",
    "scheduler_of",
    "vae_factor",
]

FAMILY: Final = "sd"

UNET_INPUTS: Final[Mapping[str, str]] = {
    "timestep": "timestep",
    "context": "encoder_hidden_states",
    "guidance_embedding": "timestep_cond",
}
"""What a UNet's graph calls the inputs of a step."""

_CLASSES: Final[Mapping[Part, type[Any]]] = {
    "text_encoder": CLIPTextModel,
    "vae": AutoencoderKL,
    "unet": UNet2DConditionModel,
}
_FOREIGN_OPTIONS: Final = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
)
"""Options of the UNet that give it inputs which no request has."""


def make_part(part: Part, config: Mapping[str, Any]) -> nn.Module:
    """A part with the weights of a fresh module."""
    made: nn.Module
    if part == "text_encoder":
        made = CLIPTextModel(CLIPTextConfig(**config, attn_implementation="eager"))
    else:
        made = _CLASSES[part].from_config(config)
    return made


def vae_factor(vae: Mapping[str, Any]) -> int:
    """Pixels of one latent pixel along each side."""
    factor: int = 2 ** (len(vae["block_out_channels"]) - 1)
    return factor


def condition_channels(unet: Mapping[str, Any]) -> int:
    """Channels that a UNet takes beside the latents: 0, or those of the mask and the masked image."""
    channels: int = unet["in_channels"] - unet["out_channels"]
    return channels


def inpaints(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet sees the mask and the masked image."""
    return condition_channels(unet) > 0


def pipeline_class(unet: Mapping[str, Any]) -> str:
    """The class of diffusers' pipeline that a checkpoint is published with."""
    return "StableDiffusionInpaintPipeline" if inpaints(unet) else "StableDiffusionPipeline"


def check_architecture(source: CheckpointConfigs) -> Architecture:
    """Check the configurations of a checkpoint, and take from them what the runtime must know.

    Raises:
        SourceError: A part is missing, or is not that of an SD 1.x or 2.x checkpoint.
        SchedulerError: No table expresses the scheduler's configuration.
    """
    text_encoder, vae, unet = (source.config(part) for part in ("text_encoder", "vae", "unet"))
    _check_classes(text_encoder, vae, unet)
    _check_vae(vae)
    _check_unet(unet, vae)
    _check_context(text_encoder, unet)
    scheduler = rewrite_scheduler_config(source.scheduler_config(), inpaints=inpaints(unet))
    compile_table(scheduler, None, 4)
    return Architecture(
        latent_channels=vae["latent_channels"],
        vae_scale_factor=vae_factor(vae),
        latent_scale=vae.get("scaling_factor", 0.18215),
        context_width=unet["cross_attention_dim"],
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        native_resolution=_native_resolution(unet, vae_factor(vae)),
        text_layers=text_encoder["num_hidden_layers"],
        condition_channels=condition_channels(unet),
        guidance_embedding_width=unet.get("time_cond_proj_dim"),
    )


def _refuse(what: str, received: object, expected: object, hint: str | None = None) -> SourceError:
    usual = "name a Stable Diffusion 1.x or 2.x checkpoint"
    return SourceError(what, received=received, expected=expected, hint=usual if hint is None else hint)


def _check_classes(text_encoder: dict[str, Any], vae: dict[str, Any], unet: dict[str, Any]) -> None:
    found = {
        "text_encoder": (text_encoder.get("architectures") or [None])[0],
        "vae": vae.get("_class_name"),
        "unet": unet.get("_class_name"),
    }
    for part, known in _CLASSES.items():
        if found[part] != known.__name__:
            raise _refuse(f"the {part} is of a class that cannot be exported", found[part], known.__name__)


def _check_unet(unet: dict[str, Any], vae: dict[str, Any]) -> None:
    latents = vae["latent_channels"]
    kinds = {latents: "text-to-image", 2 * latents + 1: "inpainting"}
    if unet.get("in_channels") not in kinds:
        raise _refuse(
            "the UNet is neither that of a text-to-image nor that of an inpainting checkpoint",
            f"{unet.get('in_channels')} channels",
            " or ".join(f"{channels} ({kind})" for channels, kind in kinds.items()),
        )
    if unet.get("out_channels") != latents:
        raise _refuse(
            f"the UNet does not predict {latents} latent channels", unet.get("out_channels"), latents
        )
    for option in _FOREIGN_OPTIONS:
        if unet.get(option) is not None:
            raise _refuse(
                "the UNet needs an input that no request has", f"{option}={unet[option]}", f"no {option}"
            )


def _check_vae(vae: dict[str, Any]) -> None:
    channels, blocks = vae.get("latent_channels"), vae.get("block_out_channels")
    if not isinstance(channels, int) or not blocks:
        raise _refuse(
            "the VAE's configuration is incomplete",
            f"latent_channels={channels}, block_out_channels={blocks}",
            "both",
        )
    for option in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(option) is not None:
            raise _refuse(
                "the VAE scales latents in a way that the runtime does not know",
                f"{option}={vae[option]}",
                f"no {option}",
            )


def _check_context(text_encoder: dict[str, Any], unet: dict[str, Any]) -> None:
    if text_encoder.get("hidden_size") != unet.get("cross_attention_dim"):
        raise _refuse(
            "the text encoder does not fit the UNet",
            f"embeddings of width {text_encoder.get('hidden_size')}",
            f"width {unet.get('cross_attention_dim')}",
            "take text encoder and UNet from one checkpoint",
        )


def _native_resolution(unet: dict[str, Any], factor: int) -> tuple[int, int]:
    size = unet.get("sample_size")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if not (isinstance(height, int) and isinstance(width, int)):
        raise _refuse("the UNet does not say the size that it was trained for", size, "sample_size")
    return height * factor, width * factor


def scheduler_of(source: CheckpointConfigs) -> dict[str, Any]:
    """The checkpoint's scheduler configuration, as the pipelines of its kind run it.

    Raises:
        SourceError: The scheduler's class is not diffusers'.
    """
    return rewrite_scheduler_config(source.scheduler_config(), inpaints=inpaints(source.config("unet")))


def rewrite_scheduler_config(config: dict[str, Any], *, inpaints: bool) -> dict[str, Any]:
    """Give outdated settings the values that diffusers' pipelines run with.

    Source: the constructors of diffusers' `StableDiffusionInpaintPipeline`, for `steps_offset` and
    `skip_prk_steps`, and of `StableDiffusionPipeline`, for `steps_offset` and `clip_sample`. The inpainting
    pipeline keeps `clip_sample`, also with a 4-channel UNet; clipping is not linear, so that no table
    expresses it, and such a checkpoint inpaints without it.

    Args:
        config: The checkpoint's `scheduler_config.json`.
        inpaints: Whether the UNet is one for inpainting.

    Raises:
        SourceError: The scheduler's class is not diffusers'.
    """
    name = config.get("_class_name")
    scheduler = getattr(diffusers, str(name), None)
    if scheduler is None or not hasattr(scheduler, "from_config"):
        raise SourceError(
            "the scheduler's class is unknown",
            received=name,
            expected="the name of a scheduler in diffusers",
            hint="mend _class_name in scheduler/scheduler_config.json",
        )
    parameters = inspect.signature(scheduler.__init__).parameters.values()
    complete = {**{parameter.name: parameter.default for parameter in parameters}, **config}
    changes: dict[str, Any] = {}
    if complete.get("steps_offset", 1) != 1:
        changes["steps_offset"] = 1
    if complete.get("skip_prk_steps", True) is False:
        changes["skip_prk_steps"] = True
    if not inpaints and complete.get("clip_sample", False) is True:
        changes["clip_sample"] = False
    return {**config, **changes}
