"""What OpenAPI says of problems."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

__all__ = ["ErrorBody", "problem_responses"]

_REASONS = {
    400: "The image, the mask or the body cannot be read.",
    401: "No API key, or a wrong one.",
    403: "A web page from elsewhere, at a server without keys.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    413: "The body or an image is too large.",
    415: "A body of another type.",
    422: "A field is unknown, missing or out of its range.",
    429: "The queue is full; the header Retry-After says when to try again.",
    500: "The engine failed, or the server.",
    503: "The server is stopping, or its engine is gone.",
    504: "The request's time was over.",
}
_OF_IMAGES = tuple(status for status in _REASONS if status != 404)


class _Error(BaseModel):
    code: str = Field(description="One word for programs.")
    message: str = Field(description="One sentence for people.")
    received: str | None = Field(description="What was wrong.")
    expected: str | None = Field(description="What would have been right.")
    what_to_do: str | None = Field(description="What to do about it.")
    field: str | None = Field(description="The field that is wrong, where one is.")


class ErrorBody(BaseModel):
    """A problem, as our own interface tells of it."""

    error: _Error


def problem_responses(
    model: type[BaseModel] = ErrorBody, statuses: Iterable[int] = _OF_IMAGES
) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what the statuses mean, and the JSON that comes with them.

    Args:
        model: The interface's JSON of a problem.
        statuses: Which ones there can be; by default all that a request for an image can meet.
    """
    return {status: {"description": _REASONS[status], "model": model} for status in statuses}
