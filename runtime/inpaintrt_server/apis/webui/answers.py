"""What the WebUI's interface answers to img2img."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import IMAGE_FIELDS, Img2Img
from inpaintrt_server.apis.webui.infotext import infotexts_of, write_info
from inpaintrt_server.apis.webui.overrides import Overrides
from inpaintrt_server.http.result_files import as_base64

__all__ = ["Img2ImgBody", "Results", "img2img_body"]


class Img2ImgBody(BaseModel):
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


async def img2img_body(
    fields: Img2Img, overrides: Overrides, checkpoint: Checkpoint, results: Results
) -> Img2ImgBody:
    """The answer to img2img.

    Args:
        fields: What was asked for.
        overrides: The same, from its settings.
        checkpoint: What made the images.
        results: What was made.
    """
    height, width = checkpoint.native
    size = fields.width or width, fields.height or height
    infotexts = infotexts_of(fields, overrides, checkpoint, results.seeds, size)
    sent = results.images if fields.send_images else ()
    return Img2ImgBody(
        images=await as_base64(sent, overrides.image_format, parameters=infotexts[: len(sent)]),
        parameters=fields.model_dump(exclude=set() if fields.include_init_images else IMAGE_FIELDS),
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
