"""What OpenAI's interface answers: results, and the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, Field

from inpaintrt_server.apis.openai.fields import EditFields
from inpaintrt_server.http.result_files import OutputFormat

__all__ = ["ImageBody", "ImagesBody", "event_body", "images_body"]

Background = Literal["transparent", "opaque"]

# Nothing is metered here, but the client's type for the last event of a stream has this field.
_NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


class ImageBody(BaseModel):
    """One result."""

    b64_json: str = Field(description="The image's file in base64.")
    seed: int = Field(description="The seed that it was made with; ours.")


class ImagesBody(BaseModel):
    """The results of a request."""

    created: int = Field(description="When, in seconds since 1970.")
    data: list[ImageBody]
    background: Background
    output_format: OutputFormat
    quality: Literal["low", "medium", "high"]
    size: str = Field(description="WIDTHxHEIGHT of the results.")
    warnings: list[str] = Field(description="What the caller should know; ours.")


def images_body(
    fields: EditFields,
    images: Sequence[Image.Image],
    files: Sequence[str],
    seeds: Sequence[int],
    warnings: Sequence[str],
) -> ImagesBody:
    """The answer to a request without a stream.

    Args:
        fields: The form.
        images: The results.
        files: The same as files in base64.
        seeds: One for each result.
        warnings: What the caller should know.
    """
    return ImagesBody(
        created=int(time.time()),
        data=[ImageBody(b64_json=file, seed=seed) for file, seed in zip(files, seeds, strict=True)],
        background=_background(images[0]),
        output_format=fields.output_format,
        quality=_quality(fields),
        size=_size(images[0]),
        warnings=list(warnings),
    )


def event_body(
    fields: EditFields, image: Image.Image, file: str, *, partial: int | None = None, seed: int | None = None
) -> dict[str, Any]:
    """The data of an event of a stream.

    Args:
        fields: The form.
        image: The image that it carries.
        file: The same as a file in base64.
        partial: The number of a preview, from 0; None for the result.
        seed: The seed of the result.
    """
    body = {
        "type": "image_edit.completed" if partial is None else "image_edit.partial_image",
        "b64_json": file,
        "created_at": int(time.time()),
        "background": _background(image),
        "output_format": fields.output_format,
        "quality": _quality(fields),
        "size": _size(image),
    }
    if partial is None:
        return {**body, "usage": _NO_USAGE, "seed": seed}
    return {**body, "partial_image_index": partial}


def _background(image: Image.Image) -> Background:
    return "transparent" if image.mode == "RGBA" else "opaque"


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _quality(fields: EditFields) -> Literal["low", "medium", "high"]:
    return fields.quality if fields.quality in ("low", "medium") else "high"
