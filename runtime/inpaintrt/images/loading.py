"""Images and masks out of files, bytes, Pillow images and arrays."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageOps

from inpaintrt.array_like import as_array
from inpaintrt.errors import ImageError, MaskError
from inpaintrt.images.arrays import image_from_array

if TYPE_CHECKING:
    from inpaintrt.array_like import ArrayLike

__all__ = ["DEFAULT_MAX_PIXELS", "ImageSource", "image_size", "load_image", "load_mask"]

ImageSource: TypeAlias = "Image.Image | ArrayLike | str | os.PathLike[str] | bytes | bytearray | memoryview"

DEFAULT_MAX_PIXELS = 100_000_000

# Formats that Pillow decodes by itself: EPS, for one, would start Ghostscript on an uploaded program.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
# The modes whose color profile still describes the pixels once they are RGB.
_PROFILED_MODES = ("RGB", "RGBA", "P", "RGBX")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = 1
# What Pillow's decoders raise on damaged files, beside the OSError that they promise; a Warning where the
# program turns warnings into errors.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)

_Refusal: TypeAlias = type[ImageError] | type[MaskError]


def load_image(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Load an image, upright and in 8 bits per channel.

    EXIF orientation is applied. Palettes, grey, 1-bit, 16-bit and CMYK images become RGB; an image with
    transparency becomes RGBA. Of an animation the first frame is taken. An RGB color profile stays in
    `info`.

    Args:
        source: A path, the bytes of a file, a Pillow image, or an array of uint8, uint16, bool, or floats in
            [0, 1]: `[height, width]`, `[height, width, 1 | 3 | 4]`, or `[1 | 3 | 4, height, width]`, with or
            without a first axis of length 1. Arrays of other libraries need `__array__` or DLPack, as
            PyTorch's CPU tensors have.
        max_pixels: Maximum number of pixels; the header tells before anything is decoded. Pillow has a limit
            of its own at 178,956,970 (`PIL.Image.MAX_IMAGE_PIXELS`), which holds as well.

    Returns:
        A Pillow image of mode "RGB" or "RGBA".

    Raises:
        ImageError: The source is missing, damaged, too large, or not an image.
    """
    image = _load(source, max_pixels, ImageError)
    return _convert(image, "RGBA" if image.has_transparency_data else "RGB", ImageError)


def load_mask(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Load a mask: white (255) is repainted, black (0) is kept.

    A color mask counts by its luminance. Transparency scales it, so white strokes on a transparent ground
    are a mask; an alpha channel that is opaque everywhere changes nothing.

    Args:
        source: As for `load_image`.
        max_pixels: As for `load_image`.

    Returns:
        A Pillow image of mode "L".

    Raises:
        MaskError: The source is missing, damaged, too large, or not an image.
    """
    image = _load(source, max_pixels, MaskError)
    if not image.has_transparency_data:
        return _convert(image, "L", MaskError)
    layered = _convert(image, "RGBA", MaskError)
    return ImageChops.multiply(layered.convert("L"), layered.getchannel("A"))


def image_size(source: bytes, *, refusal: type[ImageError] | type[MaskError] = ImageError) -> tuple[int, int]:
    """Width and height in pixels that a file's header tells; nothing is decoded.

    Args:
        source: The bytes of a file.
        refusal: What to raise.

    Raises:
        ImageError: The bytes are not an image, or more pixels than Pillow takes; `MaskError` if `refusal`
            says so.
    """
    with _identify(io.BytesIO(source), source, refusal) as image:
        return image.size


def _load(source: ImageSource, max_pixels: int, refusal: _Refusal) -> Image.Image:
    values = None if isinstance(source, Image.Image) else as_array(source, refusal)
    if values is not None:
        image = image_from_array(values, refusal)
        _check_pixels(image, max_pixels, refusal)
        return image
    image = source if isinstance(source, Image.Image) else _open(source, refusal)
    _check_pixels(image, max_pixels, refusal)
    try:
        image.load()
    except _DECODE_ERRORS as error:
        raise refusal(
            "the file is damaged", received=f"{_describe(source)}: {error}", hint="save the image again"
        ) from error
    return _narrow(_upright(image), refusal)


def _open(source: object, refusal: _Refusal) -> Image.Image:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _identify(io.BytesIO(source), source, refusal)
    if not isinstance(source, (str, os.PathLike)):
        raise refusal(
            "this type is not an image",
            received=type(source).__name__,
            expected="a path, bytes, a Pillow image, or an array",
        )
    return _identify(io.BytesIO(_read(source, refusal)), source, refusal)


def _read(source: str | os.PathLike[str], refusal: _Refusal) -> bytes:
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise refusal(
            "the file cannot be read",
            received=f"{str(source)!r}: {getattr(error, 'strerror', None) or error}",
            expected="the path of an image file",
            hint="web addresses are not fetched: download the image first" if "://" in str(source) else None,
        ) from error


def _identify(stream: io.BytesIO, source: object, refusal: _Refusal) -> Image.Image:
    Image.init()
    try:
        return Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise refusal("the image is too large to be decoded safely", received=str(error)) from error
    except _DECODE_ERRORS as error:
        raise refusal(
            "this is not an image, or its header is damaged",
            received=_describe(source),
            expected=f"one of {', '.join(_FORMATS)}",
        ) from error


def _describe(source: object) -> str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes"
    return "a Pillow image" if isinstance(source, Image.Image) else repr(str(source))


def _check_pixels(image: Image.Image, max_pixels: int, refusal: _Refusal) -> None:
    if image.width * image.height > max_pixels:
        raise refusal(
            "the image has too many pixels",
            received=f"{image.width} x {image.height}",
            expected=f"at most {max_pixels} pixels",
            hint="make it smaller, or raise max_pixels for sources that you trust",
        )
    if image.width * image.height == 0:
        raise refusal("the image is empty", received=f"{image.width} x {image.height}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT) == _UPRIGHT:
            return image
        return ImageOps.exif_transpose(image)
    except _DECODE_ERRORS:
        return image  # The pixels are sound: viewers show an image with broken EXIF data as it is stored.


def _narrow(image: Image.Image, refusal: _Refusal) -> Image.Image:
    """Bring samples of more than 8 bits to 8; Pillow's own conversion would clip them."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise refusal(
                "samples of 32 bits", received=f"{values.min()} to {values.max()}", expected="0 to 65535"
            )
        return image_from_array(values.astype(np.uint16), refusal)
    return image_from_array(np.asarray(image), refusal) if image.mode == "F" else image


def _convert(image: Image.Image, mode: str, refusal: _Refusal) -> Image.Image:
    if image.mode == mode:
        return image
    profile = image.info.get("icc_profile") if image.mode in _PROFILED_MODES else None
    try:
        converted = image.convert(mode)
    except _DECODE_ERRORS as error:
        raise refusal("a color space that cannot be converted", received=image.mode, expected=mode) from error
    converted.info = {} if profile is None else {"icc_profile": profile}
    return converted
