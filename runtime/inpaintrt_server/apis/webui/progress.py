"""`/sdapi/v1/progress` and `/sdapi/v1/interrupt`: a client's own requests that are under way."""

from __future__ import annotations

import hashlib
import time

from fastapi import Request
from pydantic import BaseModel, Field

from inpaintrt_server.apis.webui.jobs import Jobs, WebuiJob
from inpaintrt_server.http.answers import Output, encode_images
from inpaintrt_server.http.context import context_of
from inpaintrt_server.http.keys import given_keys

__all__ = ["ProgressBody", "StateBody", "owner_of", "progress_of"]

# The WebUI tells of this much as soon as something is under way.
_MIN_PROGRESS = 0.01


class StateBody(BaseModel):
    """What is under way."""

    skipped: bool = False
    interrupted: bool = False
    job: str = ""
    job_count: int = Field(default=0, description="Requests under way.")
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = Field(default=0, description="Steps of the oldest request that are done.")
    sampling_steps: int = Field(default=0, description="Steps of the oldest request; 0 while it waits.")


class ProgressBody(BaseModel):
    """How far a client's requests are; details are those of its oldest."""

    progress: float = Field(description="The mean over its requests, from 0 to 1; 0 where there is none.")
    eta_relative: float = Field(description="Seconds that are left, about.")
    state: StateBody
    current_image: str | None = Field(description="A preview in base64; asking for it has the next one made.")
    textinfo: str | None = None
    current_task: str | None = Field(description="What the client calls its oldest request.")


def owner_of(request: Request) -> str:
    """Whose a request is: clients with different keys do not see each other's."""
    keys = context_of(request).keys
    if not keys.required:
        return ""
    return hashlib.sha256((keys.admitted(given_keys(request.headers)) or "").encode()).hexdigest()


async def progress_of(jobs: Jobs, owner: str, *, with_image: bool) -> ProgressBody:
    """How far the requests of an owner are.

    Args:
        jobs: All requests.
        owner: Whose to tell of.
        with_image: Whether to send a preview, and have the next one made.
    """
    own = jobs.of(owner)
    if not own:
        return ProgressBody(
            progress=0, eta_relative=0, state=StateBody(), current_image=None, current_task=None
        )
    oldest = own[0]
    progress = min(_MIN_PROGRESS + sum(job.share for job in own) / len(own), 1.0)
    passed = time.monotonic() - oldest.started
    return ProgressBody(
        progress=progress,
        eta_relative=passed / progress - passed,
        state=_state_of(oldest, len(own)),
        current_image=await _preview_of(oldest) if with_image else None,
        current_task=oldest.name,
    )


def _state_of(job: WebuiJob, count: int) -> StateBody:
    return StateBody(
        interrupted=job.interrupted,
        job=job.name,
        job_count=count,
        job_timestamp=job.stamp,
        sampling_step=job.step,
        sampling_steps=job.steps,
    )


async def _preview_of(job: WebuiJob) -> str | None:
    job.want_preview()
    if not job.images:
        return None
    (file,) = await encode_images(job.images[:1], Output())
    return file.base64
