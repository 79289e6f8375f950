"""`POST /v1/images/edits`: a form in; JSON or server-sent events out."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from inpaintrt.options import Options
from inpaintrt_server.apis.openai.answers import answer
from inpaintrt_server.apis.openai.fields import EditFields
from inpaintrt_server.apis.openai.mapping import edit_options
from inpaintrt_server.apis.openai.models import choose_model
from inpaintrt_server.apis.openai.transparency import read_images
from inpaintrt_server.batching.loras import LoraChoice
from inpaintrt_server.http.bodies import checked, read_form
from inpaintrt_server.http.bounds import make_bounded_request
from inpaintrt_server.http.context import Context
from inpaintrt_server.http.forms import Form
from inpaintrt_server.http.refusals import FieldError
from inpaintrt_server.http.running import admission
from inpaintrt_server.http.uploads import Upload, check_upload

__all__ = ["edit_image"]

_IMAGE_NAMES = ("image", "image[]")


class _Edit(NamedTuple):
    """What a form asks for."""

    fields: EditFields
    loras: LoraChoice
    options: Options
    image: Upload
    mask: bytes | None


async def edit_image(request: Request) -> Response:
    """Paint what the prompt says where the mask is transparent, or else where the image is.

    Without any transparency the whole image is changed, if the server has `edits_without_mask` set.
    """
    with admission(request) as admitted:
        fields, loras, options, image, mask = await _parse(await read_form(request), admitted.context)
        wanted = make_bounded_request(admitted.context, fields.prompt, options, image, mask)
        running = admitted.start_job(wanted, fields.partial_images, loras)
        return await answer(fields, running, "image_edit")


async def _parse(form: Form, context: Context) -> _Edit:
    def parse() -> _Edit:
        fields = _fields_of(form)
        loras = choose_model(fields.model, context, fields.lora)
        image, mask = _files_of(form, context.settings.max_pixels)
        images = read_images(
            image.data,
            None if mask is None else mask.data,
            opaque=fields.background == "opaque",
            mask_needed=not context.settings.edits_without_mask,
            max_pixels=context.settings.max_pixels,
        )
        options = edit_options(fields, images.size)
        return _Edit(fields, loras, options, replace(image, data=images.image), images.mask)

    return await anyio.to_thread.run_sync(parse, limiter=context.image_threads)


def _fields_of(form: Form) -> EditFields:
    for name, texts in form.fields.items():
        if len(texts) > 1:
            raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one value")
    for name in form.files:
        if name not in (*_IMAGE_NAMES, "mask"):
            raise FieldError(
                f"this server does not support the file {name!r}", field=name, expected="image, mask"
            )
    return checked(EditFields, {name: texts[0] for name, texts in form.fields.items()})


def _files_of(form: Form, max_pixels: int) -> tuple[Upload, Upload | None]:
    image = _single(form, *_IMAGE_NAMES)
    mask = _single(form, "mask")
    if image is None:
        raise FieldError(
            "there is no image",
            field="image",
            expected="an image's file",
            hint="/v1/images/generations makes images without one",
        )
    return (
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
