"""The paths of the WebUI's interface."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from inpaintrt_server.apis.webui import listings
from inpaintrt_server.apis.webui.answers import ImagesBody
from inpaintrt_server.apis.webui.errors import WebuiErrorBody, error_body
from inpaintrt_server.apis.webui.fields import Generation, Img2Img, Txt2Img
from inpaintrt_server.apis.webui.jobs import Jobs
from inpaintrt_server.apis.webui.painting import paint
from inpaintrt_server.apis.webui.progress import ProgressBody, owner_of, progress_of
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.errors_schema import problem_responses
from inpaintrt_server.http.form_schema import json_schema
from inpaintrt_server.http.refusals import NotFoundError
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_api"]

_PREFIX = "/sdapi/v1"
_SERVED = "img2img, interrupt, loras, options, progress, samplers, schedulers, sd-models, txt2img"


def make_api(settings: ServerSettings) -> Api:
    """The interface, its OpenAPI true to the limits of these settings."""
    router = APIRouter(prefix=_PREFIX, responses=problem_responses(WebuiErrorBody, (401, 403)))
    _add_jobs(router, settings)
    _add_lists(router)
    _add_rest(router)
    return Api("webui", (_PREFIX,), router, shape=error_body)


def _add_jobs(router: APIRouter, settings: ServerSettings) -> None:
    jobs = Jobs()

    async def img2img(request: Request) -> Response:
        """Paint what the prompt says where the mask is white, or over the whole image without a mask."""
        return await paint(request, jobs, Img2Img)

    async def txt2img(request: Request) -> Response:
        """Make images from a prompt."""
        return await paint(request, jobs, Txt2Img)

    async def progress(request: Request, *, skip_current_image: bool = False) -> ProgressBody:
        """How far the client's requests are; asking with an image has the next preview made."""
        return await progress_of(jobs, owner_of(request), with_image=not skip_current_image)

    async def interrupt(request: Request) -> dict[str, Any]:
        """End the client's requests that have begun: they are answered with what they have."""
        for job in jobs.of(owner_of(request)):
            job.interrupt()
        return {}

    for path, endpoint, model, summary in (
        ("/img2img", img2img, Img2Img, "paint where the mask is white, or over the whole image."),
        ("/txt2img", txt2img, Txt2Img, "make images from a prompt."),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            response_model=ImagesBody,
            responses=problem_responses(WebuiErrorBody),
            openapi_extra={"requestBody": _request_body(model, settings)},
            summary=f"The WebUI's interface: {summary}",
        )
    wrong_field = problem_responses(WebuiErrorBody, (422,))
    router.add_api_route("/progress", progress, response_model=ProgressBody, responses=wrong_field)
    router.add_api_route("/interrupt", interrupt, methods=["POST"])


def _add_lists(router: APIRouter) -> None:
    router.add_api_route("/samplers", listings.list_samplers, response_model=list[listings.SamplerBody])
    router.add_api_route("/schedulers", listings.list_schedules, response_model=list[listings.ScheduleBody])
    router.add_api_route(
        "/sd-models", listings.list_checkpoints, response_model=list[listings.CheckpointBody]
    )
    router.add_api_route("/loras", listings.list_loras, response_model=list[listings.LoraBody])
    router.add_api_route("/options", listings.list_settings)
    router.add_api_route(
        "/options",
        listings.change_settings,
        methods=["POST"],
        responses=problem_responses(WebuiErrorBody, (400, 408, 413, 422)),
    )
    for name in ("checkpoints", "loras"):
        router.add_api_route(f"/refresh-{name}", nothing_new, methods=["POST"])
    for name, content in listings.EMPTY.items():
        router.add_api_route(f"/{name}", _telling(content), summary="Nothing of that kind is here.")


def _telling(content: object) -> Callable[[], Awaitable[object]]:
    async def tell() -> object:
        return content

    return tell


async def nothing_new() -> None:
    """The bundle that is served and its LoRAs stay."""


def _add_rest(router: APIRouter) -> None:
    """Say of all other paths that they are not here; known paths keep their 405 for other methods."""
    served: defaultdict[str, set[str]] = defaultdict(set)
    for route in router.routes:
        if isinstance(route, APIRoute):
            served[route.path] |= route.methods or set()

    async def not_here(request: Request) -> Response:
        path = request.url.path
        if path in served:
            allowed = {"Allow": ", ".join(sorted(served[path]))}
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers=allowed)
        raise NotFoundError(
            "this server does not have this path of the WebUI",
            received=path,
            expected=_SERVED,
        )

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    router.add_api_route("/{path:path}", not_here, methods=methods, include_in_schema=False)


def _request_body(model: type[Generation], settings: ServerSettings) -> dict[str, Any]:
    limits = {
        "prompt": {"maxLength": settings.max_prompt},
        "negative_prompt": {"maxLength": settings.max_prompt},
        "steps": {"maximum": settings.max_steps},
        "batch_size": {"maximum": settings.max_results},
        "n_iter": {"maximum": settings.max_results},
    }
    return {"required": True, "content": {"application/json": {"schema": json_schema(model, limits)}}}
