"""Results as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Literal, TypeAlias

import anyio.to_thread
from PIL import Image, PngImagePlugin

__all__ = ["DEFAULT_QUALITY", "MEDIA_TYPES", "OutputFormat", "as_base64", "encode_images"]

OutputFormat: TypeAlias = Literal["png", "jpeg", "webp"]

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

DEFAULT_QUALITY = 95


async def encode_images(
    images: Sequence[Image.Image],
    output_format: OutputFormat = "png",
    quality: int = DEFAULT_QUALITY,
    *,
    parameters: Sequence[str] = (),
) -> list[bytes]:
    """Images as the bytes of files, encoded in a thread.

    Args:
        images: Images of mode "RGB" or "RGBA"; a JPEG has no transparency, so that is dropped there.
        output_format: "png", "jpeg" or "webp".
        quality: From 1 to 100, for JPEG and WebP.
        parameters: How each image was made, for the metadata of a PNG; empty for none.
    """
    texts: Sequence[str | None] = parameters or [None] * len(images)
    return await anyio.to_thread.run_sync(
        lambda: [
            _encode(image, output_format, quality, text) for image, text in zip(images, texts, strict=True)
        ]
    )


async def as_base64(
    images: Sequence[Image.Image],
    output_format: OutputFormat = "png",
    quality: int = DEFAULT_QUALITY,
    *,
    parameters: Sequence[str] = (),
) -> list[str]:
    """Images as base64 of files, as JSON carries them. The arguments are those of `encode_images`."""
    encoded = await encode_images(images, output_format, quality, parameters=parameters)
    return await anyio.to_thread.run_sync(
        lambda: [base64.b64encode(file).decode("ascii") for file in encoded]
    )


def _encode(image: Image.Image, output_format: OutputFormat, quality: int, text: str | None) -> bytes:
    file = io.BytesIO()
    saved = image.convert("RGB") if output_format == "jpeg" else image
    information = PngImagePlugin.PngInfo()
    if text is not None:
        information.add_itxt("parameters", text)
    settings = {"pnginfo": information} if output_format == "png" else {"quality": quality}
    saved.save(file, output_format, icc_profile=image.info.get("icc_profile"), **settings)
    return file.getvalue()
