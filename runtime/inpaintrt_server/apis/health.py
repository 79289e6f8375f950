"""`/healthz`, `/readyz`, `/info` and `/metrics`: how the server is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, cast, get_args

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from inpaintrt.bundle import MeasuredQuality
from inpaintrt.options import VaeName
from inpaintrt.presets import presets_for
from inpaintrt.request import Task
from inpaintrt.samplers import sampler_names
from inpaintrt.stages import Stages
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.context import context_of
from inpaintrt_server.http.errors_schema import problem_responses
from inpaintrt_server.http.uploads import FORMATS
from inpaintrt_server.logs import losses
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_apis"]

_HAPROXY = frozenset({("OPTIONS", "/")})


class StateBody(BaseModel):
    """How the server is."""

    status: str = Field(description="ok, warming up, draining, or engine lost.")
    log: str | None = Field(None, description="Why lines of the log are lost; absent where none are.")


class PresetBody(BaseModel):
    """A preset for few-step checkpoints and LoRAs: the options that it sets, and where they are from."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="The value of the field `preset`.")
    purpose: str = Field(description="The files that it is for.")
    scheduler: str | None = Field(description="Null for the checkpoint's own.")
    num_inference_steps: int
    guidance_scale: float
    eta: float | None
    timestep_spacing: str | None
    timesteps: list[float] | None
    exact: bool = Field(description="Whether the files are for this number of steps alone.")
    sources: list[str]


class QualityBody(BaseModel):
    """What a word of the field `quality` stands for."""

    num_inference_steps: int
    scheduler: str | None = Field(description="Null for the checkpoint's own.")
    timestep_spacing: str | None = Field(description="Null for the checkpoint's own.")
    guidance_interval: tuple[float, float]
    time_ratio: float | None = Field(
        description="Time over that of `exact_steps` steps with the checkpoint's own sampler, as measured on "
        "this bundle; both are null where the settings are documented ones."
    )
    exact_steps: int | None


class InfoBody(BaseModel):
    """What the server is."""

    version: str
    bundle: str
    checkpoint: str
    backend: str
    tasks: list[Task] = Field(description="What requests can ask for.")
    native_size: list[int] = Field(description="Width and height that the checkpoint was trained at.")
    vae_scale_factor: int = Field(description="Height and width of a run are multiples of it.")
    vaes: list[VaeName] = Field(description="What requests can encode and decode images with.")
    step_caching: bool = Field(description="Whether requests can have a cache_interval above 1.")
    default_sampler: str
    samplers: list[str]
    presets: list[PresetBody] = Field(description="Those for checkpoints of this kind.")
    qualities: dict[str, QualityBody] = Field(description="By the value of the field `quality`.")
    loras: list[str] = Field(description="LoRAs that requests can choose.")
    slots: int
    queue: int
    mode: str
    limits: dict[str, float]
    formats: list[str] = Field(description="Formats of images and masks.")
    uptime: float = Field(description="Seconds since the start.")


def make_apis(settings: ServerSettings) -> tuple[Api, ...]:
    """The paths that need no key, and those that do."""
    del settings
    health = APIRouter()
    unwell: dict[int | str, dict[str, Any]] = {503: {"model": StateBody, "description": "It is not."}}
    health.add_api_route(
        "/healthz", healthz, response_model=StateBody, responses=unwell, summary="Is it alive?"
    )
    health.add_api_route(
        "/readyz", readyz, response_model=StateBody, responses=unwell, summary="Is it ready?"
    )
    # HAProxy asks for this where it is not told anything else.
    health.add_api_route("/", readyz, methods=["OPTIONS"], include_in_schema=False)
    about = APIRouter(responses=problem_responses(statuses=(401, 403)))
    about.add_api_route("/info", info, response_model=InfoBody, summary="What the server is.")
    figures = APIRouter(responses=problem_responses(statuses=(401, 403)))
    figures.add_api_route(
        "/metrics",
        metrics,
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        summary="Figures for Prometheus.",
    )
    return (
        Api("health", ("/healthz", "/readyz"), health, open=True, monitoring=True, requests=_HAPROXY),
        Api("metrics", ("/metrics",), figures, monitoring=True),
        Api("info", ("/info",), about),
    )


async def healthz(request: Request) -> JSONResponse:
    """Whether the process serves; 503 once its engine is lost, when it has to be started again."""
    lost = context_of(request).service.snapshot.engine_lost
    return _state("engine lost" if lost else "ok")


async def readyz(request: Request) -> JSONResponse:
    """Whether new requests are taken in: not while warming up or stopping."""
    now = context_of(request).service.snapshot
    if now.engine_lost:
        return _state("engine lost")
    if now.draining:
        return _state("draining")
    return _state("ok" if now.ready else "warming up")


def _state(status: str) -> JSONResponse:
    """Requests are served without a log, too, so a full disk is told and takes no server out of service."""
    body = StateBody(status=status, log=losses.reason).model_dump(exclude_none=True)
    return JSONResponse(body, status_code=200 if status == "ok" else 503)


async def info(request: Request) -> InfoBody:
    """Bundle, backend, samplers and limits."""
    context = context_of(request)
    settings, stages = context.settings, context.service.stages
    manifest = stages.manifest
    height, width = manifest.architecture.native_resolution
    presets = presets_for(stages.family.name, guidance_embedding=stages.takes_guidance_scale)
    names = (
        "request_timeout",
        "max_connections",
        *("max_body", "max_pixels", "max_run_pixels", "max_prompt", "max_steps", "max_results"),
    )
    return InfoBody(
        version=version("inpaintrt"),
        bundle=manifest.name,
        checkpoint=manifest.checkpoint.id,
        backend=settings.backend,
        tasks=list(get_args(Task)),
        native_size=[width, height],
        vae_scale_factor=manifest.architecture.vae_scale_factor,
        vaes=list(context.service.stages.vaes.by_name),
        step_caching=context.service.stages.step.caches,
        default_sampler=str(manifest.scheduler.get("_class_name", "-")),
        samplers=list(sampler_names()),
        presets=[PresetBody.model_validate(preset) for preset in presets],
        qualities=_qualities(stages),
        loras=list(context.service.loras.names),
        slots=settings.slots,
        queue=settings.queue,
        mode=settings.mode,
        limits={name: getattr(settings, name) for name in names}
        | ({} if (budget := context.service.budget.limit) is None else {"memory_budget": budget}),
        formats=list(FORMATS),
        uptime=time.time() - context.started,
    )


def _qualities(stages: Stages) -> dict[str, QualityBody]:
    measured = cast("Mapping[str, MeasuredQuality]", stages.manifest.quality)
    return {
        word: QualityBody(
            **msgspec.structs.asdict(settings),
            time_ratio=figures.time_ratio if (figures := measured.get(word)) else None,
            exact_steps=figures.exact_steps if figures else None,
        )
        for word, settings in stages.qualities.items()
    }


async def metrics(request: Request) -> Response:
    """Every figure, in Prometheus' text format."""
    return Response(context_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
