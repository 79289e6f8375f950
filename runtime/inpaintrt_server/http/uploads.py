"""Images that clients send: bytes that are checked before anything is decoded.

A text from a client never becomes an image by itself: the runtime would read it as the path of a file.
What formats are taken, and which files take far longer to read than their size says, is told here, too.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from inpaintrt.errors import ImageError, MaskError
from inpaintrt.images import image_size
from inpaintrt_server.http.refusals import ImageTooLargeError

__all__ = ["FORMATS", "Role", "Upload", "check_upload", "decode_base64"]

Role: TypeAlias = Literal["image", "mask"]
"""What an upload is for; decides which errors are raised."""

_DATA_URL = re.compile(r"data:[a-z0-9.+/-]*;base64,", re.IGNORECASE)
_LONGEST_PREFIX = 100
# 20 MB of empty chunks took Pillow 15 s, before it knew the image's size.
_MAX_CHUNKS = 20_000
_CHUNK_OVERHEAD = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A scan of 51 bytes over 31 million pixels took libjpeg 32 ms; cameras write up to twelve.
_MAX_SCANS = 100
_START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Upload:
    """An image's file, whose header was read.

    Attributes:
        data: The file.
        width: In pixels, as stored; an image that lies on its side is turned later.
        height: In pixels, as stored.
    """

    data: bytes
    width: int
    height: int


def decode_base64(text: str, role: Role = "image") -> bytes:
    """The bytes of a base64 text, or of a `data:` URL; no other URL is looked at.

    Raises:
        ImageError: It is not base64.
        MaskError: It is not base64, and a mask.
    """
    prefix = _DATA_URL.match(text[:_LONGEST_PREFIX])
    payload = text[prefix.end() :] if prefix else text
    try:
        return base64.b64decode(payload.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _refusal(role)(
            f"the {role} is not base64",
            received=repr(text[:40]),
            expected="the base64 of an image file",
            hint="paths and web addresses are not opened: send the file itself",
        ) from error


def check_upload(data: bytes, role: Role, *, max_pixels: int) -> Upload:
    """Check the header of an image.

    Args:
        data: The file.
        role: What the image is for; decides which error is raised.
        max_pixels: Maximum number of pixels.

    Raises:
        ImageError: This is not an image, or of a format that is not taken.
        MaskError: The same of a mask.
        ImageTooLargeError: It has too many pixels.
    """
    _check_file(data, _refusal(role))
    width, height = image_size(data, refusal=_refusal(role))
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the {role} has too many pixels",
            field=role,
            received=f"{width} x {height}",
            expected=f"at most {max_pixels} pixels",
            hint="make it smaller",
        )
    return Upload(data, width, height)


def _refusal(role: Role) -> type[ImageError] | type[MaskError]:
    return ImageError if role == "image" else MaskError


def _check_file(data: bytes, refusal: type[ImageError] | type[MaskError]) -> None:
    """Check the format, and that the file has no more parts than images need, without a decoder."""
    name = _format_of(data)
    if name is None:
        raise refusal(
            "this is not an image, or of a format that is not taken",
            received=f"{len(data)} bytes",
            expected=" or ".join(FORMATS),
        )
    count, maximum, parts = _PARTS[name](data)
    if count > maximum:
        raise refusal(
            f"the image has more {parts} than images need",
            received=f"{count} or more",
            expected=f"at most {maximum}",
            hint="save the image again",
        )


def _format_of(data: bytes) -> str | None:
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WebP" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


def _png_parts(data: bytes) -> tuple[int, int, str]:
    count, place = 0, len(_PNG_SIGNATURE)
    while place < len(data) and count <= _MAX_CHUNKS:
        count += 1
        if data[place + 4 : place + 8] == b"IEND":
            break
        place += int.from_bytes(data[place : place + 4], "big") + _CHUNK_OVERHEAD
    return count, _MAX_CHUNKS, "chunks"


def _jpeg_parts(data: bytes) -> tuple[int, int, str]:
    return data.count(_START_OF_SCAN), _MAX_SCANS, "scans"


def _webp_parts(_: bytes) -> tuple[int, int, str]:
    return 1, 1, "parts"


_PARTS: Mapping[str, Callable[[bytes], tuple[int, int, str]]] = MappingProxyType(
    {"PNG": _png_parts, "JPEG": _jpeg_parts, "WebP": _webp_parts}
)

FORMATS = tuple(_PARTS)
"""The formats that are taken. Pillow reads more, but decoders that nobody needs are a risk for nothing."""
