"""The answers of `POST /v1/inpaint`: the file of a result, JSON, or server-sent events."""

from __future__ import annotations

import json

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.responses import Response

from inpaintrt_server.apis.inpaint_fields import Asked
from inpaintrt_server.batching.events import Started, Stepped
from inpaintrt_server.http.answers import (
    MEDIA_TYPES,
    Encoded,
    Previewed,
    TimingsBody,
    server_timing,
)
from inpaintrt_server.http.errors import Problem, own_shape
from inpaintrt_server.http.running import Message, Translate

__all__ = ["InpaintResult", "event_of_problem", "respond", "translator"]


class InpaintResult(BaseModel):
    """The results."""

    images: list[str] = Field(description="Files as base64, in the format that was asked for.")
    seeds: list[int] = Field(description="The seed of each.")
    warnings: list[str] = Field(description="What the caller should know.")
    timings: TimingsBody


def translator(asked: Asked) -> Translate:
    """Makes the events of a stream."""

    def translate(event: Started | Stepped | Previewed | Encoded) -> Message:
        match event:
            case Started(total=total):
                return "started", {"total": total}
            case Stepped(index=index, total=total):
                return "step", {"step": index, "total": total}
            case Previewed(step=step, files=files):
                images = [file.base64 for file in files]
                return "preview", {"step": step.index, "total": step.total, "images": images}
            case Encoded():
                return "result", _result(asked, event).model_dump()

    return translate


def event_of_problem(problem: Problem) -> Message:
    """The last event of a job that failed."""
    return "error", own_shape(problem)


def respond(asked: Asked, encoded: Encoded) -> Response:
    """The file of a single result, or all results as JSON."""
    finished = encoded.finished
    if asked.answer == "json":
        body = _result(asked, encoded).model_dump()
        return JSONResponse(body, headers=server_timing(finished.timings))
    headers = {**server_timing(finished.timings), "X-Seed": str(finished.seeds[0])}
    if warnings := [*asked.notes, *finished.warnings]:
        headers["X-Warnings"] = json.dumps(warnings)
    (file,) = encoded.files
    return Response(file.content, media_type=MEDIA_TYPES[asked.fields.output_format], headers=headers)


def _result(asked: Asked, encoded: Encoded) -> InpaintResult:
    finished = encoded.finished
    return InpaintResult(
        images=[file.base64 for file in encoded.files],
        seeds=list(finished.seeds),
        warnings=[*asked.notes, *finished.warnings],
        timings=TimingsBody(**vars(finished.timings)),
    )
