"""Images and masks as OpenAI's interface means them: transparent is painted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageOps

from inpaintrt.errors import MaskError
from inpaintrt.images import load_image
from inpaintrt_server.apis.decoding import load_mask_file, png_of

__all__ = ["EditImages", "read_images"]

# Below one half the model leaves a pixel alone.
_PAINTED = 128
_OPAQUE = 255


class EditImages(NamedTuple):
    """The images of a request as the runtime wants them.

    Attributes:
        image: The file of the image.
        mask: The file of the mask, white where to paint; None to change the whole image.
        size: Width and height of the upright image.
    """

    image: bytes
    mask: bytes | None
    size: tuple[int, int]


def read_images(
    image_file: bytes, mask_file: bytes | None, *, opaque: bool, mask_needed: bool, max_pixels: int
) -> EditImages:
    """Turn the transparency of a mask, or of the image itself, into a mask that is white where to paint.

    What is painted becomes opaque; elsewhere the image keeps its transparency.

    Args:
        image_file: The file of an image.
        mask_file: The file of a mask, transparent where to paint; None where the image's own alpha says it.
        opaque: Make the whole image opaque.
        mask_needed: Refuse images that are not transparent anywhere and come without a mask.
        max_pixels: Maximum number of pixels of either.

    Raises:
        ImageError: The image cannot be read.
        MaskError: The mask cannot be read, is not transparent anywhere, or has another size.
    """
    image = load_image(image_file, max_pixels=max_pixels)
    kept = _own_alpha(image) if mask_file is None else _alpha_of(mask_file, image, max_pixels)
    painted = ImageOps.invert(kept)
    if np.asarray(painted).max() < _PAINTED:
        if mask_needed or mask_file is not None:
            raise _nothing_painted(kept, given=mask_file is not None)
        painted, mask = Image.new("L", image.size, 0), None
    else:
        mask = png_of(painted)
    file = image_file if image.mode == "RGB" else png_of(_uncovered(image, painted, opaque=opaque))
    return EditImages(file, mask, image.size)


def _nothing_painted(kept: Image.Image, *, given: bool) -> MaskError:
    if given:
        return MaskError(
            "the mask is not transparent anywhere, so there is nothing to paint",
            received=f"alpha of {np.asarray(kept).min()} or more",
            expected="alpha 0 where to paint",
        )
    return MaskError(
        "there is no mask",
        received="an image that is not transparent anywhere, and no mask",
        expected="a mask, or an image that is transparent where to paint",
        hint="a server that was started with --edits-without-mask changes the whole image",
    )


def _uncovered(image: Image.Image, painted: Image.Image, *, opaque: bool) -> Image.Image:
    alpha = ImageChops.add(image.getchannel("A"), painted)
    if opaque or np.asarray(alpha).min() == _OPAQUE:
        return image.convert("RGB")
    image.putalpha(alpha)
    return image


def _own_alpha(image: Image.Image) -> Image.Image:
    return image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, _OPAQUE)


def _alpha_of(file: bytes, image: Image.Image, max_pixels: int) -> Image.Image:
    mask = load_mask_file(file, max_pixels=max_pixels)
    if mask.size != image.size:
        raise MaskError(
            "the mask does not have the image's size",
            received=f"mask {mask.width} x {mask.height}, image {image.width} x {image.height}",
            expected="the same width and height (after EXIF orientation)",
            hint="resize the mask to the image",
        )
    if mask.mode != "RGBA":
        raise MaskError(
            "the mask has no transparency",
            received=f"{mask.width} x {mask.height} pixels without alpha",
            expected="a PNG that is transparent where to paint",
            hint="masks that are white where to paint are for /v1/inpaint",
        )
    return mask.getchannel("A")
