"""Problems as OpenAI's clients know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from inpaintrt_server.http.errors import Problem

__all__ = ["OpenAIErrorBody", "error_body", "for_openai"]

# Fields that are to blame for errors that know no field.
_TO_BLAME = {
    "invalid_image": "image",
    "invalid_mask": "mask",
    "invalid_prompt": "prompt",
    "unknown_sampler": "scheduler",
}
# The pipeline's parameters whose fields have other names here.
_NAMES = {
    "num_images_per_prompt": "n",
    "num_inference_steps": "steps",
    "height": "size",
    "width": "size",
}


class _Error(BaseModel):
    message: str = Field(description="What is wrong, what was expected, what to do.")
    type: str = Field(description="invalid_request_error, rate_limit_error, or server_error.")
    param: str | None = Field(description="The field that is wrong, where one is.")
    code: str | None = Field(description="One word for programs.")


class OpenAIErrorBody(BaseModel):
    """A problem, as OpenAI's interface tells of it."""

    error: _Error


def for_openai(problem: Problem) -> Problem:
    """A problem as OpenAI's service has it, and with what keeps clients from trying again in vain.

    Fields that are wrong are 400, not 422. A request whose time was over takes as long when it is repeated,
    and the client repeats by itself what failed with 5xx unless it is told not to.
    """
    if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return replace(problem, status=int(HTTPStatus.BAD_REQUEST))
    if problem.status == HTTPStatus.NOT_FOUND and problem.field == "model":
        return replace(problem, code="model_not_found")
    if problem.status == HTTPStatus.GATEWAY_TIMEOUT:
        return replace(problem, headers={**problem.headers, "x-should-retry": "false"})
    return problem


def error_body(problem: Problem) -> Mapping[str, Any]:
    """The JSON that fills `message`, `type`, `param` and `code` of the client's exceptions."""
    field = problem.field
    return {
        "error": {
            "message": problem.in_one_line(),
            "type": _type_of(problem.status),
            "param": _NAMES.get(field, field) if field else _TO_BLAME.get(problem.code),
            "code": problem.code,
        }
    }


def _type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
