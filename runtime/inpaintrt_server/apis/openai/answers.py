"""What OpenAI's interface answers: results as JSON, or the events of a stream."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from inpaintrt_server.apis.openai.errors import error_body, for_openai
from inpaintrt_server.apis.openai.fields import ImageFields
from inpaintrt_server.batching.events import Started, Stepped
from inpaintrt_server.http.answers import (
    DEFAULT_QUALITY,
    Encoded,
    File,
    Output,
    OutputFormat,
    Previewed,
    server_timing,
)
from inpaintrt_server.http.errors import Problem
from inpaintrt_server.http.running import Message, Running, Translate

__all__ = ["EventPrefix", "ImagesBody", "answer"]

EventPrefix: TypeAlias = Literal["image_edit", "image_generation"]
"""What the names of a stream's events begin with."""

Background = Literal["transparent", "opaque"]


class TokenDetails(BaseModel):
    """Tokens by kind."""

    image_tokens: int = 0
    text_tokens: int = 0


class UsageBody(BaseModel):
    """Tokens that are paid for. Nothing is metered here, but clients expect the field."""

    input_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


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
    usage: UsageBody = UsageBody()
    warnings: list[str] = Field(description="What the caller should know; ours.")


async def answer(fields: ImageFields, running: Running, prefix: EventPrefix) -> Response:
    """Follow a request to its end, or stream its events.

    Args:
        fields: What was asked for.
        running: The request.
        prefix: What the names of events begin with.

    Raises:
        InpaintError: The request failed, was cancelled, or its time was over; streams have an event for that.
    """
    asked = fields.output_compression
    output = Output(fields.output_format, DEFAULT_QUALITY if asked is None else max(asked, 1))
    if fields.stream:
        return running.stream(output, _translator(fields, prefix), _event_of_problem)
    return _json_response(fields, await running.result(output))


def _translator(fields: ImageFields, prefix: EventPrefix) -> Translate:
    indices = itertools.count()

    def translate(event: Started | Stepped | Previewed | Encoded) -> Message | None:
        match event:
            case Previewed(step=step, files=files):
                body = _image_body(fields, step.previews[0], files[0])
                return _event(f"{prefix}.partial_image", {**body, "partial_image_index": next(indices)})
            case Encoded(finished=finished, files=files):
                body = _image_body(fields, finished.images[0], files[0])
                usage = UsageBody().model_dump()
                return _event(f"{prefix}.completed", {**body, "usage": usage, "seed": finished.seeds[0]})
            case _:
                return None

    return translate


def _json_response(fields: ImageFields, encoded: Encoded) -> Response:
    finished = encoded.finished
    body = ImagesBody(
        created=int(time.time()),
        data=[
            ImageBody(b64_json=file.base64, seed=seed)
            for file, seed in zip(encoded.files, finished.seeds, strict=True)
        ],
        background=_background(finished.images[0]),
        output_format=fields.output_format,
        quality=_quality(fields),
        size=_size(finished.images[0]),
        warnings=list(finished.warnings),
    )
    return JSONResponse(body.model_dump(), headers=server_timing(finished.timings))


def _image_body(fields: ImageFields, image: Image.Image, file: File) -> dict[str, Any]:
    return {
        "b64_json": file.base64,
        "created_at": int(time.time()),
        "background": _background(image),
        "output_format": fields.output_format,
        "quality": _quality(fields),
        "size": _size(image),
    }


def _event(name: str, body: Mapping[str, Any]) -> Message:
    return name, {"type": name, **body}


def _event_of_problem(problem: Problem) -> Message:
    return _event("error", error_body(for_openai(problem)))


def _background(image: Image.Image) -> Background:
    return "transparent" if image.mode == "RGBA" else "opaque"


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _quality(fields: ImageFields) -> Literal["low", "medium", "high"]:
    return fields.quality if fields.quality in ("low", "medium") else "high"
