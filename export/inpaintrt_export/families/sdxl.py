"""Stable Diffusion XL: two text encoders, whose penultimate layers the UNet sees, and the sizes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from inpaintrt.bundle import Architecture
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

__all__ = ["ADDED_EMBEDDING", "check_architecture", "parts", "pipeline_class", "scheduler_of"]

ADDED_EMBEDDING: Final = "text_time"
"""The UNet's `addition_embed_type`: pooled text and sizes are added to the timestep's embedding."""

_FOREIGN_OPTIONS: Final = ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
_SIZE_IDS: Final = (5, 6)
"""Numbers that describe sizes: with an aesthetic score (refiners), or with the size aimed at."""

_DEFAULT_PROJECTION: Final = 512
"""That of transformers' `CLIPTextConfig`."""


def parts(source: CheckpointConfigs) -> tuple[Part, ...]:
    """The parts of a checkpoint; refiners have no first text encoder."""
    first: tuple[Part, ...] = ("text_encoder",) if source.has("text_encoder") else ()
    return (*first, "text_encoder_2", "vae", "unet")


def pipeline_class(source: CheckpointConfigs) -> str:
    """The class of diffusers' pipeline that a checkpoint is published with."""
    if source.pipeline_config().get("requires_aesthetics_score"):
        return "StableDiffusionXLImg2ImgPipeline"
    inpainting = inpaints(source.config("unet"))
    return "StableDiffusionXLInpaintPipeline" if inpainting else "StableDiffusionXLPipeline"


def check_architecture(source: CheckpointConfigs) -> Architecture:
    """Check the configurations of a checkpoint, and take from them what the runtime must know.

    Raises:
        SourceError: A part is missing, or is not that of an SDXL checkpoint.
        SchedulerError: No table expresses the scheduler's configuration.
    """
    configs = {part: source.config(part) for part in parts(source)}
    vae, unet = configs["vae"], configs["unet"]
    encoders = [config for part, config in configs.items() if part.startswith("text_encoder")]
    check_classes(configs)
    check_vae(vae)
    check_unet_channels(unet, vae)
    check_unet_inputs(unet, _FOREIGN_OPTIONS)
    _check_context(encoders, unet)
    scheduler = scheduler_of(source)
    compile_table(scheduler, None, 4)
    pooled = encoders[-1].get("projection_dim", _DEFAULT_PROJECTION)
    return Architecture(
        latent_channels=vae["latent_channels"],
        vae_scale_factor=vae_factor(vae),
        latent_scale=latent_scale(vae),
        context_width=unet["cross_attention_dim"],
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        native_resolution=native_resolution(unet, vae_factor(vae)),
        text_layers=min(config["num_hidden_layers"] for config in encoders),
        condition_channels=condition_channels(unet),
        guidance_embedding_width=unet.get("time_cond_proj_dim"),
        pooled_width=pooled,
        size_ids=_size_ids(unet, pooled),
        zeros_for_absent_negative=source.pipeline_config().get("force_zeros_for_empty_prompt", True),
    )


def _check_context(encoders: list[dict[str, Any]], unet: Mapping[str, Any]) -> None:
    width = sum(config.get("hidden_size", 0) for config in encoders)
    if width != unet.get("cross_attention_dim"):
        raise refuse(
            "the text encoders do not fit the UNet",
            f"embeddings of width {' + '.join(str(config.get('hidden_size')) for config in encoders)}",
            f"width {unet.get('cross_attention_dim')}",
            "take text encoders and UNet from one checkpoint",
        )


def _size_ids(unet: Mapping[str, Any], pooled: int) -> int:
    """How many numbers describe sizes."""
    width, each = unet.get("projection_class_embeddings_input_dim"), unet.get("addition_time_embed_dim")
    for count in _SIZE_IDS:
        if each is not None and width == pooled + count * each:
            return count
    raise refuse(
        "the second text encoder and the sizes do not fit the UNet",
        f"projection_class_embeddings_input_dim={width}, addition_time_embed_dim={each}",
        f"{pooled} and 5 or 6 times addition_time_embed_dim",
        "take text encoders and UNet from one checkpoint",
    )


def scheduler_of(source: CheckpointConfigs) -> dict[str, Any]:
    """The checkpoint's scheduler configuration, which the pipelines run as it is."""
    return source.scheduler_config()
