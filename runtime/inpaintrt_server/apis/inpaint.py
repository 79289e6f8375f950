"""`POST /v1/inpaint`: a form or JSON in; an image, JSON, or server-sent events out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from inpaintrt.files import parameters_text
from inpaintrt_server.apis.inpaint_answers import InpaintResult, event_of_problem, respond, translator
from inpaintrt_server.apis.inpaint_fields import InpaintFields, InpaintJson, parse_inpaint
from inpaintrt_server.http.answers import EVENT_SCHEMA, MEDIA_TYPES, Output
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.bodies import read_body
from inpaintrt_server.http.bounds import make_bounded_request
from inpaintrt_server.http.errors_schema import problem_responses
from inpaintrt_server.http.form_schema import form_schema, json_schema
from inpaintrt_server.http.running import admission
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_api"]

_PROMPTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")


def make_api(settings: ServerSettings) -> Api:
    """The interface, its OpenAPI true to the limits of these settings."""
    router = APIRouter()
    router.add_api_route(
        "/v1/inpaint",
        inpaint,
        methods=["POST"],
        response_class=Response,
        responses={200: _success(), **problem_responses()},
        openapi_extra={"requestBody": _request_body(settings)},
        summary="Paint what the prompt says: where the mask is white, over an image, or from nothing.",
    )
    return Api("inpaint", ("/v1/inpaint",), router)


async def inpaint(request: Request) -> Response:
    """Paint what the prompt says: where the mask is white, over the whole image, or without any image.

    The answer is the result's file; or JSON, or server-sent events, where `Accept`, `response_format` or
    `stream` say so. Events are `started`, `step`, `preview`, `result` and `error`.
    """
    with admission(request) as admitted:
        context, accept = admitted.context, request.headers.get("accept", "")
        asked, image, mask = await parse_inpaint(await read_body(request, InpaintJson), accept, context)
        loras = context.service.loras.choose_one(asked.fields.lora)
        wanted = make_bounded_request(context, asked.fields.prompt, asked.options, image, mask)
        parameters = asked.parameters(context.service.stages.manifest.name)
        parameters["guidance_scale"] = wanted.guidance.scale
        texts = [parameters_text(parameters, seed) for seed in wanted.seeds]
        output = Output(asked.fields.output_format, asked.fields.output_quality, texts)
        running = admitted.start_job(wanted, asked.previews, loras)
        if asked.answer == "events":
            return running.stream(output, translator(asked), event_of_problem)
        return respond(asked, await running.result(output))


def _success() -> dict[str, Any]:
    file = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": "The result.",
        "content": {
            "application/json": {
                "schema": InpaintResult.model_json_schema(ref_template="#/components/schemas/{model}")
            },
            "text/event-stream": {"schema": dict(EVENT_SCHEMA)},
            **dict.fromkeys(MEDIA_TYPES.values(), file),
        },
    }


def _request_body(settings: ServerSettings) -> dict[str, Any]:
    limits: Mapping[str, Mapping[str, int]] = {
        **{name: {"maxLength": settings.max_prompt} for name in _PROMPTS},
        "num_inference_steps": {"maximum": settings.max_steps},
        "timesteps": {"maxItems": settings.max_steps},
        "sigmas": {"maxItems": settings.max_steps + 1},
        "num_images_per_prompt": {"maximum": settings.max_results},
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": form_schema(InpaintFields, limits, files={"image": False, "mask": False})
            },
            "application/json": {"schema": json_schema(InpaintJson, limits)},
        },
    }
