"""What the WebUI's clients list before they start: samplers, checkpoints, settings, and what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.overrides import settings_of
from inpaintrt_server.apis.webui.samplers import SAMPLERS, SCHEDULES
from inpaintrt_server.http.context import context_of
from inpaintrt_server.http.refusals import FieldError

__all__ = [
    "EMPTY",
    "CheckpointBody",
    "LoraBody",
    "SamplerBody",
    "ScheduleBody",
    "change_settings",
    "list_checkpoints",
    "list_loras",
    "list_samplers",
    "list_schedules",
    "list_settings",
]

EMPTY: Mapping[str, Any] = MappingProxyType(
    {
        "cmd-flags": {},
        "embeddings": {"loaded": {}, "skipped": {}},
        "extensions": [],
        "face-restorers": [],
        "hypernetworks": [],
        "latent-upscale-modes": [],
        "prompt-styles": [],
        "realesrgan-models": [],
        "script-info": [],
        "scripts": {"txt2img": [], "img2img": []},
        "sd-vae": [],
        "upscalers": [],
    }
)
"""Lists that clients ask for, of which there is nothing here."""


class SamplerBody(BaseModel):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str] = Field(description='The schedule that "Automatic" stands for, as `scheduler`.')


class ScheduleBody(BaseModel):
    """A noise schedule."""

    name: str
    label: str
    aliases: None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


class CheckpointBody(BaseModel):
    """The bundle, as a checkpoint."""

    title: str
    model_name: str
    hash: str
    sha256: str
    filename: str = Field(description="The bundle's name: paths of the server are not told.")
    config: None = None


class LoraBody(BaseModel):
    """A LoRA that prompts may name."""

    name: str
    alias: str = Field(description="The same as the name.")
    path: str = Field(description="The same as the name: paths of the server are not told.")
    metadata: dict[str, Any] = {}


async def list_samplers() -> list[SamplerBody]:
    """Every sampler by the WebUI's name; names that `inpaintrt samplers` lists are known too."""
    return [
        SamplerBody(
            name=sampler.name,
            aliases=list(sampler.aliases),
            options={"scheduler": sampler.automatic} if sampler.automatic else {},
        )
        for sampler in SAMPLERS
    ]


async def list_schedules() -> list[ScheduleBody]:
    """Every noise schedule; not every sampler has all of them."""
    return [ScheduleBody(name=schedule.name, label=schedule.label) for schedule in SCHEDULES]


async def list_checkpoints(request: Request) -> list[CheckpointBody]:
    """The one bundle that is served."""
    checkpoint = _checkpoint(request)
    return [
        CheckpointBody(
            title=checkpoint.title,
            model_name=checkpoint.name,
            hash=checkpoint.short_hash,
            sha256=checkpoint.sha256,
            filename=checkpoint.name,
        )
    ]


async def list_loras(request: Request) -> list[LoraBody]:
    """The LoRAs that the server was given."""
    names = context_of(request).service.loras.names
    return [LoraBody(name=name, alias=name, path=name) for name in names]


async def list_settings(request: Request) -> dict[str, Any]:
    """The settings that matter to a client; they cannot be changed."""
    return settings_of(_checkpoint(request))


async def change_settings(request: Request, wanted: dict[str, Any]) -> None:
    """Settings can be sent, but not changed: other clients have the same ones.

    Raises:
        FieldError: A setting is unknown, or would change.
    """
    checkpoint = _checkpoint(request)
    present = settings_of(checkpoint)
    for name, value in wanted.items():
        same = checkpoint.names if name == "sd_model_checkpoint" else (present.get(name),)
        if name not in present or value not in same:
            raise FieldError(
                f"the setting {name} cannot be changed",
                field=name,
                received=repr(value),
                expected=repr(present[name]) if name in present else "nothing: there is no such setting",
                hint="send it with a request, as override_settings",
            )


def _checkpoint(request: Request) -> Checkpoint:
    return Checkpoint.of(context_of(request).service.stages.manifest)
