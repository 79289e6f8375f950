"""Masks as the WebUI means them."""

from __future__ import annotations

import numpy as np

from inpaintrt_server.apis.decoding import load_mask_file, png_of

__all__ = ["read_mask"]

_OPAQUE = 255
_HALF = 128


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
