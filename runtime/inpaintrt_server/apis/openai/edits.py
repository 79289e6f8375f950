"""`POST /v1/images/edits`: a form in; JSON or server-sent events out."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import Request
from starlette.responses import Response

from inpaintrt.request import Request as PipelineRequest
from inpaintrt.request import make_request
from inpaintrt_server.apis.decoding import in_image_thread
from inpaintrt_server.apis.openai.answers import answer
from inpaintrt_server.apis.openai.fields import EditFields
from inpaintrt_server.apis.openai.mapping import edit_options
from inpaintrt_server.apis.openai.models import check_model
from inpaintrt_server.apis.openai.transparency import read_images
from inpaintrt_server.http.bodies import checked, read_form
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.forms import Form
from inpaintrt_server.http.previews import preview_steps
from inpaintrt_server.http.refusals import FieldError
from inpaintrt_server.http.running import admission, start_job
from inpaintrt_server.http.uploads import Upload, check_upload

__all__ = ["edit_image"]

_IMAGE_NAMES = ("image", "image[]")


class _Edit(NamedTuple):
    """A form that was read."""

    fields: EditFields
    image: Upload
    mask: Upload | None


async def edit_image(request: Request) -> Response:
    """Paint what the prompt says where the mask is transparent, or else where the image is.

    Without any transparency the whole image is changed, if the server has `edits_without_mask` set.
    """
    context = context_of(request)
    with admission(context) as permit:
        form = await read_form(request)
        edit = await in_image_thread(context, lambda: _read(form, context))
        wanted = await in_image_thread(context, lambda: _request_of(edit, context))
        steps = preview_steps(context.service.stages, wanted, edit.fields.partial_images)
        running = start_job(request, permit, wanted, preview_steps=steps)
        return await answer(edit.fields, running, "image_edit")


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
    max_pixels = context.settings.max_pixels
    image = _single(form, *_IMAGE_NAMES)
    mask = _single(form, "mask")
    if image is None:
        raise FieldError(
            "there is no image",
            field="image",
            expected="an image's file",
            hint="/v1/images/generations makes images without one",
        )
    return _Edit(
        fields,
        check_upload(image, "image", max_pixels=max_pixels),
        None if mask is None else check_upload(mask, "mask", max_pixels=max_pixels),
    )


def _single(form: Form, *names: str) -> bytes | None:
    files = [file for name in names for file in form.files.get(name, ())]
    if len(files) > 1:
        raise FieldError(
            "one image is edited at a time",
            field=names[0],
            received=f"{len(files)} files",
            expected="one file",
        )
    return files[0] if files else None


def _request_of(edit: _Edit, context: Context) -> PipelineRequest:
    fields, settings = edit.fields, context.settings
    images = read_images(
        edit.image.data,
        None if edit.mask is None else edit.mask.data,
        opaque=fields.background == "opaque",
        mask_needed=not settings.edits_without_mask,
        max_pixels=settings.max_pixels,
    )
    request = make_request(
        fields.prompt,
        images.image,
        images.mask,
        edit_options(fields, images.size),
        context.service.stages.family,
    )
    check_bounds(request, edit.image, context)
    return request
