"""Fields of the WebUI that this server cannot serve: clients may send them where they ask for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inpaintrt_server.http.form_schema import accept_null
from inpaintrt_server.http.refusals import FieldError

__all__ = ["IMG2IMG", "TXT2IMG", "Unsupported"]


@dataclass(frozen=True)
class Unsupported:
    """Fields of one path that this server cannot serve.

    Attributes:
        neutral: The values, beside null, that ask for nothing.
        ignored: Fields that change nothing here whatever their value, and why.
    """

    neutral: Mapping[str, tuple[object, ...]]
    ignored: Mapping[str, str]

    def drop(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what asks for nothing: null, neutral values, and fields that change nothing.

        Raises:
            FieldError: A field asks for what this server does not have.
        """
        for name, values in self.neutral.items():
            value = fields.get(name)
            if value is not None and not any(value == neutral for neutral in values):
                raise FieldError(
                    f"this server does not support {name}",
                    field=name,
                    received=repr(value),
                    expected=" or ".join(repr(neutral) for neutral in values) or "null",
                )
        without = self.neutral.keys() | self.ignored.keys()
        return {name: value for name, value in fields.items() if value is not None and name not in without}

    def describe(self, schema: dict[str, Any]) -> None:
        """Add these fields to a JSON Schema, and null to all that need not be there."""
        properties = schema["properties"]
        for name, values in self.neutral.items():
            properties[name] = {"enum": [None, *values], "description": "Not supported beyond these values."}
        for name, why in self.ignored.items():
            properties[name] = {"description": f"Changes nothing: {why}."}
        accept_null(schema)


_NEUTRAL: Mapping[str, tuple[object, ...]] = {
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
    "refiner_checkpoint": ("",),
    "save_images": (False,),
    "script_name": ("",),
    "script_args": ([],),
    "alwayson_scripts": ({},),
    "infotext": ("",),
    "firstpass_image": (),
}
_IGNORED: Mapping[str, str] = {
    "subseed": "subseed_strength is 0",
    "seed_enable_extras": "there are no subseeds",
    "refiner_switch_at": "there is no refiner",
    "do_not_save_samples": "nothing is saved",
    "do_not_save_grid": "nothing is saved",
    "comments": "it is the client's own note",
}
_OF_SECOND_PASS = (
    *("denoising_strength", "firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler"),
    *("hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name"),
    *("hr_scheduler", "hr_prompt", "hr_negative_prompt"),
)

IMG2IMG = Unsupported(
    {**_NEUTRAL, "initial_noise_multiplier": (1,), "mask_round": (True,), "latent_mask": ()},
    {**_IGNORED, "image_cfg_scale": "it is for checkpoints that edit by instruction"},
)
"""Fields of img2img."""

TXT2IMG = Unsupported(
    {**_NEUTRAL, "enable_hr": (False,)},
    {**_IGNORED, **dict.fromkeys(_OF_SECOND_PASS, "it is for a second pass, and enable_hr is false")},
)
"""Fields of txt2img."""
