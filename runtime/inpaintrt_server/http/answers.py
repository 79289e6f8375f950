"""What the answers of all interfaces are made of: files of results, timings, and server-sent events."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio.to_thread
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, Field

from inpaintrt_server.batching.events import Finished, JobTimings, Started, Stepped

__all__ = [
    "DEFAULT_QUALITY",
    "EVENT_SCHEMA",
    "MEDIA_TYPES",
    "Encoded",
    "File",
    "Output",
    "OutputFormat",
    "Previewed",
    "TimingsBody",
    "encode_events",
    "encode_images",
    "server_timing",
    "sse",
]

OutputFormat: TypeAlias = Literal["png", "jpeg", "webp"]

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

DEFAULT_QUALITY = 95

EVENT_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "description": "Each event of the stream.",
        "required": ["data"],
        "properties": {
            "event": {"type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
    }
)
"""How OpenAPI describes an event; before version 3.2 it has no schema for a stream as a whole."""


@dataclass(frozen=True)
class Output:
    """How images become files.

    Attributes:
        format: "png", "jpeg" or "webp"; a JPEG has no transparency, so that is dropped there.
        quality: From 1 to 100, for JPEG and WebP.
        texts: How each image was made, for the metadata of a PNG; empty for none.
    """

    format: OutputFormat = "png"
    quality: int = DEFAULT_QUALITY
    texts: Sequence[str] = ()


class File(NamedTuple):
    """An encoded image.

    Attributes:
        content: Its bytes.
        base64: The same as JSON carries them.
    """

    content: bytes
    base64: str


async def encode_images(images: Sequence[Image.Image], output: Output) -> list[File]:
    """Encode images of mode "RGB" or "RGBA" in a thread."""
    texts: Sequence[str | None] = output.texts or [None] * len(images)
    return await anyio.to_thread.run_sync(
        lambda: [_encode(image, output, text) for image, text in zip(images, texts, strict=True)]
    )


def _encode(image: Image.Image, output: Output, text: str | None) -> File:
    file = io.BytesIO()
    saved = image.convert("RGB") if output.format == "jpeg" else image
    information = PngImagePlugin.PngInfo()
    if text is not None:
        information.add_itxt("parameters", text)
    settings = {"pnginfo": information} if output.format == "png" else {"quality": output.quality}
    saved.save(file, output.format, icc_profile=image.info.get("icc_profile"), **settings)
    content = file.getvalue()
    return File(content, b64encode(content).decode("ascii"))


@dataclass(frozen=True)
class Previewed:
    """The present estimates after a step, as files.

    Attributes:
        step: The step.
        files: One for each result.
    """

    step: Stepped
    files: Sequence[File]


@dataclass(frozen=True)
class Encoded:
    """The end of a job, with its results as files.

    Attributes:
        finished: The end.
        files: One for each result.
    """

    finished: Finished
    files: Sequence[File]


async def encode_events(
    event: Started | Stepped | Finished, output: Output
) -> AsyncIterator[Started | Stepped | Previewed | Encoded]:
    """An event of a job with files in the place of images; previews come apart, behind their step."""
    match event:
        case Finished():
            yield Encoded(event, await encode_images(event.images, output))
        case Stepped(previews=previews) if previews:
            yield event
            yield Previewed(event, await encode_images(previews, replace(output, texts=())))
        case _:
            yield event


def server_timing(timings: JobTimings) -> dict[str, str]:
    """The header `Server-Timing`: stages in milliseconds."""
    stages = [
        f"{field.name};dur={getattr(timings, field.name) * 1000:.1f}"
        for field in fields(timings)
        if field.name != "steps"
    ]
    return {"Server-Timing": ", ".join(stages)}


class TimingsBody(BaseModel):
    """Where the time went, in seconds."""

    queue: float = Field(description="Waiting for a slot.")
    prepare: float = Field(description="Reading and fitting images and masks.")
    encode: float = Field(description="Prompts and images, on the engines.")
    denoise: float = Field(description="From the first step to the last.")
    decode: float = Field(description="Latents to images, on the engine.")
    paste: float = Field(description="Putting results into their images.")
    total: float = Field(description="From admission to the result.")
    steps: int = Field(description="Steps of the sampler.")


def sse(name: str, data: Mapping[str, Any]) -> bytes:
    """One server-sent event, with JSON as its data."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
