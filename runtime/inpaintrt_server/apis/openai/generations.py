"""`POST /v1/images/generations`: JSON in; JSON or server-sent events out."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from inpaintrt.request import make_request
from inpaintrt_server.apis.openai.answers import answer
from inpaintrt_server.apis.openai.fields import GenerationFields
from inpaintrt_server.apis.openai.mapping import generation_options
from inpaintrt_server.apis.openai.models import check_model
from inpaintrt_server.http.bodies import read_json
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.context import context_of
from inpaintrt_server.http.previews import preview_steps
from inpaintrt_server.http.running import admission, start_job

__all__ = ["generate_image"]


async def generate_image(request: Request) -> Response:
    """Make images from a prompt alone."""
    context = context_of(request)
    with admission(context) as permit:
        fields = await read_json(request, GenerationFields)
        check_model(fields.model, context)
        wanted = make_request(
            fields.prompt, None, None, generation_options(fields), context.service.stages.family
        )
        check_bounds(wanted, None, context)
        steps = preview_steps(context.service.stages, wanted, fields.partial_images)
        running = start_job(request, permit, wanted, preview_steps=steps)
        return await answer(fields, running, "image_generation")
