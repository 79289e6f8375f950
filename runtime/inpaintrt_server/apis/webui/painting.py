"""`POST /sdapi/v1/img2img` and `POST /sdapi/v1/txt2img`: JSON in, JSON out."""

from __future__ import annotations

import contextlib

import anyio.to_thread
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from inpaintrt.request import Request as PipelineRequest
from inpaintrt_server.apis.webui.answers import Results, images_body
from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Generation, Img2Img
from inpaintrt_server.apis.webui.images import read_images
from inpaintrt_server.apis.webui.jobs import Jobs, WebuiJob
from inpaintrt_server.apis.webui.mapping import loras_of, options_of, prompt_of
from inpaintrt_server.apis.webui.overrides import read_overrides
from inpaintrt_server.apis.webui.progress import owner_of
from inpaintrt_server.batching.events import Finished, JobTimings, Stepped
from inpaintrt_server.http.answers import server_timing
from inpaintrt_server.http.bodies import read_json
from inpaintrt_server.http.bounds import make_bounded_request
from inpaintrt_server.http.context import Context
from inpaintrt_server.http.running import Running, admission
from inpaintrt_server.http.uploads import Upload

__all__ = ["paint"]


async def paint(request: Request, jobs: Jobs, model: type[Generation]) -> Response:
    """Serve a request for images.

    Args:
        request: The HTTP request.
        jobs: Where it is counted while it is under way.
        model: What its body is: `Img2Img` or `Txt2Img`.
    """
    with admission(request) as admitted:
        checkpoint = Checkpoint.of(admitted.context.service.stages.manifest)
        fields = await read_json(request, model)
        overrides = read_overrides(fields.override_settings, checkpoint)
        options = options_of(fields, overrides, checkpoint)
        prompt = prompt_of(fields, overrides)
        loras = loras_of(fields, admitted.context.service.loras)
        image, mask = await _images_of(fields, admitted.context)
        wanted = make_bounded_request(admitted.context, prompt, options, image, mask)
        if isinstance(fields, Img2Img) and not fields.include_init_images:
            fields = fields.without_images()
        job = WebuiJob(owner_of(request), fields.force_task_id or admitted.record.id)
        with jobs.enter(job):
            running = admitted.start_job(wanted, job.previews, loras)
            results, timings = await _follow(running, job, wanted)
    body = await images_body(fields, overrides, checkpoint, results)
    return JSONResponse(body.model_dump(), headers=server_timing(timings))


async def _images_of(fields: Generation, context: Context) -> tuple[Upload | None, bytes | None]:
    if not isinstance(fields, Img2Img):
        return None, None
    return await anyio.to_thread.run_sync(
        lambda: read_images(fields, max_pixels=context.settings.max_pixels), limiter=context.image_threads
    )


async def _follow(running: Running, job: WebuiJob, wanted: PipelineRequest) -> tuple[Results, JobTimings]:
    """Wait for the end, or for the preview that an interrupted job ends with."""
    async with contextlib.aclosing(running.events()) as events:
        async for event in events:
            job.record(event)
            match event:
                case Finished(images=images, seeds=seeds, warnings=warnings, timings=timings):
                    return Results(images, seeds, warnings), timings
                case Stepped(index=index, previews=previews, exact=True) if job.interrupted:
                    return Results(previews, wanted.seeds, interrupted=True), JobTimings(steps=index)
                case _:
                    pass
    raise AssertionError("the events of a job end with its results: this is a bug")
