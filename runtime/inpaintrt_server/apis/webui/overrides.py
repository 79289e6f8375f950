"""The WebUI's settings: what `GET /sdapi/v1/options` tells, and what `override_settings` may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.http.refusals import FieldError

__all__ = ["Overrides", "read_overrides", "settings_of"]

ImageFormat = Literal["png", "jpeg", "webp"]
_FORMATS: Mapping[str, ImageFormat] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
_MAX_LAYERS = 12


@dataclass(frozen=True)
class Overrides:
    """The settings of one request.

    Attributes:
        clip_skip: Layers of the text encoder to skip; None for none.
        image_format: What the answer's images are.
        weights: Whether brackets in prompts weigh words.
    """

    clip_skip: int | None = None
    image_format: ImageFormat = "png"
    weights: bool = True


def settings_of(checkpoint: Checkpoint) -> dict[str, object]:
    """The settings that matter to a client, as the WebUI names them."""
    return {
        "sd_model_checkpoint": checkpoint.title,
        "sd_checkpoint_hash": checkpoint.sha256,
        "sd_vae": "None",
        "CLIP_stop_at_last_layers": 1,
        "emphasis": "Original",
        "samples_format": "png",
        "eta_noise_seed_delta": 0,
        "randn_source": "CPU",
        "img2img_fix_steps": False,
        "img2img_color_correction": False,
        "inpainting_mask_weight": 1.0,
        "return_grid": False,
    }


def read_overrides(wanted: Mapping[str, Any], checkpoint: Checkpoint) -> Overrides:
    """Read `override_settings`.

    Args:
        wanted: Settings by name; those that are as they are anyway change nothing.
        checkpoint: What is served.

    Raises:
        FieldError: A setting is unknown, or this server does not have it at that value.
    """
    present = settings_of(checkpoint)
    for name, value in wanted.items():
        if name not in present:
            raise FieldError(
                f"this server does not have the setting {name}",
                field=f"override_settings.{name}",
                received=repr(value),
                expected=", ".join(present),
            )
        allowed = _allowed(name, checkpoint)
        if value is not None and value != present[name] and value not in allowed:
            raise FieldError(
                f"this server does not have the setting {name} at that value",
                field=f"override_settings.{name}",
                received=repr(value),
                expected=" or ".join(repr(option) for option in dict.fromkeys((present[name], *allowed))),
            )
    settings = {**present, **{name: value for name, value in wanted.items() if value is not None}}
    last_layer = int(settings["CLIP_stop_at_last_layers"])
    return Overrides(
        clip_skip=last_layer - 1 or None,
        image_format=_FORMATS[settings["samples_format"]],
        weights=settings["emphasis"] != "None",
    )


def _allowed(name: str, checkpoint: Checkpoint) -> tuple[object, ...]:
    match name:
        case "sd_model_checkpoint":
            return checkpoint.names
        case "CLIP_stop_at_last_layers":
            return tuple(range(1, _MAX_LAYERS + 1))
        case "samples_format":
            return tuple(_FORMATS)
        case "emphasis":
            return ("None",)
        case "sd_vae":
            return ("Automatic",)
        case _:
            return ()
