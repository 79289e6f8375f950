"""The paths of OpenAI's interface."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from inpaintrt_server.apis.openai.answers import ImagesBody
from inpaintrt_server.apis.openai.edits import edit_image
from inpaintrt_server.apis.openai.errors import OpenAIErrorBody, error_body, for_openai
from inpaintrt_server.apis.openai.fields import EditFields, GenerationFields
from inpaintrt_server.apis.openai.generations import generate_image
from inpaintrt_server.apis.openai.models import ModelBody, ModelsBody, list_models, retrieve_model
from inpaintrt_server.http.answers import EVENT_SCHEMA
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.errors_schema import problem_responses
from inpaintrt_server.http.form_schema import Limits, form_schema, json_schema
from inpaintrt_server.http.refusals import NotFoundError
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_api"]

_OF_IMAGES = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504)


def make_api(settings: ServerSettings) -> Api:
    """The interface, its OpenAPI true to the limits of these settings."""
    router = APIRouter()
    router.add_api_route(
        "/v1/images/edits",
        edit_image,
        methods=["POST"],
        response_class=Response,
        responses={200: _success(), **problem_responses(OpenAIErrorBody, _OF_IMAGES)},
        openapi_extra={"requestBody": _form(settings)},
        summary="OpenAI's interface: paint where the mask is transparent.",
    )
    router.add_api_route(
        "/v1/images/generations",
        generate_image,
        methods=["POST"],
        response_class=Response,
        responses={200: _success(), **problem_responses(OpenAIErrorBody, _OF_IMAGES)},
        openapi_extra={"requestBody": _json(settings)},
        summary="OpenAI's interface: make images from a prompt.",
    )
    refused = problem_responses(OpenAIErrorBody, (401, 403))
    router.add_api_route(
        "/v1/models", list_models, response_model=ModelsBody, responses=refused, summary="What is served."
    )
    router.add_api_route(
        "/v1/models/{model:path}",
        retrieve_model,
        response_model=ModelBody,
        responses=problem_responses(OpenAIErrorBody, (401, 403, 404)),
        summary="What is served, by name.",
    )
    router.add_api_route("/v1/images/variations", not_here, methods=["POST"], include_in_schema=False)
    return Api("openai", ("/v1/images", "/v1/models"), router, shape=error_body, adapt=for_openai)


async def not_here(request: Request) -> Response:
    """What of OpenAI's interface is not served."""
    raise NotFoundError(
        "this server does not have this path of OpenAI's",
        field=None,
        received=request.url.path,
        expected="/v1/images/edits or /v1/images/generations",
    )


def _success() -> dict[str, Any]:
    schema = ImagesBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "description": "The results.",
        "content": {
            "application/json": {"schema": schema},
            "text/event-stream": {"schema": dict(EVENT_SCHEMA)},
        },
    }


def _limits(settings: ServerSettings) -> Limits:
    return {
        "prompt": {"maxLength": settings.max_prompt},
        "negative_prompt": {"maxLength": settings.max_prompt},
        "steps": {"maximum": settings.max_steps},
        "n": {"maximum": min(10, settings.max_results)},
    }


def _form(settings: ServerSettings) -> dict[str, Any]:
    schema = form_schema(EditFields, _limits(settings), files={"image": True, "mask": False})
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _json(settings: ServerSettings) -> dict[str, Any]:
    schema = json_schema(GenerationFields, _limits(settings))
    return {"required": True, "content": {"application/json": {"schema": schema}}}
