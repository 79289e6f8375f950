"""Pictures and masks as OpenAI's interface means them: transparent is painted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageOps

from inpaintrt.errors import MaskError
from inpaintrt.images import load_image
from inpaintrt_server.apis.picture_files import load_mask_file, png_of

__all__ = ["EditPictures", "read_pictures"]

# Below one half the model leaves a pixel alone.
_PAINTED = 128
_OPAQUE = 255


class EditPictures(NamedTuple):
    """The pictures of a request as the runtime wants them.

    Attributes:
        image: The file of the picture.
        mask: The file of the mask, white where to paint.
        size: Width and height of the upright picture.
    """

    image: bytes
    mask: bytes
    size: tuple[int, int]


def read_pictures(image: bytes, mask: bytes | None, *, opaque: bool, max_pixels: int) -> EditPictures:
    """Turn the transparency of a mask, or of the picture itself, into a mask that is white where to paint.

    What is painted becomes opaque; elsewhere the picture keeps its transparency.

    Args:
        image: The file of a picture.
        mask: The file of a mask, transparent where to paint; None where the picture's transparency says it.
        opaque: Make the whole picture opaque.
        max_pixels: The most pixels of either.

    Raises:
        ImageError: The picture cannot be read.
        MaskError: The mask cannot be read, is not transparent anywhere, or has another size.
    """
    picture = load_image(image, max_pixels=max_pixels)
    kept = _own_alpha(picture) if mask is None else _alpha_of(mask, picture, max_pixels)
    painted = ImageOps.invert(kept)
    if np.asarray(painted).max() < _PAINTED:
        raise MaskError(
            "the mask is not transparent anywhere, so there is nothing to paint",
            received=f"alpha of {np.asarray(kept).min()} or more",
            expected="alpha 0 where to paint",
        )
    file = image if picture.mode == "RGB" else png_of(_uncovered(picture, painted, opaque=opaque))
    return EditPictures(file, png_of(painted), picture.size)


def _uncovered(picture: Image.Image, painted: Image.Image, *, opaque: bool) -> Image.Image:
    alpha = ImageChops.add(picture.getchannel("A"), painted)
    if opaque or np.asarray(alpha).min() == _OPAQUE:
        return picture.convert("RGB")
    picture.putalpha(alpha)
    return picture


def _own_alpha(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        raise MaskError(
            "there is no mask",
            received="a picture without transparency, and no mask",
            expected="a mask, or a picture that is transparent where to paint",
        )
    return picture.getchannel("A")


def _alpha_of(file: bytes, picture: Image.Image, max_pixels: int) -> Image.Image:
    mask = load_mask_file(file, max_pixels=max_pixels)
    if mask.size != picture.size:
        raise MaskError(
            "the mask does not have the picture's size",
            received=f"mask {mask.width} x {mask.height}, picture {picture.width} x {picture.height}",
            expected="the same width and height (after EXIF orientation)",
            hint="resize the mask to the picture",
        )
    if mask.mode != "RGBA":
        raise MaskError(
            "the mask has no transparency",
            received=f"{mask.width} x {mask.height} pixels without alpha",
            expected="a PNG that is transparent where to paint",
            hint="masks that are white where to paint are for /v1/inpaint",
        )
    return mask.getchannel("A")
