"""`GET /v1/models`: the one bundle that is served."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from pydantic import BaseModel, Field

from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.refusals import NotFoundError

__all__ = ["ModelBody", "ModelsBody", "check_model", "list_models", "retrieve_model"]

_AUTO = "auto"


class ModelBody(BaseModel):
    """What is served."""

    id: str = Field(description="The bundle's name.")
    created: int = Field(description="When the server started, in seconds since 1970.")
    object: Literal["model"] = "model"
    owned_by: str = "inpaintrt"


class ModelsBody(BaseModel):
    """All that is served."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


async def list_models(request: Request) -> ModelsBody:
    """The one bundle that is served."""
    return ModelsBody(data=[_model(context_of(request))])


async def retrieve_model(request: Request, model: str) -> ModelBody:
    """The bundle, by its name."""
    context = context_of(request)
    check_model(model, context)
    return _model(context)


def _model(context: Context) -> ModelBody:
    return ModelBody(id=context.service.stages.manifest.name, created=int(context.started))


def check_model(name: str | None, context: Context) -> None:
    """Check that a client asks for what is served; no name, or `auto`, is whatever is.

    Raises:
        NotFoundError: It asks for something else.
    """
    served = context.service.stages.manifest.name
    if name not in (None, "", _AUTO, served):
        raise NotFoundError(
            "this model is not served here", field="model", received=name, expected=f"{served}, or {_AUTO}"
        )
