"""Arrays and Pillow images, each from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from inpaintrt.errors import EngineRunError, ImageError, MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "image_from_array",
    "image_from_tensor",
    "tensor_from_image",
    "tensor_from_mask",
    "tensor_from_soft_mask",
]

_CHANNELS = (1, 3, 4)


def image_from_array(
    values: NDArray[Any], refusal: type[ImageError] | type[MaskError] = ImageError
) -> Image.Image:
    """Make a Pillow image ("L", "RGB" or "RGBA") of an array.

    Args:
        values: `[height, width]`, `[height, width, 1 | 3 | 4]`, or `[1 | 3 | 4, height, width]`, with or
            without a first axis of length 1, of uint8, uint16, bool, or floats in [0, 1].
        refusal: The class of the error.

    Raises:
        ImageError: (or `refusal`) The shape, the dtype or a value is wrong.
    """
    pixels = _channels_last(values[0] if values.ndim == 4 and len(values) == 1 else values)
    if (
        pixels.ndim not in (2, 3)
        or (pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS)
        or not pixels.size
    ):
        raise refusal(
            "the array does not have the shape of an image",
            received=list(values.shape),
            expected="[height, width], [height, width, 1, 3 or 4] or [1, 3 or 4, height, width]",
            hint="the images of a batch are given as a list",
        )
    return Image.fromarray(np.ascontiguousarray(_bytes_from_samples(pixels, refusal)))


def _channels_last(values: NDArray[Any]) -> NDArray[Any]:
    """`[height, width]` or `[height, width, channels]`; where both ends may be channels, the last axis is."""
    if values.ndim != 3:
        return values
    if values.shape[2] not in _CHANNELS and values.shape[0] in _CHANNELS:
        values = values.transpose(1, 2, 0)
    return values[:, :, 0] if values.shape[2] == 1 else values


def _bytes_from_samples(
    values: NDArray[Any], refusal: type[ImageError] | type[MaskError]
) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise refusal(
            "the array does not have the dtype of an image",
            received=values.dtype,
            expected="uint8, uint16, bool, or floats in [0, 1]",
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise refusal(
            "the array's values are out of range",
            received=f"{values.min()} to {values.max()}",
            expected="floats in [0, 1] without NaN",
            hint="scale the values to [0, 1], or pass uint8",
        )
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)


def tensor_from_image(image: Image.Image) -> NDArray[np.float32]:
    """Turn an RGB image into `[1, 3, height, width]` float32 in [-1, 1].

    diffusers: `VaeImageProcessor.preprocess`.
    """
    values = np.asarray(image).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray((np.float32(2) * values - np.float32(1)).transpose(2, 0, 1)[None])


def tensor_from_mask(mask: Image.Image) -> NDArray[np.float32]:
    """Turn an "L" image into `[1, 1, height, width]` float32 in {0, 1}: 1 from one half of white on."""
    return (np.asarray(mask) >= 128).astype(np.float32)[None, None]


def tensor_from_soft_mask(mask: Image.Image) -> NDArray[np.float32]:
    """`[1, 1, height, width]` float32 in [0, 1]: the grey values of a mask."""
    return np.asarray(mask, np.float32)[None, None] / np.float32(255)


def image_from_tensor(decoded: NDArray[np.float32]) -> Image.Image:
    """Turn `[3, height, width]` float32 in [-1, 1] into an RGB image.

    diffusers: `VaeImageProcessor.postprocess`.

    Raises:
        EngineRunError: A value is NaN or infinite, as half-precision decoders produce when they overflow.
    """
    if not np.isfinite(decoded).all():
        raise EngineRunError(
            "the decoded image holds NaN or infinite values",
            hint="the image decoder overflows in half precision: export it in float32",
        )
    half = np.float32(0.5)
    unit = np.clip(decoded.astype(np.float32) * half + half, 0, 1)
    return Image.fromarray(
        np.ascontiguousarray((unit * np.float32(255)).round().astype(np.uint8).transpose(1, 2, 0))
    )
