"""The fields of `POST /v1/inpaint`."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from inpaintrt.request import Options
from inpaintrt_server.http.pictures import DEFAULT_QUALITY, OutputFormat
from inpaintrt_server.http.timing import TimingsBody

__all__ = ["LIST_FIELDS", "InpaintFields", "InpaintJson", "InpaintResult"]

_Side = Annotated[int, Field(ge=8, le=16384, multiple_of=8)]
_Margin = Annotated[int, Field(ge=0, le=16384)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Seed = Annotated[int, Field(ge=0, le=2**53 - 1)]

LIST_FIELDS = ("seed", "guidance_interval", "margins")
"""Fields that a form may bring more than once, or as one JSON array."""

_ANSWER_FIELDS = {"output_format", "output_quality", "response_format", "stream", "previews", "image", "mask"}


class InpaintFields(BaseModel):
    """Every option of the pipeline but first latents and other output types, and how to answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field(description="What to paint where the mask is white.")
    negative_prompt: str | None = Field(default=None, description="What not to paint.")
    num_inference_steps: int = Field(default=50, ge=1, description="Steps of the sampler.")
    guidance_scale: float = Field(
        default=7.5,
        ge=0,
        le=50,
        description="How strongly the prompt is followed; at 1 or below there is no guidance.",
    )
    strength: _Share = Field(default=1.0, description="How much of the picture under the mask is forgotten.")
    num_images_per_prompt: int = Field(default=1, ge=1, le=100, description="Results to make.")
    eta: _Share = Field(default=0.0, description="Noise of DDIM and TCD.")
    seed: _Seed | list[_Seed] | None = Field(
        default=None, description="One seed, or one for each result; without one it is chosen and reported."
    )
    scheduler: str | None = Field(
        default=None, description="A sampler's name, see /info; without one the checkpoint's own."
    )
    padding_mask_crop: int | None = Field(
        default=None, ge=0, le=16384, description="Run only the masked region and this many pixels around it."
    )
    height: _Side | None = Field(default=None, description="Height to run at, in pixels.")
    width: _Side | None = Field(default=None, description="Width to run at, in pixels.")
    clip_skip: int | None = Field(default=None, ge=0, description="Last layers of the text encoder to skip.")
    compat: Literal["diffusers"] | None = Field(
        default=None, description="Follow diffusers in size, cropping and pasting back."
    )
    negative_mode: Literal["replace", "symmetric"] = Field(
        default="replace", description="How the negative prompt acts."
    )
    guidance_interval: tuple[_Share, _Share] = Field(
        default=(0.0, 1.0), description="First and last part of the run in which guidance acts."
    )
    long_prompts: Literal["truncate", "windows"] = Field(
        default="truncate", description="What happens to prompts that are longer than the encoder's window."
    )
    mask_blur: float = Field(
        default=0.0, ge=0, le=512, description="Softens the mask's edge; sigma in pixels."
    )
    mask_grow: int = Field(
        default=0, ge=-4096, le=4096, description="Grows the mask by pixels, or shrinks it."
    )
    mask_invert: bool = Field(default=False, description="Repaint what is black.")
    match_colours: bool = Field(default=True, description="Match colours at the mask's edge.")
    fill: Literal["original", "grey", "noise", "blur"] = Field(
        default="original", description="What is under the mask when strength is below 1."
    )
    margins: tuple[_Margin, _Margin, _Margin, _Margin] = Field(
        default=(0, 0, 0, 0), description="Pixels to paint beyond the left, top, right and bottom edge."
    )
    output_format: OutputFormat = Field(default="png", description="File type of the results.")
    output_quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description="Of JPEG and WebP.")
    response_format: Literal["image", "json"] | None = Field(
        default=None,
        description="The file of a single result, or JSON with base64 of all; goes before the header Accept.",
    )
    stream: bool = Field(
        default=False, description="Answer with server-sent events, as Accept: text/event-stream does."
    )
    previews: int = Field(
        default=0, ge=0, le=10, description="How many times a stream shows the present estimate."
    )

    def options(self) -> Options:
        """The pipeline's options."""
        return cast("Options", self.model_dump(exclude={"prompt", *_ANSWER_FIELDS}))


class InpaintJson(InpaintFields):
    """A request as JSON."""

    image: str = Field(
        description="The picture's file as base64, or as a data: URL.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    mask: str | None = Field(
        default=None,
        description="The mask's file as base64: white is painted, black is kept. Not needed with margins.",
        json_schema_extra={"contentEncoding": "base64"},
    )


class InpaintResult(BaseModel):
    """The results."""

    images: list[str] = Field(description="Files as base64, in the format that was asked for.")
    seeds: list[int] = Field(description="The seed of each.")
    warnings: list[str] = Field(description="What the caller should know.")
    timings: TimingsBody
