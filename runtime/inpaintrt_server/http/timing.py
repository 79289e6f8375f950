"""Where a request's time went, as a header and as JSON."""

from __future__ import annotations

from dataclasses import fields

from pydantic import BaseModel, Field

from inpaintrt_server.batching.events import JobTimings

__all__ = ["TimingsBody", "server_timing"]


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
