"""What the WebUI's interface answers to img2img and txt2img."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import IMAGE_FIELDS, Generation, Img2Img
from inpaintrt_server.apis.webui.infotext import infotexts_of, write_info
from inpaintrt_server.apis.webui.overrides import Overrides
from inpaintrt_server.http.answers import Output, encode_images

__all__ = ["ImagesBody", "Results", "images_body"]


class ImagesBody(BaseModel):
    """The results."""

    images: list[str] = Field(description="Files in base64; a PNG holds its infotext.")
    parameters: dict[str, Any] = Field(description="What was asked for, defaults filled in.")
    info: str = Field(description="JSON: seeds, infotexts, warnings, and whether it was interrupted.")


@dataclass(frozen=True)
class Results:
    """What was made.

    Attributes:
        images: The images.
        seeds: One for each.
        warnings: What the client should know.
        interrupted: Whether the images are unfinished.
    """

    images: Sequence[Image.Image]
    seeds: Sequence[int]
    warnings: Sequence[str] = ()
    interrupted: bool = False


async def images_body(
    fields: Generation, overrides: Overrides, checkpoint: Checkpoint, results: Results
) -> ImagesBody:
    """The answer to a request for images.

    Args:
        fields: What was asked for.
        overrides: The same, from its settings.
        checkpoint: What made the images.
        results: What was made.
    """
    height, width = checkpoint.native
    size = fields.width or width, fields.height or height
    infotexts = infotexts_of(fields, overrides, checkpoint, results.seeds, size)
    repeated = isinstance(fields, Img2Img) and fields.include_init_images
    sent = results.images if fields.send_images else ()
    output = Output(overrides.image_format, texts=infotexts[: len(sent)])
    return ImagesBody(
        images=[file.base64 for file in await encode_images(sent, output)],
        parameters=fields.model_dump(exclude=set() if repeated else IMAGE_FIELDS),
        info=write_info(
            fields,
            overrides,
            checkpoint,
            seeds=results.seeds,
            size=size,
            infotexts=infotexts,
            warnings=results.warnings,
            interrupted=results.interrupted,
        ),
    )
