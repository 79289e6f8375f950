"""`POST /v1/images/edits`: a form in; JSON or server-sent events out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse
from PIL import Image
from starlette.responses import Response

from inpaintrt.request import make_request
from inpaintrt_server.apis.openai.answers import event_body, images_body
from inpaintrt_server.apis.openai.errors import error_body, for_openai
from inpaintrt_server.apis.openai.fields import EditFields
from inpaintrt_server.apis.openai.mapping import options_of
from inpaintrt_server.apis.openai.models import check_model
from inpaintrt_server.apis.openai.pictures import read_pictures
from inpaintrt_server.apis.picture_files import in_picture_thread
from inpaintrt_server.batching.admission import Permit
from inpaintrt_server.batching.events import Finished, Started, Stepped
from inpaintrt_server.http.bodies import checked, read_form
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.errors import Problem
from inpaintrt_server.http.events import EventStream, Translate, sse
from inpaintrt_server.http.forms import Form
from inpaintrt_server.http.pictures import DEFAULT_QUALITY, as_base64
from inpaintrt_server.http.previews import preview_steps
from inpaintrt_server.http.refusals import FieldError
from inpaintrt_server.http.running import Running, admission, start_job
from inpaintrt_server.http.timing import server_timing
from inpaintrt_server.http.uploads import Upload, check_upload

__all__ = ["edit_image"]

_IMAGE_NAMES = ("image", "image[]")


class _Edit(NamedTuple):
    """A form that was read."""

    fields: EditFields
    image: Upload
    mask: Upload | None


async def edit_image(request: Request) -> Response:
    """Paint what the prompt says where the mask is transparent, or else where the picture is."""
    context = context_of(request)
    with admission(context) as permit:
        edit = await _read_in_thread(await read_form(request), context)
        running = await _start(request, context, permit, edit)
        if edit.fields.stream:
            return EventStream(running, _translator(edit.fields), _event_of_problem)
        finished = await running.result()
    body = images_body(
        edit.fields,
        finished.images,
        await _files(edit.fields, finished.images),
        finished.seeds,
        finished.warnings,
    )
    return JSONResponse(body.model_dump(), headers=server_timing(finished.timings))


async def _read_in_thread(form: Form, context: Context) -> _Edit:
    return await in_picture_thread(context, lambda: _read(form, context))


def _read(form: Form, context: Context) -> _Edit:
    for name, texts in form.fields.items():
        if len(texts) > 1:
            raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one value")
    for name in form.files:
        if name not in (*_IMAGE_NAMES, "mask"):
            raise FieldError(
                f"this server does not support the file {name!r}", field=name, expected="image, mask"
            )
    fields = checked(EditFields, {name: texts[0] for name, texts in form.fields.items()})
    check_model(fields.model, context)
    most = context.settings.max_pixels
    image = _single(form, *_IMAGE_NAMES)
    mask = _single(form, "mask")
    if image is None:
        raise FieldError("there is no picture", field="image", expected="a picture's file")
    return _Edit(
        fields,
        check_upload(image, "image", max_pixels=most),
        None if mask is None else check_upload(mask, "mask", max_pixels=most),
    )


def _single(form: Form, *names: str) -> bytes | None:
    files = [file for name in names for file in form.files.get(name, ())]
    if len(files) > 1:
        raise FieldError(
            "one picture is edited at a time",
            field=names[0],
            received=f"{len(files)} files",
            expected="one file",
        )
    return files[0] if files else None


async def _start(http_request: Request, context: Context, permit: Permit, edit: _Edit) -> Running:
    fields, mask = edit.fields, None if edit.mask is None else edit.mask.data
    opaque, most = fields.background == "opaque", context.settings.max_pixels
    pictures = await in_picture_thread(
        context, lambda: read_pictures(edit.image.data, mask, opaque=opaque, max_pixels=most)
    )
    request = make_request(fields.prompt, pictures.image, pictures.mask, options_of(fields, pictures.size))
    check_bounds(request, edit.image, context)
    steps = preview_steps(context.service.stages, request, fields.partial_images)
    return start_job(http_request, permit, request, preview_steps=steps)


async def _files(fields: EditFields, images: tuple[Image.Image, ...]) -> list[str]:
    asked = fields.output_compression
    return await as_base64(images, fields.output_format, DEFAULT_QUALITY if asked is None else max(asked, 1))


def _translator(fields: EditFields) -> Translate:
    shown = 0

    async def translate(event: Started | Stepped | Finished) -> AsyncIterator[bytes]:
        nonlocal shown
        match event:
            case Stepped(previews=previews) if previews:
                (file,) = await _files(fields, previews)
                yield _event(event_body(fields, previews[0], file, partial=shown))
                shown += 1
            case Finished():
                (file,) = await _files(fields, event.images)
                yield _event(event_body(fields, event.images[0], file, seed=event.seeds[0]))

    return translate


def _event(body: dict[str, object]) -> bytes:
    return sse(body, str(body["type"]))


def _event_of_problem(problem: Problem) -> bytes:
    return sse({"type": "error", **error_body(for_openai(problem))}, "error")
