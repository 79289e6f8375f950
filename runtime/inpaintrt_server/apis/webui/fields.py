"""The bodies of `POST /sdapi/v1/img2img` and `POST /sdapi/v1/txt2img`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inpaintrt_server.apis.webui.neutral import IMG2IMG, TXT2IMG

__all__ = ["IMAGE_FIELDS", "Generation", "Img2Img", "Txt2Img"]

IMAGE_FIELDS = {"init_images", "mask"}

_MAX_SIDE = 16384
_MAX_BLUR = 512
# Far above what any server gives; a seed is chosen for each result before that is checked.
_MAX_RESULTS = 100


class Generation(BaseModel):
    """What the WebUI's clients send to both paths; null stands for a field's default.

    Names, meanings and defaults are the WebUI's, but `width` and `height` default to the checkpoint's size.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field("", description="What to paint, and LoRAs as <lora:name:weight>.")
    negative_prompt: str = Field("", description="What not to paint.")
    seed: int = Field(-1, ge=-1, le=2**64 - 1, description="-1 chooses one; further images count up from it.")
    sampler_name: str | None = Field(None, description="A name of /sdapi/v1/samplers.")
    sampler_index: str = Field("Euler", description="Taken where sampler_name is absent.")
    scheduler: str = Field("Automatic", description="A name of /sdapi/v1/schedulers.")
    steps: int = Field(50, ge=1, description="Steps of the sampler.")
    cfg_scale: float = Field(7.0, ge=0, le=50, description="How strongly the prompt is followed.")
    eta: float | None = Field(
        None, ge=0, le=1, description="Noise of DDIM and TCD; 1 for ancestral samplers."
    )
    width: int | None = Field(None, ge=8, le=_MAX_SIDE, description="Width of the run, a multiple of 8.")
    height: int | None = Field(None, ge=8, le=_MAX_SIDE, description="Height of the run, a multiple of 8.")
    batch_size: int = Field(1, ge=1, le=_MAX_RESULTS, description="Images to make, times n_iter.")
    n_iter: int = Field(1, ge=1, le=_MAX_RESULTS, description="Images to make, times batch_size.")
    send_images: bool = Field(default=True, description="False leaves the images out of the answer.")
    disable_extra_networks: bool = Field(
        default=False, description="True takes LoRAs out of the prompt without using them."
    )
    override_settings: dict[str, Any] = Field(default={}, description="Settings of this request.")
    override_settings_restore_afterwards: bool = Field(
        default=True, description="True where there are override_settings: none is kept."
    )
    force_task_id: str | None = Field(None, max_length=128, description="A name that /progress repeats.")


class Img2Img(Generation):
    """An image to change: where a mask is white, or all of it without a mask.

    Without a mask, the fields that are about masks change nothing, as in the WebUI.
    """

    model_config = ConfigDict(json_schema_extra=IMG2IMG.describe)

    init_images: list[str] = Field(
        min_length=1, max_length=1, description="The image in base64, with or without `data:...;base64,`."
    )
    mask: str | None = Field(
        None, description="The mask in base64: white is painted, black is kept. Absent: all is changed."
    )
    mask_blur: int | None = Field(None, ge=0, le=_MAX_BLUR, description="Blur of the mask; sigma in pixels.")
    mask_blur_x: int = Field(4, ge=0, le=_MAX_BLUR, description="The same along x; equal to mask_blur_y.")
    mask_blur_y: int = Field(4, ge=0, le=_MAX_BLUR, description="The same along y; equal to mask_blur_x.")
    inpainting_mask_invert: int = Field(0, ge=0, le=1, description="1 paints what is black.")
    inpainting_fill: int = Field(
        0, ge=0, le=3, description="Masked content: 0 surroundings, 1 original, 2 noise, 3 grey."
    )
    inpaint_full_res: bool = Field(default=True, description="Run the masked region alone.")
    inpaint_full_res_padding: int = Field(0, ge=0, le=_MAX_SIDE, description="Pixels around that region.")
    resize_mode: int = Field(
        0, ge=0, le=3, description="0 (stretch), unless there is a mask and inpaint_full_res is true."
    )
    denoising_strength: float = Field(0.75, ge=0, le=1, description="What to forget of the image.")
    include_init_images: bool = Field(default=False, description="Repeat image and mask in the answer.")

    def without_images(self) -> Img2Img:
        """The same without image and mask, which need not wait in memory once they are decoded."""
        return self.model_copy(
            update={"init_images": [], "mask": None if self.mask is None else ""},
        )

    @property
    def masked_region_only(self) -> bool:
        """Whether the mask's region runs alone."""
        return self.mask is not None and self.inpaint_full_res

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, data: object) -> object:
        return IMG2IMG.drop(data) if isinstance(data, dict) else data


class Txt2Img(Generation):
    """An image to make from a prompt alone."""

    model_config = ConfigDict(json_schema_extra=TXT2IMG.describe)

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, data: object) -> object:
        return TXT2IMG.drop(data) if isinstance(data, dict) else data
