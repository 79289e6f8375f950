"""`GET /v1/models`: the bundle that is served, and its LoRAs."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from pydantic import BaseModel, Field

from inpaintrt_server.batching.loras import LoraChoice
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.refusals import FieldError, NotFoundError

__all__ = ["ModelBody", "ModelsBody", "choose_model", "list_models", "retrieve_model"]

_AUTO = "auto"


class ModelBody(BaseModel):
    """What is served."""

    id: str = Field(description="The bundle's name; with a LoRA, both names with a colon between them.")
    created: int = Field(description="When the server started, in seconds since 1970.")
    object: Literal["model"] = "model"
    owned_by: str = "inpaintrt"


class ModelsBody(BaseModel):
    """All that is served."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


async def list_models(request: Request) -> ModelsBody:
    """The bundle, and the bundle with each LoRA."""
    context = context_of(request)
    return ModelsBody(data=[_model(name, context) for name in _served(context)])


async def retrieve_model(request: Request, model: str) -> ModelBody:
    """The bundle, or the bundle with a LoRA, by its name."""
    context = context_of(request)
    choose_model(model, context)
    return _model(context.service.stages.manifest.name if model == _AUTO else model, context)


def _model(name: str, context: Context) -> ModelBody:
    return ModelBody(id=name, created=int(context.started))


def _served(context: Context) -> dict[str, str | None]:
    """What is served, and the LoRA that each name stands for."""
    bundle = context.service.stages.manifest.name
    return {bundle: None} | {f"{bundle}:{lora}": lora for lora in context.service.loras.names}


def choose_model(name: str | None, context: Context, lora: str | None = None) -> LoraChoice:
    """What a client asks for: a name of what is served; no name, or `auto`, is the bundle.

    Args:
        name: The field `model`.
        context: Has what is served.
        lora: The field `lora`.

    Raises:
        NotFoundError: The name is not served.
        FieldError: The name stands for another LoRA than the field.
        ParameterError: The LoRA is unknown.
    """
    served = _served(context)
    if name not in (None, "", _AUTO, *served):
        raise NotFoundError(
            "this model is not served here",
            field="model",
            received=name,
            expected=", ".join(served) + f", or {_AUTO}",
        )
    named = served.get(name or "")
    if named is not None and lora not in (None, named):
        raise FieldError(
            "the model has another LoRA than the field lora",
            field="lora",
            received=f"model {name}, lora {lora}",
            expected="one of the two, or both the same",
        )
    return context.service.loras.choose_one(lora if named is None else named)
