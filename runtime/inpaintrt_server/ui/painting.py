"""What the page asks for, and how it follows that."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import anyio.to_thread
from PIL import Image, ImageChops

from inpaintrt.errors import ImageError, MaskError
from inpaintrt.request import Options, Request, make_request
from inpaintrt_server.batching.jobs import Event, Failed, Finished, Started, Stepped
from inpaintrt_server.http.bounds import check_bounds
from inpaintrt_server.http.previews import preview_steps
from inpaintrt_server.http.uploads import Upload

if TYPE_CHECKING:
    from inpaintrt_server.batching.service import BatchingService
    from inpaintrt_server.settings import ServerSettings

__all__ = ["Drawing", "Form", "paint", "read_drawing"]

_PREVIEWS = 5


class Drawing(TypedDict):
    """What the editor hands over: the picture, what was painted over it, and both together."""

    background: Image.Image | None
    layers: list[Image.Image]
    composite: Image.Image | None


@dataclass(frozen=True)
class Form:
    """What the page was filled in with.

    Attributes:
        image: The picture.
        mask: White where it was painted over.
        prompt: What to paint there.
        options: The pipeline's options.
    """

    image: Image.Image
    mask: Image.Image
    prompt: str
    options: Options


def read_drawing(drawing: Drawing | None) -> tuple[Image.Image, Image.Image]:
    """The picture, and as its mask everything that was painted over it.

    Returns:
        A picture of mode "RGBA", and a mask of mode "L" and the same size, white where paint is opaque.

    Raises:
        ImageError: There is no picture.
        MaskError: Nothing was painted.
    """
    if drawing is None or drawing["background"] is None:
        raise ImageError("there is no picture yet", hint="load one into the editor")
    image = drawing["background"].convert("RGBA")
    mask = Image.new("L", image.size, 0)
    for layer in drawing["layers"]:
        mask = ImageChops.lighter(mask, layer.convert("RGBA").getchannel("A").resize(image.size))
    if mask.getbbox() is None:
        raise MaskError("nothing is painted over yet", hint="paint with the brush over what is to change")
    return image, mask


async def paint(
    service: BatchingService, settings: ServerSettings, form: Form
) -> AsyncGenerator[Started | Stepped | Finished, None]:
    """Ask for what the form says, and tell what happens; `Finished` is the last. Leaving early gives it up.

    Raises:
        RefusedError: The server takes nothing in at the moment.
        InpaintError: The request cannot be served, or failed.
    """
    permit = service.admit()
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear(event: Event) -> None:
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(events.put_nowait, event)

    try:
        request = await anyio.to_thread.run_sync(_make_request, form, settings)
        job = service.submit(
            permit,
            request,
            hear,
            job_id=uuid.uuid4().hex,
            deadline=time.monotonic() + settings.request_timeout,
            preview_steps=preview_steps(service.stages.manifest, request, _PREVIEWS),
        )
    finally:
        permit.release()
    try:
        while not isinstance(event := await events.get(), Failed):
            yield event
            if isinstance(event, Finished):
                return
        raise event.error
    finally:
        job.cancel()


def _make_request(form: Form, settings: ServerSettings) -> Request:
    request = make_request(form.prompt, form.image, form.mask, form.options)
    check_bounds(request, Upload(b"", *form.image.size), settings)
    return request
