"""Files of images that an interface looks into, and changes, before the runtime reads them.

What is handed on is a file again: a decoded image takes many times its memory while it waits in the queue.
"""

from __future__ import annotations

import io

from PIL import Image

from inpaintrt.errors import ImageError, MaskError
from inpaintrt.images import load_image

__all__ = ["load_mask_file", "png_of"]

# Files that are read once, by ourselves, are not worth the time to make them small.
_FASTEST = 1


def load_mask_file(file: bytes, *, max_pixels: int) -> Image.Image:
    """Open a mask as `load_image` opens an image, transparency included.

    Raises:
        MaskError: The file is damaged, too large, or not an image.
    """
    try:
        return load_image(file, max_pixels=max_pixels)
    except ImageError as error:
        raise MaskError(
            f"the mask: {error.what}", received=error.received, expected=error.expected, hint=error.hint
        ) from error


def png_of(image: Image.Image) -> bytes:
    """An image as a file, with its color profile."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_FASTEST, icc_profile=image.info.get("icc_profile"))
    return file.getvalue()
