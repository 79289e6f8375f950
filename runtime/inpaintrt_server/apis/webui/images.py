"""Images and masks as the WebUI means them."""

from __future__ import annotations

import numpy as np

from inpaintrt_server.apis.decoding import load_mask_file, png_of
from inpaintrt_server.apis.webui.fields import Img2Img
from inpaintrt_server.http.uploads import Role, Upload, check_upload, decode_base64

__all__ = ["read_images", "read_mask"]

_OPAQUE = 255
_HALF = 128


def read_images(fields: Img2Img, *, max_pixels: int) -> tuple[Upload, bytes | None]:
    """The image, and the file of the mask as the runtime wants it.

    Args:
        fields: The body.
        max_pixels: Maximum number of pixels of either.

    Raises:
        ImageError: The image is not base64, or no image.
        MaskError: The mask is not base64, or cannot be read.
        ImageTooLargeError: One of them has too many pixels.
    """
    image = _upload(fields.init_images[0], "image", max_pixels)
    mask = None if fields.mask is None else _upload(fields.mask, "mask", max_pixels)
    return image, None if mask is None else read_mask(mask.data, max_pixels=max_pixels)


def _upload(text: str, role: Role, max_pixels: int) -> Upload:
    """Some encoders put line breaks into base64."""
    return check_upload(decode_base64("".join(text.split()), role), role, max_pixels=max_pixels)


def read_mask(file: bytes, *, max_pixels: int) -> bytes:
    """The file of a mask as the runtime wants it: white is painted.

    A mask with transparency counts by that alone, in two levels: whatever is drawn on it is painted.

    Args:
        file: The file of a mask.
        max_pixels: Maximum number of pixels.

    Raises:
        MaskError: The mask cannot be read.
    """
    mask = load_mask_file(file, max_pixels=max_pixels)
    if mask.mode != "RGBA" or np.asarray(mask.getchannel("A")).min() == _OPAQUE:
        return file
    return png_of(mask.getchannel("A").point(lambda alpha: _OPAQUE if alpha > _HALF else 0))
