"""Stable Diffusion 1.x and 2.x: one text encoder, whose last layer the UNet sees."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import diffusers

from inpaintrt.bundle import Architecture
from inpaintrt.errors import SourceError
from inpaintrt.samplers import compile_table
from inpaintrt_export.families.parts import (
    check_classes,
    check_unet_channels,
    check_unet_inputs,
    check_vae,
    condition_channels,
    inpaints,
    latent_scale,
    native_resolution,
    refuse,
    vae_factor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inpaintrt_export.sources.checkpoint import CheckpointConfigs, Part

__all__ = ["check_architecture", "parts", "pipeline_class", "rewrite_scheduler_config", "scheduler_of"]

_FOREIGN_OPTIONS: Final = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
)
"""Options of the UNet that give it inputs which no request has."""


def parts(source: CheckpointConfigs) -> tuple[Part, ...]:
    """The parts of a checkpoint."""
    del source
    return ("text_encoder", "vae", "unet")


def pipeline_class(source: CheckpointConfigs) -> str:
    """The class of diffusers' pipeline that a checkpoint is published with."""
    return "StableDiffusionInpaintPipeline" if inpaints(source.config("unet")) else "StableDiffusionPipeline"


def check_architecture(source: CheckpointConfigs) -> Architecture:
    """Check the configurations of a checkpoint, and take from them what the runtime must know.

    Raises:
        SourceError: A part is missing, or is not that of an SD 1.x or 2.x checkpoint.
        SchedulerError: No table expresses the scheduler's configuration.
    """
    configs = {part: source.config(part) for part in parts(source)}
    text_encoder, vae, unet = configs["text_encoder"], configs["vae"], configs["unet"]
    check_classes(configs)
    check_vae(vae)
    check_unet_channels(unet, vae)
    check_unet_inputs(unet, _FOREIGN_OPTIONS)
    _check_context(text_encoder, unet)
    scheduler = scheduler_of(source)
    compile_table(scheduler, None, 4)
    return Architecture(
        latent_channels=vae["latent_channels"],
        vae_scale_factor=vae_factor(vae),
        latent_scale=latent_scale(vae),
        context_width=unet["cross_attention_dim"],
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        native_resolution=native_resolution(unet, vae_factor(vae)),
        text_layers=text_encoder["num_hidden_layers"],
        condition_channels=condition_channels(unet),
        guidance_embedding_width=unet.get("time_cond_proj_dim"),
    )


def _check_context(text_encoder: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    if text_encoder.get("hidden_size") != unet.get("cross_attention_dim"):
        raise refuse(
            "the text encoder does not fit the UNet",
            f"embeddings of width {text_encoder.get('hidden_size')}",
            f"width {unet.get('cross_attention_dim')}",
            "take text encoder and UNet from one checkpoint",
        )


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
