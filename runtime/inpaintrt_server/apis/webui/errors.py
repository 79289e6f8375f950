"""Problems as the WebUI tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from inpaintrt_server.http.errors import Problem

__all__ = ["WebuiErrorBody", "error_body"]

# The pipeline's parameters whose fields have other names here.
_NAMES = {
    "lora": "prompt",
    "num_images_per_prompt": "batch_size",
    "num_inference_steps": "steps",
    "strength": "denoising_strength",
}


class WebuiErrorBody(BaseModel):
    """A problem, as the WebUI's interface tells of it."""

    error: str = Field(description="One word for programs.")
    detail: str = Field(description="What is wrong, what was expected, what to do.")
    body: str = Field(description="Always empty; the WebUI repeats what it was sent.")
    errors: str = Field(description="The field that is wrong, where one is.")


def error_body(problem: Problem) -> Mapping[str, Any]:
    """The JSON of a problem."""
    return {
        "error": problem.code,
        "detail": problem.in_one_line(),
        "body": "",
        "errors": _NAMES.get(problem.field or "", problem.field or ""),
    }
