"""`POST /sdapi/v1/img2img` and `POST /sdapi/v1/txt2img`: JSON in, JSON out."""

from __future__ import annotations

import contextlib

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from inpaintrt.request import Request as PipelineRequest
from inpaintrt.request import make_request
from inpaintrt_server.apis.decoding import in_image_thread
from inpaintrt_server.apis.webui.answers import Results, images_body
from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Generation, Img2Img
from inpaintrt_server.apis.webui.jobs import Jobs, WebuiJob
from inpaintrt_server.apis.webui.mapping import options_of, prompt_of
from inpaintrt_server.apis.webui.masks import read_mask
from inpaintrt_server.apis.webui.overrides import Overrides, read_overrides
from inpaintrt_server.apis.webui.progress import owner_of
from inpaintrt_server.batching.events import Finished, JobTimings, Stepped
from inpaintrt_server.http.bodies import read_json
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.record import record_of
from inpaintrt_server.http.running import Running, admission, start_job
from inpaintrt_server.http.timing import server_timing
from inpaintrt_server.http.uploads import Upload, check_upload, decode_base64

__all__ = ["paint"]


async def paint(request: Request, jobs: Jobs, model: type[Generation]) -> Response:
    """Serve a request for images.

    Args:
        request: The HTTP request.
        jobs: Where it is counted while it is under way.
        model: What its body is: `Img2Img` or `Txt2Img`.
    """
    context = context_of(request)
    checkpoint = Checkpoint.of(context.service.stages.manifest)
    with admission(context) as permit:
        fields = await read_json(request, model)
        overrides = read_overrides(fields.override_settings, checkpoint)
        wanted = await _request_of(fields, overrides, checkpoint, context)
        if isinstance(fields, Img2Img) and not fields.include_init_images:
            fields = fields.without_images()
        job = WebuiJob(owner_of(request), fields.force_task_id or record_of(request).id)
        with jobs.enter(job):
            running = start_job(request, permit, wanted, preview_steps=job.previews)
            results, timings = await _follow(running, job, wanted)
    body = await images_body(fields, overrides, checkpoint, results)
    return JSONResponse(body.model_dump(), headers=server_timing(timings))


async def _request_of(
    fields: Generation, overrides: Overrides, checkpoint: Checkpoint, context: Context
) -> PipelineRequest:
    options = options_of(fields, overrides, checkpoint)
    prompt = prompt_of(fields, overrides)
    image, mask = await _images_of(fields, context) if isinstance(fields, Img2Img) else (None, None)
    request = make_request(
        prompt, None if image is None else image.data, mask, options, context.service.stages.family
    )
    check_bounds(request, image, context)
    return request


async def _images_of(fields: Img2Img, context: Context) -> tuple[Upload, bytes | None]:
    max_pixels = context.settings.max_pixels
    image = check_upload(decode_base64(_unbroken(fields.init_images[0])), "image", max_pixels=max_pixels)
    if fields.mask is None:
        return image, None
    mask = check_upload(decode_base64(_unbroken(fields.mask), "mask"), "mask", max_pixels=max_pixels)
    return image, await in_image_thread(context, lambda: read_mask(mask.data, max_pixels=max_pixels))


def _unbroken(text: str) -> str:
    """Base64 without the line breaks that some encoders put in."""
    return "".join(text.split())


async def _follow(running: Running, job: WebuiJob, wanted: PipelineRequest) -> tuple[Results, JobTimings]:
    """Wait for the end, or for the preview that an interrupted job ends with."""
    async with contextlib.aclosing(running.events()) as events:
        async for event in events:
            job.record(event)
            match event:
                case Finished(images=images, seeds=seeds, warnings=warnings, timings=timings):
                    return Results(images, seeds, warnings), timings
                case Stepped(index=index, previews=previews) if job.interrupted and previews:
                    return Results(previews, wanted.seeds, interrupted=True), JobTimings(steps=index)
                case _:
                    pass
    raise AssertionError("the events of a job end with its results: this is a bug")
