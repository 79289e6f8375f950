"""Fields of the WebUI that this server cannot serve: clients may send them where they ask for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inpaintrt_server.http.refusals import FieldError

__all__ = ["IGNORED", "NEUTRAL", "describe_neutral", "drop_neutral"]

NEUTRAL: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "styles": ([],),
        "subseed_strength": (0,),
        "seed_resize_from_h": (-1, 0),
        "seed_resize_from_w": (-1, 0),
        "restore_faces": (False,),
        "tiling": (False,),
        "s_churn": (0,),
        "s_tmin": (0,),
        "s_tmax": (0,),
        "s_noise": (1,),
        "s_min_uncond": (0,),
        "initial_noise_multiplier": (1,),
        "mask_round": (True,),
        "latent_mask": (),
        "refiner_checkpoint": ("",),
        "save_images": (False,),
        "script_name": ("",),
        "script_args": ([],),
        "alwayson_scripts": ({},),
        "infotext": ("",),
        "firstpass_image": (),
    }
)
"""The values, beside null, that ask for nothing."""

IGNORED: Mapping[str, str] = MappingProxyType(
    {
        "subseed": "subseed_strength is 0",
        "seed_enable_extras": "there are no subseeds",
        "image_cfg_scale": "it is for checkpoints that edit by instruction",
        "refiner_switch_at": "there is no refiner",
        "disable_extra_networks": "there are no extra networks",
        "do_not_save_samples": "nothing is saved",
        "do_not_save_grid": "nothing is saved",
        "comments": "it is the client's own note",
    }
)
"""Fields that change nothing here whatever their value, and why."""


def drop_neutral(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what asks for nothing: null, neutral values, and fields that change nothing.

    Raises:
        FieldError: A field asks for what this server does not have.
    """
    for name, values in NEUTRAL.items():
        value = fields.get(name)
        if value is not None and not any(value == neutral for neutral in values):
            raise FieldError(
                f"this server does not support {name}",
                field=name,
                received=repr(value),
                expected=" or ".join(repr(neutral) for neutral in values) or "null",
            )
    without = NEUTRAL.keys() | IGNORED.keys()
    return {name: value for name, value in fields.items() if value is not None and name not in without}


def describe_neutral(schema: dict[str, Any]) -> None:
    """Add these fields to a JSON Schema."""
    properties = schema["properties"]
    for name, values in NEUTRAL.items():
        properties[name] = {"enum": [None, *values], "description": "Not supported beyond these values."}
    for name, why in IGNORED.items():
        properties[name] = {"description": f"Changes nothing: {why}."}
