"""What Stable Diffusion's families have in common: classes of their parts, names of inputs, checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from inpaintrt.errors import SourceError

if TYPE_CHECKING:
    from torch import nn

    from inpaintrt_export.sources.checkpoint import Part

__all__ = [
    "UNET_INPUTS",
    "check_classes",
    "check_unet_channels",
    "check_unet_inputs",
    "check_vae",
    "condition_channels",
    "inpaints",
    "latent_scale",
    "make_part",
    "native_resolution",
    "part_class",
    "refuse",
    "vae_factor",
]

UNET_INPUTS: Final[Mapping[str, str]] = {
    "timestep": "timestep",
    "context": "encoder_hidden_states",
    "guidance_embedding": "timestep_cond",
    "text_embeds": "text_embeds",
    "time_ids": "time_ids",
}
"""What a UNet's graph calls the inputs of a step."""

_CLASSES: Final[Mapping[Part, tuple[type[Any], ...]]] = {
    "text_encoder": (CLIPTextModel,),
    "text_encoder_2": (CLIPTextModelWithProjection,),
    "vae": (AutoencoderKL, AutoencoderTiny),
    "tiny_vae": (AutoencoderTiny,),
    "unet": (UNet2DConditionModel,),
}
_LATENT_SCALES: Final = {AutoencoderKL: 0.18215, AutoencoderTiny: 1.0}
"""The scaling factors that diffusers' classes have by default."""


def part_class(part: Part, config: Mapping[str, Any]) -> type[Any]:
    """The class of a part.

    Raises:
        SourceError: It is none that the export knows.
    """
    of_transformers = (config.get("architectures") or [None])[0]
    name = of_transformers if part.startswith("text_encoder") else config.get("_class_name")
    known = {kind.__name__: kind for kind in _CLASSES[part]}
    if name not in known:
        hint = "name an AutoencoderTiny, such as madebyollin/taesd" if part == "tiny_vae" else None
        what = f"the {part} is of a class that cannot be exported"
        raise refuse(what, name or "no class", " or ".join(known), hint)
    return known[name]


def make_part(part: Part, config: Mapping[str, Any]) -> nn.Module:
    """A part with the weights of a fresh module."""
    made: nn.Module
    kind = part_class(part, config)
    if part in ("text_encoder", "text_encoder_2"):
        made = kind(CLIPTextConfig(**config, attn_implementation="eager"))
    else:
        made = kind.from_config(config)
    return made


def vae_factor(vae: Mapping[str, Any]) -> int:
    """Pixels of one latent pixel along each side."""
    factor: int = 2 ** (len(_vae_blocks(vae)) - 1)
    return factor


def _vae_blocks(vae: Mapping[str, Any]) -> Sequence[int]:
    """Channels of the blocks between two sizes of a VAE; those of the decoder, as in diffusers' pipelines."""
    blocks: Sequence[int] | None = vae.get("block_out_channels") or vae.get("decoder_block_out_channels")
    return blocks or ()


def latent_scale(vae: Mapping[str, Any]) -> float:
    """What latents are multiplied by after encoding."""
    scale: float = vae.get("scaling_factor", _LATENT_SCALES[part_class("vae", vae)])
    return scale


def condition_channels(unet: Mapping[str, Any]) -> int:
    """Channels that a UNet takes beside the latents: 0, or those of the mask and the masked image."""
    channels: int = unet["in_channels"] - unet["out_channels"]
    return channels


def inpaints(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet sees the mask and the masked image."""
    return condition_channels(unet) > 0


def refuse(what: str, received: object, expected: object, hint: str | None = None) -> SourceError:
    """The error for a checkpoint that is of no family."""
    usual = "name a checkpoint of Stable Diffusion 1.x, 2.x or XL"
    return SourceError(what, received=received, expected=expected, hint=usual if hint is None else hint)


def check_classes(configs: Mapping[Part, Mapping[str, Any]]) -> None:
    """Check that the parts are of the classes that the export knows.

    Raises:
        SourceError: One is not.
    """
    for part, config in configs.items():
        part_class(part, config)


def check_unet_channels(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Check that a UNet takes latents of the VAE, with or without what an inpainting checkpoint sees.

    Raises:
        SourceError: It takes or predicts another number of channels.
    """
    latents = vae["latent_channels"]
    kinds = {latents: "text-to-image", 2 * latents + 1: "inpainting"}
    if unet.get("in_channels") not in kinds:
        raise refuse(
            "the UNet is neither that of a text-to-image nor that of an inpainting checkpoint",
            f"{unet.get('in_channels')} channels",
            " or ".join(f"{channels} ({kind})" for channels, kind in kinds.items()),
        )
    if unet.get("out_channels") != latents:
        raise refuse(
            f"the UNet does not predict {latents} latent channels", unet.get("out_channels"), latents
        )


def check_unet_inputs(unet: Mapping[str, Any], foreign: Iterable[str]) -> None:
    """Check that a UNet takes no input that requests of its family do not have.

    Args:
        unet: Its configuration.
        foreign: Options that give it such inputs.

    Raises:
        SourceError: One of them is set.
    """
    for option in foreign:
        if unet.get(option) is not None:
            raise refuse(
                "the UNet needs an input that no request has", f"{option}={unet[option]}", f"no {option}"
            )


def check_vae(vae: Mapping[str, Any]) -> None:
    """Check that the runtime knows how a VAE scales latents.

    Raises:
        SourceError: It does not.
    """
    channels, blocks = vae.get("latent_channels"), _vae_blocks(vae)
    if not isinstance(channels, int) or not blocks:
        raise refuse(
            "the VAE's configuration is incomplete",
            f"latent_channels={channels}, block_out_channels={list(blocks) or None}",
            "both",
        )
    _check_tiny_sizes(vae)
    for option in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(option):  # an AutoencoderTiny has a shift of 0
            raise refuse(
                "the VAE scales latents in a way that the runtime does not know",
                f"{option}={vae[option]}",
                f"no {option}",
            )


def _check_tiny_sizes(vae: Mapping[str, Any]) -> None:
    """Check that an `AutoencoderTiny` makes images larger by the factor by which it makes them smaller."""
    encoder, decoder = vae.get("encoder_block_out_channels"), _vae_blocks(vae)
    upsampling = vae.get("upsampling_scaling_factor", 2)
    if (encoder is not None and len(encoder) != len(decoder)) or upsampling != 2:
        raise refuse(
            "encoder and decoder of the VAE do not fit each other",
            f"{len(encoder or decoder)} and {len(decoder)} blocks, upsampling_scaling_factor={upsampling}",
            "as many blocks, upsampling_scaling_factor=2",
        )


def native_resolution(unet: Mapping[str, Any], factor: int) -> tuple[int, int]:
    """Height and width in pixels that a UNet was trained for.

    Raises:
        SourceError: Its configuration does not say so.
    """
    size = unet.get("sample_size")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if not (isinstance(height, int) and isinstance(width, int)):
        raise refuse("the UNet does not say the size that it was trained for", size, "sample_size")
    return height * factor, width * factor
