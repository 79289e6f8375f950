"""`POST /v1/inpaint`: a form or JSON in; an image, JSON, or server-sent events out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from inpaintrt.errors import ParameterError
from inpaintrt.files import parameters_text
from inpaintrt.request import Request as PipelineRequest
from inpaintrt.request import make_request
from inpaintrt_server.apis.decoding import in_image_thread
from inpaintrt_server.apis.inpaint_fields import (
    LIST_FIELDS,
    ONLY_LIST_FIELDS,
    InpaintFields,
    InpaintJson,
    InpaintResult,
)
from inpaintrt_server.batching.events import Finished, Started, Stepped
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.bodies import checked, content_type, read_form, read_json
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.errors import Problem, own_shape
from inpaintrt_server.http.errors_schema import problem_responses
from inpaintrt_server.http.events import EVENT_SCHEMA, EventStream, Translate, sse
from inpaintrt_server.http.form_schema import form_schema, json_schema
from inpaintrt_server.http.forms import Form
from inpaintrt_server.http.previews import preview_steps
from inpaintrt_server.http.refusals import FieldError, MediaTypeError
from inpaintrt_server.http.result_files import MEDIA_TYPES, as_base64, encode_images
from inpaintrt_server.http.running import admission, start_job
from inpaintrt_server.http.timing import TimingsBody, server_timing
from inpaintrt_server.http.uploads import check_upload, decode_base64
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_api"]

_JSON = "application/json"
_EVENTS = "text/event-stream"
_FORM = "multipart/form-data"

_Answer = Literal["image", "json", "events"]


def make_api(settings: ServerSettings) -> Api:
    """The interface, its OpenAPI true to the limits of these settings."""
    router = APIRouter()
    router.add_api_route(
        "/v1/inpaint",
        inpaint,
        methods=["POST"],
        response_class=Response,
        responses={200: _success(), **problem_responses()},
        openapi_extra={"requestBody": _request_body(settings)},
        summary="Paint what the prompt says: where the mask is white, over an image, or from nothing.",
    )
    return Api("inpaint", ("/v1/inpaint",), router)


async def inpaint(request: Request) -> Response:
    """Paint what the prompt says: where the mask is white, over the whole image, or without any image.

    The answer is the result's file; or JSON, or server-sent events, where `Accept`, `response_format` or
    `stream` say so. Events are `started`, `step`, `preview`, `result` and `error`.
    """
    context = context_of(request)
    with admission(context) as permit:
        fields, image, mask = await _read(request)
        answer = _choose_answer(fields, request.headers.get("accept", ""))
        count = fields.previews if answer == "events" else 0
        wanted, shown = await in_image_thread(context, lambda: _make(context, fields, image, mask, count))
        running = start_job(request, permit, wanted, preview_steps=shown)
        if answer == "events":
            return EventStream(running, _translator(context, fields), _sse_problem)
        finished = await running.result()
    return await _respond(context, fields, finished, answer)


async def _read(request: Request) -> tuple[InpaintFields, bytes | None, bytes | None]:
    match content_type(request):
        case "application/json":
            return await anyio.to_thread.run_sync(_from_json, await read_json(request, InpaintJson))
        case "multipart/form-data":
            return _from_form(await read_form(request))
        case other:
            raise MediaTypeError(
                "this path takes forms and JSON",
                received=other or "no content type",
                expected=f"{_FORM} or {_JSON}",
            )


def _from_json(body: InpaintJson) -> tuple[InpaintFields, bytes | None, bytes | None]:
    image = None if body.image is None else decode_base64(body.image)
    mask = None if body.mask is None else decode_base64(body.mask, "mask")
    # The texts of images are not kept while the request waits.
    return body.model_copy(update={"image": None, "mask": None}), image, mask


def _from_form(form: Form) -> tuple[InpaintFields, bytes | None, bytes | None]:
    values = {name: _field_value(name, texts) for name, texts in form.fields.items()}
    for name in ("image", "mask"):
        if name in values:
            raise FieldError(f"the {name} is not a file", field=name, expected="a file part of the form")
    unknown = sorted(form.files.keys() - {"image", "mask"})
    if unknown:
        raise FieldError(
            "there is no such file field", field=unknown[0], received=unknown[0], expected="image, mask"
        )
    fields = checked(InpaintFields, values)
    return fields, _single_file(form, "image"), _single_file(form, "mask")


def _field_value(name: str, texts: tuple[str, ...]) -> object:
    if len(texts) == 1:
        return _list_or_text(name, texts[0]) if name in LIST_FIELDS else texts[0]
    if name not in LIST_FIELDS:
        raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one value")
    return texts


def _list_or_text(name: str, text: str) -> object:
    """A list may come as one JSON array, too; what is none is checked as it is."""
    if not text.lstrip().startswith("["):
        return [text] if name in ONLY_LIST_FIELDS else text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _single_file(form: Form, name: str) -> bytes | None:
    files = form.files.get(name, (None,))
    if len(files) > 1:
        raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one file")
    return files[0]


def _choose_answer(fields: InpaintFields, accept: str) -> _Answer:
    """Fields go before the header; without either a single result is an image."""
    if fields.stream or (fields.response_format is None and _EVENTS in accept):
        return "events"
    by_header = "json" if _JSON in accept and "image/" not in accept else "image"
    answer: _Answer = fields.response_format or by_header  # type: ignore[assignment]
    count = fields.options()["num_images_per_prompt"]
    if answer == "image" and count > 1:
        raise ParameterError(
            "several results do not fit into one image file",
            received=f"num_images_per_prompt {count}",
            expected="1",
            hint='ask for JSON: response_format "json", or the header Accept: application/json',
        )
    return answer


def _make(
    context: Context, fields: InpaintFields, image: bytes | None, mask: bytes | None, previews: int
) -> tuple[PipelineRequest, frozenset[int]]:
    """The checked request, and the steps with previews."""
    settings = context.settings
    upload = None if image is None else check_upload(image, "image", max_pixels=settings.max_pixels)
    if mask is not None:
        check_upload(mask, "mask", max_pixels=settings.max_pixels)
    request = make_request(fields.prompt, image, mask, fields.options(), context.service.stages.family)
    check_bounds(request, upload, context)
    return request, preview_steps(context.service.stages, request, previews)


async def _respond(context: Context, fields: InpaintFields, finished: Finished, answer: _Answer) -> Response:
    timing = server_timing(finished.timings)
    if answer == "json":
        return JSONResponse((await _result(context, fields, finished)).model_dump(), headers=timing)
    (content,) = await encode_images(
        finished.images,
        fields.output_format,
        fields.output_quality,
        parameters=_metadata(context, fields, finished),
    )
    headers = {**timing, "X-Seed": str(finished.seeds[0])}
    if warnings := _warnings(fields, finished):
        headers["X-Warnings"] = json.dumps(warnings)
    return Response(content, media_type=MEDIA_TYPES[fields.output_format], headers=headers)


async def _result(context: Context, fields: InpaintFields, finished: Finished) -> InpaintResult:
    return InpaintResult(
        images=await as_base64(
            finished.images,
            fields.output_format,
            fields.output_quality,
            parameters=_metadata(context, fields, finished),
        ),
        seeds=list(finished.seeds),
        warnings=_warnings(fields, finished),
        timings=TimingsBody(**vars(finished.timings)),
    )


def _warnings(fields: InpaintFields, finished: Finished) -> list[str]:
    return [*fields.notes(), *finished.warnings]


def _metadata(context: Context, fields: InpaintFields, finished: Finished) -> list[str]:
    """How each result was made, as `inpaintrt run` writes it into its files."""
    bundle = context.service.stages.manifest.name
    parameters = {"bundle": bundle, "prompt": fields.prompt, **fields.options()}
    return [parameters_text(parameters, seed) for seed in finished.seeds]


def _translator(context: Context, fields: InpaintFields) -> Translate:
    async def translate(event: Started | Stepped | Finished) -> AsyncIterator[bytes]:
        match event:
            case Started():
                yield sse({"total": event.total}, "started")
            case Stepped():
                place = {"step": event.index, "total": event.total}
                yield sse(place, "step")
                if event.previews:
                    previews = await as_base64(event.previews, fields.output_format, fields.output_quality)
                    yield sse({**place, "images": previews}, "preview")
            case Finished():
                yield sse((await _result(context, fields, event)).model_dump(), "result")

    return translate


def _sse_problem(problem: Problem) -> bytes:
    return sse(own_shape(problem), "error")


def _success() -> dict[str, Any]:
    file = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": "The result.",
        "content": {
            _JSON: {"schema": InpaintResult.model_json_schema(ref_template="#/components/schemas/{model}")},
            _EVENTS: {"schema": dict(EVENT_SCHEMA)},
            **dict.fromkeys(MEDIA_TYPES.values(), file),
        },
    }


def _request_body(settings: ServerSettings) -> dict[str, Any]:
    limits: Mapping[str, Mapping[str, int]] = {
        "prompt": {"maxLength": settings.max_prompt},
        "negative_prompt": {"maxLength": settings.max_prompt},
        "num_inference_steps": {"maximum": settings.max_steps},
        "timesteps": {"maxItems": settings.max_steps},
        "sigmas": {"maxItems": settings.max_steps + 1},
        "num_images_per_prompt": {"maximum": settings.max_results},
    }
    return {
        "required": True,
        "content": {
            _FORM: {"schema": form_schema(InpaintFields, limits, files={"image": False, "mask": False})},
            _JSON: {"schema": json_schema(InpaintJson, limits)},
        },
    }
