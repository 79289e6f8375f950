"""`POST /v1/images/generations`: JSON in; JSON or server-sent events out."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from inpaintrt_server.apis.openai.answers import answer
from inpaintrt_server.apis.openai.fields import GenerationFields
from inpaintrt_server.apis.openai.mapping import generation_options
from inpaintrt_server.apis.openai.models import choose_model
from inpaintrt_server.http.bodies import read_json
from inpaintrt_server.http.bounds import make_bounded_request
from inpaintrt_server.http.running import admission

__all__ = ["generate_image"]


async def generate_image(request: Request) -> Response:
    """Make images from a prompt alone."""
    with admission(request) as admitted:
        fields = await read_json(request, GenerationFields)
        loras = choose_model(fields.model, admitted.context, fields.lora)
        wanted = make_bounded_request(admitted.context, fields.prompt, generation_options(fields))
        running = admitted.start_job(wanted, fields.partial_images, loras)
        return await answer(fields, running, "image_generation")
