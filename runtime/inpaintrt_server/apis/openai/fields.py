"""The form of `POST /v1/images/edits`, and the body of `POST /v1/images/generations`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inpaintrt_server.http.answers import OutputFormat
from inpaintrt_server.http.form_schema import accept_null
from inpaintrt_server.http.refusals import FieldError

__all__ = ["EditFields", "GenerationFields", "ImageFields"]

_LONGEST_NAME = 512
_SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"

# What OpenAI's service has and this one has not, with the reason.
_REFUSED: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("response_format", "url"): "no files are kept that an address could lead to: ask for b64_json",
        (
            "background",
            "transparent",
        ): "what is painted is opaque; what a mask keeps stays as transparent as it was",
        ("output_format", "gif"): "one image does not move: ask for png, jpeg or webp",
        ("output_format", "svg"): "images are made of pixels: ask for png, jpeg or webp",
    }
)


class ImageFields(BaseModel):
    """What both paths take: OpenAI's names, and below them our own. The two names of users change nothing."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field(description="What to paint.")
    model: str | None = Field(
        None, max_length=_LONGEST_NAME, description="A name of /v1/models, or `auto` for the bundle."
    )
    n: int = Field(1, ge=1, le=10, description="Images to make.")
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] = Field(
        "auto",
        description="`low` is the quality `fast` of /v1/inpaint, `medium` is `balanced`, and all others are "
        "`exact`; `steps` and `scheduler` go before it.",
    )
    output_format: OutputFormat = Field("png", description="The format of the results.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of JPEG and WebP; 100 keeps most."
    )
    response_format: Literal["b64_json"] = Field("b64_json", description="Results are base64.")
    stream: bool = Field(default=False, description="Send server-sent events.")
    partial_images: int = Field(0, ge=0, le=3, description="Previews on the way, in a stream.")
    user: str | None = Field(None, max_length=_LONGEST_NAME, description="Changes nothing.")
    safety_identifier: str | None = Field(None, max_length=_LONGEST_NAME, description="Changes nothing.")

    seed: int | None = Field(None, ge=0, le=2**64 - 1, description="Absent: one is chosen, and told.")
    negative_prompt: str | None = Field(None, description="What not to paint.")
    steps: int | None = Field(None, ge=1, description="Steps of the sampler.")
    guidance_scale: float = Field(7.5, ge=0, le=50, description="How strongly the prompt is followed.")
    scheduler: str | None = Field(None, max_length=_LONGEST_NAME, description="A sampler, as in /info.")
    preset: str | None = Field(
        None,
        max_length=_LONGEST_NAME,
        description="A preset, as in /info; `steps`, `guidance_scale` and `scheduler` go before it, and "
        "`quality` changes nothing then.",
    )
    lora: str | None = Field(None, max_length=_LONGEST_NAME, description="A LoRA, as in /info.")

    @model_validator(mode="before")
    @classmethod
    def _explain(cls, data: object) -> object:
        if isinstance(data, dict):
            _check_refused(data)
        return data

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.output_format == "png" and self.output_compression not in (None, 100):
            raise FieldError(
                "PNG files lose nothing, so there is no compression to choose",
                field="output_compression",
                received=self.output_compression,
                expected="100, or output_format jpeg or webp",
            )
        if self.partial_images and not self.stream:
            raise FieldError(
                "partial images come in a stream",
                field="partial_images",
                received=self.partial_images,
                expected="0, or stream true",
            )
        if self.stream and self.n > 1:
            raise FieldError(
                "a stream carries one image", field="n", received=self.n, expected="1, or stream false"
            )
        return self


class EditFields(ImageFields):
    """The form of `POST /v1/images/edits`. `input_fidelity` changes nothing."""

    size: str = Field(
        "auto",
        pattern=_SIZE,
        description="`auto` for the image's own size, or WIDTHxHEIGHT of the image's proportions.",
    )
    background: Literal["auto", "opaque"] = Field(
        "auto", description="`opaque` makes an image with transparency opaque first."
    )
    input_fidelity: Literal["high", "low"] | None = Field(
        None, description="Changes nothing: what the mask keeps is kept bit for bit."
    )
    strength: float | None = Field(
        None, ge=0, le=1, description="What to forget of the image; absent: 1 with a mask, 0.8 without one."
    )


class GenerationFields(ImageFields):
    """The body of `POST /v1/images/generations`; null stands for a field's default.

    `style` and `moderation` change nothing.
    """

    model_config = ConfigDict(json_schema_extra=accept_null)

    size: str = Field(
        "auto",
        pattern=_SIZE,
        description="`auto` for the checkpoint's size, or WIDTHxHEIGHT, multiples of the VAE's factor (8).",
    )
    background: Literal["auto", "opaque"] = Field("auto", description="Results are opaque.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Changes nothing.")
    moderation: Literal["low", "auto"] | None = Field(None, description="Changes nothing.")

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, data: object) -> object:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


def _check_refused(data: Mapping[str, Any]) -> None:
    for (name, value), reason in _REFUSED.items():
        if data.get(name) == value:
            raise FieldError(
                f"this server does not support {name} {value!r}", field=name, received=value, hint=reason
            )
